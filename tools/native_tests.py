"""Builds and runs the C++ tests: as they are shipped, under AddressSanitizer and UBSan, and under ThreadSanitizer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VARIANTS = {"plain": "", "address": "address,undefined", "thread": "thread"}


def run_variant(name: str, sanitizers: str) -> None:
    """Configure, build and run one variant in `build/cpp/<name>`; raises CalledProcessError when a step fails."""
    print(f"C++ tests, {name}", flush=True)
    build = ROOT / "build" / "cpp" / name
    options = ["-G", "Ninja", "-DSIMPLER_TESTS=ON", f"-DSIMPLER_SANITIZE={sanitizers}"]
    configure = ["cmake", "-S", ROOT / "cpp", "-B", build, *options]
    subprocess.run(configure, check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", build], check=True)
    subprocess.run(["ctest", "--test-dir", build, "--output-on-failure", "-j", str(os.cpu_count() or 1)], check=True)


def main(names: list[str]) -> int:
    for name in names or VARIANTS:
        try:
            run_variant(name, VARIANTS[name])
        except subprocess.CalledProcessError as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
