"""A program of one chip without SubWorkers on `cpu`: it runs in the caller's process, on the caller's arrays."""

from __future__ import annotations

import gc
import multiprocessing
import os
import shutil
from pathlib import Path

import numpy as np
import psutil
import pypto.language as pl
import pytest
import simpler
import simpler_runtime
from pypto import ir
from pypto.ir.distributed_compiled_program import DistributedCompiledProgram, DistributedConfig
from pypto.ir.nodes import Program
from pypto.runtime import arguments, pages
from pypto.runtime.local import LocalSession

N = pl.dynamic("N")
Rows = pl.Tensor[[N, 16], pl.FP32]
Longs = pl.Tensor[[16, 16], pl.INT64]


@pl.program
class Double:
    """Doubles its rows; the chip orchestration is all there is above the kernel."""

    @pl.function(type=pl.FunctionType.InCore)
    def block(self, x: Rows, y: pl.Out[Rows]):
        tile = pl.load(x, [0, 0], [16, 16], valid_shapes=[N, 16])
        return pl.store(tile + tile, [0, 0], y)

    @pl.function(type=pl.FunctionType.Orchestration)
    def chip(self, x: Rows, y: pl.Out[Rows]):
        for row in pl.range(0, N, 16):
            end = pl.min(row + 16, N)
            self.block(x[row:end], y[row:end])
        return y


@pl.program
class Quadruple:
    """Twice the same chip task, with something between that the host allocates."""

    @pl.function(type=pl.FunctionType.InCore)
    def block(
        self, x: pl.Tensor[[16, 16], pl.INT64], by: pl.Scalar[pl.INT64], y: pl.Out[pl.Tensor[[16, 16], pl.INT64]]
    ):
        return pl.store(pl.load(x, [0, 0], [16, 16]) * by, [0, 0], y)

    @pl.function(type=pl.FunctionType.Orchestration)
    def chip(self, x, by, y):
        return self.block(x, by, y)

    @pl.function(level=pl.Level.HOST, role=pl.Role.Orchestrator)
    def host(self, x, y, by: pl.Scalar[pl.INT64]):
        half = pl.create_tensor([16, 16], dtype=pl.INT64)
        half = self.chip(x, by, half)
        self.chip(half, by, y, device=0)
        return y


@pytest.fixture(scope="module")
def double(_own_cache: None):
    with ir.compile(Double) as compiled:
        yield compiled


X = np.arange(100 * 16, dtype=np.float32).reshape(100, 16)


def test_a_chip_orchestration_alone_can_be_compiled_and_called(double) -> None:
    np.testing.assert_array_equal(double(X), 2 * X)


def test_a_chip_orchestration_alone_runs_on_simulated_chips_too() -> None:
    with ir.compile(Double, "a2a3sim") as compiled:
        np.testing.assert_array_equal(compiled(X), 2 * X)


def test_no_process_is_started(double) -> None:
    before = psutil.Process().children(recursive=True)
    double(X)
    assert psutil.Process().children(recursive=True) == before


def test_arrays_are_used_in_place(double, monkeypatch) -> None:
    seen: list[simpler_runtime.TaskArgs] = []
    monkeypatch.setattr(LocalSession, "_execute", lambda self, name, number, args, config: seen.append(args))
    y = np.zeros_like(X)
    double(X, y)
    (args,) = seen
    assert [args.tensor(i).data for i in (0, 1)] == [a.__array_interface__["data"][0] for a in (X, y)]


def test_a_host_orchestrator_runs_here_too() -> None:
    x = np.arange(256, dtype=np.int64).reshape(16, 16)
    with ir.compile(Quadruple) as compiled:
        np.testing.assert_array_equal(compiled(x, 3), 9 * x)
        np.testing.assert_array_equal(compiled(x, by=-1), x)


@pytest.mark.parametrize("make", [lambda a: a[::2], lambda a: np.asfortranarray(a), lambda a: a[:, ::-1]])
def test_arrays_with_gaps_are_read_and_written(double, make) -> None:
    backing = np.ones((100, 16), np.float32)
    y = make(backing)
    x = make(X)
    double(x, y)
    np.testing.assert_array_equal(y, 2 * x)


def test_an_array_that_changes_its_shape_between_calls_is_looked_at_again(double) -> None:
    x = np.ones((4, 16), np.float32)
    y = np.zeros((4, 16), np.float32)
    double(x, y)
    x.shape = (2, 32)
    with pytest.raises(arguments.TypeMismatch, match=r"got float32\[2, 32\]"):
        double(x, y)


def test_arrays_without_rows_are_all_right(double) -> None:
    assert double(np.zeros((0, 16), np.float32)).shape == (0, 16)


def test_torch_tensors_are_used_in_place(double) -> None:
    torch = pytest.importorskip("torch")
    x = torch.arange(160, dtype=torch.float32).reshape(10, 16)
    y = torch.zeros(10, 16)
    double(x, y)
    assert torch.equal(y, 2 * x)
    assert torch.equal(double(x), 2 * x)


