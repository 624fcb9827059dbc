"""Where a kernel's tiles are: which share memory of a core, and how much it takes.

A tile may be written where a value lies that is not needed any more, if it has the same type; over an operand, where
the operation works in place. What a loop carries and what branches give have one place: a value that could not be
computed there is copied at the end. Every statement is looked at a constant number of times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from pypto.ir import walk
from pypto.ir.nodes import (
    Alloc,
    Assign,
    Call,
    Carried,
    Expr,
    For,
    Function,
    FunctionKind,
    If,
    Program,
    Span,
    Stmt,
    TileType,
    Var,
    While,
    Yield,
)
from pypto.ops import registry

ALIGNMENT = 64  # bytes; what a core's memory is given out in


def plan_memory(program: Program) -> Program:
    """Gives every kernel its ``memory``, and writes the copies down that it takes."""
    functions = tuple(_Plan(f).run() if f.kind is FunctionKind.INCORE else f for f in program.functions)
    return replace(program, functions=functions)


def nbytes_of(type_: TileType) -> int:
    """Bytes of a core's memory that a tile takes."""
    nbytes = type_.dtype.itemsize * type_.shape[0] * type_.shape[1]
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


@dataclass(slots=True, eq=False)
class _Buffer:
    """Memory of one tile type, and the variables it has held."""

    type: TileType
    span: Span
    variables: list[str] = field(default_factory=list)


_Free = dict[TileType, list[_Buffer]]


