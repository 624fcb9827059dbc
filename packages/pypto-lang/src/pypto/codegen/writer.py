"""Text with indentation, and names that don't clash."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Iterator
from contextlib import contextmanager


class Writer:
    """Lines of generated text.

    Args:
        indent: what one level of indentation is.
    """

    def __init__(self, indent: str = "    ") -> None:
        self._indent = indent
        self._depth = 0
        self._lines: list[str] = []

    def line(self, text: str = "") -> None:
        """Add one line; an empty one carries no indentation."""
        self._lines.append(f"{self._indent * self._depth}{text}" if text else "")

    def lines(self, texts: Iterable[str]) -> None:
        """Add several lines."""
        for text in texts:
            self.line(text)

    @contextmanager
    def block(self, head: str, tail: str | None = None) -> Iterator[None]:
        """``head``, then what is written inside the ``with`` one level deeper, then ``tail``."""
        self.line(head)
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
        if tail is not None:
            self.line(tail)

    def text(self) -> str:
        """All of it, ending with one newline."""
        return "\n".join(self._lines).rstrip("\n") + "\n"


class Names:
    """Gives everything a program names an identifier of the target language that nothing else in sight has.

    Args:
        reserved: words that can't be used: keywords, and what the generated text itself defines.
        parent: names of the enclosing scope, seen from this one; their identifiers are not given again here.
    """

    def __init__(self, reserved: Iterable[str] = (), parent: Names | None = None) -> None:
        self._parent = parent
        self._taken: set[str] = set(parent._taken if parent else ()) | set(reserved)
        self._known: dict[Hashable, str] = {}

    def define(self, name: str, key: Hashable = None) -> str:
        """A new identifier in this scope: ``name`` itself where that is free. ``key`` (or ``name``) finds it again."""
        wanted = "".join(c if c.isascii() else f"u{ord(c):04x}" for c in name)
        # C++ keeps names with two underscores in a row, and those that start with one, for itself.
        wanted = re.sub("_+", "_", wanted).strip("_") or "unnamed"
        if wanted[0].isdigit():
            wanted = f"n{wanted}"
        identifier, count = wanted, 1
        while identifier in self._taken:
            count += 1
            identifier = f"{wanted}_{count}"
        self._taken.add(identifier)
        self._known[name if key is None else key] = identifier
        return identifier

    def alias(self, key: Hashable, identifier: str) -> None:
        """``key`` finds ``identifier``, which is another's already."""
        self._known[key] = identifier

    def find(self, key: Hashable) -> str | None:
        """The identifier of ``key`` in this scope or one around it; None where it has none."""
        scope: Names | None = self
        while scope is not None:
            if key in scope._known:
                return scope._known[key]
            scope = scope._parent
        return None

    def __getitem__(self, key: Hashable) -> str:
        identifier = self.find(key)
        if identifier is None:
            raise KeyError(f"nothing called {key!r} is defined here")
        return identifier
