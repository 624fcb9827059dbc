"""Builds what is published, and proves it.

`wheels`  fills dist/ with every package's sdist and wheels, for each Python found here, and dist/constraints.txt;
          installs every package in an environment of each of those Pythons, and runs a smoke test of it.
`check`   only the installations, from what lies in dist/.
`sdists`  all of it with one wheel a package and this Python alone, in a temporary folder.

Wheels are built from the sdists, outside the checkout: so an sdist is known to build, and nothing is written where
another command works. While ours are installed, an index offers strangers by our names, at a higher version.
dist/ changes only when all of it is made and proven: whatever ends `wheels` before leaves it as it was.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

import constraints
import contents
import pythons
import record
import strangers
from turns import turn

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
FRESH = ROOT / "build" / "dist"  # what becomes dist/
TURN = ROOT / "build" / "wheels.lock"  # of its own: nothing here is built where another command builds
SMOKE = ROOT / "tools" / "smoke"
LIMIT_S = 1800  # what takes longer hangs: the slowest, a build of the C++ module, takes some minutes
GRACE_S = 10  # for what is told to end to remove its temporary files


@dataclass(frozen=True)
class Package:
    """One distribution: what it imports as, the siblings its installation brings, and who builds its wheels."""

    name: str
    module: str
    siblings: frozenset[str] = frozenset()
    compiled: bool = False
    stable_since: str | None = None  # from this Python on, one wheel is for all

    @property
    def smoke(self) -> Path:
        """A few lines that use it, not merely import it."""
        return SMOKE / f"use_{self.module}.py"


CORE = frozenset({"simpler-ipc", "simpler-runtime"})
# In the order in which they stand on each other.
PACKAGES = (
    Package("simpler-ipc", "simpler_ipc", compiled=True, stable_since="3.11"),
    Package("simpler-runtime", "simpler_runtime", compiled=True, stable_since="3.12"),
    Package("simpler-core", "simpler", CORE),
    Package("pypto-lang", "pypto", CORE | {"simpler-core"}),
    Package("chia-flow", "chia"),
)


def run(*command: str | Path, cwd: Path | None = None, variables: dict[str, str] | None = None) -> str:
    """Run a command, with more variables; its output, or SystemExit with that output when it fails."""
    environment = os.environ | {"SIMPLER_SIBLINGS": "pinned"} | (variables or {})
    words = [str(part) for part in command]
    # A process group of its own, so that the compilers that it starts end with it.
    with subprocess.Popen(
        words,
        cwd=cwd,
        env=environment,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,
    ) as process:
        try:
            out, err = process.communicate(timeout=LIMIT_S)
        except subprocess.TimeoutExpired as error:
            end(process)
            raise SystemExit(f"{shlex.join(words)}\nhangs: it was ended after {LIMIT_S} s") from error
        except BaseException:
            end(process)
            raise
    if process.returncode != 0:
        raise SystemExit(f"{shlex.join(words)}\n{out}{err}\nexit status {process.returncode}")
    return out


def end(leader: subprocess.Popen[str]) -> None:
    """End a process and all of its group: those that don't end when told to are killed."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):  # nobody of the group is left
            os.killpg(leader.pid, how)
        with contextlib.suppress(subprocess.TimeoutExpired):
            leader.wait(GRACE_S)


def interrupted(number_: int, frame: FrameType | None) -> NoReturn:
    """SIGTERM ends this as Ctrl-C does: what was started is ended, temporary folders are removed."""
    raise KeyboardInterrupt


def one(folder: Path, pattern: str) -> Path:
    found = list(folder.glob(pattern))
    if len(found) != 1:
        raise SystemExit(f"{folder}: expected one {pattern}, found {[path.name for path in found]}")
    return found[0]


def builders(package: Package, interpreters: dict[str, Path]) -> dict[str, Path]:
    """The Pythons, of those given, that a package's wheels are built with."""
    if not package.compiled:
        return dict(list(interpreters.items())[:1])
    chosen: dict[str, Path] = {}
    for version, python in interpreters.items():
        if package.stable_since is not None and number(version) >= number(package.stable_since):
            return chosen | {version: python}
        chosen[version] = python
    return chosen


