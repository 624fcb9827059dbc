"""Walking over and rebuilding expressions and statements."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from pypto.ir.nodes import (
    Assign,
    Binary,
    Call,
    Eval,
    Expr,
    ExprTuple,
    For,
    Invoke,
    Return,
    Stmt,
    Unpack,
    Var,
)


def operands(expr: Expr) -> tuple[Expr, ...]:
    """The expressions directly inside ``expr``, in the order they are evaluated."""
    match expr:
        case Binary(lhs=lhs, rhs=rhs):
            return (lhs, rhs)
        case ExprTuple(items=items):
            return items
        case Call(args=args):
            return args
        case Invoke(args=args, device=device):
            return args if device is None else (*args, device)
    return ()


def with_operands(expr: Expr, new: tuple[Expr, ...]) -> Expr:
    """``expr`` with other operands; ``expr`` itself where they are the same objects."""
    if all(a is b for a, b in zip(operands(expr), new, strict=True)):
        return expr
    match expr:
        case Binary():
            return replace(expr, lhs=new[0], rhs=new[1])
        case ExprTuple():
            return replace(expr, items=new)
        case Call():
            return replace(expr, args=new)
        case Invoke(device=device):
            return replace(expr, args=new) if device is None else replace(expr, args=new[:-1], device=new[-1])
    return expr


def rebuild(expr: Expr, change: Callable[[Expr], Expr]) -> Expr:
    """``expr`` with ``change`` applied to every expression in it, the innermost first."""
    return change(with_operands(expr, tuple(rebuild(operand, change) for operand in operands(expr))))


def subexpressions(expr: Expr) -> Iterator[Expr]:
    """``expr`` and every expression in it, the innermost first."""
    for operand in operands(expr):
        yield from subexpressions(operand)
    yield expr


def values(stmt: Stmt) -> tuple[Expr, ...]:
    """The expressions directly in a statement; not those of a loop's body."""
    match stmt:
        case Assign(value=value) | Eval(value=value) | Unpack(value=value):
            return (value,)
        case For(start=start, stop=stop, step=step):
            return (start, stop, step)
        case Return(values=items):
            return items
    raise AssertionError(f"no statement: {stmt!r}")


def statements(body: Iterable[Stmt]) -> Iterator[Stmt]:
    """Every statement of ``body``, those of loops too, in the order they are written."""
    for stmt in body:
        yield stmt
        if isinstance(stmt, For):
            yield from statements(stmt.body)


def targets(stmt: Stmt) -> tuple[Var, ...]:
    """The variables a statement assigns; a loop's own variable is none of them."""
    match stmt:
        case Assign(target=target):
            return (target,)
        case Unpack(targets=items):
            return items
    return ()


def names(body: Iterable[Stmt]) -> set[str]:
    """Every variable name in ``body``."""
    found: set[str] = set()
    for stmt in statements(body):
        found |= {target.name for target in targets(stmt)}
        if isinstance(stmt, For):
            found.add(stmt.var.name)
        for value in values(stmt):
            found |= {e.name for e in subexpressions(value) if isinstance(e, Var)}
    return found


def fresh(stem: str, taken: set[str]) -> str:
    """``stem_1``, ``stem_2``, …: the first that isn't ``taken``; it is taken then."""
    number = 1
    while f"{stem}_{number}" in taken:
        number += 1
    taken.add(f"{stem}_{number}")
    return f"{stem}_{number}"
