"""Branches, loops, early exits and helpers: what they compute is what Python would."""

from __future__ import annotations

import math

import numpy as np
import pypto.language as pl
import pytest
from pypto import ir

T = pl.Tensor[[16, 16], pl.FP32]
Counts = pl.Tensor[[8, 1], pl.INT64]
RELU = True
SCALES = (2.0, 3.0)
X = np.arange(256, dtype=np.float32).reshape(16, 16) - 100


def number(value):
    """A tile with one element, to look at a number that a kernel has computed."""
    return pl.full([1, 1], 0, dtype=pl.INT64) + value


def gelu_like(t, scale=0.5):
    """A helper that returns from a branch."""
    if scale > 1.0:
        return t * scale
    return helper_of_helper(t) * scale


def helper_of_helper(t):
    return pl.relu(t)


def norms(t):
    """A helper with two results."""
    return pl.row_max(t), pl.row_min(t)


@pl.program
class Kernels:
    """One kernel a thing to look at; the numbers they compute go to ``out``."""

    @pl.function(type=pl.FunctionType.InCore)
    def numbers(self, n: pl.Scalar[pl.INT64], out: pl.Out[Counts]):
        total = 0
        for i in range(n):
            if i % 2 == 0:
                continue
            if i > 7:
                break
            total += i
        pl.store(number(total), [0, 0], out)

        steps, value = 0, n
        while value > 1 and steps < 100:
            value = value // 2 if value % 2 == 0 else 3 * value + 1
            steps += 1
        pl.store(number(steps), [1, 0], out)

        a, b = 0, 1
        for _ in pl.range(n):
            a, b = b, a + b
        pl.store(number(a), [2, 0], out)

        if n > 10:
            kind = 3
        elif n > 5 or n == 2:
            kind = 2
        else:
            kind = 1
        pl.store(number(kind), [3, 0], out)

        found = -1
        for i in range(10):
            for j in range(10):
                if i * j == n:
                    found = i
                    break
            if found >= 0:
                break
        pl.store(number(found), [4, 0], out)
        pl.store(number(n if not n < 3 else -n), [5, 0], out)
        going = 0
        while True:
            going += 1
            if going >= n:
                break
        pl.store(number(going), [6, 0], out)
        pl.store(number(min(n, 4) + max(n, 9) * len(SCALES) + int(math.sqrt(64))), [7, 0], out)

    @pl.function(type=pl.FunctionType.InCore)
    def tiles(self, x: T, n: pl.Scalar[pl.INT64], y: pl.Out[T]):
        t = pl.load(x, [0, 0], [16, 16])
        first = t
        for scale in SCALES:
            t = t * scale
        if RELU:
            t = gelu_like(t)
        for i in pl.range(n):
            if i == 2:
                t = t - first
            else:
                t, first = first, t
        if n > 3:
            return pl.store(gelu_like(t, scale=2.0), [0, 0], y)
        high, low = norms(t)
        return pl.store(t + (high - low), [0, 0], y)

    @pl.function(type=pl.FunctionType.Orchestration)
    def chip(self, x: T, n: pl.Scalar[pl.INT64], y: pl.Out[T], out: pl.Out[Counts]):
        turns = n
        while turns > 1000:
            turns -= 1000
        if turns == n:
            self.tiles(x, turns, y)
        else:
            self.tiles(x, 0, y)
        self.numbers(turns, out)
        return y, out

    @pl.function(level=pl.Level.HOST, role=pl.Role.Orchestrator)
    def host(self, x: T, n: pl.Scalar[pl.INT64], y: pl.Out[T], out: pl.Out[Counts]):
        count = 0
        while count < n and count < 3:
            count += 1
        for i in range(count):
            if i + 1 == count:
                self.chip(x, n if n < 1_000_000 else 7, y, out)
            else:
                self.chip(x, 1, y, out)
        if count == 0:
            self.chip(x, n, y, out)
        return y, out


def numbers_in_python(n: int) -> list[int]:
    total = sum(i for i in range(min(n, 8)) if i % 2)
    steps, value = 0, n
    while value > 1 and steps < 100:
        value = value // 2 if value % 2 == 0 else 3 * value + 1
        steps += 1
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    kind = 3 if n > 10 else 2 if n > 5 or n == 2 else 1
    found = next((i for i in range(10) for j in range(10) if i * j == n), -1)
    kept = n if not n < 3 else -n
    return [total, steps, a, kind, found, kept, max(1, n), min(n, 4) + max(n, 9) * 2 + 8]


def tiles_in_python(x: np.ndarray, n: int) -> np.ndarray:
    first, t = x, np.maximum(x * np.float32(6), 0) * np.float32(0.5)
    for i in range(n):
        t, first = (t - first, first) if i == 2 else (first, t)
    return t * 2 if n > 3 else t + (t.max(1, keepdims=True) - t.min(1, keepdims=True))


@pytest.fixture(scope="module", params=["cpu", "a2a3sim"])
def kernels(request, _own_cache: None):
    with ir.compile(Kernels, request.param) as compiled:
        yield compiled


@pytest.mark.parametrize("n", [0, 1, 2, 3, 6, 9, 27])
def test_control_flow_means_what_it_means_in_python(kernels, n: int) -> None:
    y, out = kernels(X, n)
    assert out.ravel().tolist() == numbers_in_python(n)
    np.testing.assert_array_equal(y, tiles_in_python(X, n))


