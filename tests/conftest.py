"""What the tests of the whole house share."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))  # the workspace's commands are tested here too
MARK = "SIMPLER_TEST_MARK"


class Program:
    """A Python program in a session of its own, as a terminal would start it, and every process it makes."""

    def __init__(self, *arguments: str | Path, **variables: str) -> None:
        self._mark = uuid.uuid4().hex
        environment = os.environ | {MARK: self._mark, "PYTHONUNBUFFERED": "1"} | variables
        self.process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def family(self) -> list[psutil.Process]:
        """Every living process that carries this program's mark, itself included."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.status() != psutil.STATUS_ZOMBIE and process.environ().get(MARK) == self._mark:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue  # it ended while the list was read, or is not ours
        return found

    def wait_gone(self, limit: float = 30) -> list[psutil.Process]:
        """Those of the family that are still there after `limit` seconds."""
        try:
            self.process.wait(limit)  # before psutil looks: it would take the exit status
        except subprocess.TimeoutExpired:
            return self.family()
        deadline = time.monotonic() + limit
        while (alive := self.family()) and time.monotonic() < deadline:
            psutil.wait_procs(alive, timeout=0.1)  # in steps: what nobody has buried yet is gone all the same
        return alive


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Starts programs; whatever is left of them is killed at the end of the test."""
    programs: list[Program] = []

    def start(*arguments: str | Path, **variables: str) -> Program:
        # Of its own: compiled programs. Kernels are shared, unless a test has something against it.
        programs.append(Program(*arguments, **{"XDG_CACHE_HOME": str(tmp_path / "cache")} | variables))
        return programs[-1]

    yield start
    for program in programs:
        for process in program.family():
            with contextlib.suppress(psutil.NoSuchProcess):  # children go as soon as their parent does
                process.kill()
        program.process.stdin.close()
        program.process.stdout.close()
        program.process.wait()
