"""What tests of the front end share: programs from text, and the place an error shall point at."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from pypto.errors import PyptoError
from pypto.ir.nodes import Program

_KERNEL = """
@pl.program
class P:
    @pl.function(type=pl.FunctionType.InCore)
    def kernel(self, a: pl.Tensor[[16, 16], pl.FP32], f: pl.InOut[pl.Tensor[[16, 16], pl.FP32]]):
"""


class Programs:
    """Runs Python text as a file of its own, as a user's module would be.

    ``«these marks»`` in the text aren't part of it: they tell where an error shall point.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self._marked = ("", 0, 0, "")  # file, 1-based line, 0-based column, the first marked line

    def run(self, text: str, **names: object) -> dict[str, object]:
        """The names that a module of this text defines."""
        self._count += 1
        path = self._folder / f"module_{self._count}.py"
        if "«" in text:
            before, rest = text.split("«")
            marked, after = rest.split("»")
            line, column = before.count("\n") + 1, len(before) - before.rfind("\n") - 1
            self._marked = (str(path), line, column, marked.split("\n")[0])
            text = before + marked + after
        path.write_text(text)
        namespace: dict[str, object] = {"__name__": path.stem, "__file__": str(path), **names}
        exec(compile(text, str(path), "exec"), namespace)
        return namespace

    def program(self, text: str, **names: object) -> Program:
        """The program that a module of this text defines; ``pl`` is imported there."""
        found = self.run("import pypto.language as pl\n" + textwrap.dedent(text), **names)
        (program,) = [value for value in found.values() if isinstance(value, Program)]
        return program

    def kernel(self, body: str, **names: object) -> Program:
        """A program of one kernel with ``a`` [16, 16] FP32 and ``f`` InOut [16, 16] FP32, of this body."""
        return self.program(_KERNEL + textwrap.indent(textwrap.dedent(body), " " * 8), **names)

    def fails(
        self, kind: type[PyptoError], message: str, build: Callable[..., object], text: str, **names: object
    ) -> PyptoError:
        """``build(text)`` raises exactly ``kind``, saying ``message``, with the caret under what is marked."""
        with pytest.raises(PyptoError, match=message) as caught:
            build(text, **names)
        error = caught.value
        assert type(error) is kind
        file, line, column, marked = self._marked
        assert (error.file, error.line, error.column) == (file, line, column)
        place, excerpt, caret = str(error).split("\n")[:3]
        assert place == f"{file}:{line}:{column + 1}: {error.message}"
        margin = len(f"  {line} | ")
        assert excerpt[margin + column :].startswith(marked)
        assert caret[margin:] == " " * column + "^" * len(marked)
        return error


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    """Runs text as modules in a folder of their own."""
    return Programs(tmp_path)