def number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def oldest_glibc() -> dict[str, str]:
    """What has maturin link Rust against the oldest glibc it knows, with zig: what was built here runs anywhere then.

    C++ is left to the machine's own compiler: zig brings another C++ library than the one that kernels use.
    """
    zig = importlib.util.find_spec("ziglang")
    if zig is None or zig.origin is None:
        raise SystemExit("missing: zig. Install it with:\n    pip install ziglang")
    return {
        "CARGO_ZIGBUILD_ZIG_PATH": str(Path(zig.origin).with_name("zig")),
        "MATURIN_PEP517_ARGS": "--zig --compatibility manylinux2014",
    }


def build(
    package: Package, interpreters: dict[str, Path], into: Path, temporary: Path, variables: dict[str, str]
) -> None:
    """Put a package's sdist, and the wheels that are built from it, into a folder."""
    place = temporary / package.name
    run("uv", "build", "--sdist", "--out-dir", place, ROOT / "packages" / package.name)
    sdist = one(place, "*.tar.gz")
    shutil.copy(sdist, into)
    for version, python in builders(package, interpreters).items():
        source = place / version
        with tarfile.open(sdist) as archive:
            archive.extractall(source, filter="data")
        built = place / f"wheel-{version}"
        run("uv", "build", "--wheel", "--python", python, "--out-dir", built, one(source, "*"), variables=variables)
        if package.compiled:
            # The lowest glibc that what it calls is in; refuses what no manylinux allows.
            run(sys.executable, "-m", "auditwheel", "repair", "--wheel-dir", into, one(built, "*.whl"))
        else:
            shutil.copy(one(built, "*.whl"), into)


def fill(folder: Path, interpreters: dict[str, Path], variables: dict[str, str]) -> list[Path]:
    """Fill an empty folder with all distributions and constraints.txt; SystemExit names what is wrong with them.

    Wheels are built with `variables` in their environment.
    """
    with tempfile.TemporaryDirectory(prefix="distributions-") as temporary:
        for number_, package in enumerate(PACKAGES, 1):
            with_ = ", ".join(builders(package, interpreters))
            print(f"[{number_}/{len(PACKAGES)}] {package.name}: sdist, and from it wheels (Python {with_})", flush=True)
            build(package, interpreters, folder, Path(temporary), variables)
    files = sorted([*folder.glob("*.whl"), *folder.glob("*.tar.gz")])
    faults = [fault for file in files for fault in contents.faults(file)]
    if faults:
        raise SystemExit("\n".join(faults))
    run(sys.executable, "-m", "twine", "check", "--strict", *files)
    constraints.write(folder)
    return files


def installed(python: Path) -> dict[str, str]:
    listing = run("uv", "pip", "list", "--python", python, "--format", "freeze", "--exclude-editable")
    return dict(line.split("==") for line in listing.splitlines() if "==" in line)


INSTALLERS: dict[str, tuple[str, ...]] = {
    "uv": ("uv", "pip", "install", "--python", "{python}", "--index", "{index}"),
    "pip": (sys.executable, "-m", "pip", "--python", "{python}", "install", "--extra-index-url", "{index}"),
}


def check(package: Package, folder: Path, python: Path, installer: str, index: str) -> None:
    """Install a package from a folder into a new environment of a Python, and run its smoke test there.

    SystemExit says what went wrong: also if something else came than ours, though `index` offers it.
    """
    ours = one(folder, "simpler_core-*.whl").name.split("-")[1]
    with tempfile.TemporaryDirectory(prefix="installed-") as temporary:
        environment = Path(temporary) / "venv"
        there = environment / "bin" / "python"
        run("uv", "venv", "--python", python, environment)
        command = [part.format(python=there, index=index) for part in INSTALLERS[installer]]
        run(*command, "--constraint", folder / "constraints.txt", package.name)
        found = installed(there)
        brought = {name: found[name] for name in constraints.NAMES if name in found}
        expected = dict.fromkeys(package.siblings | {package.name}, ours)
        if brought != expected:
            raise SystemExit(f"{installer} install {package.name} with {python} brought {brought}, not {expected}")
        origin = f"import {package.module} as it; print(it.__version__, it.__file__)"
        said, file = run(there, "-c", origin, cwd=environment).split(maxsplit=1)
        if said != ours or not Path(file).is_relative_to(environment):
            raise SystemExit(f"{package.name} with {python} is {said} from {file}, not {ours} from {environment}")
        run(there, package.smoke, cwd=environment)