class _Plan:
    def __init__(self, function: Function) -> None:
        self._function = function
        self._taken = walk.names(function.body) | {param.name for param in function.params}
        self._counts: dict[str, int] = {}
        self._at: dict[str, _Buffer] = {}
        self._buffers: list[_Buffer] = []
        self._wanted: dict[str, _Buffer] = {}  # variable → where its value is needed in the end
        self._uses_inside: dict[int, tuple[str, ...]] = {}

    def run(self) -> Function:
        self._collect(self._function.body)
        body = self._body(self._function.body, {}, ())
        memory = tuple(
            Alloc(b.variables[0], b.type, nbytes_of(b.type), tuple(b.variables), b.span) for b in self._buffers
        )
        return replace(self._function, body=body, memory=memory)

    def _collect(self, body: Sequence[Stmt]) -> dict[str, None]:
        """The variables that statements use, in their order; keeps those of each statement."""
        everything: dict[str, None] = {}
        for stmt in body:
            found = {name: None for value in walk.values(stmt) for name in walk.variables(value)}
            for inner in walk.bodies(stmt):
                found |= self._collect(inner)
            self._uses_inside[id(stmt)] = tuple(found)
            everything |= found
        return everything

    # --- bodies ---------------------------------------------------------------------------------------------------

    def _body(self, body: tuple[Stmt, ...], free: _Free, own: Sequence[Var]) -> tuple[Stmt, ...]:
        """Places for what ``body`` defines. ``own`` are variables that are this body's, with places already."""
        last: dict[str, int] = {}
        for index, stmt in enumerate(body):
            for name in self._uses_inside[id(stmt)]:
                last[name] = index
        mine = {var.name for var in own if var.name in self._at}
        dying: dict[int, list[str]] = {}
        for var in own:
            if var.name in mine and var.name not in last:
                self._release(var.name, free)
        for name, index in last.items():
            if name in mine:
                dying.setdefault(index, []).append(name)
        result: list[Stmt] = []
        for index, stmt in enumerate(body):
            dead = dying.get(index, [])
            match stmt:
                case Assign(target=Var(type=TileType()) as target, value=Call() as value):
                    self._assign(target, value, dead, free)
                    result.append(stmt)
                case For() | While():
                    result += self._loop(stmt, dead, free)
                case If():
                    result.append(self._if(stmt, free))
                    for name in dead:
                        self._release(name, free)
                case _:
                    result.append(stmt)
                    for name in dead:
                        self._release(name, free)
            for var in walk.defines(stmt):
                if not isinstance(var.type, TileType):
                    continue
                mine.add(var.name)
                until = last.get(var.name)
                if until is None:
                    self._release(var.name, free)
                else:
                    dying.setdefault(until, []).append(var.name)
        return tuple(result)

    def _assign(self, target: Var, value: Call, dead: list[str], free: _Free) -> None:
        assert isinstance(target.type, TileType)
        kept = [name for name in dead if not self._may_be_over(value, name)]
        for name in reversed(dead):  # so that the first operand's place is taken first
            if name not in kept:
                self._release(name, free)
        self._place(target, target.type, free)
        for name in kept:
            self._release(name, free)

    def _may_be_over(self, value: Call, name: str) -> bool:
        """True where the result of ``value`` may be written over ``name``."""
        in_place = registry.get(value.op).in_place
        shared = range(len(value.args)) if in_place is True else in_place or ()
        return all(i in shared for i, arg in enumerate(value.args) if isinstance(arg, Var) and arg.name == name)

    def _place(self, var: Var, type_: TileType, free: _Free) -> _Buffer:
        """A place for ``var``: where it is wanted, if that is free, or any that is, or a new one."""
        idle = free.setdefault(type_, [])
        wanted = self._wanted.get(var.name)
        if wanted is not None and wanted in idle:
            idle.remove(wanted)
            buffer = wanted
        elif idle:
            buffer = idle.pop()
        else:
            buffer = _Buffer(type_, var.span)
            self._buffers.append(buffer)
        buffer.variables.append(var.name)
        self._at[var.name] = buffer
        return buffer

    def _release(self, name: str, free: _Free) -> None:
        buffer = self._at[name]
        idle = free.setdefault(buffer.type, [])
        if buffer not in idle:
            idle.append(buffer)

    # --- loops and branches -----------------------------------------------------------------------------------------

    def _loop(self, loop: For | While, dead: list[str], free: _Free) -> list[Stmt]:
        copies: list[Stmt] = []
        carried: list[Carried] = []
        used: set[str] = set()
        for body in walk.bodies(loop):
            for stmt in body:
                used.update(self._uses_inside[id(stmt)])
        inits = [c.init.name for c in loop.carried if isinstance(c.init, Var)]
        for c in loop.carried:
            type_ = c.param.type
            if not isinstance(type_, TileType):
                carried.append(c)
                continue
            assert isinstance(c.init, Var)
            name = c.init.name
            if name in dead and name not in used and inits.count(name) == 1:
                dead.remove(name)  # its place becomes the loop's
                buffer = self._at[name]
            else:
                copy = Var(self._fresh(name), replace(type_, valid=c.init.type.valid, fill=c.init.type.fill), loop.span)  # type: ignore[union-attr]
                buffer = self._place(copy, type_, free)
                copies.append(Assign(copy, Call("tile.copy", (c.init,), (), copy.type, loop.span), loop.span))
                c = Carried(c.param, copy, c.result)
            for var in (c.param, c.result):
                buffer.variables.append(var.name)
                self._at[var.name] = buffer
            carried.append(c)
        for name in dead:
            if name not in used:
                self._release(name, free)
        params = tuple(c.param for c in carried)
        body = self._given(loop.body, params, params, free)
        for name in dead:
            if name in used:
                self._release(name, free)
        return [*copies, replace(loop, carried=tuple(carried), body=body)]

    def _if(self, stmt: If, free: _Free) -> If:
        # Names of the place alone: it is allocated before the branches, where no value is in it yet.
        for result in stmt.results:
            if isinstance(result.type, TileType):
                self._place(result, result.type, free)
        branches = [self._given(body, stmt.results, (), free, chosen=True) for body in (stmt.then, stmt.otherwise)]
        return replace(stmt, then=branches[0], otherwise=branches[1])

    def _given(
        self, body: tuple[Stmt, ...], places: Sequence[Var], own: Sequence[Var], outer: _Free, chosen: bool = False
    ) -> tuple[Stmt, ...]:
        """A body whose Yield puts its values at ``places``; nothing of ``outer`` is taken for longer than that."""
        free: _Free = {type_: list(idle) for type_, idle in outer.items()}
        final = body[-1] if body and isinstance(body[-1], Yield) else None
        wanted = [self._at.get(var.name) for var in places]
        for value, buffer in zip(final.values if final else (), wanted, strict=final is not None):
            if isinstance(value, Var) and buffer is not None and value.name not in self._at:
                self._wanted.setdefault(value.name, buffer)
        if chosen:  # nothing is in the results' places until the branch ends
            for buffer in wanted:
                if buffer is not None:
                    free.setdefault(buffer.type, []).append(buffer)
        # An allocation inside belongs to the body: what is free in the end is not free outside.
        new = self._body(body, free, own)
        if final is None:
            return new
        copies, values = self._moved(final.values, wanted, final.span, free)
        return (*new[:-1], *copies, Yield(values, final.span))

    def _moved(
        self, values: tuple[Expr, ...], places: Sequence[_Buffer | None], span: Span, free: _Free
    ) -> tuple[list[Stmt], tuple[Expr, ...]]:
        """Copies that bring ``values`` to their ``places``, in an order that loses none; and the values there."""
        new: list[Expr] = list(values)
        copies: list[Stmt] = []
        pending = [
            i
            for i, (value, place) in enumerate(zip(values, places, strict=True))
            if place is not None and isinstance(value, Var) and self._at[value.name] is not place
        ]

        def source(i: int) -> _Buffer:
            value = new[i]
            assert isinstance(value, Var)
            return self._at[value.name]

        def copy(i: int, place: _Buffer | None) -> None:
            value = new[i]
            assert isinstance(value, Var)
            assert isinstance(value.type, TileType)
            var = Var(self._fresh(value.name), value.type, span)
            if place is None:  # a place that holds and gets none of these values
                busy = [source(j) for j, v in enumerate(new) if isinstance(v, Var) and v.name in self._at] + list(
                    places
                )
                idle = [buffer for buffer in free.get(value.type, []) if buffer not in busy]
                self._place(var, value.type, {value.type: idle})
            else:
                place.variables.append(var.name)
                self._at[var.name] = place
            copies.append(Assign(var, Call("tile.copy", (value,), (), value.type, span), span))
            new[i] = var

        # Values that stay where they are yielded from must not be overwritten by others' copies before: they are not,
        # for a place has one value. Those in each other's places go by way of another.
        while pending:
            ready = next((i for i in pending if not any(source(j) is places[i] for j in pending if j != i)), None)
            if ready is None:
                copy(pending[0], None)
                continue
            copy(ready, places[ready])
            pending.remove(ready)
        return copies, tuple(new)

    def _fresh(self, stem: str) -> str:
        count = self._counts.get(stem, 0) + 1
        while f"{stem}_{count}" in self._taken:
            count += 1
        self._counts[stem] = count
        self._taken.add(f"{stem}_{count}")
        return f"{stem}_{count}"
