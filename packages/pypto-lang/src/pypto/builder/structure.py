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
    early = [node for stmt in body[:-1] for node in ast.walk(stmt) if isinstance(node, _LEAVES)]
    if not early and not any(isinstance(node, _LEAVES[1:]) for stmt in body[-1:] for node in ast.walk(stmt)):
        return body
    return _Structure(set(taken)).body(body)


class _Structure:
    def __init__(self, taken: set[str]) -> None:
        self._taken = taken

    def body(self, body: list[ast.stmt], going: str | None = None) -> list[ast.stmt]:
        """``going``: the variable of the loop around that says whether it goes on."""
        result: list[ast.stmt] = []
        for index, stmt in enumerate(body):
            rest = body[index + 1 :]
            if isinstance(stmt, ast.Continue):
                return result
            if isinstance(stmt, ast.Break):
                assert going is not None
                return [*result, _at(ast.Assign([ast.Name(going, ast.Store())], ast.Constant(False)), stmt)]
            if isinstance(stmt, ast.If) and _leaves(stmt):
                then = self.body(stmt.body if _always(stmt.body) else stmt.body + rest, going)
                otherwise = self.body(stmt.orelse if _always(stmt.orelse) else stmt.orelse + rest, going)
                result.append(_at(ast.If(stmt.test, then or [_at(ast.Pass(), stmt)], otherwise), stmt))
                return result
            if isinstance(stmt, (ast.For, ast.While)):
                result += self._loop(stmt)
            else:
                result.append(stmt)
        return result

    def _loop(self, loop: ast.For | ast.While) -> list[ast.stmt]:
        if not any(isinstance(node, _LEAVES) for node in ast.walk(loop)):
            return [loop]
        breaks = any(isinstance(node, ast.Break) for node in _own(loop.body))
        going = self._name() if breaks else None
        body = self.body(loop.body, going) or [_at(ast.Pass(), loop)]
        if isinstance(loop, ast.While):
            test = loop.test
            if going is not None:
                test = _at(ast.BoolOp(ast.And(), [ast.Name(going, ast.Load()), loop.test]), loop.test)
            new: ast.stmt = _at(ast.While(test, body, loop.orelse), loop)
        else:
            if going is not None:
                body = [_at(ast.If(ast.Name(going, ast.Load()), body, []), loop)]
            new = _at(ast.For(loop.target, loop.iter, body, loop.orelse, None), loop)
        if going is None:
            return [new]
        return [_at(ast.Assign([ast.Name(going, ast.Store())], ast.Constant(True)), loop), new]

    def _name(self) -> str:
        name, count = "going", 1
        while name in self._taken:
            count += 1
            name = f"going_{count}"
        self._taken.add(name)
        return name


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
