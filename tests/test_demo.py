"""The main job, the way a user starts it."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
DIGITS = ROOT / "examples" / "digits" / "digits.py"
PYPTO = Path(sys.executable).with_name("pypto")


@pytest.mark.parametrize("command", [[DIGITS], [PYPTO, "run", DIGITS]], ids=["python", "pypto run"])
def test_the_main_job_recognises_as_many_digits_as_numpy(start: Callable, command: list[str | Path]) -> None:
    program = start(*command)
    output = program.process.stdout.read()
    assert program.process.wait() == 0, output
    accuracies = re.findall(r"([\d.]+)% \(([\d,]+) correct\)", output)
    assert len(accuracies) == 2, output
    assert accuracies[0] == accuracies[1]
    assert float(accuracies[0][0]) > 95
    for row in ("max abs difference", "compile", "first run", "repeated run"):
        assert row in output
    assert program.wait_gone() == []


def test_the_main_job_does_not_import_torch(start: Callable) -> None:
    program = start("-c", f"import runpy, sys; runpy.run_path({str(DIGITS)!r}); print('torch' in sys.modules)")
    assert program.process.stdout.read() == "False\n"


def test_ctrl_c_ends_the_main_job_while_it_compiles(start: Callable, tmp_path: Path) -> None:
    program = start(DIGITS, SIMPLER_CACHE_DIR=str(tmp_path / "empty"))
    # It runs when a compiler or a worker does: anything below it.
    while len(program.family()) < 2:
        assert program.process.poll() is None, program.process.stdout.read()
    os.killpg(program.process.pid, signal.SIGINT)
    assert program.wait_gone() == []
    assert program.process.wait() != 0
