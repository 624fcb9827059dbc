"""Places in a user's source."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """A place in a user's source: 1-based lines, 0-based columns counted in characters, end exclusive."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int
    text: str = ""  # the source line the span starts on

    @property
    def where(self) -> str:
        """``file.py:line``, what run-time errors in generated code carry; the file without its folder."""
        return f"{self.file.replace(chr(92), '/').rsplit('/', 1)[-1]}:{self.line}"


NO_SPAN = Span("<generated>", 1, 0, 1, 0)
