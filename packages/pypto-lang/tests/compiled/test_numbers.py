"""Numbers in programs: scalars through every layer, index arithmetic with Python's meaning, loops."""

from __future__ import annotations

import math

import numpy as np
import pypto.language as pl
import pytest
import simpler
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pypto import ir
from pypto.errors import TypeMismatch
from pypto.ir.distributed_compiled_program import DistributedConfig
from pypto.ir.dtypes import INDEX, INT32
from pypto.ir.nodes import (
    Assign,
    Binary,
    Call,
    Const,
    DimExpr,
    DimVar,
    Direction,
    Eval,
    Expr,
    ExprTuple,
    Function,
    FunctionKind,
    Invoke,
    Param,
    Program,
    Return,
    ScalarType,
    TensorType,
    TileType,
    TupleType,
    Var,
)

N = pl.dynamic("N")
Rows = pl.Tensor[[N, 8], pl.FP32]


@pl.program
class Scaled:
    """Multiplies by ``scale``, ``times`` times and once more."""

    @pl.function(type=pl.FunctionType.InCore)
    def kernel(self, a: Rows, scale: pl.Scalar[pl.FP32], times: pl.Scalar[pl.INT64], f: pl.Out[Rows]):
        tile = pl.load(a, [0, 0], [16, 8], valid_shapes=[N, 8])
        for _ in pl.range(0, times, 1):
            tile = pl.mul(tile, scale)
        return pl.store(tile, [0, 0], f)

    @pl.function(type=pl.FunctionType.Orchestration)
    def chip(self, a: Rows, scale: pl.Scalar[pl.FP32], times: pl.Scalar[pl.INT64], f: pl.Out[Rows]):
        for row in pl.range(0, N, 16):
            rows = pl.min(16, N - row)
            self.kernel(a[row : row + rows], scale, times + 1, f[row : row + rows])
        return f

    @pl.function(level=pl.Level.HOST, role=pl.Role.Worker)
    def check(self, f: Rows, scale: pl.Scalar[pl.FP32], times: pl.Scalar[pl.INT64]):
        assert (type(scale), type(times)) == (float, int)
        assert (scale, times) == (-2.5, 2)

    @pl.function(level=pl.Level.HOST, role=pl.Role.Orchestrator)
    def host(self, a: Rows, scale: pl.Scalar[pl.FP32], times: pl.Scalar[pl.INT64], f: pl.Out[Rows]):
        f = self.chip(a, scale, times, f)
        self.check(f, scale, times)
        return f


@pytest.fixture(scope="module")
def scaled(_own_cache: None):
    with ir.compile(Scaled, distributed_config=DistributedConfig(num_sub_workers=1)) as compiled:
        yield compiled


@pytest.mark.parametrize("scale", [-2.5, np.float32(-2.5), np.float64(-2.5)])
def test_scalars_reach_kernels_and_sub_workers(scaled, scale: float) -> None:
    x = np.arange(40 * 8, dtype=np.float32).reshape(40, 8)
    np.testing.assert_array_equal(scaled(x, scale, np.int64(2)), x * np.float32(-2.5) ** 3)


def test_an_array_may_be_both_argument_and_output(scaled) -> None:
    x = np.arange(40 * 8, dtype=np.float32).reshape(40, 8)
    y = x.copy()
    scaled(y, -2.5, 2, y)
    np.testing.assert_array_equal(y, x * np.float32(-2.5) ** 3)


def test_no_rows_are_no_work(scaled) -> None:
    assert scaled(np.zeros((0, 8), np.float32), -2.5, 2).shape == (0, 8)


@pytest.mark.parametrize(("scale", "times"), [("2", 2), (2.5, 2.5), (None, 2), (2.5, np.zeros(1, np.int64))])
def test_what_is_no_number_of_that_type_is_refused(scaled, scale: object, times: object) -> None:
    with pytest.raises(TypeMismatch, match="expected a number of type"):
        scaled(np.zeros((1, 8), np.float32), scale, times)


@pytest.mark.parametrize("times", [2**63, -(2**63) - 1])
def test_a_number_beyond_its_type_is_refused(scaled, times: int) -> None:
    with pytest.raises(TypeMismatch, match="does not fit int64"):
        scaled(np.zeros((1, 8), np.float32), 1.0, times)


