"""Runs every package's tests, each in its own environment, and what crosses packages last.

Ctrl-C ends all of it at once: whatever the running suite started is killed, wherever it hangs in the process tree.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

import toolchain

SUITES = ("ipc", "runtime", "core", "lang", "chia", "house")
PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """Make this process the parent of what its children leave behind, so that nothing escapes `descendants` (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def descendants() -> list[int]:
    """The pids of all processes below this one, children before grandchildren."""
    listing = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    children: dict[int, list[int]] = {}
    for line in listing.splitlines():
        pid, parent = map(int, line.split())
        children.setdefault(parent, []).append(pid)
    found: list[int] = []
    queue = [os.getpid()]
    while queue:
        below = children.get(queue.pop(), [])
        found += below
        queue += below
    return found


def kill_descendants() -> None:
    """Kill everything below this process; repeated, as a process may start another while the list is read."""
    for _ in range(10):
        pids = descendants()
        killed = 0
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
                killed += 1
            except ProcessLookupError:
                continue  # ended by itself in the meantime (the `ps` above always has)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            return
        if not killed:
            return


def wait(pid: int) -> int:
    """The exit status of a child, taken in together with every orphan that was adopted in the meantime."""
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == pid:
            return os.waitstatus_to_exitcode(status)


def interrupted(signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(signum).name)


def main(arguments: list[str]) -> int:
    lines = toolchain.missing(toolchain.BUILD + toolchain.TEST)
    if lines:
        print("\n".join(lines), file=sys.stderr)
        return 1
    hatch = shutil.which("hatch")
    if hatch is None:
        print("missing: hatch. Install it with:\n    pip install hatch", file=sys.stderr)
        return 1
    adopt_orphans()
    signal.signal(signal.SIGTERM, interrupted)
    root = Path(__file__).resolve().parent.parent
    # The suites' environments are others than the one this runs in.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HATCH_ENV")}
    results: list[tuple[str, int, float]] = []
    try:
        for number, suite in enumerate(SUITES, 1):
            print(f"\n━━ {number}/{len(SUITES)} {suite}", flush=True)
            start = time.monotonic()
            # A session of its own: Ctrl-C comes here alone, and what is below is killed, not asked.
            process = subprocess.Popen(
                [hatch, "run", f"{suite}:test", *arguments], cwd=root, env=environment, start_new_session=True
            )
            code = wait(process.pid)
            results.append((suite, code, time.monotonic() - start))
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    finally:
        kill_descendants()
    print("\n━━ summary")
    for suite, code, seconds in results:
        print(f"{'passed' if code == 0 else f'FAILED ({code})':>12}  {suite:8} {seconds:6.0f} s")
    failed = sum(code != 0 for _, code, _ in results)
    print(f"suites: {len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
