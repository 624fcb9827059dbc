"""The README keeps what it says."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def test_its_program_prints_the_sum(start: Callable, tmp_path: Path) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    path = tmp_path / "add.py"
    path.write_text(block)
    program = start(path)
    output = program.process.stdout.read()
    assert program.process.wait() == 0, output
    assert re.fullmatch(r"\[\[5\. 5\. 5\..*5\. 5\. 5\.\]\]\n", output, re.DOTALL), output
    assert program.wait_gone() == []


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#:]+)\)", README))
def test_its_links_lead_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


def test_its_commands_are_those_of_the_workspace() -> None:
    project = (ROOT / "pyproject.toml").read_text()
    for command in re.findall(r"hatch run ([a-z:]+)", README):
        environment, _, script = command.rpartition(":")
        section = project.split(f"[tool.hatch.envs.{environment or 'default'}.scripts]")[1].split("\n[")[0]
        assert re.search(rf"^{script} = ", section, re.MULTILINE), command
