"""What a user can get wrong, through the whole stack: each a clear error of its own type, and nothing left behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pypto.language as pl
import pytest
import simpler
import simpler_runtime
from pypto import ir
from pypto.errors import ConfigError, DeviceCountError, HostOrchestratorError, OutOfBounds, UnboundVariable
from pypto.ir.distributed_compiled_program import DistributedCompiledProgram, DistributedConfig

A = np.ones((32, 48), np.float32)
ONE_SUB = DistributedConfig(num_sub_workers=1)
HERE = Path(__file__).name

N = pl.dynamic("N")
Matrix = pl.Tensor[[32, 48], pl.FP32]


def test_a_program_without_any_orchestrator() -> None:
    @pl.program
    class NoHost:
        @pl.function(type=pl.FunctionType.InCore)
        def copy(self, a: Matrix, f: pl.Out[Matrix]):
            return pl.store(pl.load(a, [0, 0], [32, 48]), [0, 0], f)

    with pytest.raises(HostOrchestratorError, match="NoHost has neither a host orchestrator nor a chip") as caught:
        ir.compile(NoHost)
    assert caught.value.file == __file__
    assert "class NoHost" in str(caught.value)


def test_a_program_with_several_chip_orchestrations_and_no_host() -> None:
    @pl.program
    class Either:
        @pl.function(type=pl.FunctionType.InCore)
        def copy(self, a: Matrix, f: pl.Out[Matrix]):
            return pl.store(pl.load(a, [0, 0], [32, 48]), [0, 0], f)

        @pl.function(type=pl.FunctionType.Orchestration)
        def one(self, a: Matrix, f: pl.Out[Matrix]):
            return self.copy(a, f)

        @pl.function(type=pl.FunctionType.Orchestration)
        def other(self, a: Matrix, f: pl.Out[Matrix]):
            return self.copy(a, f)

    with pytest.raises(HostOrchestratorError, match=r"no host orchestrator, and 2 chip orchestrations \(one, other\)"):
        ir.compile(Either)


def test_what_is_no_program() -> None:
    with pytest.raises(TypeError, match=r"takes what @pl\.program made, got type"):
        ir.compile(dict)  # type: ignore[arg-type]


@pl.program
class Overflow:
    """Stores its rows from ``start`` on, wherever that is."""

    @pl.function(type=pl.FunctionType.InCore)
    def place(self, a: pl.Tensor[[N, 8], pl.FP32], f: pl.Out[pl.Tensor[[4, 8], pl.FP32]]):
        tile = pl.load(a, [0, 0], [16, 8], valid_shapes=[N, 8])
        return pl.store(tile, [N - 1, 0], f)

    @pl.function(type=pl.FunctionType.Orchestration)
    def chip(self, a: pl.Tensor[[N, 8], pl.FP32], f: pl.Out[pl.Tensor[[4, 8], pl.FP32]]):
        return self.place(a, f)

    @pl.function(level=pl.Level.HOST, role=pl.Role.Orchestrator)
    def host(self, a: pl.Tensor[[N, 8], pl.FP32], f: pl.Out[pl.Tensor[[4, 8], pl.FP32]]):
        return self.chip(a, f)


def line_of(text: str) -> int:
    lines = Path(__file__).read_text().split("\n")
    return next(i for i, line in enumerate(lines, 1) if text in line)


@pytest.mark.parametrize("platform", ["cpu", "a2a3sim"])
def test_a_store_outside_the_tensor_at_run_time(platform: str) -> None:
    with ir.compile(Overflow, platform) as compiled:
        assert compiled(np.ones((1, 8), np.float32)).sum() == 8
        with pytest.raises(simpler.TaskFailed) as caught:
            compiled(np.ones((4, 8), np.float32))
        error = caught.value.original
        assert isinstance(error, simpler_runtime.KernelError)
        assert error.kernel == "place"
        assert f"{HERE}:{line_of('return pl.store(tile, [N - 1, 0], f)')}" in str(error)
        assert compiled(np.ones((2, 8), np.float32)).sum() == 16  # usable afterwards


@pl.program
class Cut:
    """Takes a part of its argument on the host, and a part of that on the chip."""

    @pl.function(type=pl.FunctionType.InCore)
    def copy(self, a: pl.Tensor[[N, 8], pl.FP32], f: pl.Out[pl.Tensor[[N, 8], pl.FP32]]):
        return pl.store(pl.load(a, [0, 0], [16, 8], valid_shapes=[N, 8]), [0, 0], f)

    @pl.function(type=pl.FunctionType.Orchestration)
    def chip(self, a: pl.Tensor[[N, 8], pl.FP32], f: pl.Out[pl.Tensor[[N, 8], pl.FP32]]):
        self.copy(pl.slice(a, [3, 8], [1, 0]), pl.slice(f, [3, 8], [1, 0]))
        return f

    @pl.function(level=pl.Level.HOST, role=pl.Role.Orchestrator)
    def host(self, a: pl.Tensor[[N, 8], pl.FP32], f: pl.Out[pl.Tensor[[N, 8], pl.FP32]]):
        self.chip(pl.slice(a, [N - 2, 8], [2, 0]), pl.slice(f, [N - 2, 8], [2, 0]))
        return f


def test_a_slice_outside_the_tensor_on_the_chip() -> None:
    with ir.compile(Cut) as compiled:
        assert compiled(np.ones((6, 8), np.float32)).sum() == 24
        with pytest.raises(simpler.TaskFailed) as caught:
            compiled(np.ones((5, 8), np.float32))
        assert isinstance(caught.value.original, simpler_runtime.KernelError)
        assert f"{HERE}:{line_of('self.copy(pl.slice(a, [3, 8]')}: slice out of bounds" in str(caught.value.original)


def test_a_slice_outside_the_tensor_on_the_host() -> None:
    with ir.compile(Cut) as compiled, pytest.raises(OutOfBounds, match=rf"{HERE}:\d+: slice out of bounds"):
        compiled(np.ones((1, 8), np.float32))


def test_a_sub_worker_with_a_free_variable_that_does_not_exist() -> None:
    @pl.program
    class Free:
        @pl.function(level=pl.Level.HOST, role=pl.Role.Worker)
        def check(self, a: Matrix):
            assert a is not not_defined_anywhere  # noqa: F821

        @pl.function(level=pl.Level.HOST, role=pl.Role.Orchestrator)
        def host(self, a: Matrix):
            self.check(a)

    with pytest.raises(UnboundVariable, match="not_defined_anywhere") as caught:
        ir.compile(Free, distributed_config=ONE_SUB)
    assert caught.value.line == line_of("assert a is not not_defined_anywhere")


# --- more shards than chips ------------------------------------------------------------------------------------------


@pl.program
class Shards:
    @pl.function(type=pl.FunctionType.InCore)
    def copy(self, a: pl.Tensor[[4, 8], pl.FP32], f: pl.Out[pl.Tensor[[4, 8], pl.FP32]]):
        return pl.store(pl.load(a, [0, 0], [4, 8]), [0, 0], f)

    @pl.function(type=pl.FunctionType.Orchestration)
    def chip(self, a: pl.Tensor[[4, 8], pl.FP32], f: pl.Out[pl.Tensor[[4, 8], pl.FP32]]):
        return self.copy(a, f)

    @pl.function(level=pl.Level.HOST, role=pl.Role.Orchestrator)
    def host(self, a: pl.Tensor[[16, 8], pl.FP32], f: pl.Out[pl.Tensor[[16, 8], pl.FP32]]):
        for shard in pl.range(0, 4, 1):
            self.chip(pl.slice(a, [4, 8], [4 * shard, 0]), pl.slice(f, [4, 8], [4 * shard, 0]), device=shard)
        return f


def test_more_shards_than_chips_in_a_loop() -> None:
    with pytest.raises(DeviceCountError, match=r"device 3.*2 chips \(devices 0 to 1\)") as caught:
        ir.compile(Shards, distributed_config=DistributedConfig(device_ids=[4, 5]))
    assert caught.value.line == line_of("self.chip(pl.slice(a, [4, 8], [4 * shard, 0])")
    assert str(caught.value).split("\n")[2].strip().endswith("^^^^^")


def test_as_many_shards_as_chips() -> None:
    x = np.arange(128, dtype=np.float32).reshape(16, 8)
    with ir.compile(Shards, distributed_config=DistributedConfig(device_ids=[0, 1, 2, 3])) as compiled:
        np.testing.assert_array_equal(compiled(x), x)


def test_a_device_that_is_none_of_the_chips() -> None:
    @pl.program
    class Second:
        @pl.function(type=pl.FunctionType.InCore)
        def copy(self, a: Matrix, f: pl.Out[Matrix]):
            return pl.store(pl.load(a, [0, 0], [32, 48]), [0, 0], f)

        @pl.function(type=pl.FunctionType.Orchestration)
        def chip(self, a: Matrix, f: pl.Out[Matrix]):
            return self.copy(a, f)

        @pl.function(level=pl.Level.HOST, role=pl.Role.Orchestrator)
        def host(self, a: Matrix, f: pl.Out[Matrix]):
            return self.chip(a, f, device=1)

    with pytest.raises(DeviceCountError, match=r"1 chip \(device 0\)") as caught:
        ir.compile(Second)
    assert caught.value.line == line_of("return self.chip(a, f, device=1)")
    with ir.compile(Second, distributed_config=DistributedConfig(device_ids=[3, 9])) as compiled:
        assert (compiled(A) == 1).all()


@pl.program
class Computed:
    """The number of shards is known at run time."""

    @pl.function(type=pl.FunctionType.InCore)
    def copy(self, a: pl.Tensor[[4, 8], pl.FP32], f: pl.Out[pl.Tensor[[4, 8], pl.FP32]]):
        return pl.store(pl.load(a, [0, 0], [4, 8]), [0, 0], f)

    @pl.function(type=pl.FunctionType.Orchestration)
    def chip(self, a: pl.Tensor[[4, 8], pl.FP32], f: pl.Out[pl.Tensor[[4, 8], pl.FP32]]):
        return self.copy(a, f)

    @pl.function(level=pl.Level.HOST, role=pl.Role.Orchestrator)
    def host(self, a: pl.Tensor[[N, 8], pl.FP32], f: pl.Out[pl.Tensor[[N, 8], pl.FP32]]):
        for shard in pl.range(0, N // 4, 1):
            self.chip(pl.slice(a, [4, 8], [4 * shard, 0]), pl.slice(f, [4, 8], [4 * shard, 0]), device=shard)
        return f


def test_more_shards_than_chips_at_run_time() -> None:
    with ir.compile(Computed, distributed_config=DistributedConfig(device_ids=[0, 1])) as compiled:
        assert compiled(np.ones((8, 8), np.float32)).sum() == 64
        with pytest.raises(DeviceCountError, match=rf"{HERE}:\d+: device=2, but .* 2 chips"):
            compiled(np.ones((16, 8), np.float32))
        assert compiled(np.ones((8, 8), np.float32)).sum() == 64


# --- the C++ compiler ------------------------------------------------------------------------------------------------


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setitem(__import__("sys").modules, "ziglang", None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty cache"))
    monkeypatch.setenv("SIMPLER_CACHE_DIR", str(tmp_path / "no kernels"))


@pytest.mark.usefixtures("no_compiler")
def test_no_compiler(add_program) -> None:
    with pytest.raises(simpler_runtime.CompilerNotFound, match=r"apt(-get)? install"):
        ir.compile(add_program, distributed_config=ONE_SUB)


def test_a_kernel_that_does_not_compile(add_program, tmp_path) -> None:
    ir.compile(add_program, distributed_config=ONE_SUB, output_dir=tmp_path / "out")
    source = tmp_path / "out/next_levels/chip_add/kernels/tile_add.cpp"
    source.write_text(source.read_text().replace("simpler::tile::add(", "simpler::tile::no_such_operation("))
    with pytest.raises(simpler_runtime.CompileFailed, match="no_such_operation") as caught:
        DistributedCompiledProgram.load(tmp_path / "out")
    assert "tile_add" in caught.value.name


# --- processes that die ----------------------------------------------------------------------------------------------


def test_a_chip_that_is_killed_while_it_runs(add_program, tmp_path) -> None:
    ir.compile(add_program, distributed_config=ONE_SUB, output_dir=tmp_path / "out")
    source = tmp_path / "out/next_levels/chip_add/kernels/tile_add.cpp"
    text = source.read_text().replace("#include", "#include <csignal>\n#include", 1)
    deadly = "if (*a.as<float>() < 0) raise(SIGKILL);\n  simpler::tile::add("
    source.write_text(text.replace("simpler::tile::add(", deadly))
    with DistributedCompiledProgram.load(tmp_path / "out") as loaded:
        assert (loaded(A, A) == 2).all()
        with pytest.raises(simpler.WorkerDied, match="SIGKILL") as caught:
            loaded(-A, A)
        assert caught.value.function == "chip_add"
        assert caught.value.signal == 9
        assert (loaded(A, A) == 2).all()  # the chip has been replaced


def test_a_sub_worker_that_exits() -> None:
    import os

    @pl.program
    class Exits:
        @pl.function(level=pl.Level.HOST, role=pl.Role.Worker)
        def leave(self, a: Matrix):
            os._exit(3)

        @pl.function(level=pl.Level.HOST, role=pl.Role.Orchestrator)
        def host(self, a: Matrix):
            self.leave(a)

    with ir.compile(Exits, distributed_config=ONE_SUB) as compiled:
        with pytest.raises(simpler.WorkerDied) as caught:
            compiled(A)
        assert caught.value.exit_status == 3
        assert caught.value.function == "leave"


# --- configurations --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"device_ids": []}, "at least one device id"),
        ({"device_ids": 7}, "device_ids: expected a list"),
        ({"device_ids": [0, -1]}, "got -1 in"),
        ({"device_ids": [True]}, "got True in"),
        ({"device_ids": [1, 1]}, "once only"),
        ({"num_sub_workers": -1}, "num_sub_workers: expected an int of 0 or more, got -1"),
        ({"num_sub_workers": 1.0}, "num_sub_workers: .* got 1.0"),
        ({"block_dim": -1}, "block_dim"),
        ({"aicpu_thread_num": "4"}, "aicpu_thread_num"),
        ({"runtime": None}, "runtime"),
    ],
)
def test_a_configuration_that_makes_no_sense(fields: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DistributedConfig(**fields)


def test_the_defaults_are_those_of_the_proposal_but_use_the_whole_chip() -> None:
    config = DistributedConfig()
    assert (config.device_ids, config.num_sub_workers, config.runtime) == ([0], 0, "tensormap_and_ringbuffer")
    assert (config.block_dim, config.aicpu_thread_num) == (0, 1)


def test_an_unknown_platform(add_program) -> None:
    with pytest.raises(ConfigError, match=r"platform 'a9sim'.*a2a3sim"):
        ir.compile(add_program, "a9sim", distributed_config=ONE_SUB)


def test_an_unknown_runtime(add_program) -> None:
    with pytest.raises(ConfigError, match=r"runtime 'hope'.*tensormap_and_ringbuffer"):
        ir.compile(add_program, distributed_config=DistributedConfig(num_sub_workers=1, runtime="hope"))


def test_more_aicpu_threads_than_there_are(add_program) -> None:
    config = DistributedConfig(num_sub_workers=1, aicpu_thread_num=5)
    with pytest.raises(ConfigError, match="a2a3sim has 4 AICPU threads, got 5"):
        ir.compile(add_program, "a2a3sim", distributed_config=config)


def test_sub_workers_without_a_process_for_them(add_program) -> None:
    with pytest.raises(ConfigError, match="calls the SubWorker not_negative, but num_sub_workers is 0") as caught:
        ir.compile(add_program)
    assert "self.not_negative(f)" in str(caught.value)
