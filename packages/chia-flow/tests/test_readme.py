"""The example that users copy first."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parents[1] / "README.md"


@pytest.mark.xdist_group("ray")
def test_the_example_runs_as_a_script_and_prints_what_it_says(cluster: str, tmp_path: Path) -> None:
    text = README.read_text()
    example = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert example is not None
    script = tmp_path / "flow.py"
    script.write_text(example[1])
    joining = {"RAY_ADDRESS": cluster, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    done = subprocess.run(
        [sys.executable, str(script)], env=os.environ | joining, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    assert all(f"`{line}`" in text for line in lines)
