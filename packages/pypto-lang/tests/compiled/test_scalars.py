"""Numbers mean the same in kernels, on chips and on hosts: integers have 64 bits and wrap around, floats have 32."""

from __future__ import annotations

import numpy as np
import pypto.language as pl
import pytest
from pypto import ir
from pypto.errors import CoreMemoryFull
from pypto.passes.check_memory import check_memory

Five = pl.Tensor[[5, 1], pl.INT64]
Float = pl.Tensor[[1, 1], pl.FP32]


def put(value):
    return pl.full([1, 1], 0, dtype=pl.INT64) + value


@pl.program
class Scalars:
    """The same arithmetic in each of the three places."""

    @pl.function(type=pl.FunctionType.InCore)
    def give(
        self,
        a: pl.Scalar[pl.INT64],
        b: pl.Scalar[pl.INT64],
        c: pl.Scalar[pl.INT64],
        d: pl.Scalar[pl.INT64],
        e: pl.Scalar[pl.INT64],
        x: pl.Scalar[pl.FP32],
        out: pl.Out[Five],
        y: pl.Out[Float],
    ):
        pl.store(put(a), [0, 0], out)
        pl.store(put(b), [1, 0], out)
        pl.store(put(c), [2, 0], out)
        pl.store(put(d), [3, 0], out)
        pl.store(put(e), [4, 0], out)
        pl.store(pl.full([1, 1], 0.0, dtype=pl.FP32) + x, [0, 0], y)

    @pl.function(type=pl.FunctionType.InCore)
    def in_kernel(
        self, n: pl.Scalar[pl.INT32], m: pl.Scalar[pl.INT64], x: pl.Scalar[pl.FP32], out: pl.Out[Five], y: pl.Out[Float]
    ):
        pl.store(put(n * n), [0, 0], out)
        pl.store(put(m * m + 1), [1, 0], out)
        pl.store(put(n // 7 - n % 7), [2, 0], out)
        pl.store(put(pl.max(n, m) - m), [3, 0], out)
        pl.store(put(-m), [4, 0], out)
        pl.store(pl.full([1, 1], 0.0, dtype=pl.FP32) + (x * x + 1.0 - x), [0, 0], y)

    @pl.function(type=pl.FunctionType.Orchestration)
    def on_chip(self, n: pl.Scalar[pl.INT32], m: pl.Scalar[pl.INT64], x: pl.Scalar[pl.FP32], out, y):
        self.give(n * n, m * m + 1, n // 7 - n % 7, pl.max(n, m) - m, -m, x * x + 1.0 - x, out, y)
        return out, y

    @pl.function(type=pl.FunctionType.Orchestration)
    def through(self, n: pl.Scalar[pl.INT32], m: pl.Scalar[pl.INT64], x: pl.Scalar[pl.FP32], out, y):
        self.in_kernel(n, m, x, out, y)
        return out, y

    @pl.function(type=pl.FunctionType.Orchestration)
    def given(
        self,
        a: pl.Scalar[pl.INT64],
        b: pl.Scalar[pl.INT64],
        c: pl.Scalar[pl.INT64],
        d: pl.Scalar[pl.INT64],
        e: pl.Scalar[pl.INT64],
        x: pl.Scalar[pl.FP32],
        out,
        y,
    ):
        self.give(a, b, c, d, e, x, out, y)

    @pl.function(level=pl.Level.HOST, role=pl.Role.Orchestrator)
    def host(
        self,
        n: pl.Scalar[pl.INT32],
        m: pl.Scalar[pl.INT64],
        x: pl.Scalar[pl.FP32],
        kernel: pl.Out[Five],
        chip: pl.Out[Five],
        host: pl.Out[Five],
        u: pl.Out[Float],
        v: pl.Out[Float],
        w: pl.Out[Float],
    ):
        self.through(n, m, x, kernel, u)
        self.on_chip(n, m, x, chip, v)
        self.given(n * n, m * m + 1, n // 7 - n % 7, pl.max(n, m) - m, -m, x * x + 1.0 - x, host, w)
        return kernel, chip, host, u, v, w


@pytest.fixture(scope="module", params=["cpu", "a2a3sim"])
def scalars(request, _own_cache: None):
    with ir.compile(Scalars, request.param) as compiled:
        yield compiled


def wrapped(value: int) -> int:
    return (value + 2**63) % 2**64 - 2**63


@pytest.mark.parametrize("n", [100_000, -(2**31), 2**31 - 1, -1, 0, 13])
@pytest.mark.parametrize("m", [3, 2**62, -(2**63), 2**63 - 1])
def test_arithmetic_is_the_same_wherever_it_is_done(scalars, n: int, m: int) -> None:
    *integers, u, v, w = scalars(n, m, 0.1)
    expected = [n * n, wrapped(m * m + 1), n // 7 - n % 7, wrapped(max(n, m) - m), wrapped(-m)]
    assert [array.ravel().tolist() for array in integers] == [expected] * 3
    x = np.float32(0.1)
    assert u.item() == v.item() == w.item() == np.float32(np.float32(x * x) + np.float32(1)) - x


# --- a core's memory -------------------------------------------------------------------------------------------------


def kernel_of(rows: int, columns: int):
    shape = [rows, columns]

    @pl.program
    class Large:
        @pl.function(type=pl.FunctionType.InCore)
        def k(self, a: pl.Tensor[shape, pl.INT8], f: pl.Out[pl.Tensor[shape, pl.INT8]]):
            t = pl.load(a, [0, 0], shape)
            return pl.store(t + t, [0, 0], f)

        @pl.function(type=pl.FunctionType.Orchestration)
        def chip(self, a, f):
            return self.k(a, f)

    return Large


def test_a_tile_that_just_fits_a_core() -> None:
    with ir.compile(kernel_of(192, 1024), "a2a3sim") as compiled:
        assert (compiled(np.ones((192, 1024), np.int8)) == 2).all()


def test_a_tile_one_byte_too_large_is_found_before_it_runs() -> None:
    with pytest.raises(CoreMemoryFull, match="kernel k has no room for the tile t") as caught:
        ir.compile(kernel_of(1, 192 * 1024 + 1), "a2a3sim")
    message = str(caught.value)
    assert "an AIV core of a2a3sim has 196608 bytes, of which 0 are taken" in message
    assert "t = pl.load(a, [0, 0], shape)" in message
    ir.compile(kernel_of(1, 192 * 1024 + 1), "cpu")  # which has no such limit


def test_the_largest_neighbours_are_named() -> None:
    @pl.program
    class Several:
        @pl.function(type=pl.FunctionType.InCore)
        def k(self, a: pl.Tensor[[128, 128], pl.FP32], f: pl.Out[pl.Tensor[[128, 128], pl.FP32]]):
            small = pl.load(a, [0, 0], [8, 8])
            large = pl.load(a, [0, 0], [128, 128])
            middle = pl.load(a, [0, 0], [64, 128])
            for _ in pl.range(4):
                other = pl.load(a, [0, 0], [128, 128])
                pl.store(other, [0, 0], f)
                pl.store(small, [0, 0], f)
            pl.store(middle, [0, 0], f)
            return pl.store(large, [0, 0], f)

        @pl.function(type=pl.FunctionType.Orchestration)
        def chip(self, a, f):
            return self.k(a, f)

    with pytest.raises(CoreMemoryFull, match=r"tile other .* of 65536 bytes") as caught:
        check_memory(next(f for f in Several.lowered.functions if f.name == "k"), 150_000, "a core")
    assert "most by large Tile[[128, 128], FP32] (65536 bytes" in caught.value.message
