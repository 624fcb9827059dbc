"""What a name in a program's source means in Python: closures, globals, builtins."""

from __future__ import annotations

import builtins
from collections.abc import Iterator, Mapping
from types import FunctionType

MISSING = object()


class Namespace:
    """The names that a function sees, in Python's order.

    Args:
        function: the function; its closure and globals are read when a name is looked up.
        enclosing: locals of the function around the class, for names that only annotations use: no closure has them.
        members: names of the class body, seen by annotations.
    """

    def __init__(
        self,
        function: FunctionType,
        enclosing: Mapping[str, object] | None = None,
        members: Mapping[str, object] | None = None,
    ) -> None:
        self._function = function
        self._enclosing = enclosing or {}
        self.members = members or {}

    def find(self, name: str) -> object:
        """What ``name`` is bound to, or MISSING."""
        function = self._function
        if name in function.__code__.co_freevars and function.__closure__ is not None:
            cell = function.__closure__[function.__code__.co_freevars.index(name)]
            try:
                return cell.cell_contents
            except ValueError:  # assigned later in the enclosing function
                return MISSING
        for names in (self._enclosing, function.__globals__, vars(builtins)):
            if name in names:
                return names[name]
        return MISSING

    def is_of(self, function: FunctionType) -> bool:
        """True where these are the names that ``function`` sees."""
        return self._function.__code__ is function.__code__

    def names(self) -> Iterator[str]:
        """Every name there is, to suggest one."""
        yield from self._function.__code__.co_freevars
        yield from self._enclosing
        yield from self._function.__globals__


class AnnotationNames(Mapping[str, object]):
    """The same as a mapping, with the class body's names first: what annotations are evaluated in."""

    def __init__(self, namespace: Namespace) -> None:
        self._namespace = namespace

    def __getitem__(self, name: str) -> object:
        if name in self._namespace.members:
            return self._namespace.members[name]
        value = self._namespace.find(name)
        if value is MISSING:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        yield from self._namespace.names()

    def __len__(self) -> int:
        return sum(1 for _ in self)
