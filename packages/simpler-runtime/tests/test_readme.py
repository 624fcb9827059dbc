"""The README's program runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path


def test_the_example_of_the_readme_runs() -> None:
    readme = (Path(__file__).parents[1] / "README.md").read_text()
    programs = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    assert len(programs) == 1
    exec(compile(programs[0], "README.md", "exec"), {})
