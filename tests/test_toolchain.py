"""A missing tool is reported before anything is built, with the line that installs it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "tools" / "toolchain.py"


def run_with(path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "CXX"} | variables
    return subprocess.run(
        [sys.executable, str(SCRIPT)],
        cwd=ROOT,
        env=environment | {"PATH": str(path)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def folder_with(tmp_path: Path, *tools: str) -> Path:
    for tool in tools:
        found = shutil.which(tool)
        assert found
        (tmp_path / tool).symlink_to(found)
    return tmp_path


def test_a_complete_toolchain_passes_silently(tmp_path: Path) -> None:
    done = run_with(folder_with(tmp_path, "g++", "cargo"))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("present", "purpose", "line"),
    [
        ("cargo", "missing: a C++20 compiler", "sudo apt-get install -y g++"),
        ("g++", "missing: cargo", "https://sh.rustup.rs"),
    ],
)
def test_what_is_missing_is_named_with_the_line_that_installs_it(
    tmp_path: Path, present: str, purpose: str, line: str
) -> None:
    done = run_with(folder_with(tmp_path, present))
    assert done.returncode == 1
    assert purpose in done.stderr
    assert line in done.stderr
    assert done.stderr.count("missing:") == 1


def test_a_cargo_that_is_too_old_counts_as_missing(tmp_path: Path) -> None:
    folder_with(tmp_path, "g++")
    old = tmp_path / "cargo"
    old.write_text("#!/bin/sh\necho cargo 1.63.0\n".replace("/bin/sh", shutil.which("sh") or "/bin/sh"))
    old.chmod(0o755)
    done = run_with(tmp_path)
    assert done.returncode == 1
    assert "cargo 1.85 or newer" in done.stderr


def test_a_compiler_named_by_cxx_is_accepted(tmp_path: Path) -> None:
    done = run_with(folder_with(tmp_path, "cargo"), CXX=f"{shutil.which('g++')} -pipe")
    assert (done.returncode, done.stderr) == (0, "")


def test_every_build_environment_looks_at_the_toolchain_first() -> None:
    assert 'pre-install-commands = ["python tools/toolchain.py"]' in (ROOT / "pyproject.toml").read_text()
