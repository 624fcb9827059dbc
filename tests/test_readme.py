"""The README, and the pages beside it, keep what they say."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import constraints
import lint
import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [
    *("README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/install.md", "docs/ipc/index.md"),
    *(f"packages/{name}/README.md" for name in constraints.NAMES),
]


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


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "docs/versions.md"])
def test_its_commands_are_those_of_the_workspace(page: str) -> None:
    project = (ROOT / "pyproject.toml").read_text()
    for command in re.findall(r"hatch run ([a-z:]+)", (ROOT / page).read_text()):
        environment, _, script = command.rpartition(":")
        section = project.split(f"[tool.hatch.envs.{environment or 'default'}.scripts]")[1].split("\n[")[0]
        assert re.search(rf"^{script} = ", section, re.MULTILINE), command


def test_hooks_run_what_lint_runs() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    entries = re.findall(r"entry: hatch run lint:(\w+)$", hooks, re.MULTILINE)
    assert entries == list(lint.STEPS)
    assert re.findall(r"repo: (\S+)", hooks) == ["local"]  # from no mirror


@pytest.mark.parametrize("page", PAGES)
def test_what_is_installed_is_ours(page: str) -> None:
    ours = "|".join(constraints.NAMES)
    for command in re.findall(rf"pip install ([^`\n]*?\b(?:{ours})\b[^`\n]*)", (ROOT / page).read_text()):
        folders = re.sub(rf"packages/(?:{ours})", "", command)
        assert "-c dist/constraints.txt" in command or not re.search(ours, folders), command
