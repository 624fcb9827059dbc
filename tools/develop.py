"""Installs packages of the workspace, editable, into the environment this runs in; builds only what changed.

    python tools/develop.py simpler-ipc simpler-runtime simpler-core

Python sources of an editable package are used where they are; what is compiled (Rust, C++) is built again when one of
its sources changed since. Hatch's own workspace members would neither notice that nor show what is being built.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import toolchain

ROOT = Path(__file__).resolve().parent.parent
STAMPS = Path(sys.prefix) / "workspace-stamps.json"

# What a package is compiled from, besides its own pyproject.toml and CMakeLists.txt, and the module that comes of it.
COMPILED = {
    "simpler-ipc": ("crates", "Rust", "simpler_ipc._native"),
    "simpler-runtime": ("cpp", "C++", "simpler_runtime._native"),
}
APART = {"target", "build", "tests", "fuzz"}  # what is generated, and what is not in the package


def sources(package: str) -> list[Path]:
    """The files whose change asks for a new installation of a package."""
    found = [
        path for name in ("pyproject.toml", "CMakeLists.txt") if (path := ROOT / "packages" / package / name).exists()
    ]
    found.append(ROOT / "crates" / "Cargo.toml")  # the version
    if package in COMPILED:
        for folder, below, files in os.walk(ROOT / COMPILED[package][0]):
            below[:] = [name for name in below if name not in APART]
            found += [Path(folder) / name for name in files]
    return sorted(found)


def stamp(package: str) -> str:
    digest = hashlib.sha256(sys.executable.encode())
    for path in sources(package):
        digest.update(f"{path.relative_to(ROOT)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


def is_there(package: str) -> bool:
    """Whether what was compiled is still where it was put: a cleaned checkout loses it, and the stamps don't know."""
    if package not in COMPILED:
        return True
    try:
        importlib.import_module(COMPILED[package][2])
    except ImportError:
        return False
    return True


def install(packages: list[str]) -> int:
    """Have uv install the packages; its exit status."""
    uv = os.environ.get("HATCH_UV") or shutil.which("uv")
    if uv is None:
        print("missing: uv. Install it with:\n    pip install uv", file=sys.stderr)
        return 1
    compiled = [f"{package} ({COMPILED[package][1]})" for package in packages if package in COMPILED]
    if compiled:
        print(f"building {' and '.join(compiled)}: a minute or two the first time", flush=True)
    command = [uv, "pip", "install", "--python", sys.executable]
    for package in packages:
        command += ["--reinstall-package", package, "--editable", str(ROOT / "packages" / package)]
    start = time.monotonic()
    code = subprocess.run(command).returncode
    if code == 0:
        print(f"installed {', '.join(packages)} in {time.monotonic() - start:.0f} s", flush=True)
    return code


def main(packages: list[str]) -> int:
    known = json.loads(STAMPS.read_text()) if STAMPS.exists() else {}
    fresh = {package: stamp(package) for package in packages}
    changed = [package for package in packages if known.get(package) != fresh[package] or not is_there(package)]
    if not changed:
        return 0
    if any(package in COMPILED for package in changed):
        lines = toolchain.missing(toolchain.BUILD)
        if lines:
            print("\n".join(lines), file=sys.stderr)
            return 1
    code = install(changed)
    if code == 0:
        STAMPS.write_text(json.dumps(known | fresh))
    return code


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
