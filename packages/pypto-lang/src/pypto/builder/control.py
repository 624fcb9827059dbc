"""Loops and branches: what a body assigns is carried from turn to turn, what branches assign is chosen after them.

Tensors are places, and stay what they are: `f = pl.store(tile, [0, 0], f)` binds the name to the same place again.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pypto.builder import arithmetic
from pypto.builder.expressions import Expressions
from pypto.builder.state import RETURNED, State, is_value
from pypto.builder.values import Items, Missing, Static, Value
from pypto.errors import SignatureError, SyntaxUnsupported, TypeMismatch
from pypto.ir import walk
from pypto.ir.calls import assignable, is_integer
from pypto.ir.nodes import (
    Assign,
    Carried,
    Const,
    Eval,
    Expr,
    Fill,
    For,
    If,
    Span,
    Stmt,
    TileType,
    Type,
    Var,
    While,
    Yield,
)
from pypto.language.operations import RANGE, Operation

_MOST_TURNS = 10_000  # of a loop over a Python sequence, which is written out


@dataclass(frozen=True, slots=True)
class _Entry:
    """A name that a loop carries: its value before, and its variable inside."""

    name: str
    init: Var
    param: Var


class Control:
    """Builds loops and branches; a subclass builds the statements in them."""

    def __init__(self, state: State, expressions: Expressions) -> None:
        self._state = state
        self._expressions = expressions

    def block(self, statements: Sequence[ast.stmt]) -> None:
        """Build statements into the body that is being written."""
        raise NotImplementedError

    def target(self, target: ast.expr) -> str:
        """The name that is assigned. Raises SyntaxUnsupported where it is none."""
        raise NotImplementedError

    def unpack(self, target: ast.Tuple | ast.List, found: Value, value: ast.expr, span: Span) -> None:
        """Bind several names."""
        raise NotImplementedError

    # --- loops --------------------------------------------------------------------------------------------------------

    def for_statement(self, node: ast.For) -> None:
        state, frame = self._state, self._state.frame
        span = state.span(node)
        if node.orelse:
            raise SyntaxUnsupported("else of a loop", state.span(node.orelse[0]))
        values = self._python_sequence(node.iter)
        if values is not None:
            self._written_out(node, values)
            return
        name = self.target(node.target)
        bounds = self._range(node.iter)
        if name in frame.env and not isinstance(frame.env[name], Missing):
            raise SignatureError(
                f"{name!r} is a variable already", state.span(node.target), "give the loop variable another name"
            )
        entries = self._enter(node.body, span)
        var = state.variable(name, arithmetic.INDEX_TYPE, state.span(node.target))
        frame.env[name] = var
        frame.counters.add(name)
        carried, body, _ = self._turn(entries, node.body, span, node.lineno, never=_never(bounds))
        frame.counters.discard(name)
        del frame.env[name]
        frame.env[name] = Missing(
            f"variable {name!r} is gone: it was first assigned inside the loop at line {node.lineno}"
        )
        state.emit(For(var, *bounds, carried, body, span))

    def while_statement(self, node: ast.While) -> None:
        state, span = self._state, self._state.span(node)
        if node.orelse:
            raise SyntaxUnsupported("else of a loop", state.span(node.orelse[0]))
        entries = self._enter(node.body, span)
        with state.inner() as before:
            condition = self._expressions.condition(node.test)
        if before:
            raise SyntaxUnsupported("the condition of a loop is arithmetic on numbers", state.span(node.test))
        if isinstance(condition, Static) and not condition.value:
            for entry in entries:
                state.frame.env[entry.name] = entry.init
                state.frame.declared.pop(entry.name, None)
            return
        if isinstance(condition, Static):
            raise SyntaxUnsupported("this loop never ends", span, "leave it with break, or give it a condition")
        carried, body, same = self._turn(entries, node.body, span, node.lineno)
        (test,) = walk.replaced((Eval(condition),), same)
        assert isinstance(test, Eval)
        state.emit(While(test.value, carried, body, span))

    def _enter(self, body: Iterable[ast.stmt], span: Span) -> list[_Entry]:
        """The names that a loop with this body carries; each is its variable inside from now on."""
        state, frame = self._state, self._state.frame
        entries: list[_Entry] = []
        for name in assigned_by(body):
            value = frame.env.get(name)
            if value is None or not is_value(value):
                continue
            assert not isinstance(value, (Items, Missing))
            init = self._expressions.lift(value, span)
            if not isinstance(init, Var):
                init = state.assign(name, init, span)
            type_ = init.type
            if isinstance(type_, TileType):  # its region may be another one in the next turn
                fill = Fill.NO if type_.fill is Fill.NO else Fill.MAYBE
                type_ = TileType(type_.shape, type_.dtype, (None, None), fill)
            elif is_integer(type_):
                type_ = arithmetic.INDEX_TYPE
            param = state.variable(name, type_, init.span)
            entries.append(_Entry(name, init, param))
        for entry in entries:
            frame.env[entry.name] = entry.param
        return entries

    def _turn(
        self, entries: list[_Entry], body: Sequence[ast.stmt], span: Span, line: int, never: bool = False
    ) -> tuple[tuple[Carried, ...], tuple[Stmt, ...], dict[str, Expr]]:
        """The body of a loop, and what it carries; the names stand for the results afterwards.

        Also what the variables inside are that turned out to stay the same.
        """
        state, frame = self._state, self._state.frame
        before = dict(frame.env)
        written = set(state.written)
        declared = dict(frame.declared)
        frame.declared |= {entry.name: entry.param.type for entry in entries}
        frame.loops += 1
        with state.inner() as inner:
            self.block(body)
            yields = [self._yielded(entry, frame.env[entry.name], span) for entry in entries]
            if entries:
                inner.append(Yield(tuple(yields), span))
        frame.loops -= 1
        frame.declared = declared
        if never:
            state.written = written
        after, frame.env = frame.env, before
        for name, value in after.items():
            if name not in before:
                why = f"variable {name!r} is gone: it was first assigned inside the loop at line {line}"
                frame.env[name] = value if isinstance(value, Missing) else Missing(why)
        self._check_places(before, after, entries)
        same: dict[str, Expr] = {
            entry.param.name: entry.init
            for entry, value in zip(entries, yields, strict=True)
            if isinstance(value, Var) and value.name == entry.param.name and not isinstance(after[entry.name], Missing)
        }
        if same:  # assigned where it is never run, say
            left = tuple(v for e, v in zip(entries, yields, strict=True) if e.param.name not in same)
            inner[:] = walk.replaced((*inner[:-1], *([Yield(left, span)] if left else [])), same)
            for entry in entries:
                if entry.param.name in same:
                    frame.env[entry.name] = entry.init
            entries = [entry for entry in entries if entry.param.name not in same]
        carried: list[Carried] = []
        for entry in entries:
            result = state.variable(entry.name, entry.param.type, entry.param.span)
            carried.append(Carried(entry.param, entry.init, result))
            failed = isinstance(after[entry.name], Missing)
            frame.env[entry.name] = Missing("", told=True) if failed else result
        return tuple(carried), tuple(inner), same

    def _yielded(self, entry: _Entry, value: Value, span: Span) -> Expr:
        """The next value of a name that a loop carries."""
        if isinstance(value, Missing):
            return entry.param  # there is an error; no matter
        expr = self._expressions.lift(value, span)
        if isinstance(value, Items) or not assignable(entry.param.type, expr.type):
            raise TypeMismatch(
                f"{entry.name!r} is {entry.param.type} before the loop, and gets {expr.type} in it",
                expr.span,
                "give it another name inside the loop",
            )
        return expr

    def _check_places(self, before: dict[str, Value], after: dict[str, Value], entries: list[_Entry]) -> None:
        """Raises where a name is another tensor in the next turn."""
        carried = {entry.name for entry in entries}
        for name, old in before.items():
            new = after.get(name)
            if name in carried or new is old or not isinstance(old, Expr):
                continue
            if isinstance(new, Missing):
                continue
            same = isinstance(new, Var) and isinstance(old, Var) and new.name == old.name
            if not same:
                raise SyntaxUnsupported(
                    f"{name!r} is another tensor in the next turn of the loop",
                    self._state.frame.places.get(name, old.span),
                    "give the tensor inside the loop a name of its own",
                )

    def _range(self, node: ast.expr) -> tuple[Expr, Expr, Expr]:
        """Start, stop and step of ``pl.range(...)`` or ``range(...)``. Raises SyntaxUnsupported for anything else."""
        state, span = self._state, self._state.span(node)
        callee = self._expressions.value(node.func) if isinstance(node, ast.Call) else None
        called = callee.value if isinstance(callee, Static) else None
        if not isinstance(node, ast.Call) or (called is not RANGE and called is not range):
            raise SyntaxUnsupported("a loop goes over pl.range only", span, "write `for i in pl.range(...)`")
        if node.keywords or not 1 <= len(node.args) <= 3:
            raise SignatureError("pl.range takes stop, or start and stop, or start, stop and step", span)
        values = [self._expressions.index(argument, "a bound of pl.range") for argument in node.args]
        if len(values) == 3 and isinstance(values[2], Const) and values[2].value == 0:
            raise TypeMismatch("pl.range: the step is 0", values[2].span)
        zero, one = (arithmetic.index(n, state.span(node)) for n in (0, 1))
        if len(values) == 1:
            return zero, values[0], one
        return values[0], values[1], values[2] if len(values) == 3 else one

    def _python_sequence(self, node: ast.expr) -> list[Value] | None:
        """What a loop goes over, where that is a Python sequence that is known now."""
        if isinstance(node, ast.Call):
            callee = self._expressions.value(node.func)
            called = callee.value if isinstance(callee, Static) else None
            if called is RANGE or called is range or isinstance(called, Operation) or not isinstance(callee, Static):
                return None
            if called not in (zip, enumerate, reversed, sorted, list, tuple) and not callable(called):
                return None
        found = self._expressions.value(node)
        if isinstance(found, Items):
            return list(found.values)
        if not isinstance(found, Static) or isinstance(found.value, (str, bytes, int, float)):
            return None
        try:
            items: list[Value] = [Static(item) for item in found.value]  # type: ignore[attr-defined]
        except TypeError:
            return None
        if len(items) > _MOST_TURNS:
            raise SyntaxUnsupported(
                f"this loop would be written out {len(items)} times", self._state.span(node), "use pl.range"
            )
        return items

    def _written_out(self, node: ast.For, values: list[Value]) -> None:
        """A loop over a Python sequence: its body once for each item."""
        for value in values:
            if isinstance(node.target, (ast.Tuple, ast.List)):
                self.unpack(node.target, value, node.iter, self._state.span(node))
            else:
                self._state.frame.env[self.target(node.target)] = value
            self.block(node.body)

    # --- branches -----------------------------------------------------------------------------------------------------

    def if_statement(self, node: ast.If) -> None:
        state, frame = self._state, self._state.frame
        span = state.span(node)
        condition = self._expressions.condition(node.test)
        if isinstance(condition, Static):
            self.block(node.body if condition.value else node.orelse)
            return
        before, written = frame.env, state.written
        branches: list[tuple[list[Stmt], dict[str, Value], set[str]]] = []
        for body in (node.body, node.orelse):
            frame.env, state.written = dict(before), set(written)
            with state.inner() as inner:
                self.block(body)
            branches.append((inner, frame.env, state.written))
        (then, first, wrote), (otherwise, second, wrote_too) = branches
        frame.env, state.written = before, wrote & wrote_too
        results: list[Var] = []
        for name in [*first, *(name for name in second if name not in first)]:
            merged = self._merged(name, first.get(name), second.get(name), (then, otherwise), results, node)
            frame.env[name] = merged
        if results:
            # What each branch gives was collected behind it.
            self._close(then, len(results), span)
            self._close(otherwise, len(results), span)
        state.emit(If(condition, tuple(then), tuple(otherwise), tuple(results), span))

    def _close(self, body: list[Stmt], count: int, span: Span) -> None:
        given = [stmt for stmt in body[-count:] if isinstance(stmt, Yield)]
        body[-count:] = [Yield(tuple(stmt.values[0] for stmt in given), span)]

    def _merged(
        self,
        name: str,
        a: Value | None,
        b: Value | None,
        bodies: tuple[list[Stmt], list[Stmt]],
        results: list[Var],
        node: ast.If,
    ) -> Value:
        """What ``name`` stands for after two branches in which it stands for ``a`` and ``b``."""
        line = node.lineno
        if a is b and a is not None:
            return a
        if name == RETURNED and Items(()) in (a, b) and None in (a, b):
            return Items(())  # a bare return, and the end of the function
        if a is None or b is None or isinstance(a, Missing) or isinstance(b, Missing):
            for side in (a, b):
                if isinstance(side, Missing):
                    return side
            return Missing(f"variable {name!r} is assigned in one branch of the `if` at line {line} only")
        if isinstance(a, Items) or isinstance(b, Items):
            alike = isinstance(a, Items) and isinstance(b, Items) and len(a.values) == len(b.values)
            if not alike:
                return Missing(f"{name!r} differs after the branches of the `if` at line {line}")
            assert isinstance(a, Items)
            assert isinstance(b, Items)
            pairs = zip(a.values, b.values, strict=True)
            return Items(tuple(self._merged(name, x, y, bodies, results, node) for x, y in pairs))
        if isinstance(a, Var) and isinstance(b, Var) and a.name == b.name:
            return a
        if isinstance(a, Static) and isinstance(b, Static) and (a.var or b.var) is None and a.value is b.value:
            return a
        if not is_value(a) or not is_value(b):
            return Missing(f"{name!r} is another one in each branch of the `if` at line {line}")
        span = self._state.span(node)
        values: list[Var] = []
        state = self._state
        for value, body in ((a, bodies[0]), (b, bodies[1])):
            expr = self._expressions.lift(value, span)
            if not isinstance(expr, Var):
                var = state.variable(name if name.isidentifier() else "value", expr.type, span)
                body.insert(len(body) - len(results), Assign(var, expr, span))
                expr = var
            values.append(expr)
        type_ = _either(values[0].type, values[1].type)
        if type_ is None:
            return Missing(f"{name!r} is {values[0].type} or {values[1].type} after the `if` at line {line}")
        for value, body in zip(values, bodies, strict=True):
            body.append(Yield((value,), span))
        result = state.variable(name if name.isidentifier() and name != RETURNED else "value", type_, span)
        results.append(result)
        return result


def assigned_by(body: Iterable[ast.stmt]) -> list[str]:
    """The names that statements assign, in the order they are written."""
    names: dict[str, None] = {}
    for statement in body:
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names[node.id] = None
    return list(names)


def _never(bounds: tuple[Expr, Expr, Expr]) -> bool:
    """True for a loop that certainly has no turn."""
    if not all(isinstance(bound, Const) for bound in bounds):
        return False
    start, stop, step = (int(bound.value) for bound in bounds if isinstance(bound, Const))
    return len(range(start, stop, step)) == 0


def _either(a: Type, b: Type) -> Type | None:
    """The type of a value that is of one type or the other; None where there is none."""
    if isinstance(a, TileType) and isinstance(b, TileType) and a == b:
        valid = tuple(m if m == n else None for m, n in zip(a.valid, b.valid, strict=True))
        return TileType(a.shape, a.dtype, (valid[0], valid[1]), a.fill.meet(b.fill))
    if is_integer(a) and is_integer(b):
        return arithmetic.INDEX_TYPE
    return a if a == b else None
