"""A missing tool is reported before anything is built, with the line that installs it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import toolchain

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = ROOT / "tools" / "toolchain.py"
BINUTILS = ("as", "ld")  # a compiler calls them by the PATH
COMPLETE = ("g++", "cc", "cargo", "rustc", "apt-get", *BINUTILS)


def run_with(path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "CXX"} | variables
    return subprocess.run(
        [sys.executable, str(SCRIPT)],
        cwd=path,  # from anywhere
        env=environment | {"PATH": str(path)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def folder_with(tmp_path: Path, *tools: str) -> Path:
    for tool in tools:
        (tmp_path / tool).symlink_to(shutil.which(tool) or shutil.which("true") or "")
    return tmp_path


def fake(path: Path, words: str, status: int = 0) -> None:
    path.write_text(f"#!{shutil.which('sh')}\necho '{words}'\nexit {status}\n")
    path.chmod(0o755)


def test_a_complete_toolchain_passes_silently(tmp_path: Path) -> None:
    done = run_with(folder_with(tmp_path, *COMPLETE))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("absent", "purpose", "line"),
    [
        ("g++", "missing: a C++20 compiler: there is none", "sudo apt-get install -y g++"),
        ("cc", "missing: a linker: there is no cc", "sudo apt-get install -y gcc"),
        ("cargo", "missing: cargo 1.85 or newer: there is none", "https://sh.rustup.rs"),
    ],
)
def test_what_is_missing_is_named_with_the_line_that_installs_it(
    tmp_path: Path, absent: str, purpose: str, line: str
) -> None:
    done = run_with(folder_with(tmp_path, *(tool for tool in COMPLETE if tool != absent)))
    assert done.returncode == 1
    assert purpose in done.stderr
    assert line in done.stderr
    assert done.stderr.count("missing:") == 1


def test_where_there_is_no_apt_no_line_of_apt_is_given(tmp_path: Path) -> None:
    done = run_with(folder_with(tmp_path, "cc", "cargo", "rustc", *BINUTILS))
    assert done.returncode == 1
    assert "with your system's package manager; Debian's package is g++" in done.stderr
    assert "apt-get" not in done.stderr


def test_a_cargo_that_is_too_old_counts_as_missing(tmp_path: Path) -> None:
    folder_with(tmp_path, *(tool for tool in COMPLETE if tool != "cargo"))
    fake(tmp_path / "cargo", "cargo 1.63.0")
    done = run_with(tmp_path)
    assert done.returncode == 1
    assert "cargo 1.85 or newer: this is cargo 1.63" in done.stderr


def test_a_rustc_that_is_too_old_counts_as_missing(tmp_path: Path) -> None:
    folder_with(tmp_path, *(tool for tool in COMPLETE if tool != "rustc"))
    fake(tmp_path / "rustc", "rustc 1.70.0")
    done = run_with(tmp_path)
    assert done.returncode == 1
    assert "cargo 1.85 or newer: this is rustc 1.70" in done.stderr


def test_what_cargo_says_before_its_version_is_passed_over(tmp_path: Path) -> None:
    folder_with(tmp_path, *(tool for tool in COMPLETE if tool != "cargo"))
    fake(tmp_path / "cargo", "warning: foo 1.2\ncargo 1.95.0")
    assert run_with(tmp_path).returncode == 0


def test_a_compiler_that_builds_something_else_counts_as_missing(tmp_path: Path) -> None:
    folder_with(tmp_path, *(tool for tool in COMPLETE if tool != "g++"))
    copy = f'while [ "$1" != -o ]; do shift; done; {shutil.which("cp")} {shutil.which("true")} "$2"'
    (tmp_path / "g++").write_text(f"#!{shutil.which('sh')}\n{copy}\n")
    (tmp_path / "g++").chmod(0o755)
    done = run_with(tmp_path)
    assert done.returncode == 1
    assert "is not what it was given" in done.stderr


def test_a_compiler_that_takes_the_flag_but_not_the_language_counts_as_missing(tmp_path: Path) -> None:
    folder_with(tmp_path, *(tool for tool in COMPLETE if tool != "g++"))
    fake(tmp_path / "g++", "fatal error: concepts: No such file or directory", 1)
    done = run_with(tmp_path)
    assert done.returncode == 1
    assert "can't build a small C++20 program: fatal error: concepts: No such file" in done.stderr


def test_a_compiler_whose_programs_do_not_run_here_counts_as_missing(tmp_path: Path) -> None:
    folder_with(tmp_path, *(tool for tool in COMPLETE if tool != "g++"))
    fake(tmp_path / "g++", "compiled for elsewhere")
    done = run_with(tmp_path)
    assert done.returncode == 1
    assert "does not run here" in done.stderr


def test_a_cargo_without_a_compiler_counts_as_missing(tmp_path: Path) -> None:
    folder_with(tmp_path, *(tool for tool in COMPLETE if tool not in ("cargo", "rustc")))
    fake(tmp_path / "cargo", "cargo 1.95.0")
    done = run_with(tmp_path)
    assert done.returncode == 1
    assert "`rustc --version` fails" in done.stderr


def test_a_linker_that_links_nothing_counts_as_missing(tmp_path: Path) -> None:
    folder_with(tmp_path, *(tool for tool in COMPLETE if tool != "cc"))
    fake(tmp_path / "cc", "error: no libc", 1)
    done = run_with(tmp_path)
    assert done.returncode == 1
    assert "cc, which cargo links with, can't link a program: error: no libc" in done.stderr


def test_a_c_compiler_is_none_of_cpp(tmp_path: Path) -> None:
    done = run_with(folder_with(tmp_path, *COMPLETE), CXX=shutil.which("gcc") or "gcc")
    assert done.returncode == 1
    assert "can't build a small C++20 program" in done.stderr


def test_an_open_quote_in_cxx_is_said(tmp_path: Path) -> None:
    done = run_with(folder_with(tmp_path, *COMPLETE), CXX='g++ "')
    assert done.returncode == 1
    assert 'CXX names g++ ", which is not there' in done.stderr


def test_a_compiler_named_by_cxx_is_accepted(tmp_path: Path) -> None:
    gxx = shutil.which("g++")
    done = run_with(folder_with(tmp_path, *(tool for tool in COMPLETE if tool != "g++")), CXX=f"{gxx} -pipe")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_compiler_named_by_cxx_that_is_not_there_is_named(tmp_path: Path) -> None:
    done = run_with(folder_with(tmp_path, *COMPLETE), CXX="g++-99 -pipe")
    assert done.returncode == 1
    assert "CXX names g++-99, which is not there" in done.stderr


def test_windows_is_told_that_it_is_not_supported_and_nothing_of_apt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "SYSTEM", "win32")
    assert toolchain.missing(toolchain.BUILD) == ["not supported yet: win32. Build on Linux (under Windows: WSL)."]


def test_macos_is_told_its_own_lines(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(toolchain, "SYSTEM", "darwin")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    text = "\n".join(toolchain.missing(toolchain.BUILD + toolchain.TEST))
    assert "xcode-select --install" in text
    assert "apt" not in text


def test_every_build_environment_looks_at_the_toolchain_first() -> None:
    assert 'pre-install-commands = ["python tools/toolchain.py"]' in (ROOT / "pyproject.toml").read_text()