@pl.program
class Loops:
    """Writes into row i of f how often, and last with what, each of its loops ran."""

    @pl.function(type=pl.FunctionType.InCore)
    def kernel(self, step: pl.Scalar[pl.INT64], f: pl.Out[pl.Tensor[[16, 1], pl.INT32]]):
        one = pl.full([1, 1], 1, dtype=pl.INT32)
        for i in pl.range(9, 0, -2):
            f = pl.store(one, [i, 0], f)
        for i in pl.range(0, 16, step):
            f = pl.store(pl.add(one, 1), [i, 0], f)
        return f

    @pl.function(type=pl.FunctionType.Orchestration)
    def chip(self, step: pl.Scalar[pl.INT64], f: pl.Out[pl.Tensor[[16, 1], pl.INT32]]):
        return self.kernel(step, f)

    @pl.function(level=pl.Level.HOST, role=pl.Role.Orchestrator)
    def host(self, step: pl.Scalar[pl.INT64], f: pl.Out[pl.Tensor[[16, 1], pl.INT32]]):
        return self.chip(step, f)


def test_loops_count_as_range_does() -> None:
    with ir.compile(Loops) as compiled:
        for step in (1, 5, 16, -1):
            expected = np.zeros((16, 1), np.int32)
            expected[list(range(9, 0, -2))] = 1
            expected[list(range(0, 16, step))] = 2
            np.testing.assert_array_equal(compiled(step), expected)
        with pytest.raises(simpler.TaskFailed, match=r"test_numbers\.py:\d+: the step of a range is zero"):
            compiled(0)


INFINITY, NAN, TINY, TENTH = float("inf"), float("nan"), 1e-45, 0.1
LEAST, MOST = -(2**63), 2**63 - 1


@pl.program
class Constants:
    """Fills its outputs with numbers that are hard to write in C++."""

    @pl.function(type=pl.FunctionType.InCore)
    def kernel(self, f: pl.Out[pl.Tensor[[5, 1], pl.FP32]], i: pl.Out[pl.Tensor[[3, 1], pl.INT64]]):
        f = pl.store(pl.full([1, 1], INFINITY, dtype=pl.FP32), [0, 0], f)
        f = pl.store(pl.full([1, 1], -INFINITY, dtype=pl.FP32), [1, 0], f)
        f = pl.store(pl.full([1, 1], NAN, dtype=pl.FP32), [2, 0], f)
        f = pl.store(pl.full([1, 1], TINY, dtype=pl.FP32), [3, 0], f)
        f = pl.store(pl.full([1, 1], TENTH, dtype=pl.FP32), [4, 0], f)
        i = pl.store(pl.full([1, 1], LEAST, dtype=pl.INT64), [0, 0], i)
        i = pl.store(pl.full([1, 1], MOST, dtype=pl.INT64), [1, 0], i)
        i = pl.store(pl.full([1, 1], -5, dtype=pl.INT64), [2, 0], i)
        return f, i

    @pl.function(type=pl.FunctionType.Orchestration)
    def chip(self, f: pl.Out[pl.Tensor[[5, 1], pl.FP32]], i: pl.Out[pl.Tensor[[3, 1], pl.INT64]]):
        return self.kernel(f, i)

    @pl.function(level=pl.Level.HOST, role=pl.Role.Orchestrator)
    def host(self, f: pl.Out[pl.Tensor[[5, 1], pl.FP32]], i: pl.Out[pl.Tensor[[3, 1], pl.INT64]]):
        return self.chip(f, i)


def test_constants_keep_their_value() -> None:
    with ir.compile(Constants) as compiled:
        f, i = compiled()
    np.testing.assert_array_equal(f[:, 0], np.float32([INFINITY, -INFINITY, NAN, TINY, TENTH]))
    assert i[:, 0].tolist() == [LEAST, MOST, -5]


# --- index arithmetic ------------------------------------------------------------------------------------------------

INDEX_SCALAR = ScalarType(INDEX)
LIMIT = 10**6  # intermediate results stay far from overflow
COUNT = 8


def number(value: int) -> Const:
    return Const(value, INDEX_SCALAR)


def value_of(expr: Expr, n: int) -> int | None:
    """What Python makes of an index expression; None for a division by zero or a number beyond LIMIT."""
    match expr:
        case Const(value=value):
            return int(value)
        case DimExpr():
            return n
        case Binary(op=op, lhs=lhs, rhs=rhs):
            a, b = value_of(lhs, n), value_of(rhs, n)
            if a is None or b is None or (op in ("//", "%") and b == 0):
                return None
            result = min(a, b) if op == "min" else max(a, b) if op == "max" else eval(f"({a}) {op} ({b})")
            return result if abs(result) < LIMIT else None
    raise AssertionError(expr)


