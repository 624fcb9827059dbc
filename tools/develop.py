"""Installs packages of the workspace, editable, into the environment this runs in; builds only what changed.

    python tools/develop.py simpler-ipc simpler-runtime simpler-core

Python sources of an editable package are used where they are, and so is what is compiled (Rust, C++): it lies beside
them, built once for all environments of this checkout. Hatch's own workspace members would build it for each of them,
and show nothing of it. Commands that do this at the same time take turns.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import cpp_build
import toolchain
from turns import HELD, turn

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ROOT / "packages"
BUILT = ROOT / "build" / "built.json"
INSTALLED = Path(sys.prefix) / "workspace-installed.json"

# What a compiled package is made from, besides its own pyproject.toml, and in what language.
COMPILED = {"simpler-ipc": ("crates", "Rust"), "simpler-runtime": ("cpp", "C++")}
APART = {"target", "build", "tests", "benches", "examples", "fuzz"}  # generated, or not in the package


def _digest(paths: Iterable[Path], *more: str) -> str:
    """Of the names and contents of those paths that are files, and of more words."""
    digest = hashlib.sha256("\n".join(more).encode())
    for path in sorted(paths):
        try:
            content = path.read_bytes()
        except (FileNotFoundError, IsADirectoryError):  # an editor's temporary file, or a link of it to nowhere
            continue
        digest.update(f"{path.relative_to(ROOT)}\n".encode() + content)
    return digest.hexdigest()


def metadata(package: str) -> str:
    """A digest of what an installation records: its dependencies, commands and version."""
    tools = (ROOT / "tools" / name for name in ("develop.py", "sibling_pins.py"))
    return _digest([PACKAGES / package / "pyproject.toml", ROOT / "crates" / "Cargo.toml", *tools])


def sources(package: str) -> str:
    """A digest of what a package is compiled from, and with."""
    found = [PACKAGES / package / "pyproject.toml", ROOT / "tools" / "cpp_build.py"]
    for folder, below, files in os.walk(ROOT / COMPILED[package][0]):
        below[:] = [name for name in below if name not in APART]
        found += [Path(folder) / name for name in files]
    return _digest(found, toolchain.versions())


def read(path: Path) -> dict[str, str]:
    try:
        return dict(json.loads(path.read_text()))
    except (OSError, ValueError, TypeError):  # not there yet, or its writer was killed: everything is done anew
        return {}


def module(package: str) -> Path:
    """The compiled module of a package, which all environments of this Python import; or of all Pythons: one ABI."""
    if package == "simpler-ipc":
        return PACKAGES / "simpler-ipc" / "src" / "simpler_ipc" / "_native.abi3.so"
    return cpp_build.module()


def built_as(package: str, made_from: str) -> dict[str, str]:
    """The record of a module: what it was made from, and the very file, which other commands may replace."""
    path = module(package)
    return {str(path): f"{made_from} {_digest([path])}"}


def is_built(package: str) -> bool:
    """Whether what was compiled is there, of these sources: a cleaned checkout loses it."""
    return module(package).exists() and built_as(package, sources(package)).items() <= read(BUILT).items()


def is_installed(package: str) -> bool:
    """Whether this environment has the package, from this checkout: somebody may have taken it out by hand, or put a
    wheel in its place."""
    try:
        origin = importlib.metadata.distribution(package).read_text("direct_url.json")
        where = dict(json.loads(origin or "{}"))
    except (importlib.metadata.PackageNotFoundError, ValueError, TypeError):
        return False
    editable = dict(where.get("dir_info", {})).get("editable", False)
    return bool(editable) and where.get("url") == (PACKAGES / package).as_uri()


def install(packages: list[str]) -> None:
    """Have uv install the packages; raises CalledProcessError. simpler-ipc is compiled on the way, by its backend."""
    command = [cpp_build.uv(), "pip", "install", "--quiet", "--python", sys.executable]
    for package in packages:
        command += ["--reinstall-package", package, "--editable", str(PACKAGES / package)]
    # The build hook of simpler-runtime would compile it once more, for this environment alone; siblings are not folders
    # to be built, as for others (sibling_pins.py), but those that are installed here.
    environment = os.environ | {"HATCH_BUILD_NO_HOOKS": "true", "SIMPLER_SIBLINGS": "pinned"}
    subprocess.run(command, check=True, env=environment, pass_fds=HELD)


def synchronise(packages: list[str]) -> None:
    """Build and install what changed."""
    unbuilt = [package for package in packages if package in COMPILED and not is_built(package)]
    known = read(INSTALLED)
    wanted = {package: metadata(package) for package in packages}
    stale = [name for name in packages if known.get(name) != wanted[name] or not is_installed(name)]
    if "simpler-ipc" in unbuilt and "simpler-ipc" not in stale:
        stale.append("simpler-ipc")
    if not unbuilt and not stale:
        return
    if unbuilt:
        lines = toolchain.missing(toolchain.BUILD)
        if lines:
            raise SystemExit("\n".join(lines))
        named = " and ".join(f"{package} ({COMPILED[package][1]})" for package in unbuilt)
        print(f"building {named}: a minute or so the first time", flush=True)
    start = time.monotonic()
    made_from = {package: sources(package) for package in unbuilt}  # what changes meanwhile is built next time
    if "simpler-runtime" in unbuilt:
        cpp_build.build_module()
    if stale:
        install(stale)
        INSTALLED.write_text(json.dumps(known | wanted))
    for package in unbuilt:
        BUILT.write_text(json.dumps(read(BUILT) | built_as(package, made_from[package])))
    done = [f"built {', '.join(unbuilt)}"] * bool(unbuilt) + [f"installed {', '.join(stale)}"] * bool(stale)
    print(f"{'; '.join(done)}: {time.monotonic() - start:.0f} s", flush=True)


def main(packages: list[str]) -> int:
    try:
        with turn(f"develop.py {' '.join(packages)}"):
            synchronise(packages)
    except subprocess.CalledProcessError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
