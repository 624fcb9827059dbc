"""What is built of programs, and each pass, before and after, as printed."""

from __future__ import annotations

import textwrap
from dataclasses import replace

import pypto.language as pl
import pytest
from pypto import passes
from pypto.builder.program import build_class
from pypto.ir import walk
from pypto.ir.dtypes import FP32, INDEX
from pypto.ir.nodes import (
    Call,
    Const,
    Direction,
    Function,
    Invoke,
    Program,
    ScalarType,
    TensorType,
    TileType,
)
from pypto.ir.printer import print_function
from pypto.language.decorators import FunctionDeclaration

ROWS = pl.dynamic("ROWS")
T = pl.Tensor[[16, 16], pl.FP32]


def built(cls: type) -> Program:
    """A class as it is built, before any pass."""
    return build_class(cls, {})


def body(function: Function) -> str:
    """A function's statements as Python."""
    return textwrap.dedent("\n".join(print_function(function).split("\n")[2:])).strip()


class Copies:
    """Two kernels and orchestrators without annotations."""

    @pl.function(type=pl.FunctionType.InCore)
    def copy(self, a: T, f: pl.Out[T]):
        return pl.store(pl.load(a, [0, 0], [16, 16]), [0, 0], f)

    @pl.function(type=pl.FunctionType.InCore)
    def double(self, f: pl.InOut[T], by: pl.Scalar[pl.FP32]):
        tile = pl.load(f, [0, 0], [16, 16])
        f = pl.store(tile * by, [0, 0], f)
        return f

    @pl.function(type=pl.FunctionType.Orchestration)
    def both(self, a, f, by):
        f = self.copy(a, f)
        return self.double(f, by)

    @pl.function(type=pl.FunctionType.Orchestration)
    def read_then_write(self, x, y):
        part = y
        self.copy(x, x)
        self.copy(part, x)

    @pl.function(level=pl.Level.HOST, role=pl.Role.Orchestrator)
    def host(self, a, f):
        g = pl.create_tensor([16, 16], dtype=pl.FP32)
        f = self.both(a, f, 2)
        self.both(f, g, 3.0)
        return f


def test_signatures_come_from_what_is_called():
    program = built(Copies)
    both, mixed, host = (program.function(name) for name in ("both", "read_then_write", "host"))
    assert [param.type for param in both.params] == [T, T, ScalarType(FP32)]
    assert [param.direction for param in both.params] == [Direction.IN, Direction.OUT, Direction.IN]
    assert [param.direction for param in mixed.params] == [Direction.INOUT, Direction.IN]
    assert [param.type for param in host.params] == [T, T]
    assert [param.direction for param in host.params] == [Direction.IN, Direction.OUT]


def test_types_are_inferred_and_sugar_becomes_operations():
    program = built(Copies)
    assert (
        body(program.function("double"))
        == textwrap.dedent(
            """
        tile = pl.load(f, [0, 0], [16, 16])
        mul_1 = pl.mul(tile, by)
        pl.store(mul_1, [0, 0], f)
        return f
        """
        ).strip()
    )
    assert program.function("both").results == (T,)
    call = program.function("host").body[1].value
    assert isinstance(call, Invoke)
    assert call.args[2] == Const(2.0, ScalarType(FP32))


