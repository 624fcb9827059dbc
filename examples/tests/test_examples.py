"""Every example runs alone, as a user starts it, and its programs do what they say."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import simpler
import torch
from pypto import ir
from pypto.ir.distributed_compiled_program import DistributedConfig

EXAMPLES = Path(__file__).resolve().parents[1]
# Those of simpler-ipc are run by its own tests, which need no more than that package.
ALL = sorted(path for path in EXAMPLES.rglob("*.py") if not {"tests", "ipc"} & set(path.relative_to(EXAMPLES).parts))

# As the proposal writes it.
PROPOSED = DistributedConfig(device_ids=[7], num_sub_workers=1, block_dim=3, aicpu_thread_num=4)


def load(name: str) -> types.ModuleType:
    """An example as a module."""
    spec = importlib.util.spec_from_file_location(Path(name).stem, EXAMPLES / name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    spec.loader.exec_module(module)
    return module


def run(*command: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, command)], capture_output=True, text=True, timeout=240, check=False
    )


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_an_example_runs_alone(path: Path) -> None:
    done = run(path)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize("path", [path for path in ALL if "--torch" in path.read_text()], ids=lambda path: path.stem)
def test_an_example_runs_with_torch(path: Path) -> None:
    done = run(path, "--torch")
    assert done.returncode == 0, done.stderr
    assert "torch" in done.stdout


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_an_example_runs_by_the_command(path: Path) -> None:
    done = run("-m", "pypto.cli", "run", path)
    assert done.returncode == 0, done.stderr


# --- L3Dependency ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dependency():
    with ir.compile(
        load("rfc/l3_dependency.py").L3DependencyProgram, platform="a2a3sim", distributed_config=PROPOSED
    ) as compiled:
        yield compiled


def test_l3_dependency_in_place(dependency) -> None:
    a = torch.full((128, 128), 2.0, dtype=torch.float32)
    b = torch.full((128, 128), 3.0, dtype=torch.float32)
    f = torch.zeros((128, 128), dtype=torch.float32)
    dependency(a, b, f)
    assert torch.equal(f, torch.full((128, 128), 5.0))


def test_l3_dependency_for_a_result(dependency) -> None:
    f = dependency(torch.full((128, 128), 2.0), torch.full((128, 128), 3.0))
    assert isinstance(f, torch.Tensor)
    assert torch.equal(f, torch.full((128, 128), 5.0))


def test_l3_dependency_with_numpy_arrays(dependency) -> None:
    f = dependency(np.full((128, 128), 2.0, np.float32), np.full((128, 128), 3.0, np.float32))
    assert isinstance(f, np.ndarray)
    assert (f == 5).all()


def test_l3_dependency_with_another_sum_than_verify_expects(dependency) -> None:
    with pytest.raises(simpler.TaskFailed) as caught:
        dependency(torch.full((128, 128), 2.0), torch.full((128, 128), 4.0))
    error = caught.value
    assert isinstance(error.original, AssertionError)
    assert str(error.original) == "SubWorker verify failed: expected 5.0, got max=6.0, min=6.0"
    assert error.function == "verify"
    assert "raise AssertionError(" in error.remote_traceback
    assert str(error.task) in str(error)
    assert error.worker in str(error)


def test_the_generated_directory_is_that_of_the_proposal(dependency) -> None:
    out = dependency.output_dir
    for part in (
        "orchestration/host_orch.py",
        "next_levels/chip_orch/kernels/tile_add.cpp",
        "next_levels/chip_orch/kernel_config.py",
        "sub_workers/verify.py",
    ):
        assert (out / part).is_file()


# --- L3ParallelReduce ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("devices", [[7], [0, 1]], ids=["one chip", "two chips"])
def test_l3_parallel_reduce(devices: list[int]) -> None:
    config = DistributedConfig(device_ids=devices, num_sub_workers=1)
    program = load("rfc/l3_parallel_reduce.py").L3ParallelReduceProgram
    a = np.random.default_rng(0).standard_normal((128, 128), dtype=np.float32)
    b = np.random.default_rng(1).standard_normal((128, 128), dtype=np.float32)
    with ir.compile(program, platform="a2a3sim", distributed_config=config) as compiled:
        np.testing.assert_allclose(compiled(a, b), 2 * a, atol=1e-5)
        f = torch.zeros(128, 128)
        compiled(torch.from_numpy(a), torch.from_numpy(b), f)
        torch.testing.assert_close(f, torch.from_numpy(2 * a), atol=1e-5, rtol=0)


# --- digits ----------------------------------------------------------------------------------------------------------


def test_digits_are_recognised_as_well_as_by_numpy() -> None:
    done = run(EXAMPLES / "digits/digits.py")
    assert done.returncode == 0, done.stderr
    ours, numpys = re.findall(r"([\d.]+)% \(([\d,]+) correct\)", done.stdout)
    assert ours == numpys
    assert float(ours[0]) > 95
    difference = re.search(r"probabilities[^\d]+([\d.e-]+)", done.stdout)
    assert difference is not None
    assert float(difference[1]) < 1e-5
    for step in ("compile", "first run", "repeated run"):
        assert step in done.stdout


def test_digits_need_no_torch() -> None:
    path = str(EXAMPLES / "digits/digits.py")
    script = f"""
import runpy, sys
runpy.run_path({path!r}, run_name="__main__")
assert "torch" not in sys.modules
"""
    done = run("-c", script)
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout
