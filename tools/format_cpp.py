"""Formats the C++ sources with clang-format; `--check` only says which files differ."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: list[str]) -> int:
    files = sorted(path for ending in ("h", "cpp") for path in (ROOT / "cpp").rglob(f"*.{ending}"))
    mode = ["--dry-run", "--Werror"] if "--check" in arguments else ["-i"]
    return subprocess.run(["clang-format", *mode, *map(str, files)]).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