class Nested:
    """Operations inside operations."""

    @pl.function(type=pl.FunctionType.InCore)
    def kernel(self, a: T, f: pl.Out[T], g: pl.Out[T]):
        matmul_1 = pl.load(a, [0, 0], [16, 16])
        for _i in pl.range(a.shape[0] // 8):
            pl.store(pl.exp(pl.matmul(matmul_1, pl.neg(matmul_1))), [0, 0], f)
        return pl.store(matmul_1, [0, 0], g), f

    @pl.function(type=pl.FunctionType.Orchestration)
    def chip(self, a: T, f: pl.Out[T], g: pl.Out[T]):
        return self.kernel(a[0:16], f, g)


def test_nested_operations_get_variables_in_the_order_they_are_evaluated():
    program = built(Nested)
    assert (
        body(program.function("kernel"))
        == textwrap.dedent(
            """
        matmul_1 = pl.load(a, [0, 0], [16, 16])
        for _i in pl.range(0, 2, 1):
            neg_1 = pl.neg(matmul_1)
            matmul_2 = pl.matmul(matmul_1, neg_1)
            exp_1 = pl.exp(matmul_2)
            pl.store(exp_1, [0, 0], f)
        pl.store(matmul_1, [0, 0], g)
        return g, f
        """
        ).strip()
    )


def test_results_are_the_arguments_that_were_written():
    assert (
        body(built(Nested).function("chip"))
        == textwrap.dedent(
            """
        slice_1 = pl.slice(a, [16, 16], [0, 0])
        self.kernel(slice_1, f, g)
        return g, f
        """
        ).strip()
    )
    assert (
        body(built(Copies).function("host"))
        == textwrap.dedent(
            """
        g = pl.create_tensor([16, 16], dtype=pl.FP32)
        self.both(a, f, 2.0)
        self.both(f, g, 3.0)
        return f
        """
        ).strip()
    )


def test_a_tensor_that_stays_the_same_may_be_named_again_in_a_loop(programs):
    program = programs.kernel(
        """
        for i in pl.range(2):
            f = pl.store(pl.load(a, [8 * i, 0], [8, 16]), [8 * i, 0], f)
        return f
        """
    )
    assert "pl.store(load_1, [8 * i, 0], f)\nreturn f" in body(program.functions[0]).replace("    ", "")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("a[2:5]", "pl.slice(a, [3, 16], [2, 0])"),
        ("a[:n]", "pl.slice(a, [n, 16], [0, 0])"),
        ("a[n:]", "pl.slice(a, [16 - n, 16], [n, 0])"),
        ("a[n : n + 4]", "pl.slice(a, [4, 16], [n, 0])"),
        ("a[n : 2 * n]", "pl.slice(a, [(2 * n) - n, 16], [n, 0])"),
        ("a[:]", "pl.slice(a, [16, 16], [0, 0])"),
        ("b[n:]", "pl.slice(b, [pl.dim(b, 0) - n, pl.dim(b, 1)], [n, 0])"),
    ],
)
def test_slices_of_the_first_dimension(programs, written, meant):
    text = (
        "R = pl.dynamic('R')\n@pl.program\nclass P:\n    @pl.function(type=pl.FunctionType.Orchestration)\n"
        "    def chip(self, a: pl.Tensor[[16, 16], pl.FP32], b: pl.Tensor[[R, R], pl.FP32]):\n"
        f"        n = pl.dim(a, 0) // 2\n        x = {written}\n"
    )
    assert body(programs.program(text).functions[0]).endswith(f"x = {meant}")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("t + t", "pl.add(t, t)"),
        ("t - 1", "pl.sub(t, 1.0)"),
        ("2 * t", "pl.mul(t, 2.0)"),
        ("t / t", "pl.div(t, t)"),
        ("-t", "pl.neg(t)"),
        ("1 - t", "pl.add(neg_1, 1.0)"),
        ("1.0 / t", "pl.div(full_1, t)"),
        ("t ** 3", "pl.mul(t, mul_1)"),
        ("t ** 0.5", "pl.sqrt(t)"),
        ("t @ t", "pl.matmul(t, t)"),
        ("t - pl.row_max(t)", "pl.row_expand_sub(t, row_max_1)"),
        ("t - pl.max(t, axis=1)", "pl.row_expand_sub(t, row_max_1)"),
        ("t / pl.sum(t, axis=0)", "pl.col_expand_div(t, col_sum_1)"),
        ("pl.row_max(t) - t", "pl.sub(row_expand_mul_1, t)"),
        ("pl.row_max(t) + pl.col_max(t)", "pl.col_expand_add(row_expand_mul_1, col_max_1)"),
        ("abs(t)", "pl.abs(t)"),
        ("t * -2", "pl.mul(t, -2.0)"),
    ],
)
def test_operators_on_tiles(programs, written, meant):
    program = programs.kernel(f"t = pl.load(a, [0, 0], [16, 16])\nu = {written}")
    assert body(program.functions[0]).endswith(f"u = {meant}")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("-n", "0 - n"),
        ("pl.min(n, 3, m)", "pl.min(pl.min(n, 3), m)"),
        ("pl.max(4, 7)", "7"),
        ("(n + 1) // 2 % m", "((n + 1) // 2) % m"),
        ("SIZES[1] * 2 + OFFSET", "25"),
        ("pl.dim(a, 0) - 0", "pl.dim(a, 0) - 0"),
    ],
)
def test_arithmetic_on_numbers(programs, written, meant):
    program = programs.kernel(f"n = pl.dim(a, 0)\nm = pl.dim(a, 1)\nk = {written}", SIZES=[3, 11], OFFSET=3)
    assert body(program.functions[0]).endswith(f"k = {meant}")
    assert program.functions[0].body[-1].target.type == ScalarType(INDEX)


