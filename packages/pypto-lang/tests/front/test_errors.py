"""How errors are rendered."""

from __future__ import annotations

import pickle

import pytest
from pypto.errors import PyptoError, TypeMismatch
from pypto.ir.nodes import Span


@pytest.mark.parametrize(
    ("span", "excerpt"),
    [
        (Span("f.py", 7, 4, 7, 7, "    abc + d"), ["  7 |     abc + d", "    |     ^^^"]),
        (Span("f.py", 12, 1, 12, 4, "\tabc"), ["  12 | \tabc", "     | \t^^^"]),
        (Span("f.py", 1, 3, 1, 4, "漢字 x"), ["  1 | 漢字 x", "    |      ^"]),
        (Span("f.py", 1, 0, 3, 1, "f(  "), ["  1 | f(  ", "    | ^^"]),
        (Span("f.py", 1, 4, 1, 4, "abcd"), ["  1 | abcd", "    |     ^"]),
        (Span("f.py", 1, 0, 1, 4, ""), []),
    ],
)
def test_the_caret_stands_under_the_place(span, excerpt):
    lines = str(PyptoError("wrong", span)).split("\n")
    assert lines[0] == f"f.py:{span.line}:{span.column + 1}: wrong"
    assert [line.rstrip() for line in lines[1:]] == [line.rstrip() for line in excerpt]


def test_an_error_without_a_place_is_its_message_and_hint():
    assert str(PyptoError("wrong", hint="do right")) == "wrong\n  hint: do right"
    assert (PyptoError("wrong").file, PyptoError("wrong").line, PyptoError("wrong").column) == (None, None, None)


def test_errors_cross_processes_whole():
    error = TypeMismatch("wrong", Span("f.py", 7, 4, 7, 7, "    abc"), "do right")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is TypeMismatch
    assert str(copy) == str(error)
