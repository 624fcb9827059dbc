"""Generated text: its indentation, and names that don't clash."""

from __future__ import annotations

import keyword

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pypto.codegen.writer import Names, Writer


def test_what_is_written_in_a_block_is_one_level_deeper() -> None:
    out = Writer("  ")
    out.line("before")
    with out.block("outer {", "}"):
        out.line("one")
        with out.block("inner:"):
            out.lines(["two", "three"])
        out.line("four")
    out.line("after")
    assert out.text() == "before\nouter {\n  one\n  inner:\n    two\n    three\n  four\n}\nafter\n"


def test_empty_lines_carry_no_indentation_and_the_text_ends_with_one_newline() -> None:
    out = Writer()
    with out.block("if x:"):
        out.line("y")
        out.line()
        out.line("z")
        out.line()
    assert out.text() == "if x:\n    y\n\n    z\n"


def test_an_error_in_a_block_leaves_the_writer_where_it_was() -> None:
    out = Writer()
    with pytest.raises(ZeroDivisionError), out.block("try {", "}"):
        raise ZeroDivisionError
    out.line("after")
    assert out.text() == "try {\nafter\n"


def test_a_free_name_is_kept_and_a_taken_one_numbered() -> None:
    names = Names(["for", "core"])
    assert [names.define(name) for name in ("x", "for", "core", "x", "x")] == ["x", "for_2", "core_2", "x_2", "x_3"]


@pytest.mark.parametrize(
    ("name", "identifier"),
    [
        ("été", "u00e9tu00e9"),
        ("_private", "private"),
        ("a__b", "a_b"),
        ("trailing_", "trailing"),
        ("__", "unnamed"),
        ("_1", "n1"),
    ],
)
def test_a_name_that_cpp_keeps_for_itself_or_cannot_spell_is_changed(name: str, identifier: str) -> None:
    names = Names()
    assert names.define(name) == identifier
    assert names[name] == identifier  # under the name the user wrote
    assert names.define(identifier) == f"{identifier}_2"


def test_a_key_finds_what_its_name_does_not() -> None:
    names = Names()
    assert names.define("N", key=("dim", "N")) == "N"
    assert names[("dim", "N")] == "N"
    assert names.find("N") is None
    assert names.define("N") == "N_2"
    assert (names[("dim", "N")], names["N"]) == ("N", "N_2")


def test_an_inner_scope_sees_the_names_around_it_and_keeps_its_own() -> None:
    outer = Names(["args"])
    outer.define("x")
    middle = Names(parent=outer)
    inner = Names(["graph"], parent=middle)
    assert inner["x"] == "x"
    assert inner.define("x") == "x_2"
    assert (inner["x"], middle["x"], outer["x"]) == ("x_2", "x", "x")
    assert [inner.define(name) for name in ("args", "graph")] == ["args_2", "graph_2"]
    assert outer.find("graph") is None


def test_what_nobody_defined_is_named() -> None:
    names = Names(parent=Names())
    assert names.find("x") is None
    with pytest.raises(KeyError, match="nothing called 'x' is defined here"):
        names["x"]


@given(st.lists(st.from_regex(r"[^\W\d]\w{0,3}", fullmatch=True).filter(str.isidentifier), max_size=8))
def test_no_two_names_of_a_program_share_an_identifier(wanted: list[str]) -> None:
    names = Names(keyword.kwlist)
    given_out = [names.define(name) for name in wanted]
    assert len(set(given_out)) == len(given_out)
    for identifier in given_out:
        assert identifier.isascii()
        assert identifier.isidentifier()
        assert "__" not in identifier
        assert not identifier.startswith("_")
        assert identifier not in keyword.kwlist
