"""Runs a command and takes in the processes that it leaves behind, as the first process of a system does.

    python tools/orphans.py COMMAND...

Its exit status is the command's. Without it nobody would bury them: a test that waits for a process to be gone would
see it for ever. And it ends all of it when it is asked to, or when the process that started it is gone, killed even.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from types import FrameType

import psutil

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def adopt() -> None:
    """Make this process the parent of what its children leave behind, so that nothing escapes it (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_with_parent() -> None:
    """Have this process asked to end when the one that started it does (Linux)."""
    if sys.platform == "linux":
        parent = os.getppid()
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # too late for that
            raise SystemExit(128 + signal.SIGTERM)


def kill_descendants() -> None:
    """End everything below this process: first asked, as compilers then remove what they have half written."""
    below = psutil.Process().children(recursive=True)
    for process in below:
        try:
            process.terminate()
        except psutil.NoSuchProcess:
            continue  # ended by itself in the meantime
    psutil.wait_procs(below, timeout=2)
    for _ in range(10):  # a process may start another while the list is read
        below = psutil.Process().children(recursive=True)
        if not below:
            return
        for process in below:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue  # ended by itself in the meantime
        psutil.wait_procs(below, timeout=10)


def asked(signum: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)


def run(command: list[str]) -> int:
    """The exit status of a command, taken in together with every orphan that was adopted in the meantime."""
    signal.signal(signal.SIGTERM, asked)
    adopt()
    end_with_parent()
    try:
        process = subprocess.Popen(command)
        while True:
            ended, status = os.waitpid(-1, 0)
            if ended == process.pid:
                process.returncode = os.waitstatus_to_exitcode(status)
                return process.returncode
    except SystemExit:
        kill_descendants()
        raise


if __name__ == "__main__":
    code = run(sys.argv[1:])
    sys.exit(code if code >= 0 else 128 - code)
