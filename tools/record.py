"""Records which checks passed on which commit, for the release command to find.

    python tools/record.py NAME      `NAME` has passed on the commit that is checked out

Nothing is recorded where the working tree differs from its commit: what passed was something else.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECORDS = ROOT / "build" / "records"


def git(*arguments: str) -> str:
    """What git says of this checkout; raises CalledProcessError where there is no repository."""
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def commit() -> str | None:
    """The commit that the working tree is at; None if the tree differs from it, or there is no repository."""
    try:
        return None if git("status", "--porcelain") else git("rev-parse", "HEAD")
    except (OSError, subprocess.CalledProcessError):
        return None


def passed(name: str, began: str | None, files: dict[str, str] | None = None) -> bool:
    """Record that `name`, which began at a commit, has passed, with the digests of files it made.

    False, and whatever was recorded before is gone, where the working tree was or is at another state.
    """
    path = RECORDS / f"{name}.json"
    path.unlink(missing_ok=True)
    if began is None or commit() != began:
        print(f"{name}: passed, but not recorded for a release: the working tree differs from its commit", flush=True)
        return False
    RECORDS.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"commit": began, "files": files or {}}, indent=1) + "\n")
    return True


def of(name: str, at: str) -> dict[str, str] | None:
    """The files recorded when `name` passed at this commit; None if it did not, or not there."""
    path = RECORDS / f"{name}.json"
    if not path.exists():
        return None
    record = json.loads(path.read_text())
    return record["files"] if record["commit"] == at else None


if __name__ == "__main__":
    passed(sys.argv[1], commit())
