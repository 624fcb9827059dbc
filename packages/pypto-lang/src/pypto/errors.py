"""Errors of the compiler: each says what happened, where in the user's file, and what to write instead."""

from __future__ import annotations

import unicodedata

from pypto.spans import Span


class PyptoError(Exception):
    """Base of every error about a user's program.

    Attributes:
        explains_itself: its message is written for the user; a command line shows that, without a traceback.
        message: what is wrong, in one sentence or two.
        span: where in the user's source, or None where there is no such place.
        hint: what to write instead, or None.
        calls: where the helper that the place is in was called, the innermost call first.
        others: further mistakes that were found in the same program.

    ``str(error)`` is the whole diagnostic as plain text: ``file:line:column`` (both 1-based), the source line, a caret
    under the place, the calls that led there, the hint, and the other mistakes.
    """

    explains_itself = True

    def __init__(self, message: str, span: Span | None = None, hint: str | None = None) -> None:
        super().__init__(message, span, hint)
        self.message = message
        self.span = span
        self.hint = hint
        self.calls: tuple[Span, ...] = ()
        self.others: tuple[PyptoError, ...] = ()

    @property
    def file(self) -> str | None:
        """The file of the place, or None."""
        return self.span.file if self.span else None

    @property
    def line(self) -> int | None:
        """The 1-based line of the place, or None."""
        return self.span.line if self.span else None

    @property
    def column(self) -> int | None:
        """The 0-based column of the place, or None."""
        return self.span.column if self.span else None

    def __str__(self) -> str:
        lines = [self.message]
        if self.span is not None:
            lines[0] = f"{self.span.file}:{self.span.line}:{self.span.column + 1}: {self.message}"
            lines += _excerpt(self.span)
        for call in self.calls:
            lines += [f"  called at {call.file}:{call.line}:{call.column + 1}:", *_excerpt(call)]
        if self.hint:
            lines.append(f"  hint: {self.hint}")
        lines += ["", *(str(other) for other in self.others)] if self.others else []
        return "\n".join(lines)


class SourceUnavailable(PyptoError):
    """The source of a program can't be read (``exec`` of a string, ``python -c``, a file that changed or is gone)."""


class SyntaxUnsupported(PyptoError):
    """Python that the language has no meaning for, at that place."""


class UnboundVariable(PyptoError):
    """A name is used that is not defined, not defined yet, or defined only inside a loop that has ended."""


class UnknownOp(PyptoError):
    """``pl.something`` that is no operation of the language."""


class SignatureError(PyptoError):
    """A function is declared or called in a way its kind, parameters or results don't allow."""


class TypeMismatch(PyptoError):
    """A shape, dtype or kind of value differs from what is expected there."""


class OutOfBounds(PyptoError):
    """A load, store or slice that reaches outside its tensor."""


class CoreMemoryFull(PyptoError):
    """The tiles of a kernel take more than a core of the platform has."""


class HostOrchestratorError(PyptoError):
    """A program has no entry to start at, or more than one."""


class DeviceCountError(PyptoError):
    """A program asks for more chips than it was given."""


class ConfigError(PyptoError, ValueError):
    """A platform, runtime or DistributedConfig that can't be used, or not with this program."""


class OutputDirectoryError(PyptoError):
    """An output directory can't be read, is no pypto program, or may not be replaced."""


class VerificationFailed(PyptoError):
    """A pass broke a rule of the IR. It is a bug of this package, not of the user's program: please report it."""

    explains_itself = False


def _excerpt(span: Span) -> list[str]:
    """The source line of ``span`` under its line number, and a caret line below."""
    text = span.text
    if not text.strip():
        return []
    number = str(span.line)
    gutter = " " * len(number)
    end = span.end_column if span.end_line == span.line else len(text.rstrip())
    end = min(max(end, span.column + 1), max(len(text), span.column + 1))
    pad = "".join(_blank_like(c) for c in text[: span.column])
    carets = "^" * max(1, sum(_width(c) for c in text[span.column : end]))
    return [f"  {number} | {text.rstrip()}", f"  {gutter} | {pad}{carets}"]


def _width(character: str) -> int:
    """Terminal columns one character takes."""
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _blank_like(character: str) -> str:
    """Blanks as wide as ``character``; a tab stays a tab so that the caret lines up whatever a tab is."""
    return "\t" if character == "\t" else " " * _width(character)