def test_a_kernel_that_fails_names_its_line_and_the_program_stays_usable() -> None:
    @pl.program
    class Far:
        @pl.function(type=pl.FunctionType.InCore)
        def put(self, x: Rows, y: pl.Out[pl.Tensor[[4, 16], pl.FP32]]):
            return pl.store(pl.load(x, [0, 0], [16, 16], valid_shapes=[N, 16]), [0, 0], y)

        @pl.function(type=pl.FunctionType.Orchestration)
        def chip(self, x: Rows, y: pl.Out[pl.Tensor[[4, 16], pl.FP32]]):
            return self.put(x, y)

    with ir.compile(Far) as compiled:
        with pytest.raises(simpler.TaskFailed, match=Path(__file__).name) as caught:
            compiled(X[:5])
        assert isinstance(caught.value.original, simpler_runtime.KernelError)
        assert (caught.value.function, caught.value.task) == ("chip", 0)
        np.testing.assert_array_equal(compiled(X[:4]), X[:4])


def _in_child(compiled: DistributedCompiledProgram, queue) -> None:
    queue.put(float(compiled(X).sum()))


def test_a_forked_child_can_call_it(double) -> None:
    fork = multiprocessing.get_context("fork")
    queue = fork.Queue()
    double(X)
    child = fork.Process(target=_in_child, args=(double, queue))
    child.start()
    assert queue.get(timeout=60) == 2 * X.sum()
    child.join()
    assert child.exitcode == 0
    np.testing.assert_array_equal(double(X), 2 * X)


def test_a_host_orchestrator_edited_by_hand_is_what_runs(tmp_path) -> None:
    ir.compile(Double, output_dir=tmp_path / "out")
    module = tmp_path / "out/orchestration/host_orch.py"
    module.write_text(module.read_text() + "\n\ndef host_orch(orch, args, config, calls):\n    args[1][:] = 7\n")
    with DistributedCompiledProgram.load(tmp_path / "out") as loaded:
        assert (loaded(X) == 7).all()


# --- results ---------------------------------------------------------------------------------------------------------


def test_results_of_earlier_calls_stay_while_anyone_has_them(double) -> None:
    big = np.ones((4096, 16), np.float32)
    first = double(big)
    part = first[10:20]
    del first
    second = double(3 * big)
    assert (part == 2).all()
    assert (second == 6).all()


def test_memory_of_results_that_are_gone_is_used_again() -> None:
    pool = pages.Pages()
    first = pool.zeros((1 << 16,), "float32")
    address = first.__array_interface__["data"][0]
    first[:] = 5
    del first
    gc.collect()
    second = pool.zeros((1 << 16,), "float32")
    assert second.__array_interface__["data"][0] == address
    assert (second == 0).all()


def test_no_more_memory_is_kept_than_agreed(monkeypatch) -> None:
    monkeypatch.setattr(pages, "KEPT", 3 * pages.SMALL)
    pool = pages.Pages()
    arrays = [pool.zeros((pages.SMALL,), "uint8") for _ in range(10)]
    del arrays
    gc.collect()
    assert len(pool._free) == 3


# --- compiling again -------------------------------------------------------------------------------------------------


def compiled_twice(program: Program, **options) -> tuple[DistributedCompiledProgram, DistributedCompiledProgram]:
    return ir.compile(program, **options), ir.compile(program, **options)


def test_the_same_program_is_compiled_once(add_program) -> None:
    one, two = compiled_twice(Double)
    assert one is not two
    assert one._output is two._output
    one, two = compiled_twice(add_program, distributed_config=DistributedConfig(num_sub_workers=1))
    assert one._output is two._output
    assert ir.compile(Double, "a2a3sim")._output is not ir.compile(Double)._output


def test_files_that_were_touched_are_written_again(tmp_path) -> None:
    ir.compile(Double, output_dir=tmp_path / "out")
    source = tmp_path / "out/next_levels/chip/kernels/block.cpp"
    text = source.read_text()
    source.write_text(text.replace("add(", "mul("))
    os.utime(source, (1, 1))
    ir.compile(Double, output_dir=tmp_path / "out")
    assert source.read_text() == text
    shutil.rmtree(tmp_path / "out")
    ir.compile(Double, output_dir=tmp_path / "out")
    assert source.read_text() == text


LIMITS = [1.0]


def test_what_a_sub_worker_captures_may_change_between_compiles() -> None:
    @pl.program
    class Checked:
        @pl.function(level=pl.Level.HOST, role=pl.Role.Worker)
        def check(self, x: pl.InOut[pl.Tensor[[1], pl.FP32]]):
            x[0] = LIMITS[0]

        @pl.function(level=pl.Level.HOST, role=pl.Role.Orchestrator)
        def host(self, x: pl.InOut[pl.Tensor[[1], pl.FP32]]):
            self.check(x)

    x = np.zeros(1, np.float32)
    for limit in (1.0, 2.0):
        LIMITS[0] = limit
        with ir.compile(Checked, distributed_config=DistributedConfig(num_sub_workers=1)) as compiled:
            compiled(x)
        assert x[0] == limit


# --- no text is built for errors that do not happen ------------------------------------------------------------------


def test_calls_that_succeed_build_no_error_texts(double, add, monkeypatch) -> None:
    def never(*args: object) -> str:
        raise AssertionError("called although nothing is wrong")

    monkeypatch.setattr(arguments, "signature", never)
    monkeypatch.setattr(arguments.Parameter, "__str__", never)
    double(X)
    a = np.ones((32, 48), np.float32)
    add(a, np.asfortranarray(a))
    add(b=a, a=a, f=a.copy())