leaves = st.one_of(st.integers(-20, 20).map(number), st.just(DimExpr("N", INDEX_SCALAR)))
index_expressions = st.recursive(
    leaves,
    lambda inner: st.builds(
        lambda op, lhs, rhs: Binary(op, lhs, rhs, INDEX_SCALAR),
        st.sampled_from(["+", "-", "*", "//", "%", "min", "max"]),
        inner,
        inner,
    ),
    max_leaves=8,
)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much])
@given(data=st.data(), n=st.integers(1, 50))
def test_index_arithmetic_means_on_a_chip_what_it_means_in_python(data: st.DataObject, n: int) -> None:
    """Row k of the output has its 1 in column ``expression k % 16``."""
    valid = index_expressions.filter(lambda e: value_of(e, n) is not None)
    exprs = [data.draw(valid) for _ in range(COUNT)]
    out = TensorType((COUNT, 16), INT32)
    params = (Param("x", TensorType((DimVar("N"),), INT32)), Param("f", out, Direction.OUT))
    x, f = (Var(p.name, p.type) for p in params)
    one = Var("one", TileType((1, 1), INT32))
    shape = ExprTuple((number(1), number(1)), TupleType((INDEX_SCALAR, INDEX_SCALAR)))
    full = Call("tile.full", (shape, number(1)), (("dtype", INT32),), one.type)
    stores = []
    for row, expr in enumerate(exprs):
        column = Binary("%", expr, number(16), INDEX_SCALAR)
        offsets = ExprTuple((number(row), column), TupleType((INDEX_SCALAR, INDEX_SCALAR)))
        stores.append(Eval(Call("tile.store", (one, offsets, f), (), out)))
    done = Return((f,))
    program = Program(
        "Indices",
        (
            Function("kernel", FunctionKind.INCORE, params, (out,), (Assign(one, full), *stores, done)),
            Function(
                "chip",
                FunctionKind.CHIP_ORCHESTRATION,
                params,
                (out,),
                (Eval(Invoke("kernel", (x, f), None, out)), done),
            ),
            Function(
                "host", FunctionKind.HOST_ORCHESTRATION, params, (out,), (Eval(Invoke("chip", (x, f), None, out)), done)
            ),
        ),
    )
    with ir.compile(program) as compiled:
        result = compiled(np.zeros(n, np.int32))
    columns = [value_of(Binary("%", e, number(16), INDEX_SCALAR), n) for e in exprs]
    assert result.argmax(axis=1).tolist() == columns
    assert (result.sum(axis=1) == 1).all()


@pl.program
class Divides:
    @pl.function(type=pl.FunctionType.InCore)
    def kernel(self, by: pl.Scalar[pl.INT64], f: pl.Out[pl.Tensor[[16, 1], pl.INT32]]):
        one = pl.full([1, 1], 1, dtype=pl.INT32)
        return pl.store(one, [8 // by, 0], f)

    @pl.function(type=pl.FunctionType.Orchestration)
    def chip(self, by: pl.Scalar[pl.INT64], f: pl.Out[pl.Tensor[[16, 1], pl.INT32]]):
        return self.kernel(by, f)

    @pl.function(level=pl.Level.HOST, role=pl.Role.Orchestrator)
    def host(self, by: pl.Scalar[pl.INT64], f: pl.Out[pl.Tensor[[16, 1], pl.INT32]]):
        return self.chip(by, f)


def test_division_by_zero_is_an_error_with_its_line() -> None:
    with ir.compile(Divides) as compiled:
        assert compiled(3).argmax() == 2
        with pytest.raises(simpler.TaskFailed, match=r"test_numbers\.py:\d+: integer division by zero"):
            compiled(0)


# --- operations that a file of its own brings ------------------------------------------------------------------------


@pl.program
class Gelu:
    @pl.function(type=pl.FunctionType.InCore)
    def gelu(self, x: pl.Tensor[[8, 16], pl.FP32], y: pl.Out[pl.Tensor[[8, 16], pl.FP32]]):
        t = pl.load(x, [0, 0], [8, 16])
        return pl.store(t * 0.5 * (1 + pl.erf(t * 0.70710678)), [0, 0], y)

    @pl.function(type=pl.FunctionType.Orchestration)
    def chip(self, x, y):
        return self.gelu(x, y)


def test_an_operation_brings_the_cpp_that_the_tile_library_lacks() -> None:
    x = np.linspace(-4, 4, 128, dtype=np.float32).reshape(8, 16)
    expected = [0.5 * v * (1 + math.erf(v * 0.70710678)) for v in x.ravel().tolist()]
    with ir.compile(Gelu) as compiled:
        np.testing.assert_allclose(compiled(x).ravel(), expected, rtol=1e-5, atol=1e-6)
    assert "error function" in str(pl.erf.__doc__)
