"""Every program of the documentation runs, and prints what stands below it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[4] / "docs" / "lang"
PROGRAMS = [
    pytest.param(text, output, id=f"{page.stem}-{number}")
    for page in sorted(FOLDER.glob("*.md"))
    for number, (text, output) in enumerate(
        re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", page.read_text(), re.DOTALL), 1
    )
]


def test_every_program_says_what_it_prints() -> None:
    assert PROGRAMS
    for page in FOLDER.glob("*.md"):
        text = page.read_text()
        assert text.count("```python\n") == len(re.findall(r"```python\n(?:.*?)```\n\n```text\n", text, re.DOTALL))


@pytest.mark.parametrize(("text", "output"), PROGRAMS)
def test_a_program_of_the_documentation_prints_what_stands_below_it(text: str, output: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(text)
    done = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == output
