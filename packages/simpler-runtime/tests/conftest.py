"""Small kernels and orchestrations that several tests run, and how to call them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache

import numpy as np
import pytest
from simpler_runtime import (
    IN,
    OUT,
    ChipCallable,
    ChipWorker,
    CompileUnit,
    ContinuousTensor,
    CoreType,
    DataType,
    Kernel,
    KernelCompiler,
    TaskArgs,
    TensorArgType,
)

_KERNEL = """
#include "simpler/kernel.h"
using namespace simpler;
extern "C" void kernel([[maybe_unused]] Core &core, [[maybe_unused]] TaskArgsView args) { %s }
"""

_ORCHESTRATION = """
#include "simpler/orchestration.h"
using namespace simpler;
extern "C" void orchestrate([[maybe_unused]] Graph &graph, [[maybe_unused]] TaskArgsView args) { %s }
"""

_ELEMENTWISE = """
  const auto *a = args.tensors[0].as<float>(), *b = args.tensors[1].as<float>();
  auto *c = args.tensors[2].as<float>();
  for (uint64_t i = 0; i < element_count(args.tensors[0]); ++i) c[i] = a[i] %s b[i];
"""

SOURCES = {
    "add": _KERNEL % (_ELEMENTWISE % "+"),
    "multiply": _KERNEL % (_ELEMENTWISE % "*"),
    "nothing": _KERNEL % "",
    "fail": _KERNEL % 'args.tensors[2].as<float>()[0] = -1; core.fail("model.py:12", "row %d is bad", 3);',
    "one_task": _ORCHESTRATION % "graph.submit(Task(0).in(args.tensors[0]).in(args.tensors[1]).out(args.tensors[2]));",
    # Writes a byte to the file descriptor in its scalar, so that somebody can wait for it to run.
    "tell": "#include <unistd.h>"
    + _KERNEL % 'int fd = int(args.scalars[0]); if (fd >= 0 && write(fd, ".", 1) < 0) core.fail(nullptr, "write");',
    "forever": _ORCHESTRATION
    % "for (int64_t fd = int64_t(args.scalars[0]);; fd = -1) graph.submit(Task(0).scalar(fd));",
    "fan": _ORCHESTRATION % "for (int i = 0; i < 64; ++i) graph.submit(Task(0));",
    "too_much_memory": _ORCHESTRATION
    % "for (int i = 0; i < 3; ++i) graph.submit(Task(0).out(graph.alloc(DataType::FLOAT32, {1024})));",
    "refuses": _ORCHESTRATION % 'graph.fail("model.py:3", "no shape %s", "fits");',
}


@cache
def _compiled(name: str) -> bytes:
    return KernelCompiler().compile([CompileUnit(name, SOURCES[name])])[0]


@pytest.fixture
def compiled() -> Callable[[str], bytes]:
    """Gives the shared object of a program in SOURCES."""
    return _compiled


@pytest.fixture
def make_callable() -> Callable[..., ChipCallable]:
    """Builds a callable of one kernel on AIV cores, from two names in SOURCES."""

    def make(
        kernel: str = "add",
        orchestration: str = "one_task",
        *,
        signature: tuple[TensorArgType, ...] = (IN, IN, OUT),
        scalar_count: int = 0,
    ) -> ChipCallable:
        return ChipCallable.build(
            name=f"{kernel}_callable",
            orchestration=_compiled(orchestration),
            signature=list(signature),
            scalar_count=scalar_count,
            kernels=[Kernel(0, kernel, CoreType.AIV, _compiled(kernel))],
        )

    return make


@pytest.fixture
def arguments() -> Callable[..., TaskArgs]:
    """Describes arrays in place as the tensors of a task; the caller keeps them."""

    def describe(*arrays: np.ndarray) -> TaskArgs:
        args = TaskArgs()
        for array in arrays:
            args.add_tensor(ContinuousTensor.make(array.ctypes.data, array.shape, DataType.of(array.dtype.name)))
        return args

    return describe


@pytest.fixture
def worker() -> Iterator[ChipWorker]:
    """An open a2a3sim chip with small rings."""
    with ChipWorker(platform="a2a3sim", heap_ring_nbytes=8192, task_ring_slots=16) as chip:
        yield chip
