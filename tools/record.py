"""Records which checks passed on which commit, for the release command to find.

A check forgets its record when it begins: one that is interrupted, or fails, has none. Nothing is recorded where the
working tree differs from its commit: what passed was something else.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RECORDS = ROOT / "build" / "records"


@dataclass(frozen=True)
class Record:
    """What passed: at which commit, the digests of the files that it made, and what of it could not be run there."""

    commit: str
    files: dict[str, str] = field(default_factory=dict)
    not_run: list[str] = field(default_factory=list)


def git(*arguments: str) -> str:
    """What git says of this checkout; raises CalledProcessError where there is no repository."""
    return subprocess.run(["git", *arguments], cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def commit() -> str | None:
    """The commit that the working tree is at; None if the tree differs from it, or there is no repository."""
    try:
        return None if git("status", "--porcelain", "--untracked-files=all") else git("rev-parse", "HEAD")
    except (OSError, subprocess.CalledProcessError):
        return None


def forget(name: str) -> None:
    """Remove what was recorded of `name`, which begins anew."""
    (RECORDS / f"{name}.json").unlink(missing_ok=True)


def passed(name: str, began: str | None, files: dict[str, str] | None = None, not_run: Iterable[str] = ()) -> bool:
    """Record that `name`, which began at a commit, has passed, with the files it made and what it could not run.

    False, and whatever was recorded before is gone, where the working tree was or is at another state.
    """
    forget(name)
    if began is None or commit() != began:
        print(f"{name}: passed, but not recorded for a release: the working tree differs from its commit", flush=True)
        return False
    RECORDS.mkdir(parents=True, exist_ok=True)
    record = Record(began, files or {}, list(not_run))
    (RECORDS / f"{name}.json").write_text(json.dumps(asdict(record), indent=1) + "\n")
    return True


def of(name: str, at: str | None) -> Record | None:
    """What was recorded when `name` passed at this commit; None if it did not, not there, or the record is broken."""
    try:
        record = Record(**json.loads((RECORDS / f"{name}.json").read_text()))
    except (OSError, ValueError, TypeError):
        return None
    return record if record.commit == at else None


if __name__ == "__main__":
    sys.exit("a module of the other tools")
