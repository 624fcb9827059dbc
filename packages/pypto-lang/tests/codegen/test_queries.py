"""What code generation asks about a function, answered for one that has it all."""

from __future__ import annotations

import pypto.language as pl
from pypto import passes
from pypto.codegen.queries import calls_of, dimensions, ops_of

M, N, K = pl.dynamic("M"), pl.dynamic("N"), pl.dynamic("K")
Block = pl.Tensor[[M, N], pl.FP32]


@pl.program
class Blocks:
    @pl.function(type=pl.FunctionType.InCore)
    def first(self, a: Block, by: pl.Scalar[pl.INT64], f: pl.Out[pl.Tensor[[K, N], pl.FP32]]):
        for row in pl.range(0, N, 8):
            tile = pl.load(a, [row, 0], [8, 8], [pl.min(8, M - row), by])
            pl.store(pl.exp(tile), [row, 0], f)
        return f

    @pl.function(type=pl.FunctionType.InCore)
    def second(self, a: Block, f: pl.Out[Block]):
        return pl.store(pl.load(a, [0, 0], [8, 8]), [0, 0], f)

    @pl.function(type=pl.FunctionType.Orchestration)
    def chip(self, a: Block, f: pl.Out[Block]):
        g = pl.create_tensor([M, N], dtype=pl.FP32)
        self.second(a, g)
        for _ in pl.range(3):
            self.first(a, 3, g)
            for _again in pl.range(2):
                self.second(g, f)
        self.first(g, 4, f)
        return f


LOWERED = passes.run_all(Blocks)


def test_calls_are_told_in_the_order_they_are_written_wherever_they_stand() -> None:
    calls = calls_of(LOWERED.function("chip"))
    assert [call.function for call in calls] == ["second", "first", "second", "first"]
    assert [call.span.line for call in calls] == sorted(call.span.line for call in calls)
    assert calls_of(LOWERED.function("first")) == ()


def test_operations_are_told_however_deep_they_stand() -> None:
    assert ops_of(LOWERED.function("first")) == {"tile.load", "tile.exp", "tile.store"}
    assert ops_of(LOWERED.function("chip")) == {"tensor.create"}


def test_a_dimension_is_read_from_the_first_tensor_that_has_it_if_its_value_is_used() -> None:
    # N is also that of f, and K is never used; by is no tensor.
    assert dimensions(LOWERED.function("first")) == {"M": ("a", 0), "N": ("a", 1)}
    assert dimensions(LOWERED.function("second")) == {}
