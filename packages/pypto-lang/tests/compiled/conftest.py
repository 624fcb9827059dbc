"""What tests that compile and run share: a cache of their own, and a look at what is left behind."""

from __future__ import annotations

import gc
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pypto.language as pl
import pytest
from pypto import ir
from pypto.ir.distributed_compiled_program import DistributedCompiledProgram, DistributedConfig
from pypto.ir.nodes import Program


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Compiled programs of the tests stay out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


# What the tests of simpler-ipc name; they may run at the same time.
OTHERS = re.compile(r"simpler-ipc\.\d+\.pytest-")


def shared_memory() -> set[str]:
    """Names of shared memory that outlives processes, as far as it may be ours."""
    folder = Path("/dev/shm")
    return {path.name for path in folder.iterdir() if not OTHERS.match(path.name)} if folder.is_dir() else set()


def children() -> set[psutil.Process]:
    """Processes that this one started, and theirs."""
    return {child for child in psutil.Process(os.getpid()).children(recursive=True) if child.is_running()}


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """Every test ends with no more processes than it began with, and no named shared memory that carries our name."""
    processes, before = children(), shared_memory()
    yield
    gc.collect()
    assert children() <= processes
    assert not {name for name in shared_memory() - before if "simpler" in name or "pypto" in name}


Matrix = pl.Tensor[[32, 48], pl.FP32]


@pl.program
class Add:
    """A chip adds, a SubWorker looks at the sum."""

    @pl.function(type=pl.FunctionType.InCore)
    def tile_add(self, a: Matrix, b: Matrix, f: pl.Out[Matrix]):
        return pl.store(pl.add(pl.load(a, [0, 0], [32, 48]), pl.load(b, [0, 0], [32, 48])), [0, 0], f)

    @pl.function(type=pl.FunctionType.Orchestration)
    def chip_add(self, a: Matrix, b: Matrix, f: pl.Out[Matrix]):
        return self.tile_add(a, b, f)

    @pl.function(level=pl.Level.HOST, role=pl.Role.Worker)
    def not_negative(self, f: Matrix):
        if (f < 0).any():
            raise ValueError(f"smallest is {f.min()}")

    @pl.function(level=pl.Level.HOST, role=pl.Role.Orchestrator)
    def host(self, a: Matrix, b: Matrix, f: pl.Out[Matrix]):
        f = self.chip_add(a, b, f)
        self.not_negative(f)
        return f


@pytest.fixture
def add_program() -> Program:
    """f = a + b on 32 x 48 floats; its SubWorker raises ValueError for a negative sum. Never compiled before."""
    return replace(Add, made={})


@pytest.fixture(scope="module")
def add(_own_cache: None) -> Iterator[DistributedCompiledProgram]:
    """The same, compiled; it runs for as long as the tests of one module need it."""
    with ir.compile(Add, distributed_config=DistributedConfig(num_sub_workers=1)) as compiled:
        yield compiled