def check_all(folder: Path, interpreters: dict[str, Path]) -> int:
    """Check a folder's distributions on each Python, with uv, those that stand on others with pip, too.

    Returns how many installations that were.
    """
    count = 0
    with strangers.index(constraints.NAMES, [strangers.HIGHER]) as index:
        for version, python in interpreters.items():
            for package in PACKAGES:
                for installer in INSTALLERS if package.siblings else ("uv",):
                    print(f"    Python {version}, {installer}: {package.name}", flush=True)
                    check(package, folder, python, installer, index)
                    count += 1
    return count


def digests(files: Iterable[Path]) -> dict[str, str]:
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def not_run(interpreters: dict[str, Path]) -> list[str]:
    missing = [f"Python {wanted}: not on this machine" for wanted in pythons.WANTED if wanted not in interpreters]
    return [*missing, "free-threaded Pythons: no wheel is made for them"]


def closing(line: str, interpreters: dict[str, Path]) -> str:
    """The last lines of a command: what passed, then what could not be tried."""
    return "".join([line, *(f"\nnot run: {what}" for what in not_run(interpreters))])


@contextlib.contextmanager
def replacing(folder: Path, fresh: Path) -> Iterator[Path]:
    """Yield `fresh`, an empty folder on the disk of `folder`, and put it in its place at the end, if nothing fails."""
    old = fresh.with_name(f"{fresh.name}-before")
    if old.exists() and not folder.exists():  # one was killed between the two steps at the end
        old.rename(folder)
    for left in (fresh, old):  # by one that was killed
        shutil.rmtree(left, ignore_errors=True)
    fresh.mkdir(parents=True)
    try:
        yield fresh
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
        for left in (fresh, old):
            shutil.rmtree(left, ignore_errors=True)


def wheels() -> None:
    """Fill dist/ anew."""
    record.forget("wheels")
    began = record.commit()
    interpreters = pythons.found()
    with replacing(DIST, FRESH) as fresh:
        files = fill(fresh, interpreters, oldest_glibc())
        print("\n".join(f"    {file.name}" for file in files), flush=True)
        count = check_all(fresh, interpreters)
        made = digests(files)
    constraints.write(DIST)
    record.passed("wheels", began, made, not_run(interpreters))
    print(closing(f"wheels: {len(files)} files, {count} installations passed, 0 failed", interpreters))


def sdists() -> None:
    """From each sdist a wheel, from that wheel an environment, in it the smoke test."""
    with tempfile.TemporaryDirectory(prefix="sdists-") as temporary:
        folder = Path(temporary)
        version = pythons.version_of(Path(sys.executable))
        if version is None:
            raise SystemExit(f"{sys.executable} does not run")
        mine = {version: Path(sys.executable)}
        fill(folder, mine, {})  # as anybody builds them
        print(f"sdists: {check_all(folder, mine)} passed, 0 failed")


def check_dist() -> None:
    interpreters = pythons.found()
    constraints.write(DIST)
    print(closing(f"check: {check_all(DIST, interpreters)} installations passed, 0 failed", interpreters))


COMMANDS = {"wheels": wheels, "check": check_dist, "sdists": sdists}


def main(name: str) -> int:
    signal.signal(signal.SIGTERM, interrupted)
    try:
        with turn(f"distributions.py {name}", TURN):
            COMMANDS[name]()
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
