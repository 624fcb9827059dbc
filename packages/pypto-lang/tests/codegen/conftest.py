"""What tests of generated text share."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pypto import codegen, passes
from pypto.ir.nodes import Program
from pypto.passes.capture import resolve_program

Files = dict[str, str]


@pytest.fixture
def generate() -> Callable[[Program], Files]:
    """Path → text of the files of a program, as ``ir.compile`` generates them."""

    def files_of(program: Program) -> Files:
        lowered = passes.run_all(resolve_program(program))
        generated = codegen.generate(lowered, "cpu", {"device_ids": [0]})
        return {path: content.decode() for path, content in generated.files.items() if not path.endswith(".pkl")}

    return files_of


@pytest.fixture
def kernel(generate: Callable[[Program], Files]) -> Callable[[Program, str], str]:
    """The C++ of one kernel, without comments."""

    def text_of(program: Program, name: str) -> str:
        (path,) = {path for path in generate(program) if path.endswith(f"kernels/{name}.cpp")}
        lines = (line.partition("//")[0].rstrip() for line in generate(program)[path].split("\n"))
        return "\n".join(line for line in lines if line)

    return text_of
