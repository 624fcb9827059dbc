"""Runs a command and takes in the processes that it leaves behind, as the first process of a system does.

    python tools/orphans.py COMMAND...

Its exit status is the command's. Without it nobody would bury them: a test that waits for a process to be gone would
see it for ever.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys

PR_SET_CHILD_SUBREAPER = 36


def adopt() -> None:
    """Make this process the parent of what its children leave behind, so that nothing escapes it (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def run(command: list[str]) -> int:
    """The exit status of a command, taken in together with every orphan that was adopted in the meantime."""
    adopt()
    process = subprocess.Popen(command)
    while True:
        ended, status = os.waitpid(-1, 0)
        if ended == process.pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return process.returncode


if __name__ == "__main__":
    code = run(sys.argv[1:])
    sys.exit(code if code >= 0 else 128 - code)
