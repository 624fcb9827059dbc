"""Questions about IR that code generation asks: what occurs where."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pypto.ir.nodes import (
    Assign,
    Binary,
    Call,
    DimExpr,
    DimVar,
    Eval,
    Expr,
    ExprTuple,
    For,
    Function,
    Invoke,
    Return,
    Stmt,
    TensorType,
    Unpack,
    Var,
)


def expressions(stmts: Iterable[Stmt]) -> Iterator[Expr]:
    """Every expression in ``stmts``, inner ones too; what an assignment or a loop defines counts as one."""
    for stmt in stmts:
        match stmt:
            case Assign(target=target, value=value):
                yield from _within(target)
                yield from _within(value)
            case Eval(value=value):
                yield from _within(value)
            case For(var=var, start=start, stop=stop, step=step, body=body):
                for part in (var, start, stop, step):
                    yield from _within(part)
                yield from expressions(body)
            case Return(values=values):
                for value in values:
                    yield from _within(value)
            case Unpack():
                raise AssertionError("code generation works on programs after the pass resolve_aliases")


def _within(expr: Expr) -> Iterator[Expr]:
    yield expr
    match expr:
        case Binary(lhs=lhs, rhs=rhs):
            parts: tuple[Expr, ...] = (lhs, rhs)
        case ExprTuple(items=items):
            parts = items
        case Call(args=args):
            parts = args
        case Invoke(args=args, device=device):
            parts = args if device is None else (*args, device)
        case _:
            return
    for part in parts:
        yield from _within(part)


def variables(stmts: Iterable[Stmt]) -> frozenset[str]:
    """Names of the variables that occur in ``stmts``, read or written."""
    return frozenset(e.name for e in expressions(stmts) if isinstance(e, Var))


def assigned(stmts: Iterable[Stmt]) -> frozenset[str]:
    """Names of the variables that ``stmts`` assign."""
    names: set[str] = set()
    for stmt in stmts:
        if isinstance(stmt, Assign):
            names.add(stmt.target.name)
        elif isinstance(stmt, For):
            names |= assigned(stmt.body)
    return frozenset(names)


def calls_of(function: Function) -> tuple[Invoke, ...]:
    """The calls of other functions in ``function``, in the order they are written."""
    return tuple(e for e in expressions(function.body) if isinstance(e, Invoke))


def ops_of(function: Function) -> frozenset[str]:
    """Names of the operations that ``function`` uses."""
    return frozenset(e.op for e in expressions(function.body) if isinstance(e, Call))


def dimensions(function: Function) -> dict[str, tuple[str, int]]:
    """For every dynamic dimension whose value ``function`` uses: a tensor parameter and the axis where it stands."""
    used = {e.name for e in expressions(function.body) if isinstance(e, DimExpr)}
    found: dict[str, tuple[str, int]] = {}
    for param in function.params:
        if isinstance(param.type, TensorType):
            for axis, dim in enumerate(param.type.shape):
                if isinstance(dim, DimVar) and dim.name in used:
                    found.setdefault(dim.name, (param.name, axis))
    return found