@pl.program
class Swap:
    """What loops carry changes places: two tiles, three, and one that is the older value of another."""

    @pl.function(type=pl.FunctionType.InCore)
    def turn(self, x: pl.Tensor[[3, 8], pl.INT32], n: pl.Scalar[pl.INT64], y: pl.Out[pl.Tensor[[3, 8], pl.INT32]]):
        a, b, c = pl.load(x, [0, 0], [1, 8]), pl.load(x, [1, 0], [1, 8]), pl.load(x, [2, 0], [1, 8])
        for i in range(n):
            old = a
            a, b, c = b, c, a
            if i % 2 == 1:
                b, c = c, b + old
        pl.store(a, [0, 0], y)
        pl.store(b, [1, 0], y)
        return pl.store(c, [2, 0], y)

    @pl.function(type=pl.FunctionType.Orchestration)
    def chip(self, x, n, y):
        return self.turn(x, n, y)


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_tiles_that_change_places_in_a_loop(n: int) -> None:
    x = np.arange(24, dtype=np.int32).reshape(3, 8)
    a, b, c = x
    for i in range(n):
        old = a
        a, b, c = b, c, a
        if i % 2 == 1:
            b, c = c, b + old
    with ir.compile(Swap) as compiled:
        np.testing.assert_array_equal(compiled(x, n), [a, b, c])


# --- valid regions ---------------------------------------------------------------------------------------------------

N = pl.dynamic("N")


@pl.program
class Tails:
    """Tiles that are one value everywhere, beside tiles of which a part is valid."""

    @pl.function(type=pl.FunctionType.InCore)
    def beside(self, x: pl.Tensor[[N, 10], pl.FP32], y: pl.Out[pl.Tensor[[N, 10], pl.FP32]]):
        ones = pl.full([32, 16], 1.0, dtype=pl.FP32)
        for row in pl.range(0, N, 32):
            t = pl.load(x, [row, 0], [32, 16], valid_shapes=[pl.min(32, N - row), 10])
            inverse = 1.0 / (ones + t * t)
            y = pl.store(ones - inverse + pl.row_sum(t), [row, 0], y)
        return y

    @pl.function(type=pl.FunctionType.InCore)
    def carried(self, x: pl.Tensor[[N, 10], pl.FP32], y: pl.Out[pl.Tensor[[N, 10], pl.FP32]]):
        total = pl.full([32, 16], 0.0, dtype=pl.FP32)
        for _ in pl.range(3):
            total = total + pl.load(x, [0, 0], [32, 16], valid_shapes=[N, 10])
        return pl.store(total, [0, 0], y)

    @pl.function(type=pl.FunctionType.InCore)
    def product(
        self, x: pl.Tensor[[N, 10], pl.FP32], w: pl.Tensor[[10, 10], pl.FP32], y: pl.Out[pl.Tensor[[N, 10], pl.FP32]]
    ):
        total = pl.full([32, 16], 0.0, dtype=pl.FP32)
        for _ in pl.range(2):
            a = pl.load(x, [0, 0], [32, 16], valid_shapes=[N, 10])
            b = pl.load(w, [0, 0], [16, 16], valid_shapes=[10, 10])
            total = pl.matmul_acc(total, a, b)
        return pl.store(total, [0, 0], y)

    @pl.function(type=pl.FunctionType.Orchestration)
    def chip(self, x, w, a, b, c):
        self.beside(x, a)
        self.carried(x, b)
        self.product(x, w, c)
        return a, b, c


@pytest.mark.parametrize("platform", ["cpu", "a2a3sim"])
@pytest.mark.parametrize("count", [1, 5, 32])
def test_a_tile_that_is_one_value_takes_the_region_of_what_it_meets(platform: str, count: int) -> None:
    x = np.random.default_rng(0).integers(-3, 4, (count, 10)).astype(np.float32)
    w = np.eye(10, dtype=np.float32) * 2
    with ir.compile(Tails, platform) as compiled:
        a, b, c = compiled(x, w)
    np.testing.assert_allclose(a, 1 - 1 / (1 + x * x) + x.sum(1, keepdims=True), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(b, 3 * x)
    np.testing.assert_array_equal(c, 4 * x)


def test_regions_that_differ_when_the_kernel_runs_are_an_error_with_its_line() -> None:
    import simpler

    @pl.program
    class Differ:
        @pl.function(type=pl.FunctionType.InCore)
        def k(self, x: pl.Tensor[[N, 8], pl.FP32], y: pl.Out[pl.Tensor[[N, 8], pl.FP32]]):
            t = pl.load(x, [0, 0], [16, 8], valid_shapes=[N, 8])
            return pl.store(t + pl.load(x, [0, 0], [16, 8], valid_shapes=[N - 1, 8]), [0, 0], y)

        @pl.function(type=pl.FunctionType.Orchestration)
        def chip(self, x, y):
            return self.k(x, y)

    with (
        ir.compile(Differ) as compiled,
        pytest.raises(
            simpler.TaskFailed, match=r"test_control_flow\.py:\d+: the valid regions of the operands are 4x8 and 3x8"
        ),
    ):
        compiled(np.ones((4, 8), np.float32))
