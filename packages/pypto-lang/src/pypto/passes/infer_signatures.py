"""Orchestrators without annotations take types and directions from what they call."""

from __future__ import annotations

from dataclasses import replace

from pypto.errors import SignatureError, TypeMismatch
from pypto.ir import sugar, walk
from pypto.ir.nodes import (
    UNKNOWN,
    Assign,
    Call,
    Dim,
    DimVar,
    Direction,
    Expr,
    Function,
    Invoke,
    Param,
    Program,
    TensorType,
    Type,
    Var,
)
from pypto.ops import registry
from pypto.passes.order import callees_first, with_functions


def infer_signatures(program: Program) -> Program:
    """Gives every parameter a type.

    A parameter without one has the type of the parameters it is passed to. It is Out where a callee writes it before
    any reads it, InOut where one reads it first or both at once, In otherwise.

    Raises SignatureError for a parameter that is passed to nothing, TypeMismatch where two callees disagree.
    """
    done: dict[str, Function] = {}
    for function in callees_first(program):
        done[function.name] = _with_types(function, done)
    return with_functions(program, done)


def _with_types(function: Function, callees: dict[str, Function]) -> Function:
    if all(param.type != UNKNOWN for param in function.params):
        return function
    uses = _uses(function, callees)
    return replace(
        function,
        params=tuple(
            param if param.type != UNKNOWN else _inferred(function, param, uses[param.name])
            for param in function.params
        ),
    )


class _Use:
    """A parameter passed to a callee: whole, or a part of it."""

    def __init__(self, callee: Function, param: Param, argument: Expr, whole: bool) -> None:
        self.callee, self.param, self.argument, self.whole = callee, param, argument, whole


def _uses(function: Function, callees: dict[str, Function]) -> dict[str, list[_Use]]:
    """What each parameter is passed to, in the order of the calls."""
    uses: dict[str, list[_Use]] = {param.name: [] for param in function.params}
    # Variables that stand for a parameter, or (False) a part of it.
    stands_for: dict[str, tuple[str, bool]] = {param.name: (param.name, True) for param in function.params}
    for stmt in walk.statements(function.body):
        for value in walk.values(stmt):
            for expr in walk.subexpressions(value):
                if not isinstance(expr, Invoke):
                    continue
                callee = callees[expr.function]
                for param, argument in zip(callee.params, expr.args, strict=False):
                    found = _parameter(argument, stands_for)
                    if found is not None:
                        uses[found[0]].append(_Use(callee, param, argument, found[1]))
        if isinstance(stmt, Assign):
            found = _parameter(stmt.value, stands_for)
            if found is None:
                stands_for.pop(stmt.target.name, None)
            else:
                stands_for[stmt.target.name] = found
    return uses


def _parameter(expr: Expr, stands_for: dict[str, tuple[str, bool]]) -> tuple[str, bool] | None:
    """The parameter that ``expr`` is, or (False) is a part of."""
    if isinstance(expr, Var):
        return stands_for.get(expr.name)
    if not isinstance(expr, Call):
        return None
    index = 0 if expr.op == sugar.ROWS else None
    if not expr.op.startswith("sugar."):
        index = (registry.get(expr.op) if "." in expr.op else registry.spelled(expr.op)[0]).part_of
    whole = _parameter(expr.args[index], stands_for) if index is not None else None
    return None if whole is None else (whole[0], False)


def _inferred(function: Function, param: Param, uses: list[_Use]) -> Param:
    type_: Type = UNKNOWN
    first: _Use | None = None
    for use in uses:
        if not use.whole:
            continue
        merged = use.param.type if first is None else _merged(type_, use.param.type)
        first = first or use
        if merged is None:
            raise TypeMismatch(
                f"parameter {param.name!r} of {function.name} has no annotation, and its uses disagree: "
                f"{first.callee.name} takes {type_}, {use.callee.name} takes {use.param.type}",
                use.argument.span,
                f"annotate {param.name}",
            )
        type_ = merged
    if type_ == UNKNOWN:
        raise SignatureError(
            f"parameter {param.name!r} of {function.name} has no annotation, and "
            + ("only parts of it are passed on" if uses else "it is passed to nothing that has one"),
            param.span,
            f"annotate it: {param.name}: pl.Tensor[[128, 128], pl.FP32]",
        )
    return replace(param, type=type_, direction=_direction([use.param.direction for use in uses]))


def _merged(one: Type, other: Type) -> Type | None:
    """The type that fits where ``one`` and where ``other`` is taken, if any: a dynamic dimension takes all."""
    if not isinstance(one, TensorType) or not isinstance(other, TensorType):
        return one if one == other else None
    if one.dtype != other.dtype or len(one.shape) != len(other.shape):
        return None
    dims: list[Dim] = []
    for a, b in zip(one.shape, other.shape, strict=True):
        if isinstance(a, int) and isinstance(b, int) and a != b:
            return None
        dims.append(a if isinstance(a, int) or isinstance(b, DimVar) else b)
    return TensorType(tuple(dims), one.dtype)


def _direction(uses: list[Direction]) -> Direction:
    if uses[0] is Direction.IN and any(use.writes for use in uses):
        return Direction.INOUT
    return uses[0]
