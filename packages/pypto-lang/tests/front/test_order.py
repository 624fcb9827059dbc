"""The order in which functions are worked on."""

from __future__ import annotations

from dataclasses import replace

import pypto.language as pl
import pytest
from pypto.errors import SignatureError
from pypto.ir.nodes import Program
from pypto.parser.program import parse_class
from pypto.passes.order import callees_first, invokes, with_functions

T = pl.Tensor[[16, 16], pl.FP32]


class Calls:
    @pl.function(type=pl.FunctionType.Orchestration)
    def top(self, a: T, f: pl.Out[T]):
        self.left(a, f)
        for _ in pl.range(2):
            self.right(a, f)
            self.left(a, f)

    @pl.function(type=pl.FunctionType.Orchestration)
    def alone(self, a: T, f: pl.Out[T]):
        pass

    @pl.function(type=pl.FunctionType.Orchestration)
    def right(self, a: T, f: pl.Out[T]):
        self.bottom(a, f)

    @pl.function(type=pl.FunctionType.Orchestration)
    def left(self, a: T, f: pl.Out[T]):
        self.bottom(a, f)

    @pl.function(type=pl.FunctionType.InCore)
    def bottom(self, a: T, f: pl.Out[T]):
        pass


class Circle:
    @pl.function(type=pl.FunctionType.Orchestration)
    def start(self, a: T, f: pl.Out[T]):
        self.one(a, f)

    @pl.function(type=pl.FunctionType.Orchestration)
    def one(self, a: T, f: pl.Out[T]):
        self.two(a, f)

    @pl.function(type=pl.FunctionType.Orchestration)
    def two(self, a: T, f: pl.Out[T]):
        self.three(a, f)

    @pl.function(type=pl.FunctionType.Orchestration)
    def three(self, a: T, f: pl.Out[T]):
        self.one(a, f)


def parsed(cls: type) -> Program:
    """A class as the parser gives it: nothing has looked for circles yet."""
    return parse_class(cls, {})


def test_calls_are_found_in_loops_and_in_the_order_they_are_made() -> None:
    assert [call.function for call in invokes(parsed(Calls).function("top"))] == ["left", "right", "left"]


def test_every_function_comes_once_and_after_those_it_calls() -> None:
    program = parsed(Calls)
    order = [function.name for function in callees_first(program)]
    assert order == ["bottom", "left", "right", "top", "alone"]
    assert [function.name for function in program.functions] == ["top", "alone", "right", "left", "bottom"]


def test_a_circle_is_told_from_where_it_begins_and_points_at_the_call_that_closes_it() -> None:
    with pytest.raises(SignatureError, match="in a circle: one → two → three → one") as caught:
        callees_first(parsed(Circle))
    assert "start" not in caught.value.message
    assert caught.value.span is not None
    assert caught.value.span.text.strip() == "self.one(a, f)"
    assert caught.value.line == parsed(Circle).function("three").span.line + 1


def test_new_versions_of_functions_take_the_places_of_the_old() -> None:
    program = parsed(Calls)
    changed = {function.name: replace(function, doc=function.name) for function in callees_first(program)}
    new = with_functions(program, changed)
    assert [function.name for function in new.functions] == [function.name for function in program.functions]
    assert [function.doc for function in new.functions] == [function.name for function in program.functions]
    assert (new.name, new.span) == (program.name, program.span)
