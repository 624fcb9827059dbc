"""Walking over and rebuilding expressions and statements."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace

from pypto.ir.nodes import (
    Assign,
    Binary,
    Call,
    Carried,
    Eval,
    Expr,
    ExprTuple,
    For,
    If,
    Invoke,
    Not,
    Return,
    Stmt,
    Var,
    While,
    Yield,
)


def operands(expr: Expr) -> tuple[Expr, ...]:
    """The expressions directly inside ``expr``, in the order they are evaluated."""
    match expr:
        case Binary(lhs=lhs, rhs=rhs):
            return (lhs, rhs)
        case Not(operand=operand):
            return (operand,)
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
        case Not():
            return replace(expr, operand=new[0])
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


def variables(expr: Expr) -> Iterator[str]:
    """Names of the variables that ``expr`` uses, each as often as it does."""
    pending = [expr]
    while pending:
        found = pending.pop()
        if isinstance(found, Var):
            yield found.name
        else:
            pending += reversed(operands(found))


def values(stmt: Stmt) -> tuple[Expr, ...]:
    """The expressions directly in a statement; not those of the bodies in it."""
    match stmt:
        case Assign(value=value) | Eval(value=value):
            return (value,)
        case For(start=start, stop=stop, step=step, carried=carried):
            return (start, stop, step, *(c.init for c in carried))
        case While(condition=condition, carried=carried):
            return (*(c.init for c in carried), condition)
        case If(condition=condition):
            return (condition,)
        case Return(values=items) | Yield(values=items):
            return items
    raise AssertionError(f"no statement: {stmt!r}")


def with_values(stmt: Stmt, change: Callable[[Expr], Expr]) -> Stmt:
    """``stmt`` with ``change`` applied to the expressions directly in it."""
    match stmt:
        case Assign(value=value) | Eval(value=value):
            return replace(stmt, value=change(value))
        case For(start=start, stop=stop, step=step, carried=carried):
            inits = tuple(Carried(c.param, change(c.init), c.result) for c in carried)
            return replace(stmt, start=change(start), stop=change(stop), step=change(step), carried=inits)
        case While(condition=condition, carried=carried):
            inits = tuple(Carried(c.param, change(c.init), c.result) for c in carried)
            return replace(stmt, condition=change(condition), carried=inits)
        case If(condition=condition):
            return replace(stmt, condition=change(condition))
        case Return(values=items) | Yield(values=items):
            return replace(stmt, values=tuple(change(item) for item in items))
    raise AssertionError(f"no statement: {stmt!r}")


def bodies(stmt: Stmt) -> tuple[tuple[Stmt, ...], ...]:
    """The bodies in a statement."""
    match stmt:
        case For(body=body) | While(body=body):
            return (body,)
        case If(then=then, otherwise=otherwise):
            return (then, otherwise)
    return ()


def with_bodies(stmt: Stmt, new: tuple[tuple[Stmt, ...], ...]) -> Stmt:
    """``stmt`` with other bodies."""
    match stmt:
        case For() | While():
            return replace(stmt, body=new[0])
        case If():
            return replace(stmt, then=new[0], otherwise=new[1])
    return stmt


def statements(body: Iterable[Stmt]) -> Iterator[Stmt]:
    """Every statement of ``body``, those inside others too, in the order they are written."""
    for stmt in body:
        yield stmt
        for inner in bodies(stmt):
            yield from statements(inner)


def defines(stmt: Stmt) -> tuple[Var, ...]:
    """The variables that are defined after a statement because of it."""
    match stmt:
        case Assign(target=target):
            return (target,)
        case For(carried=carried) | While(carried=carried):
            return tuple(c.result for c in carried)
        case If(results=results):
            return results
    return ()


def parameters(stmt: Stmt) -> tuple[Var, ...]:
    """The variables that a statement defines for its body alone."""
    match stmt:
        case For(var=var, carried=carried):
            return (var, *(c.param for c in carried))
        case While(carried=carried):
            return tuple(c.param for c in carried)
    return ()


def expressions(body: Iterable[Stmt]) -> Iterator[Expr]:
    """Every expression of ``body``, in the order they are written."""
    for stmt in statements(body):
        for value in values(stmt):
            yield from subexpressions(value)


def names(body: Iterable[Stmt]) -> set[str]:
    """Every variable name in ``body``."""
    found: set[str] = set()
    for stmt in statements(body):
        found |= {var.name for var in (*defines(stmt), *parameters(stmt))}
        for value in values(stmt):
            found.update(variables(value))
    return found


def replaced(body: tuple[Stmt, ...], same: Mapping[str, Expr]) -> tuple[Stmt, ...]:
    """``body`` with variables replaced by what they are."""

    def change(expr: Expr) -> Expr:
        while isinstance(expr, Var) and expr.name in same:
            expr = same[expr.name]
        return expr

    def rewrite(stmts: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
        return tuple(
            with_bodies(
                with_values(stmt, lambda value: rebuild(value, change)),
                tuple(rewrite(inner) for inner in bodies(stmt)),
            )
            for stmt in stmts
        )

    return rewrite(body)


def fresh(stem: str, taken: set[str]) -> str:
    """``stem_1``, ``stem_2``, …: the first that isn't ``taken``; it is taken then."""
    number = 1
    while f"{stem}_{number}" in taken:
        number += 1
    taken.add(f"{stem}_{number}")
    return f"{stem}_{number}"
