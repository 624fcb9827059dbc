"""Programs made of random operations compute what the operations mean on numpy arrays.

Inputs are small whole numbers, so that sums and products are exact in float32 and any difference is a mistake. What is
rounded (``exp``, division, …) is only ever the last operation on a value, and compared with a tolerance.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pypto import ir
from pypto.errors import PyptoError
from pypto.ir.dtypes import BOOL, FP32, INDEX, INT32
from pypto.ir.nodes import (
    Assign,
    Binary,
    Call,
    Carried,
    Const,
    Direction,
    Eval,
    Expr,
    ExprTuple,
    For,
    Function,
    FunctionKind,
    If,
    Invoke,
    Param,
    Program,
    Return,
    ScalarType,
    Stmt,
    TensorType,
    TileType,
    TupleType,
    Type,
    Var,
    Yield,
)
from pypto.ops import Op, Takes, all_ops, get

SIZE = 8
INPUTS = 3
TENSOR = TensorType((SIZE, SIZE), FP32)
ROUNDED = {op.name for op in all_ops() if op.rounded}
EXACT = float(2**22)  # float32 counts to 2**24
OPS = [
    op for op in all_ops() if op.name.startswith("tile.") and op.name not in ("tile.load", "tile.store", "tile.full")
]


@dataclass
class Value:
    """A tile variable and what it holds."""

    var: Var
    array: np.ndarray
    rounded: bool = False


@dataclass
class Kernel:
    """A kernel that is being made up, beside what numpy computes."""

    values: list[Value] = field(default_factory=list)
    body: list[Stmt] = field(default_factory=list)


def index(value: int) -> Const:
    return Const(value, ScalarType(INDEX))


def indices(*values: int) -> ExprTuple:
    items = tuple(map(index, values))
    return ExprTuple(items, TupleType(tuple(item.type for item in items)))


def operand(random: Random, kernel: Kernel, takes: Takes) -> tuple[Expr, object] | None:
    """A random operand of one kind, and its value; None where there is none."""
    if takes is Takes.TILE_OR_SCALAR:
        takes = random.choice([Takes.TILE, Takes.SCALAR])
    if takes is Takes.TILE:
        exact = [value for value in kernel.values if not value.rounded]
        chosen = random.choice(exact)
        return chosen.var, chosen.array
    if takes is Takes.SCALAR:
        number = random.randint(-3, 3)
        return index(number), number
    return None


def call(random: Random, kernel: Kernel, op: Op, first: Value | None = None) -> tuple[Call, np.ndarray] | None:
    """``op`` on random operands, and its value; None where those don't fit or the value would not be exact."""
    args: list[Expr] = []
    arrays: list[object] = []
    attrs: dict[str, object] = {}
    for param in op.params:
        if param.takes is Takes.DTYPE:
            attrs[param.name] = random.choice([FP32, INT32])
            continue
        found = (first.var, first.array) if first is not None and not args else operand(random, kernel, param.takes)
        if found is None:
            return None
        args.append(found[0])
        arrays.append(found[1])
    try:
        type_ = op.infer(tuple(args), attrs)
        with np.errstate(all="ignore"):
            result = np.asarray(op.numpy(*arrays, **attrs))
    except (PyptoError, ZeroDivisionError):
        return None
    if not result.size or not (np.abs(result) < EXACT).all():
        return None
    return Call(op.name, tuple(args), tuple(sorted(attrs.items())), type_), result


def add_value(random: Random, kernel: Kernel) -> None:
    """``v = op(…)``."""
    op = random.choice(OPS)
    if (made := call(random, kernel, op)) is not None:
        var = Var(f"v{len(kernel.values)}", made[0].type)
        kernel.body.append(Assign(var, made[0]))
        kernel.values.append(Value(var, made[1], op.name in ROUNDED and made[1].dtype.kind == "f"))


def add_loop(random: Random, kernel: Kernel) -> None:
    """``for _ in pl.range(n): v = op(v, …)``."""
    target = random.choice([v for v in kernel.values if not v.rounded])
    op = random.choice([op for op in OPS if op.name not in ROUNDED])
    if (made := call(random, kernel, op, target)) is None or made[0].type != target.var.type:
        return
    if made[1].dtype != target.array.dtype or made[1].shape != target.array.shape:
        return
    trips = random.randint(1, 3)
    others = {v.var.name: v.array for v in kernel.values}
    for _ in range(trips):
        arrays = [others[a.name] if isinstance(a, Var) else a.value for a in made[0].args]  # type: ignore[union-attr]
        others[target.var.name] = np.asarray(op.numpy(*arrays, **dict(made[0].attrs)))
        if not (np.abs(others[target.var.name]) < EXACT).all():
            return
    number = len(kernel.body)
    param, following, result = (Var(f"{stem}{number}", without_region(target.var.type)) for stem in "pnr")
    args = tuple(param if arg == target.var else arg for arg in made[0].args)
    value = Call(made[0].op, args, made[0].attrs, get(made[0].op).infer(args, dict(made[0].attrs)))
    counter = Var(f"i{number}", ScalarType(INDEX))
    body = (Assign(following, value), Yield((following,)))
    carried = (Carried(param, target.var, result),)
    kernel.body.append(For(counter, index(0), index(trips), index(1), carried, body))
    # The older value can still be used.
    kernel.values.append(Value(result, others[target.var.name]))


