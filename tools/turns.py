"""Commands that build in one checkout take turns: what one builds, the other is about to use.

Runs with nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

LOCK = Path(__file__).resolve().parent.parent / "build" / "turn.lock"
LIMIT_S = 3600.0
"""Whoever builds for longer hangs: a build takes some minutes."""
HELD: list[int] = []
"""The locks of this process's turns, as descriptors. A build is started with them (`pass_fds`): should this process be
killed, the turn lasts until the build has ended, too."""


@contextlib.contextmanager
def turn(what: str, lock: Path = LOCK) -> Iterator[None]:
    """Build while no other command of this checkout does; say who is waited for.

    Args:
        what: what is done, as those who wait read it.

    Raises:
        SystemExit: another command has had its turn for more than LIMIT_S seconds.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a+") as file:
        _wait(file.fileno(), lock)
        file.truncate(0)
        file.write(f"{what} (pid {os.getpid()})")
        file.flush()
        HELD.append(file.fileno())
        try:
            yield
        finally:
            HELD.remove(file.fileno())
            file.truncate(0)


def _wait(descriptor: int, lock: Path) -> None:
    deadline = time.monotonic() + LIMIT_S
    said = ""
    while True:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        holder = lock.read_text() or "another command"
        if holder != said:
            print(f"waiting for {holder}, which builds in this checkout", flush=True)
            said = holder
        if time.monotonic() > deadline:
            raise SystemExit(f"{holder} has been building for an hour: end it, or remove {lock}")
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit("a module of the other tools")
