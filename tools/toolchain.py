"""Looks for what a build calls and no package index has, before anything is built, and says how to get what is missing.

Runs with nothing but the standard library: it comes first on a fresh machine. CMake, Ninja and nanobind are not looked
for: `cpp_build.py` installs them beside what it builds.
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
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT_S = 120
"""What answers no sooner hangs."""


@dataclass(frozen=True)
class Tool:
    """Something the build calls.

    Attributes:
        purpose: what a message calls it.
        lacking: None if it is there and does what is asked of it, else what is wrong, as the end of a sentence.
        debian, macos: the line that installs it there.
    """

    purpose: str
    lacking: Callable[[], str | None]
    debian: str
    macos: str


def _answer(command: list[str], text: str = "") -> tuple[int, str]:
    """Exit status and all the words of a command; -1 where it can't be run."""
    try:
        done = subprocess.run(
            command, input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return -1, str(error)
    return done.returncode, done.stdout


def _first_error(words: str) -> str:
    lines = [line.strip() for line in words.splitlines() if line.strip()]
    return next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "no word why")


def compiler() -> list[str]:
    """The command of the C++ compiler: $CXX, c++, g++ or clang++; empty where there is none."""
    chosen = os.environ.get("CXX")
    if chosen:
        try:
            return shlex.split(chosen)
        except ValueError:  # a quote that nothing closes: no file has such a name
            return [chosen]
    return next(([path] for name in ("c++", "g++", "clang++") if (path := shutil.which(name))), [])


# What the sources use of C++20, language and library: a compiler may take the flag and know half of it.
PROBE = """
#include <atomic>
#include <bit>
#include <concepts>
#include <cstdio>
#include <span>
#include <stdexcept>
#include <string>
template <class T> concept Number = std::integral<T> || std::floating_point<T>;
template <Number T> constexpr T twice(T value) { return value + value; }
struct Pair { int first, second; auto operator<=>(const Pair &) const = default; };
static_assert(twice(21) == 42 && std::popcount(7u) == 3);
int main() {
  const Pair pair{.first = 1, .second = 2};
  std::atomic<int> flag{0};
  flag.notify_all();
  const int values[] = {pair.first, pair.second};
  try { // a C compiler takes all this, and finds no library for it
    throw std::runtime_error(std::string("caught"));
  } catch (const std::exception &error) {
    std::puts(error.what());
    return std::span(values).size() == 2 && pair < Pair{1, 3} ? flag.load() : 1;
  }
}
"""


def _compiler_lacks() -> str | None:
    command = compiler()
    if not command or shutil.which(command[0]) is None:
        return "there is none" if not command else f"CXX names {command[0]}, which is not there"
    with tempfile.TemporaryDirectory(prefix="simpler-") as folder:
        program = str(Path(folder) / "probe")
        status, words = _answer([*command, "-std=c++20", "-pthread", "-x", "c++", "-", "-o", program], PROBE)
        if status != 0:
            return f"{shlex.join(command)} can't build a small C++20 program: {_first_error(words)}"
        status, words = _answer([program])
    if status == 0 and words.strip() != "caught":
        return f"what {shlex.join(command)} builds is not what it was given"
    return None if status == 0 else f"what {shlex.join(command)} builds does not run here: {_first_error(words)}"


def _linker_lacks() -> str | None:
    if shutil.which("cc") is None:
        return "there is no cc, which cargo links with"
    with tempfile.TemporaryDirectory(prefix="simpler-") as folder:
        status, words = _answer(
            ["cc", "-x", "c", "-", "-o", str(Path(folder) / "probe")], "int main(void) { return 0; }"
        )
    return None if status == 0 else f"cc, which cargo links with, can't link a program: {_first_error(words)}"


def _cargo_lacks() -> str | None:
    """cargo must be new enough for the edition and the crates in use."""
    if shutil.which("cargo") is None:
        return "there is none"
    for tool in ("cargo", "rustc"):
        status, words = _answer([tool, "--version"])
        version = re.search(rf"^{tool} (\d+)\.(\d+)", words, re.MULTILINE)
        if status != 0 or version is None:
            return f"`{tool} --version` fails: {_first_error(words)}"
        if tuple(map(int, version.groups())) < rust_version():
            return f"this is {version.group()}"
    return None


def rust_version() -> tuple[int, ...]:
    """The oldest Rust that compiles the crates: (1, 85)."""
    written = re.search(r'rust-version = "(\d+)\.(\d+)', (ROOT / "crates" / "Cargo.toml").read_text())
    assert written is not None
    return tuple(map(int, written.groups()))


def versions() -> str:
    """Of the compilers that are in use, and the flags that are set for them: with others everything is built anew."""
    flags = [
        f"{name}={os.environ.get(name, '')}" for name in ("CC", "CXX", "CFLAGS", "CXXFLAGS", "LDFLAGS", "RUSTFLAGS")
    ]
    return "\n".join([_answer([*compiler(), "--version"])[1], _answer(["rustc", "--version"])[1], *flags])


def _headers_lack() -> str | None:
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    return None if header.exists() else f"{sys.executable} has no {header}"


def _googletest_lacks() -> str | None:
    prefixes = ["/usr", "/usr/local", "/opt/homebrew", *os.environ.get("CMAKE_PREFIX_PATH", "").split(os.pathsep)]
    roots = [Path(prefix) for prefix in prefixes if prefix]
    found = any(any(root.glob("lib*/**/cmake/GTest/GTestConfig.cmake")) for root in roots)
    return None if found else "there is none"


SYSTEM = sys.platform
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
CARGO = f"cargo {'.'.join(map(str, rust_version()))} or newer"
RUSTUP = "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y"
XCODE = "xcode-select --install"
BUILD = (
    Tool("a C++20 compiler", _compiler_lacks, "sudo apt-get install -y g++", XCODE),
    Tool("a linker", _linker_lacks, "sudo apt-get install -y gcc", XCODE),
    Tool(CARGO, _cargo_lacks, RUSTUP, RUSTUP),
    Tool("Python's C headers", _headers_lack, "sudo apt-get install -y python3-dev", f"brew install python@{PYTHON}"),
)
TEST = (Tool("GoogleTest", _googletest_lacks, "sudo apt-get install -y libgtest-dev", "brew install googletest"),)


def missing(tools: tuple[Tool, ...]) -> list[str]:
    """A line for each tool that is lacking, and the line that installs it where one is known."""
    if SYSTEM not in ("linux", "darwin"):
        return [f"not supported yet: {SYSTEM}. Build on Linux (under Windows: WSL)."]
    lines = []
    for tool in tools:
        lacking = tool.lacking()
        if lacking is None:
            continue
        lines.append(f"missing: {tool.purpose}: {lacking}. {_advice(tool)}")
    return lines


def _advice(tool: Tool) -> str:
    if SYSTEM == "darwin":
        return f"Install it with:\n    {tool.macos}"
    if tool.debian.startswith("sudo apt-get") and shutil.which("apt-get") is None:
        package = tool.debian.split()[-1]
        return f"Install it with your system's package manager; Debian's package is {package}"
    return f"Install it with:\n    {tool.debian}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--test", action="store_true", help="also what the native tests need")
    chosen = parser.parse_args()
    lines = missing(BUILD + TEST if chosen.test else BUILD)
    for line in lines:
        print(line, file=sys.stderr)
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