def add_choice(random: Random, kernel: Kernel) -> None:
    """``if condition: v = op(v, …)``."""
    target = random.choice([v for v in kernel.values if not v.rounded])
    op = random.choice([op for op in OPS if op.name not in ROUNDED])
    if (made := call(random, kernel, op, target)) is None or made[0].type != target.var.type:
        return
    if made[1].dtype != target.array.dtype or made[1].shape != target.array.shape:
        return
    number, holds = len(kernel.body), random.random() < 0.5
    chosen, result = Var(f"c{number}", made[0].type), Var(f"r{number}", without_region(made[0].type))
    condition = Binary("<", index(0), index(int(holds)), ScalarType(BOOL))
    then = (Assign(chosen, made[0]), Yield((chosen,)))
    kernel.body.append(If(condition, then, (Yield((target.var,)),), (result,)))
    kernel.values.append(Value(result, made[1] if holds else target.array))


def add_fill(random: Random, kernel: Kernel) -> None:
    """``v = pl.full(…)``: beside a tile of which a part is valid, as much of it is."""
    shape = (SIZE, SIZE)
    number = random.randint(-3, 3)
    args = (indices(*shape), Const(float(number), ScalarType(FP32)))
    made = Call("tile.full", args, (("dtype", FP32),), get("tile.full").infer(args, {"dtype": FP32}))
    full = Var(f"f{len(kernel.body)}", made.type)
    other = random.choice([v for v in kernel.values if not v.rounded])
    if other.var.type != full.type:
        return
    kernel.body.append(Assign(full, made))
    name = random.choice(["add", "sub", "mul", "maximum"])
    pair = (full, other.var) if random.random() < 0.5 else (other.var, full)
    op = get(f"tile.{name}")
    value = Call(op.name, pair, (), op.infer(pair, {}))
    array = np.full(other.array.shape, number, np.float32)
    result = np.asarray(op.numpy(*((array, other.array) if pair[0] is full else (other.array, array))))
    if not (np.abs(result) < EXACT).all():
        return
    kernel.values.append(Value(Var(f"v{len(kernel.values)}", value.type), result))
    kernel.body.append(Assign(kernel.values[-1].var, value))


def without_region(type_: Type) -> TileType:
    """A tile of which it is not known how much is valid."""
    assert isinstance(type_, TileType)
    return TileType(type_.shape, type_.dtype)


def program_of(random: Random, kernel: Kernel) -> tuple[Program, list[Value]]:
    """A program around the kernel that stores some of its values, one an output."""
    kept = random.sample(kernel.values, min(len(kernel.values), 4))
    stores: list[Stmt] = []
    outputs: list[Param] = []
    for number, value in enumerate(kept):
        shape, dtype = value.var.type.shape, value.var.type.dtype  # type: ignore[union-attr]
        output = Param(f"o{number}", TensorType(shape, dtype), Direction.OUT)
        outputs.append(output)
        place = Var(output.name, output.type)
        stores.append(Eval(Call("tile.store", (value.var, indices(0, 0), place), (), output.type)))
    params = (*(Param(f"x{i}", TENSOR) for i in range(INPUTS)), *outputs)
    args = tuple(Var(p.name, p.type) for p in params)
    returned = Return(tuple(Var(o.name, o.type) for o in outputs))
    results = tuple(o.type for o in outputs)
    gives = results[0] if len(results) == 1 else TupleType(results)

    def calling(name: str) -> tuple[Stmt, ...]:
        return (Eval(Invoke(name, args, None, gives)), returned)

    functions = (
        Function("tiles", FunctionKind.INCORE, params, results, (*kernel.body, *stores, returned)),
        Function("chip", FunctionKind.CHIP_ORCHESTRATION, params, results, calling("tiles")),
        Function("host", FunctionKind.HOST_ORCHESTRATION, params, results, calling("chip")),
    )
    return Program("Random", functions), kept


@pytest.mark.parametrize("platform", ["cpu", "a2a3sim"])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32 - 1), steps=st.integers(4, 40), rows=st.sampled_from([SIZE, 5, 1]))
def test_a_random_program_computes_what_its_operations_mean(platform: str, seed: int, steps: int, rows: int) -> None:
    random = Random(seed)
    kernel = Kernel()
    inputs = [np.random.default_rng([seed, i]).integers(-3, 4, (SIZE, SIZE)).astype(np.float32) for i in range(INPUTS)]
    load = get("tile.load")
    for number, array in enumerate(inputs):
        args = (Var(f"x{number}", TENSOR), indices(0, 0), indices(SIZE, SIZE), indices(rows, rows))
        value = Call("tile.load", args, (), load.infer(args, {}))
        kernel.values.append(Value(Var(f"v{number}", value.type), array[:rows, :rows].copy()))
        kernel.body.append(Assign(kernel.values[-1].var, value))
    for _ in range(steps):
        random.choice([add_value, add_value, add_loop, add_choice, add_fill])(random, kernel)
    program, kept = program_of(random, kernel)

    with ir.compile(program, platform) as compiled:
        results = compiled(*inputs)
    for value, result in zip(kept, results if isinstance(results, tuple) else (results,), strict=True):
        count = value.array.shape
        expected = np.zeros_like(result)
        expected[: count[0], : count[1]] = value.array
        tolerance = 1e-5 if value.rounded else 0
        np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance, err_msg=value.var.name)
