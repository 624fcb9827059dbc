"""Which variables exist where, in a function's body."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager


class Scope:
    """The variables that are defined at the statement being parsed.

    A loop's body is a block of its own: what is first assigned there is gone after it.

    Args:
        parameters: names defined from the start.
        body: the function's statements, to tell "not assigned yet" from "no such variable".
    """

    def __init__(self, parameters: list[str], body: list[ast.stmt]) -> None:
        self._blocks: list[set[str]] = [set(parameters)]
        self._counters: list[str] = []
        self._gone: dict[str, int] = {}
        self._assigned: dict[str, int] = {}
        for statement in body:
            for node in ast.walk(statement):
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    self._assigned[node.id] = min(node.lineno, self._assigned.get(node.id, node.lineno))

    def __contains__(self, name: str) -> bool:
        return any(name in block for block in self._blocks)

    def define(self, name: str) -> None:
        """From here on ``name`` is a variable; of this block where it is new."""
        if name not in self:
            self._blocks[-1].add(name)

    def is_counter(self, name: str) -> bool:
        """True for the variable of a loop around this statement."""
        return name in self._counters

    @contextmanager
    def loop(self, counter: str, loop_line: int) -> Iterator[None]:
        """The body of the loop at ``loop_line``, whose variable is ``counter``."""
        self._blocks.append({counter})
        self._counters.append(counter)
        try:
            yield
        finally:
            self._counters.pop()
            for name in self._blocks.pop():
                self._gone[name] = loop_line

    def why_missing(self, name: str) -> str | None:
        """Why the local variable ``name`` can't be used here; None where it is no local variable of the function."""
        if name in self._gone:
            return f"variable {name!r} is gone: it was first assigned inside the loop at line {self._gone[name]}"
        if name in self._assigned:
            return f"variable {name!r} is used before it is assigned (at line {self._assigned[name]})"
        return None

    def names(self) -> Iterator[str]:
        """Every variable that is defined now."""
        for block in self._blocks:
            yield from block