def test_each_value_of_a_name_is_a_variable_of_its_own(programs):
    program = programs.kernel(
        """
        t = pl.load(a, [0, 0], [16, 16])
        t = pl.row_max(t)
        t = pl.neg(t)
        for i in pl.range(3):
            t = pl.exp(t)
        """
    )
    *straight, loop = program.functions[0].body
    wide, narrow = TileType((16, 16), FP32), TileType((16, 1), FP32)
    assert [(s.target.name, s.target.type) for s in straight] == [("t", wide), ("t_1", narrow), ("t_2", narrow)]
    (carried,) = loop.carried
    assert [v.type for v in (carried.param, carried.init, carried.result)] == [narrow] * 3
    assert len({v.name for v in (carried.param, carried.init, carried.result, *walk.defines(loop.body[0]))}) == 4


def test_computed_dimensions_fit_any_other(programs):
    program = programs.program(
        """
        R = pl.dynamic("R")
        @pl.program
        class P:
            @pl.function(type=pl.FunctionType.InCore)
            def kernel(self, a: pl.Tensor[[R, 8], pl.FP32], f: pl.Out[pl.Tensor[[R, 8], pl.FP32]]):
                return pl.store(pl.load(a, [0, 0], [1, 8]), [0, 0], f)
            @pl.function(type=pl.FunctionType.Orchestration)
            def chip(self, a: pl.Tensor[[R, 8], pl.FP32], f: pl.Out[pl.Tensor[[R, 8], pl.FP32]]):
                n = pl.dim(a, 0)
                x = pl.create_tensor([n, 8], dtype=pl.FP32)
                y = pl.create_tensor([R, 8], dtype=pl.FP32)
                self.kernel(x, y)
                return self.kernel(pl.slice(a, [n - 1, 8], [1, 0]), f)
        """
    )
    x, y = (stmt.target.type for stmt in program.function("chip").body[1:3])
    assert str(x) == "Tensor[[?, 8], FP32]"
    assert str(y) == "Tensor[[R, 8], FP32]"
    assert program.function("chip").results == (TensorType(program.function("chip").params[1].type.shape, FP32),)


def test_ops_that_are_spelled_alike_are_told_apart_by_their_first_operand(monkeypatch, programs):
    from pypto.ops import registry

    monkeypatch.setattr(registry, "_OPS", dict(registry._OPS))
    base = registry.get("tile.neg")
    registry.register(
        replace(
            base,
            name="tensor.neg",
            params=(replace(base.params[0], takes=registry.Takes.TENSOR),),
            infer=lambda args, attrs: args[0].type,
        )
    )
    program = programs.kernel("x = pl.neg(a)\nt = pl.neg(pl.load(a, [0, 0], [4, 4]))")
    ops = [s.value.op for s in program.functions[0].body if isinstance(s.value, Call)]
    assert ops == ["tensor.neg", "tile.load", "tile.neg"]


def test_run_all_tells_what_each_pass_gave():
    seen: list[str] = []
    passes.run_all(built(Nested), after=lambda name, _: seen.append(name))
    assert seen == ["build", "remove_dead_code", "plan_memory"]


def test_what_nothing_uses_is_left_out_but_what_may_fail_stays(programs):
    program = programs.kernel(
        """
        n = pl.dim(a, 0) + 1
        m = n * 2
        unused = pl.load(a, [0, 0], [16, 16])
        t = pl.exp(unused)
        last = t
        for i in pl.range(m):
            last = t + 1.0
            if i > 2:
                x = pl.neg(last)
        x = pl.load(a, [0, 0], [4, 4])
        pl.store(x, [0, 0], f)
        """
    )
    assert (
        body(passes.remove_dead_code(program).functions[0])
        == textwrap.dedent(
            """
        n = pl.dim(a, 0) + 1
        m = n * 2
        unused = pl.load(a, [0, 0], [16, 16])
        for i in pl.range(0, m, 1):
            pass
        x_1 = pl.load(a, [0, 0], [4, 4])
        pl.store(x_1, [0, 0], f)
        """
        ).strip()
    )


def test_methods_stay_declarations_of_their_class():
    assert isinstance(Copies.copy, FunctionDeclaration)
