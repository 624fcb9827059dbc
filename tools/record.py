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


def passed(name: str, files: dict[str, str] | None = None, *, at: str | None = None) -> bool:
    """Record that `name` passed `at` a commit (the one that is checked out), with the digests of files it made.

    False, and nothing is recorded, where the working tree is at no commit.
    """
    at = at or commit()
    path = RECORDS / f"{name}.json"
    if at is None:
        path.unlink(missing_ok=True)
        return False
    RECORDS.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"commit": at, "files": files or {}}, indent=1) + "\n")
    return True


def of(name: str, at: str) -> dict[str, str] | None:
    """The files recorded when `name` passed at this commit; None if it did not, or not there."""
    path = RECORDS / f"{name}.json"
    if not path.exists():
        return None
    record = json.loads(path.read_text())
    return record["files"] if record["commit"] == at else None


if __name__ == "__main__":
    if not passed(sys.argv[1]):
        print(f"{sys.argv[1]}: not recorded for a release, as the working tree differs from its commit")
