"""Programs compared whatever their variables are called, and in whatever order loops carry and branches give them."""

from __future__ import annotations

from dataclasses import replace

from pypto.ir import walk
from pypto.ir.nodes import Assign, Carried, Expr, For, Function, If, Program, Stmt, Var, While, Yield


def canonical(program: Program) -> Program:
    """``program`` with its variables named after the order in which they are met; parameters keep their names."""
    return replace(program, functions=tuple(_Renaming(f).run() for f in program.functions))


class _Renaming:
    def __init__(self, function: Function) -> None:
        self._function = function
        self._names = {param.name: param.name for param in function.params}

    def run(self) -> Function:
        return replace(self._function, body=self._body(self._function.body))

    def _body(self, body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
        return tuple(self._stmt(stmt) for stmt in body)

    def _stmt(self, stmt: Stmt) -> Stmt:
        match stmt:
            case For() | While():
                return self._loop(stmt)
            case If():
                return self._if(stmt)
            case Assign(target=target, value=value):
                value = self._expr(value)
                return replace(stmt, target=self._var(target), value=value)
        return walk.with_values(stmt, self._expr)

    def _loop(self, loop: For | While) -> For | While:
        inits = [self._expr(c.init) for c in loop.carried]
        if isinstance(loop, For):
            bounds = [self._expr(bound) for bound in (loop.start, loop.stop, loop.step)]
            loop = replace(loop, start=bounds[0], stop=bounds[1], step=bounds[2], var=self._var(loop.var))
        else:
            loop = replace(loop, condition=self._expr(loop.condition))
        final = loop.body[-1].values if loop.carried and isinstance(loop.body[-1], Yield) else ()
        body = self._body(loop.body[:-1] if final else loop.body)
        met = [self._names.get(c.param.name, "~") for c in loop.carried]
        yields = [repr(self._names.get(v.name, "~") if isinstance(v, Var) else v) for v in final]
        order = sorted(range(len(met)), key=lambda i: (len(met[i]), met[i], repr(inits[i]), yields[i]))
        params = {i: self._var(loop.carried[i].param) for i in order}
        values = tuple(self._expr(final[i]) for i in order)
        carried = tuple(Carried(params[i], inits[i], self._var(loop.carried[i].result)) for i in order)
        return replace(loop, carried=carried, body=(*body, Yield(values)) if final else body)

    def _if(self, stmt: If) -> If:
        condition = self._expr(stmt.condition)
        then, otherwise = self._body(stmt.then), self._body(stmt.otherwise)
        if not stmt.results:
            return replace(stmt, condition=condition, then=then, otherwise=otherwise)
        first, second = then[-1], otherwise[-1]
        assert isinstance(first, Yield)
        assert isinstance(second, Yield)
        a, b = first.values, second.values
        order = sorted(range(len(a)), key=lambda i: (repr(a[i]), repr(b[i])))
        return replace(
            stmt,
            condition=condition,
            then=(*then[:-1], Yield(tuple(a[i] for i in order))),
            otherwise=(*otherwise[:-1], Yield(tuple(b[i] for i in order))),
            results=tuple(self._var(stmt.results[i]) for i in order),
        )

    def _var(self, var: Var) -> Var:
        return replace(var, name=self._names.setdefault(var.name, f"v{len(self._names)}"))

    def _expr(self, expr: Expr) -> Expr:
        return walk.rebuild(expr, lambda e: self._var(e) if isinstance(e, Var) else e)
