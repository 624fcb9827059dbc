"""Leaving early, without leaving: `break`, `continue` and an early `return` become branches and conditions.

What follows an ``if`` that leaves moves to where it does not leave; ``continue`` is then the end of a turn, ``return``
the end of the function. A loop that is left by ``break`` goes on only while a variable of its own is true.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import TypeVar

_Node = TypeVar("_Node", bound=ast.AST)
_LEAVES = (ast.Return, ast.Break, ast.Continue)


def structured(body: list[ast.stmt], taken: Iterable[str]) -> list[ast.stmt]:
    """The statements of a function, in which no ``break`` and ``continue`` are left and ``return`` is always last.

    A ``return`` inside a loop stays where it is. ``taken`` are names that can't be given to variables.
    """
    nodes = [node for stmt in body[:-1] for node in ast.walk(stmt)]
    last = [node for stmt in body[-1:] for node in ast.walk(stmt)]
    leaves = any(isinstance(node, _LEAVES) for node in nodes) or any(isinstance(node, _LEAVES[1:]) for node in last)
    if not leaves and not any(isinstance(node, ast.While) and _decides(node) for node in (*nodes, *last)):
        return body
    return _Structure(set(taken)).body(body)


class _Structure:
    def __init__(self, taken: set[str]) -> None:
        self._taken = taken

    def body(self, body: list[ast.stmt], going: str | None = None, staying: str | None = None) -> list[ast.stmt]:
        """Statements in which nothing leaves but by coming to their end.

        Args:
            going: the variable of the loop around that says whether it goes on.
            staying: one that says whether what follows the statements is reached.
        """
        result: list[ast.stmt] = []
        for index, stmt in enumerate(body):
            rest = body[index + 1 :]
            if isinstance(stmt, (ast.Continue, ast.Break)):
                names = [going] if isinstance(stmt, ast.Break) else []
                return result + [_set(name, False, stmt) for name in (*names, staying) if name is not None]
            if isinstance(stmt, ast.If) and _leaves(stmt):
                return result + self._leaving(stmt, rest, going, staying)
            if isinstance(stmt, (ast.For, ast.While)):
                result += self._loop(stmt)
            elif isinstance(stmt, ast.If):
                then, otherwise = self.body(stmt.body, going), self.body(stmt.orelse, going)
                result.append(_at(ast.If(stmt.test, then, otherwise), stmt))
            else:
                result.append(stmt)
        return result

    def _leaving(self, stmt: ast.If, rest: list[ast.stmt], going: str | None, staying: str | None) -> list[ast.stmt]:
        """An ``if`` that may leave, and what follows it."""
        returns = any(isinstance(node, ast.Return) for node in _own([stmt]))
        if returns or _always(stmt.body) or _always(stmt.orelse):
            then = self.body(stmt.body if _always(stmt.body) else stmt.body + rest, going, staying)
            otherwise = self.body(stmt.orelse if _always(stmt.orelse) else stmt.orelse + rest, going, staying)
            return [_at(ast.If(stmt.test, then or [_at(ast.Pass(), stmt)], otherwise), stmt)]
        # What follows is not written down twice.
        here = self._name("staying")
        then, otherwise = self.body(stmt.body, going, here), self.body(stmt.orelse, going, here)
        left = [] if staying is None else [_set(staying, False, stmt)]
        following = self.body(rest, going, staying) or [_at(ast.Pass(), stmt)]
        return [
            _set(here, True, stmt),
            _at(ast.If(stmt.test, then or [_at(ast.Pass(), stmt)], otherwise), stmt),
            _at(ast.If(ast.Name(here, ast.Load()), following, left), stmt),
        ]

    def _loop(self, loop: ast.For | ast.While) -> list[ast.stmt]:
        decides = isinstance(loop, ast.While) and _decides(loop)
        breaks = decides or any(isinstance(node, ast.Break) for node in _own(loop.body))
        going = self._name("going") if breaks else None
        body = self.body(loop.body, going) or [_at(ast.Pass(), loop)]
        if isinstance(loop, ast.While):
            test = loop.test
            if decides and going is not None:  # a choice takes statements, which stand in the body
                stop = _set(going, False, loop.test)
                test, body = _at(ast.Name(going, ast.Load()), loop.test), [_at(ast.If(loop.test, body, [stop]), loop)]
            elif going is not None:
                test = _at(ast.BoolOp(ast.And(), [ast.Name(going, ast.Load()), loop.test]), loop.test)
            new: ast.stmt = _at(ast.While(test, body, loop.orelse), loop)
        else:
            if going is not None:
                body = [_at(ast.If(ast.Name(going, ast.Load()), body, []), loop)]
            new = _at(ast.For(loop.target, loop.iter, body, loop.orelse, None), loop)
        if going is None:
            return [new]
        return [_set(going, True, loop), new]

    def _name(self, stem: str) -> str:
        name, count = stem, 1
        while name in self._taken:
            count += 1
            name = f"{stem}_{count}"
        self._taken.add(name)
        return name


def _set(name: str, value: bool, place: ast.AST) -> ast.stmt:
    return _at(ast.Assign([ast.Name(name, ast.Store())], ast.Constant(value)), place)


def _decides(loop: ast.While) -> bool:
    """True where the condition of a loop has a conditional expression in it."""
    return any(isinstance(node, ast.IfExp) for node in ast.walk(loop.test))


def _own(body: list[ast.stmt]) -> Iterable[ast.AST]:
    """The statements of a loop's body that are not in a loop inside it."""
    for stmt in body:
        yield stmt
        if isinstance(stmt, ast.If):
            yield from _own(stmt.body)
            yield from _own(stmt.orelse)


def _leaves(stmt: ast.If) -> bool:
    return any(isinstance(node, _LEAVES) for node in _own([stmt]))


def _always(body: list[ast.stmt]) -> bool:
    """True where what follows ``body`` is never reached."""
    last = body[-1] if body else None
    if isinstance(last, ast.If):
        return _always(last.body) and _always(last.orelse)
    return isinstance(last, _LEAVES)


def _at(node: _Node, place: ast.AST) -> _Node:
    """A new node where ``place`` is."""
    return ast.fix_missing_locations(ast.copy_location(node, place))
