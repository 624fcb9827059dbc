"""Builds the C++ project with CMake, in folders that every environment of this checkout shares.

A folder holds one way of compiling (`FLAVOURS`). What was compiled stays: a second build compiles what changed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import toolchain
import turns

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "packages" / "simpler-runtime"
FOLDER = ROOT / "build" / "cpp"

# As shipped; under sanitizers; and the tile library's tests on every type instead of one of each kind.
FLAVOURS: dict[str, dict[str, str]] = {
    "plain": {},
    "address": {"SIMPLER_SANITIZE": "address,undefined"},
    "thread": {"SIMPLER_SANITIZE": "thread"},
    "all-types": {"SIMPLER_ALL_TYPES": "ON"},
}
CONFIGURED = "configured-as.txt"
LIMIT_S = 1800
"""What takes longer hangs: the slowest of these takes some minutes."""


def run(*command: str | Path) -> None:
    """Run a command to its end; raises CalledProcessError when it fails, TimeoutExpired when it never ends."""
    subprocess.run([str(part) for part in command], check=True, timeout=LIMIT_S, pass_fds=turns.HELD)


def uv() -> str:
    """The installer that hatch brings along; raises SystemExit where there is none."""
    found = os.environ.get("HATCH_UV") or shutil.which("uv")
    if found is None:
        raise SystemExit("missing: uv. Install it with:\n    pip install uv")
    return found


def build_tools() -> Path:
    """The bin folder with CMake, Ninja and a Python that has nanobind: the same for every environment of this Python.

    One that changed from environment to environment would have everything compiled again.
    """
    system = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["build-system"]
    wanted = [
        *(requirement for requirement in system["requires"] if requirement.startswith("nanobind")),
        "cmake>=3.25",
        "ninja>=1.11",
    ]
    place = ROOT / "build" / "tools" / _abi()
    stamp = place / "installed"
    if not stamp.exists() or stamp.read_text() != str(wanted):
        run(uv(), "venv", "--quiet", "--clear", "--python", sys.executable, place)
        run(uv(), "pip", "install", "--quiet", "--python", place / "bin" / "python", *wanted)
        stamp.write_text(str(wanted))
    return place / "bin"


def _abi() -> str:
    """The Python that a module is compiled for, as file names have it: cpython-311-x86_64-linux-gnu."""
    return str(sysconfig.get_config_var("SOABI"))


def folder(flavour: str) -> Path:
    """Where a flavour is built; the plain one holds the Python module too, so it has a folder for each Python."""
    return FOLDER / (f"plain-{_abi()}" if flavour == "plain" else flavour)


def configuration() -> str:
    """What CMake looks at once, and keeps: where the checkout is, the compiler, which one that is, and its flags."""
    flags = [f"{name}={os.environ.get(name, '')}" for name in ("CXXFLAGS", "LDFLAGS")]
    return "\n".join([str(ROOT), *toolchain.compiler(), toolchain.versions(), *flags])


def is_configured(place: Path) -> bool:
    """Whether a folder is configured as it would be now; if not, CMake begins anew."""
    stamp = place / CONFIGURED
    return stamp.exists() and stamp.read_text() == configuration()


def build(flavour: str, *targets: str, tests: bool) -> Path:
    """Configure and build a flavour's targets (all, if none is named); its folder."""
    tools = build_tools()
    options = {"CMAKE_MAKE_PROGRAM": str(tools / "ninja"), **FLAVOURS[flavour]}
    if tests:
        options["SIMPLER_TESTS"] = "ON"
    if flavour == "plain":
        options |= {"SIMPLER_PYTHON": "ON", "Python_EXECUTABLE": str(tools / "python")}
    place = folder(flavour)
    fresh = [] if is_configured(place) else ["--fresh"]
    defined = [f"-D{name}={value}" for name, value in options.items()]
    run(tools / "cmake", "-S", ROOT / "cpp", "-B", place, "-G", "Ninja", "--log-level=WARNING", *fresh, *defined)
    (place / CONFIGURED).write_text(configuration())
    chosen = ["--target", *targets] if targets else []
    run(tools / "cmake", "--build", place, *chosen)
    return place


def module() -> Path:
    """The file that this Python imports from the checkout; one for all Pythons where the ABI is stable (3.12)."""
    name = "_native.abi3.so" if sys.version_info >= (3, 12) else f"_native.{_abi()}.so"
    return PACKAGE / "src" / "simpler_runtime" / name


def build_module() -> None:
    """Build the Python module and put it where the checkout's package is imported from, at once or not at all."""
    target = module()
    built = build("plain", "_native", tests=False) / "bindings" / target.name
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copy2(built, fresh)
    fresh.replace(target)


def test(flavour: str) -> None:
    """Run a flavour's tests, which must be built."""
    options = ("--output-on-failure", "--no-tests=error", "-j", str(os.cpu_count() or 1))
    run(build_tools() / "ctest", "--test-dir", folder(flavour), *options)
