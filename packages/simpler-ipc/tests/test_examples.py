"""The examples in examples/ipc run alone, as a user starts them, and end cleanly; so do those of the documentation."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "examples" / "ipc"
PAGES = sorted((ROOT / "docs" / "ipc").glob("*.md"))
KILLED = re.compile(
    r"^process \d+ died \(exit status None, signal 9\); (\d+) requests go to its successor$", re.MULTILINE
)


def run(*command: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
        env=os.environ | environment,
    )


def test_a_python_parent_outlives_its_rust_child() -> None:
    done = run(EXAMPLES / "rust_child" / "parent.py")
    assert done.returncode == 0, done.stderr
    (left,) = KILLED.findall(done.stdout)
    assert int(left) > 0
    assert "200 series of 20000 values smoothed" in done.stdout
    assert "exit status 0" in done.stdout


def test_a_python_parent_says_that_cargo_is_missing(tmp_path: Path) -> None:
    done = run(EXAMPLES / "rust_child" / "parent.py", PATH=str(tmp_path))
    assert done.returncode == 1
    assert "cargo is missing" in done.stderr


def test_a_pool_replaces_a_killed_worker() -> None:
    pictures = []
    for workers in (1, 3):
        done = run(EXAMPLES / "pool.py", "--workers", workers, "--rows", 256)
        assert done.returncode == 0, done.stderr
        assert len(KILLED.findall(done.stdout)) == 1
        pictures.append(done.stdout.splitlines()[-24:])
    assert pictures[0][12].count("@") > 10
    assert pictures[0] == pictures[1]


def test_a_pool_ends_on_ctrl_c(eventually: Callable[[Callable[[], bool]], None]) -> None:
    command = [sys.executable, str(EXAMPLES / "pool.py"), "--rows", "100000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as pool:
        assert pool.stdout is not None
        assert pool.stdout.readline() == "2 workers\n"
        os.killpg(pool.pid, signal.SIGINT)  # as a terminal does: parent and children get it
        assert pool.wait() == 130

    def nobody_left() -> bool:
        try:
            os.killpg(pool.pid, 0)
        except ProcessLookupError:
            return True
        return False

    eventually(nobody_left)


def programs(page: Path) -> list[str]:
    """What a page shows whole: a program begins with an import."""
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    return [block for block in blocks if block.startswith(("import ", "from ")) and "input(" not in block]


PROGRAMS = [(page, number) for page in PAGES for number in range(len(programs(page)))]


@pytest.mark.parametrize(("page", "number"), PROGRAMS, ids=lambda part: getattr(part, "stem", part))
def test_a_program_of_the_documentation_runs(page: Path, number: int) -> None:
    done = run("-c", programs(page)[number])
    assert done.returncode == 0, done.stderr
