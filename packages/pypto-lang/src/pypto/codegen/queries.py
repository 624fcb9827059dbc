"""What code generation asks about a function."""

from __future__ import annotations

from collections.abc import Iterator

from pypto.ir import walk
from pypto.ir.nodes import Call, DimExpr, DimVar, Expr, Function, Invoke, TensorType


def expressions(function: Function) -> Iterator[Expr]:
    """Every expression of a function, in the order they are written."""
    return walk.expressions(function.body)


def calls_of(function: Function) -> tuple[Invoke, ...]:
    """Its calls of other functions, in the order they are written."""
    return tuple(e for e in expressions(function) if isinstance(e, Invoke))


def ops_of(function: Function) -> frozenset[str]:
    """Names of the operations it uses."""
    return frozenset(e.op for e in expressions(function) if isinstance(e, Call))


def dimensions(function: Function) -> dict[str, tuple[str, int]]:
    """For every dynamic dimension whose value it uses: a tensor parameter and the axis where the dimension stands."""
    used = {e.name for e in expressions(function) if isinstance(e, DimExpr)}
    found: dict[str, tuple[str, int]] = {}
    for param in function.params:
        if isinstance(param.type, TensorType):
            for axis, dim in enumerate(param.type.shape):
                if isinstance(dim, DimVar) and dim.name in used:
                    found.setdefault(dim.name, (param.name, axis))
    return found
