"""Runs every step of lint, and records that all passed, for the release command to find."""

from __future__ import annotations

import shutil
import subprocess
import sys

import record

STEPS = ("develop", "lint", "format", "types")
"""Scripts of the environment `lint`, in the order in which they run."""


def main() -> int:
    """The exit status of the first step that failed, 0 if all passed."""
    hatch = shutil.which("hatch")
    if hatch is None:
        print("missing: hatch. Install it with:\n    pip install hatch", file=sys.stderr)
        return 1
    record.forget("lint")
    began = record.commit()
    for step in STEPS:
        code = subprocess.run([hatch, "run", f"lint:{step}"], cwd=record.ROOT).returncode
        if code != 0:
            return code
    record.passed("lint", began)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)
