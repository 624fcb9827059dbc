"""The verifier finds what a wrong pass would do to a program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pypto.language as pl
import pytest
from pypto import passes
from pypto.errors import VerificationFailed
from pypto.ir.dtypes import BOOL, FP16, FP32, INDEX
from pypto.ir.nodes import (
    Assign,
    Call,
    Carried,
    Const,
    Direction,
    Eval,
    ExprTuple,
    For,
    Function,
    If,
    Invoke,
    Program,
    Return,
    ScalarType,
    TensorType,
    TileType,
    Var,
    While,
    Yield,
)
from pypto.ir.verifier import verify

T = pl.Tensor[[16, 16], pl.FP32]


@pl.program
class Copy:
    """A kernel in an orchestration."""

    @pl.function(type=pl.FunctionType.InCore)
    def kernel(self, a: T, f: pl.Out[T]):
        t = pl.load(a, [0, 0], [16, 16])
        for _i in pl.range(2):
            t = pl.add(t, 1.0)
        return pl.store(t, [0, 0], f)

    @pl.function(type=pl.FunctionType.Orchestration)
    def chip(self, a: T, f: pl.Out[T]):
        return self.kernel(a, f)


LOWERED = passes.run_all(Copy)
TILE = Var("t", TileType((16, 16), FP32))
A, F = (Var(name, TensorType((16, 16), FP32)) for name in "af")


def change(name: str, edit: Callable[[Function], Function]) -> Program:
    """The lowered program with one function changed."""
    return replace(LOWERED, functions=tuple(edit(f) if f.name == name else f for f in LOWERED.functions))


def body(name: str, *stmts) -> Program:
    """The lowered program with another body of one function."""
    return change(name, lambda f: replace(f, body=stmts))


def kernel(*stmts) -> Program:
    """The lowered program whose kernel loads ``t``, and then does this."""
    return body("kernel", LOWERED.function("kernel").body[0], *stmts)


def use(name: str) -> Eval:
    """A statement that uses a tile."""
    return Eval(Call("tile.neg", (replace(TILE, name=name),), (), TILE.type))


NEG = Call("tile.neg", (TILE,), (), TILE.type)
CALL = Invoke("kernel", (A, F), None, TensorType((16, 16), FP32))
ZERO, ONE = Const(0, ScalarType(INDEX)), Const(1, ScalarType(INDEX))


LOOP = For(Var("i", ScalarType(INDEX)), ZERO, ZERO, ZERO, (), ())
TRUE = Const(True, ScalarType(BOOL))
CARRIED = Carried(Var("p", TILE.type), TILE, Var("r", TILE.type))
NARROW = TileType((16, 1), FP32)
BYTES = Var("u", TileType((16, 16), pl.INT8))
CAST = Call("tile.cast", (TILE,), (("dtype", pl.INT8),), BYTES.type)
FULL = Call("tile.full", (ExprTuple((ONE, ONE), ScalarType(INDEX)), ONE), (("dtype", FP32),), TileType((1, 1), FP32))


def with_param(**changes) -> Program:
    """The lowered program whose orchestration has another first parameter."""
    return change("chip", lambda f: replace(f, params=(replace(f.params[0], **changes), *f.params[1:])))


@pytest.mark.parametrize(
    ("problem", "program"),
    [
        ("two functions of one name", replace(LOWERED, functions=LOWERED.functions * 2)),
        ("'u' is not defined", kernel(Eval(replace(NEG, args=(BYTES,))))),
        ("'t' is Tile.*used as Tile", kernel(Eval(replace(NEG, args=(replace(TILE, type=NARROW),))))),
        ("tile.neg gives Tile.*not Tile", kernel(Eval(replace(NEG, type=NARROW)))),
        ("a number is Tile", kernel(Eval(replace(NEG, args=(replace(ONE, type=TILE.type),))))),
        ("no op 'tile.no'", kernel(Eval(replace(NEG, op="tile.no")))),
        (
            "pl.exp: expected a tile of floats",
            kernel(Assign(BYTES, CAST), Eval(Call("tile.exp", (BYTES,), (), BYTES.type))),
        ),
        (
            "'t' is defined twice",
            kernel(Assign(replace(TILE, type=NARROW), Call("tile.row_max", (TILE,), (), NARROW))),
        ),
        ("assigned to", kernel(Assign(BYTES, NEG))),
        ("tile.neg inside an expression", kernel(Eval(replace(NEG, args=(NEG,))))),
        ("'g' is another name of a tile or tensor", kernel(Assign(Var("g", F.type), F))),
        ("a call is assigned", body("chip", Assign(Var("g", F.type), CALL))),
        ("yield is not the last statement", kernel(replace(LOOP, body=(Yield(()), Eval(NEG))))),
        ("a function yields", kernel(Yield((TILE,)))),
        ("yields .*Tile.* for ..$", kernel(replace(LOOP, body=(Yield((TILE,)),)))),
        (r"yields .. for .'Tile", kernel(replace(LOOP, carried=(CARRIED,)))),
        ("begins as Scalar", kernel(replace(LOOP, carried=(replace(CARRIED, init=ONE),), body=(Yield((TILE,)),)))),
        ("'p' is not defined", kernel(replace(LOOP, carried=(CARRIED,), body=(Yield((TILE,)),)), use("p"))),
        ("tensor 'p' is carried", kernel(replace(LOOP, carried=(Carried(Var("p", F.type), F, Var("r", F.type)),)))),
        ("a condition is Scalar.*INDEX", kernel(If(ONE, (), ()))),
        ("a condition is Tile", kernel(While(TILE, (), ()))),
        ("'x' is not defined", kernel(If(TRUE, (Assign(Var("x", NEG.type), NEG),), ()), use("x"))),
        ("return is not the last statement", kernel(Return(()), Eval(NEG))),
        ("return inside a body", kernel(replace(LOOP, body=(Return(()),)))),
        ("a loop bound is Tile", kernel(replace(LOOP, stop=TILE))),
        ("results, and no return", kernel(LOOP)),
        (r"\[\] returned as", kernel(Return(()))),
        ("returns what isn't Out or InOut", kernel(Return((A,)))),
        ("tile.full in a chip orchestration", body("chip", Eval(FULL))),
        ("has no function 'karnel'", body("chip", Eval(replace(CALL, function="karnel")))),
        ("parameter 'f' of kernel is", body("chip", Eval(replace(CALL, args=(A, ZERO))))),
        ("kernel takes 2 arguments, found 1", body("chip", Eval(replace(CALL, args=(A,))))),
        ("kernel gives Tensor.*not Scalar", body("chip", Eval(replace(CALL, type=ScalarType(INDEX))))),
        ("can't call chip orchestration chip", body("chip", Eval(replace(CALL, function="chip")))),
        ("two parameters 'f'", with_param(name="f")),
        ("parameter 'a' is of type Tile", with_param(type=TILE.type)),
        ("number 'a' is written", with_param(type=ScalarType(FP16), direction=Direction.OUT)),
    ],
)
def test_broken_programs_are_found(problem, program):
    with pytest.raises(VerificationFailed, match=problem):
        verify(program)


def test_a_program_that_keeps_the_rules_passes():
    verify(Copy)
    verify(LOWERED)


def test_the_error_points_at_where_the_node_came_from():
    store = LOWERED.function("kernel").body[-2]
    assert isinstance(store, Eval)
    assert isinstance(store.value, Call)
    with pytest.raises(VerificationFailed) as caught:
        verify(kernel(replace(store, value=replace(store.value, op="tile.no"))))
    assert caught.value.file == __file__
    assert "pl.store(t, [0, 0], f)" in str(caught.value)


def test_run_all_verifies_between_passes(monkeypatch):
    monkeypatch.setattr(
        passes, "PASSES", (*passes.PASSES[:1], lambda program: kernel(Eval(replace(NEG, op="tile.no"))))
    )
    with pytest.raises(VerificationFailed, match=r"no op 'tile\.no'"):
        passes.run_all(Copy)
