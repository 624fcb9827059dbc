"""What the documentation of this package shows runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from simpler_runtime import CompileUnit, KernelCompiler

DOCS = Path(__file__).resolve().parents[3] / "docs" / "runtime"


def blocks(language: str) -> list[tuple[str, str]]:
    """Page and text of each block; those that only include a file are tested where that file is."""
    found = [
        (page.name, text)
        for page in sorted(DOCS.glob("*.md"))
        for text in re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)
        if not text.startswith("--8<--")
    ]
    assert found
    return found


@pytest.mark.parametrize(("page", "program"), blocks("python"))
def test_a_program_runs(page: str, program: str) -> None:
    exec(compile(program, page, "exec"), {"__name__": "__main__"})


def test_the_orchestrations_compile() -> None:
    units = [CompileUnit(page, text) for page, text in blocks("cpp")]
    assert all(KernelCompiler().compile(units))
