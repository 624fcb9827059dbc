"""The command line, as a user types it."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pypto
import pytest

PROGRAM = """
import numpy as np
import pypto.language as pl
from pypto import ir
from pypto.ir.distributed_compiled_program import DistributedConfig

Matrix = pl.Tensor[[8, 16], pl.FP32]


@pl.program
class Double:
    @pl.function(type=pl.FunctionType.InCore)
    def double(self, a: Matrix, f: pl.Out[Matrix]):
        tile = pl.load(a, [0, 0], [8, 16])
        return pl.store(pl.OP(tile, tile), [0, 0], f)

    @pl.function(type=pl.FunctionType.Orchestration)
    def chip(self, a: Matrix, f: pl.Out[Matrix]):
        return self.double(a, f)

    @pl.function(level=pl.Level.HOST, role=pl.Role.Worker)
    def check(self, f: Matrix):
        CHECK

    @pl.function(level=pl.Level.HOST, role=pl.Role.Orchestrator)
    def host(self, a: Matrix, f: pl.Out[Matrix]):
        f = self.chip(a, f)
        self.check(f)
        return f
"""
MAIN = """

def main():
    import sys

    config = DistributedConfig(num_sub_workers=1)
    with ir.compile(Double, distributed_config=config) as compiled:
        print(compiled(np.ones((8, 16), np.float32)).sum(), sys.argv[1:])
"""


def pypto_command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "pypto.cli", *map(str, arguments)]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(pypto_command(*arguments), capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def file(tmp_path: Path):
    """Writes a file with a program, and main() where asked for."""

    def write(*, main: bool = True, op: str = "add", check: str = "assert f.sum() > 0") -> Path:
        path = tmp_path / "doubling.py"
        path.write_text(PROGRAM.replace("OP", op).replace("CHECK", check) + (MAIN if main else ""))
        return path

    return write


def test_version() -> None:
    done = run("--version")
    assert done.stdout == f"pypto {pypto.__version__}\n"
    assert done.returncode == 0


def test_run_calls_main_and_hands_it_further_arguments(file) -> None:
    done = run("run", file(), "--fast", "3")
    assert done.stdout == "256.0 ['--fast', '3']\n", done.stderr
    assert done.returncode == 0


def test_run_shows_what_it_does_while_it_does_it(file) -> None:
    done = run("run", file())
    assert "compile kernels: 2 of 2" in done.stderr
    assert "start: 1 of 1" in done.stderr


def test_a_terminal_shows_a_bar_a_step(file) -> None:
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(pypto_command("run", file()), stdout=subprocess.PIPE, stderr=theirs, env=environment) as ran:
        os.close(theirs)
        shown = b""
        with contextlib.suppress(OSError):  # the other end is closed
            while part := os.read(ours, 65536):
                shown += part
        os.close(ours)
    assert ran.returncode == 0, shown
    lines = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()).replace("\r", "\n").split("\n")
    finished = [line.split() for line in lines if line.startswith("✓")]
    steps = {(*words[1:-3], words[-2]) for words in finished}
    assert steps == {("generate", "code", "1/1"), ("compile", "kernels", "2/2"), ("start", "1/1")}


def test_run_of_a_program_makes_its_inputs_up(file) -> None:
    done = run("run", f"{file(main=False)}:Double")
    assert done.stdout.startswith("f: float32[8, 16]\n"), done.stderr
    assert done.returncode == 0


def test_a_file_with_one_program_and_no_main_runs_that(file) -> None:
    assert run("run", file(main=False)).stdout.startswith("f: float32[8, 16]\n")


def test_compile_prints_the_directory(file, tmp_path) -> None:
    done = run("compile", file(main=False), "--platform", "a2a3sim", "--output-dir", tmp_path / "out")
    assert done.stdout == f"{tmp_path / 'out'}\n", done.stderr
    assert (tmp_path / "out/orchestration/host_orch.py").is_file()


def test_show_prints_a_program_after_a_pass_and_the_code_generated_of_it(file) -> None:
    path = file(main=False)
    built, planned, code = run("show", path), run("show", path, "--after", "plan_memory"), run("show", path, "--cpp")
    assert "add_1 = pl.add(tile, tile)" in built.stdout
    assert "class Double:" in planned.stdout
    assert "next_levels/chip/kernels/double.cpp" in code.stdout
    assert "simpler::tile::add(" in code.stdout
    unknown = run("show", path, "--after", "hope")
    assert unknown.returncode == 1
    assert "there are build, remove_dead_code, plan_memory" in unknown.stderr


def test_a_mistake_in_a_program_is_shown_with_its_line_and_no_traceback(file) -> None:
    done = run("run", file(op="ad"))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "UnknownOp: " in done.stderr
    assert "doubling.py:15:" in done.stderr
    assert "^" in done.stderr


def test_a_failing_sub_worker_is_shown_without_our_traceback(file) -> None:
    done = run("run", file(check='raise ValueError("not what I wanted")'))
    assert done.returncode == 1
    assert done.stderr.count("Traceback (most recent call last)") == 1  # the SubWorker's own
    assert "TaskFailed: " in done.stderr
    assert "ValueError: not what I wanted" in done.stderr


def test_an_error_of_the_users_own_keeps_its_traceback(file) -> None:
    path = file(main=False)
    path.write_text(path.read_text() + '\n\ndef main():\n    raise KeyError("mine")\n')
    done = run("run", path)
    assert done.returncode == 1
    assert "KeyError: 'mine'" in done.stderr
    assert "Traceback" in done.stderr


def test_an_error_of_any_package_that_explains_itself_is_shown_with_its_notes_and_no_traceback(tmp_path) -> None:
    path = tmp_path / "other.py"
    path.write_text("""
class OtherError(Exception):
    explains_itself = True

class Jammed(OtherError): ...

def main():
    error = Jammed("tray 2 is jammed: open it")
    error.add_note("tray 3 as well")
    raise error
""")
    done = run("run", path)
    assert done.stderr == "Jammed: tray 2 is jammed: open it\ntray 3 as well\n"
    assert done.returncode == 1


def test_a_bug_of_ours_keeps_its_traceback(tmp_path) -> None:
    path = tmp_path / "bug.py"
    path.write_text(
        "from pypto.errors import VerificationFailed\n\n\ndef main():\n    raise VerificationFailed('lost')\n"
    )
    done = run("run", path)
    assert "Traceback" in done.stderr
    assert "VerificationFailed: lost" in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.py", None, "there is no file"),
        ("empty.py", "", "has no main() and no program"),
        ("empty.py:main", "", "defines no main"),
        ("needy.py", "def main(count): ...", "main() needs arguments (count)"),
    ],
)
def test_what_cannot_be_run_is_said(tmp_path, name: str, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / name.partition(":")[0]).write_text(content)
    done = run("run", tmp_path / name)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.returncode == 1


def test_ctrl_c_ends_everything(file, tmp_path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    check = f'import threading; print("here", file=open({str(pipe)!r}, "w"), flush=True); threading.Event().wait()'
    process = subprocess.Popen(
        pypto_command("run", file(check=check)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with pipe.open() as opened:
        assert opened.read() == "here\n"  # the SubWorker is at work
    started = psutil.Process(process.pid).children(recursive=True)
    assert len(started) >= 2
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert not any(child.is_running() for child in started)
