"""The order in which functions are built."""

from __future__ import annotations

import pypto.language as pl
import pytest
from pypto.builder.program import build_class
from pypto.errors import SignatureError

T = pl.Tensor[[16, 16], pl.FP32]


class Calls:
    @pl.function(type=pl.FunctionType.Orchestration)
    def top(self, a, f):
        self.bottom(a, f)
        for _ in pl.range(2):
            self.bottom(f, f)

    @pl.function(type=pl.FunctionType.InCore)
    def bottom(self, a: T, f: pl.Out[T]):
        pl.store(pl.load(a, [0, 0], [16, 16]), [0, 0], f)


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


def test_functions_may_stand_before_those_they_call_and_stay_in_the_order_they_are_written() -> None:
    assert [function.name for function in build_class(Calls, {}).functions] == ["top", "bottom"]


def test_a_circle_is_told_from_where_it_begins_and_points_at_the_call_that_closes_it() -> None:
    with pytest.raises(SignatureError, match="in a circle: one → two → three → one") as caught:
        build_class(Circle, {})
    assert "start" not in caught.value.message
    assert caught.value.span is not None
    assert caught.value.span.text.strip() == "self.one(a, f)"
