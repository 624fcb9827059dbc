"""Runs the tests of the native code.

python tools/native_tests.py rust    unit and property tests; every interleaving of the lock-free parts (loom)
python tools/native_tests.py cpp     as shipped, under AddressSanitizer with UBSan, and under ThreadSanitizer
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import toolchain

ROOT = Path(__file__).resolve().parent.parent
MANIFEST = ROOT / "crates" / "Cargo.toml"
SANITIZERS = {"plain": "", "address": "address,undefined", "thread": "thread"}


def run(*command: str | Path, **environment: str) -> None:
    """Run a command to its end; raises CalledProcessError when it fails."""
    subprocess.run(list(command), check=True, env=os.environ | environment)


def rust() -> None:
    run("cargo", "test", "--manifest-path", MANIFEST)
    print("Rust tests under loom", flush=True)
    # A target folder of its own: other flags would have everything built again, each time.
    loom = {"RUSTFLAGS": "--cfg loom", "CARGO_TARGET_DIR": str(ROOT / "crates" / "target" / "loom")}
    run("cargo", "test", "--release", "--manifest-path", MANIFEST, "-p", "simpler-ipc", "--test", "loom", **loom)


def cpp() -> None:
    missing = toolchain.missing(toolchain.TEST)
    if missing:
        raise SystemExit("\n".join(missing))
    for name, sanitizers in SANITIZERS.items():
        print(f"C++ tests, {name}", flush=True)
        build = ROOT / "build" / "cpp" / name
        options = ["-G", "Ninja", "-DSIMPLER_TESTS=ON", f"-DSIMPLER_SANITIZE={sanitizers}"]
        run("cmake", "-S", ROOT / "cpp", "-B", build, *options)
        run("cmake", "--build", build)
        run("ctest", "--test-dir", build, "--output-on-failure", "-j", str(os.cpu_count() or 1))


SUITES: dict[str, Callable[[], None]] = {"rust": rust, "cpp": cpp}


def main(names: list[str]) -> int:
    try:
        for name in names or SUITES:
            SUITES[name]()
    except subprocess.CalledProcessError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
