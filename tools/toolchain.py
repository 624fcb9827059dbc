"""Looks for the compilers a build needs, before anything is built, and says how to get what is missing.

Runs with nothing but the standard library: it comes first on a fresh machine.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Tool:
    """Something the build calls: how it is found and the one line that installs it, per system."""

    purpose: str
    find: Callable[[], str | None]
    debian: str
    macos: str


def _compiler() -> str | None:
    chosen = os.environ.get("CXX")
    if chosen:
        return shutil.which(shlex.split(chosen)[0])
    return next((path for name in ("c++", "g++", "clang++") if (path := shutil.which(name))), None)


def _cargo() -> str | None:
    """cargo, if it is new enough for the Rust edition and the crates in use."""
    path = shutil.which("cargo")
    if path is None:
        return None
    found = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=60).stdout
    version = re.search(r"(\d+)\.(\d+)", found)
    wanted = re.search(r'rust-version = "(\d+)\.(\d+)', Path("crates/Cargo.toml").read_text())
    if version is None or wanted is None:
        return None
    return path if tuple(map(int, version.groups())) >= tuple(map(int, wanted.groups())) else None


def _python_headers() -> str | None:
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    return str(header) if header.exists() else None


def _googletest() -> str | None:
    prefixes = ["/usr", "/usr/local", "/opt/homebrew", *os.environ.get("CMAKE_PREFIX_PATH", "").split(os.pathsep)]
    roots = [Path(prefix) for prefix in prefixes if prefix]
    return next((str(found) for root in roots for found in root.glob("lib*/**/cmake/GTest/GTestConfig.cmake")), None)


RUSTUP = "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y"
BUILD = (
    Tool("a C++20 compiler", _compiler, "sudo apt-get install -y g++", "xcode-select --install"),
    Tool("cargo 1.85 or newer", _cargo, RUSTUP, RUSTUP),
    Tool("Python's C headers", _python_headers, "sudo apt-get install -y python3-dev", "brew install python@3.11"),
)
TEST = (Tool("GoogleTest", _googletest, "sudo apt-get install -y libgtest-dev", "brew install googletest"),)


def missing(tools: tuple[Tool, ...]) -> list[str]:
    """A line for each tool that is not there, with the line that installs it."""
    lines = []
    for tool in tools:
        if tool.find() is None:
            install = tool.macos if sys.platform == "darwin" else tool.debian
            lines.append(f"missing: {tool.purpose}. Install it with:\n    {install}")
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--test", action="store_true", help="also what the native tests need")
    chosen = parser.parse_args()
    lines = missing(BUILD + TEST if chosen.test else BUILD)
    for line in lines:
        print(line, file=sys.stderr)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
