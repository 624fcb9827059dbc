"""The program of the README runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def test_the_first_program_runs_as_it_stands_there(tmp_path):
    (text,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    (tmp_path / "softmax.py").write_text(text)
    result = subprocess.run(
        [sys.executable, "softmax.py"], cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("(1797, 10) 1797.0") or result.stdout.startswith("(1797, 10) 1796.9")
