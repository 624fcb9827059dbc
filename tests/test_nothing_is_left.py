"""However a program ends, nothing of it stays behind: no process, no shared memory, no file in the temporary folder."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

# A program on two chips that says when it runs, and then runs until it is ended.
ENDLESS = """
import numpy as np
import pypto.language as pl
from pypto import ir
from pypto.ir.distributed_compiled_program import DistributedConfig


@pl.program
class Add:
    @pl.function(type=pl.FunctionType.InCore)
    def tile_add(self, a: pl.Tensor[[64, 64], pl.FP32], f: pl.Out[pl.Tensor[[64, 64], pl.FP32]]):
        return pl.store(pl.add(pl.load(a, [0, 0], [64, 64]), 1.0), [0, 0], f)

    @pl.function(type=pl.FunctionType.Orchestration)
    def chip_orch(self, a, f):
        return self.tile_add(a, f)

    @pl.function(level=pl.Level.HOST, role=pl.Role.Worker)
    def look(self, f: pl.Tensor[[64, 64], pl.FP32]):
        assert f[0, 0] == 2.0

    @pl.function(level=pl.Level.HOST, role=pl.Role.Orchestrator)
    def host_orch(self, a, f):
        out = self.chip_orch(a, f)
        self.look(out)
        return out


if __name__ == "__main__":
    compiled = ir.compile(
        Add, platform="a2a3sim", distributed_config=DistributedConfig(device_ids=[0, 1], num_sub_workers=1)
    )
    a = np.ones((64, 64), np.float32)
    compiled(a)
    print("running", flush=True)
    while True:
        compiled(a)
"""


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    path = tmp_path / "endless.py"
    path.write_text(ENDLESS)
    return path


def shared_memory() -> set[str]:
    """Names of shared memory, without those that the tests of simpler-ipc give: they may run at the same time."""
    return {name for name in os.listdir("/dev/shm") if not re.match(r"simpler-ipc\.\d+\.pytest-", name)}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_running_program_that_is_ended_leaves_nothing(start: Callable, endless: Path, number: signal.Signals) -> None:
    before = shared_memory()
    program = start(endless)
    assert program.process.stdout.readline() == "running\n"
    family = program.family()
    assert len(family) == 4  # itself, two chips, one SubWorker
    program.process.send_signal(number)
    assert program.wait_gone() == []
    assert program.process.wait() != 0
    assert shared_memory() <= before


def test_ctrl_c_in_a_terminal_reaches_the_whole_group_and_ends_it_with_one_keyboard_interrupt(
    start: Callable, endless: Path
) -> None:
    program = start(endless)
    assert program.process.stdout.readline() == "running\n"
    os.killpg(program.process.pid, signal.SIGINT)
    assert program.wait_gone() == []
    output = program.process.stdout.read()
    assert output.count("KeyboardInterrupt") == 1, output


def test_a_killed_chip_ends_the_call_with_an_error_that_names_it(start: Callable, endless: Path) -> None:
    program = start(endless)
    assert program.process.stdout.readline() == "running\n"
    while program.process.poll() is None:  # who dies between two calls is replaced, so some die until it is within one
        for process in program.family():
            if process.pid != program.process.pid:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
    assert program.wait_gone() == []
    output = program.process.stdout.read()
    assert "signal 9" in output or "SIGKILL" in output, output
    assert "simpler" in output


def test_children_of_an_idle_program_use_no_cpu(start: Callable, tmp_path: Path, endless: Path) -> None:
    idle = tmp_path / "idle.py"
    idle.write_text(endless.read_text().split("    while True:")[0] + "    input()\n")
    program = start(idle)
    assert program.process.stdout.readline() == "running\n"
    children = [process for process in program.family() if process.pid != program.process.pid]
    assert len(children) == 3

    def used() -> float:
        return sum(child.cpu_times().user + child.cpu_times().system for child in children)

    before = used()
    with pytest.raises(subprocess.TimeoutExpired):  # the time that is measured: the program waits for input
        program.process.wait(2.0)
    assert used() - before <= 0.01 * 2.0
