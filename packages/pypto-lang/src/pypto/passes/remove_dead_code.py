"""What nothing uses is not computed."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from pypto.ir import walk
from pypto.ir.nodes import Assign, Call, Expr, For, Function, If, Invoke, Program, Stmt, Var, While, Yield
from pypto.ops import registry


def remove_dead_code(program: Program) -> Program:
    """Leaves out values that nothing uses: variables, what loops carry without changing it, what branches give.

    What may fail stays, so that a wrong program fails all the same: loads, slices, division.
    """
    return replace(program, functions=tuple(_Removal(f).run() for f in program.functions))


class _Removal:
    """Goes backwards, so that what a removed statement used can be removed too."""

    def __init__(self, function: Function) -> None:
        self._function = function
        self._uses: Counter[str] = Counter()
        self._same: dict[str, Expr] = {}  # what a loop carries and never changes → what it is

    def run(self) -> Function:
        for stmt in walk.statements(self._function.body):
            for value in walk.values(stmt):
                self._uses.update(walk.variables(value))
        body = self._body(self._function.body)
        if self._same:
            body = walk.replaced(body, self._same)
        return self._function if body is self._function.body else replace(self._function, body=body)

    def _body(self, body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
        kept = [new for stmt in reversed(body) if (new := self._stmt(stmt)) is not None]
        kept.reverse()
        return body if len(kept) == len(body) and all(a is b for a, b in zip(kept, body, strict=True)) else tuple(kept)

    def _stmt(self, stmt: Stmt) -> Stmt | None:
        match stmt:
            case Assign(target=target, value=value):
                if self._uses[target.name] or _may_fail(value):
                    return stmt
                self._forget(value)
                return None
            case For() | While():
                return self._loop(stmt)
            case If():
                return self._if(stmt)
        return stmt

    def _loop(self, loop: For | While) -> Stmt:
        final = loop.body[-1].values if loop.body and isinstance(loop.body[-1], Yield) else ()
        kept: list[bool] = []
        for c, value in zip(loop.carried, final, strict=True):
            unchanged = isinstance(value, Var) and value.name == c.param.name and c.init.type == c.param.type
            if unchanged:
                self._same |= {c.param.name: c.init, c.result.name: c.init}
                self._uses[c.param.name] -= 1  # in the Yield
                if isinstance(c.init, Var):
                    self._uses[c.init.name] += self._uses[c.param.name] + self._uses[c.result.name]
            unused = not self._uses[c.param.name] and not self._uses[c.result.name]
            if unused and not unchanged:
                self._forget(value)
            if unused or unchanged:
                self._forget(c.init)
            kept.append(not (unused or unchanged))
        body = self._body(_selected(loop.body, kept))
        if all(kept) and body is loop.body:
            return loop
        return replace(loop, carried=tuple(c for c, keep in zip(loop.carried, kept, strict=True) if keep), body=body)

    def _if(self, stmt: If) -> Stmt | None:
        kept = [bool(self._uses[result.name]) for result in stmt.results]
        branches: list[tuple[Stmt, ...]] = []
        for body in (stmt.then, stmt.otherwise):
            if body and isinstance(body[-1], Yield):
                for value, keep in zip(body[-1].values, kept, strict=True):
                    if not keep:
                        self._forget(value)
            branches.append(self._body(_selected(body, kept)))
        if not any(branches):
            self._forget(stmt.condition)
            return None
        if all(kept) and branches[0] is stmt.then and branches[1] is stmt.otherwise:
            return stmt
        left = tuple(result for result, keep in zip(stmt.results, kept, strict=True) if keep)
        return replace(stmt, then=branches[0], otherwise=branches[1], results=left)

    def _forget(self, value: Expr) -> None:
        self._uses.subtract(walk.variables(value))


def _selected(body: tuple[Stmt, ...], kept: list[bool]) -> tuple[Stmt, ...]:
    """``body`` with a Yield of those values alone that are kept."""
    if all(kept) or not body or not isinstance(body[-1], Yield):
        return body
    values = tuple(value for value, keep in zip(body[-1].values, kept, strict=True) if keep)
    return (*body[:-1], replace(body[-1], values=values)) if values else body[:-1]


def _may_fail(value: Expr) -> bool:
    """True for what can end a run."""
    for expr in walk.subexpressions(value):
        if isinstance(expr, Invoke) or (isinstance(expr, Call) and registry.get(expr.op).may_fail):
            return True
        if getattr(expr, "op", None) in ("//", "%"):
            return True
    return False
