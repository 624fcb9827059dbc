"""Where a program's source is: files, syntax trees, places in them."""

from __future__ import annotations

import ast
import inspect
import linecache
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType, FrameType, FunctionType

from pypto.errors import SourceUnavailable
from pypto.ir.nodes import Span


@dataclass(frozen=True, slots=True)
class Source:
    """The text of a file and its syntax tree."""

    file: str
    lines: tuple[str, ...]
    tree: ast.Module

    def line(self, number: int) -> str:
        """Line ``number``, counted from 1, without its end."""
        return self.lines[number - 1].rstrip("\r\n") if 0 < number <= len(self.lines) else ""

    def span(self, node: ast.AST) -> Span:
        """The place of a syntax tree node."""
        line, end_line = getattr(node, "lineno", 1), getattr(node, "end_lineno", None)
        end_line = end_line or line
        column = self._characters(line, getattr(node, "col_offset", 0))
        end_column = self._characters(end_line, getattr(node, "end_col_offset", None) or 0)
        return Span(self.file, line, column, end_line, end_column, self.line(line))

    def span_of_name(self, node: ast.FunctionDef | ast.ClassDef) -> Span:
        """The place of the name in ``def name`` or ``class name``."""
        text = self.line(node.lineno)
        column = text.find(node.name, self._characters(node.lineno, node.col_offset) + 3)
        if column < 0:
            return self.span(node)
        return Span(self.file, node.lineno, column, node.lineno, column + len(node.name), text)

    def _characters(self, line: int, utf8: int) -> int:
        """Syntax trees count columns in bytes of UTF-8; places are counted in characters."""
        text = self.line(line)
        return utf8 if text.isascii() else len(text.encode()[:utf8].decode(errors="replace"))


@lru_cache(maxsize=64)
def _parsed(file: str, lines: tuple[str, ...]) -> Source:
    return Source(file, lines, ast.parse("".join(lines), file))


def source_of(file: str, module_globals: Mapping[str, object] | None = None) -> Source | None:
    """The source of ``file`` as it is now (a notebook's cell too), or None where it can't be read or is no Python."""
    linecache.checkcache(file)
    lines = tuple(linecache.getlines(file, dict(module_globals) if module_globals is not None else None))
    if not lines:
        return None
    try:
        return _parsed(file, lines)
    except SyntaxError:
        return None


def definition_of(function: FunctionType) -> tuple[Source, ast.FunctionDef]:
    """The source file of a function and its ``def``.

    Raises SourceUnavailable where the source can't be read, or isn't what the function was made from.
    """
    code = function.__code__
    source = source_of(code.co_filename, function.__globals__)
    node = None if source is None else _find(source, function)
    if source is not None and node is not None:
        return source, node
    place = Span(code.co_filename, code.co_firstlineno, 0, code.co_firstlineno, 0)
    # "<string>" may be what another text that was executed is known by.
    if source is None or code.co_filename.startswith("<"):
        raise SourceUnavailable(
            f"the source of {function.__qualname__} can't be read: programs are made from their source",
            place,
            "write the program in a file or a notebook cell, not in a string given to exec",
        )
    raise SourceUnavailable(
        f"{code.co_filename} changed since {function.__qualname__} was imported from it", place, "import it again"
    )


def _find(source: Source, function: FunctionType) -> ast.FunctionDef | None:
    """The ``def`` that a function was made from, by its name, line and parameters; None where there is none."""
    code = function.__code__
    for node in ast.walk(source.tree):
        if (
            isinstance(node, ast.FunctionDef)
            and node.name == function.__name__
            and _first_line(node) == code.co_firstlineno
            and _parameter_names(node) == _code_parameters(code)
        ):
            return node
    return None


def _first_line(node: ast.FunctionDef) -> int:
    return min([node.lineno, *(d.lineno for d in node.decorator_list)])


def _parameter_names(node: ast.FunctionDef) -> list[str]:
    arguments = node.args
    named = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return [a.arg for a in [*named, *filter(None, (arguments.vararg, arguments.kwarg))]]


def _code_parameters(code: CodeType) -> list[str]:
    count = code.co_argcount + code.co_kwonlyargcount
    count += bool(code.co_flags & inspect.CO_VARARGS) + bool(code.co_flags & inspect.CO_VARKEYWORDS)
    return list(code.co_varnames[:count])


def span_of_frame(frame: FrameType | None) -> Span | None:
    """The place that ``frame`` is executing now."""
    if frame is None:
        return None
    code = frame.f_code
    positions = list(code.co_positions())
    line, end_line, column, end_column = positions[frame.f_lasti // 2]
    line = line or frame.f_lineno
    source = source_of(code.co_filename, frame.f_globals)
    text = source.line(line) if source else ""
    start, end = (
        (c or 0) if text.isascii() else len(text.encode()[: c or 0].decode(errors="replace"))
        for c in (column, end_column)
    )
    return Span(code.co_filename, line, start, end_line or line, end, text)


def caller_span() -> Span | None:
    """The place in the user's file that called into the language: the innermost frame outside of this package."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and str(frame.f_globals.get("__name__", "")).partition(".")[0] == "pypto":
        frame = frame.f_back
    return span_of_frame(frame)
