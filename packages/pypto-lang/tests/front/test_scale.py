"""Large programs: work grows with their length, and nothing is too deep."""

from __future__ import annotations

import sys

import pytest
from pypto import codegen, passes
from pypto.builder.expressions import Expressions
from pypto.ir import walk
from pypto.ir.nodes import Assign, Call
from pypto.ir.printer import print_program

TILE = "t = pl.load(a, [0, 0], [16, 16])\n"


def counted(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> list[int]:
    """Counts the calls of a method."""
    calls = [0]
    method = getattr(owner, name)

    def count(*args: object, **kwargs: object) -> object:
        calls[0] += 1
        return method(*args, **kwargs)

    monkeypatch.setattr(owner, name, count)
    return calls


@pytest.mark.parametrize("terms", [18, 900, 2500])
def test_each_operand_of_a_long_sum_is_looked_at_once(programs, monkeypatch, terms: int) -> None:
    calls = counted(monkeypatch, Expressions, "value")
    program = programs.kernel(TILE + "u = " + " + ".join(["t"] * terms))
    assert (
        sum(isinstance(e, Call) and e.op == "tile.add" for e in walk.expressions(program.functions[0].body))
        == terms - 1
    )
    assert calls[0] < 3 * terms + 20


def test_a_sum_of_5000_terms(programs) -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)  # of Python's own compiler, which nests as deeply as the source
    try:
        text = TILE + "u = " + " + ".join(["t"] * 5000) + "\nn = " + " + ".join(["pl.dim(a, 0)"] * 5000)
        program = programs.kernel(text)
    finally:
        sys.setrecursionlimit(limit)
    assert len(program.functions[0].body) > 5000
    assert print_program(passes.run_all(program)).count("pl.add(") == 0  # nobody needs it


def test_horner_of_degree_200(programs) -> None:
    nested = "1.0"
    for degree in range(85):  # Python itself takes no more parentheses than that and half as many again
        nested = f"({nested} * t + {degree}.0)"
    program = programs.kernel(TILE + f"u = {nested}\n" + "u = u * t + 0.5\n" * 200 + "pl.store(u, [0, 0], f)")
    (memory,) = [function.memory for function in passes.run_all(program).functions]
    assert memory is not None
    assert len(memory) == 2


def test_50_nested_loops(programs) -> None:
    # Python nests no more than 20 blocks in one function: these are in five.
    loops = [f"{'    ' * depth}for i{depth} in pl.range(1):" for depth in range(1, 11)]
    helpers = ""
    for level in range(4):
        inner = f"level{level + 1}(t)" if level < 3 else "t + 1.0"
        lines = [f"def level{level}(t):", *loops, f"{'    ' * 11}t = {inner}", "    return t"]
        helpers += "\n".join(lines) + "\n"
    names = programs.run("import pypto.language as pl\n" + helpers)
    body = TILE + "\n".join(line[4:] for line in loops) + f"\n{'    ' * 10}t = level0(t)\npl.store(t, [0, 0], f)"
    lowered = passes.run_all(programs.kernel(body, level0=names["level0"]))
    assert print_program(lowered).count("for i") == 50
    assert codegen.kernel.generate(lowered.functions[0], "P").count("for (int64_t") == 50


def test_a_kernel_of_2000_statements(programs) -> None:
    text = TILE + "u = t\n" + "u = u * t\nv = u + t\nu = v - u\n" * 700 + "pl.store(u, [0, 0], f)"
    program = programs.kernel(text)
    lowered = passes.run_all(program)
    assert lowered.functions[0].memory is not None
    assert len(lowered.functions[0].memory) == 3


def test_planning_memory_looks_at_each_statement_a_constant_number_of_times(programs, monkeypatch) -> None:
    planning = sys.modules["pypto.passes.plan_memory"]
    calls = counted(monkeypatch, planning._Plan, "_place")
    released = counted(monkeypatch, planning._Plan, "_release")
    for count in (50, 800):
        program = programs.kernel(TILE + "u = t\n" + "u = u * t\n" * count + "pl.store(u, [0, 0], f)")
        calls[0] = released[0] = 0
        planning.plan_memory(program)
        assert calls[0] == count + 1
        assert released[0] <= count + 1


def test_names_that_are_words_of_cpp_or_python_are_changed(programs) -> None:
    words = ["int", "float", "template", "namespace", "core", "kernel", "operator", "new", "NULL", "result", "simpler"]
    text = TILE + "".join(f"{word} = t + {index}.0\npl.store({word}, [0, 0], f)\n" for index, word in enumerate(words))
    program = programs.kernel(text)
    function = passes.run_all(program).functions[0]
    (text,) = [codegen.kernel.generate(function, "P")]
    for word in words:
        if word != "result":
            assert f"> {word}(core);" not in text
            assert f"&{word} = " not in text
    assert sum(isinstance(stmt, Assign) for stmt in function.body) == len(words) + 1


def test_what_follows_a_branch_that_may_leave_is_not_written_down_twice(programs) -> None:
    turn = "    if i > {0}:\n        if i > {1}:\n            continue\n    t = t + {0}.0\n"
    body = (
        TILE + "for i in pl.range(9):\n" + "".join(turn.format(n, n + 1) for n in range(18)) + "pl.store(t, [0, 0], f)"
    )
    lowered = passes.run_all(programs.kernel(body))
    assert print_program(lowered).count("pl.add(") == 18
