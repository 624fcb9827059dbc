"""Compiling kernels and computing with tiles, beside the bare compiler and numpy on one thread."""

from __future__ import annotations

import os

os.environ |= {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # before numpy is loaded

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
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
    include_dir,
)

SIZE = 128  # rows and columns of every tile
REPEATS = 2000  # of an operation inside one kernel, so that starting the kernel doesn't count
ROUNDS = 5

ORCHESTRATION = """
#include "simpler/orchestration.h"
extern "C" void orchestrate(simpler::Graph &graph, simpler::TaskArgsView args) {
  graph.submit(simpler::Task(0).in(args.tensors[0]).in(args.tensors[1]).out(args.tensors[2]));
}
"""

KERNEL = """
#include "simpler/kernel.h"
#include "simpler/tile.h"
extern "C" void kernel(simpler::Core &core, simpler::TaskArgsView args) {
  using namespace simpler::tile;
  Tile<float, SIZE, SIZE> a(core), b(core), c(core);
  load(core, a, args.tensors[0], 0, 0, SIZE, SIZE, "a");
  load(core, b, args.tensors[1], 0, 0, SIZE, SIZE, "b");
  for (int i = 0; i < REPEATS; ++i)
    OPERATION;
  store(core, args.tensors[2], c, 0, 0, "c");
}
"""

OPERATIONS: dict[str, tuple[str, Callable[..., object], float]] = {
    # name: C++, numpy, floating-point operations (or elements)
    "matmul (Gflop/s)": ("matmul(c, a, b)", lambda a, b, c: np.matmul(a, b, out=c), 2.0 * SIZE**3),
    "add (G elements/s)": ("add(c, a, b)", lambda a, b, c: np.add(a, b, out=c), SIZE**2),
    "exp (G elements/s)": ("exp(c, a)", lambda a, b, c: np.exp(a, out=c), SIZE**2),
    "maximum (G elements/s)": ("maximum(c, a, b)", lambda a, b, c: np.maximum(a, b, out=c), SIZE**2),
}


def source_of(operation: str) -> str:
    return KERNEL.replace("SIZE", str(SIZE)).replace("REPEATS", str(REPEATS)).replace("OPERATION", operation)


def seconds_of(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def repeated(action: Callable[..., object], arrays: list[np.ndarray]) -> None:
    for _ in range(REPEATS):
        action(*arrays)


def compile_times(folder: Path) -> None:
    """A kernel with a matmul: the compiler alone, through the kernel compiler, and from its cache."""
    source = source_of("matmul(c, a, b)")
    program = next(path for name in ("c++", "g++", "clang++") if (path := shutil.which(name)))
    bare = [program, "-std=c++20", "-O3", "-march=native", "-fPIC", "-shared", f"-I{include_dir()}"]
    bare += ["-x", "c++", "-", "-o", str(folder / "bare.so")]
    compiler = KernelCompiler(program, folder / "cache")
    peer = median(
        seconds_of(lambda: subprocess.run(bare, input=source.encode(), check=True, timeout=60)) for _ in range(ROUNDS)
    )
    units = [[CompileUnit("kernel.cpp", f"{source}// {number}\n")] for number in range(ROUNDS)]
    cold = median(seconds_of(partial(compiler.compile, unit)) for unit in units)
    warm = median(seconds_of(partial(compiler.compile, unit)) for unit in units)
    print(f"{'compile a kernel (ms)':26}{'ours':>9}{'bare compiler':>15}{'ratio':>8}")
    for name, ours in (("cold", cold), ("warm", warm)):
        print(f"{name:26}{ours * 1e3:9.1f}{peer * 1e3:15.1f}{ours / peer:8.2f}")


def throughput(folder: Path) -> None:
    random = np.random.default_rng(1)
    arrays = [random.random((SIZE, SIZE), dtype=np.float32) for _ in range(3)]
    args = TaskArgs()
    for array, tag in zip(arrays, (IN, IN, OUT), strict=True):
        args.add_tensor(ContinuousTensor.make(array.ctypes.data, array.shape, DataType.FLOAT32), tag)
    compiler = KernelCompiler(cache_dir=folder / "cache")
    print(f"\n{f'{SIZE}x{SIZE} float tiles':26}{'ours':>9}{'numpy':>15}{'ratio':>8}")
    with ChipWorker() as worker:
        for slot, (name, (operation, peer, work)) in enumerate(OPERATIONS.items()):
            kernel, orchestration = compiler.compile(
                [CompileUnit("kernel.cpp", source_of(operation)), CompileUnit("graph.cpp", ORCHESTRATION)]
            )
            built = ChipCallable.build(
                name=name,
                orchestration=orchestration,
                signature=[IN, IN, OUT],
                kernels=[Kernel(func_id=0, name="kernel", core_type=CoreType.AIV, object=kernel)],
            )
            worker.prepare_callable(callable_id=slot, callable=built)
            ours, theirs = [], []
            for _ in range(ROUNDS):
                ours.append(seconds_of(partial(worker.run_prepared, callable_id=slot, args=args)))
                theirs.append(seconds_of(partial(repeated, peer, arrays)))
            rate, other = (work * REPEATS / median(times) / 1e9 for times in (ours, theirs))
            print(f"{name:26}{rate:9.1f}{other:15.1f}{rate / other:8.2f}")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        compile_times(Path(folder))
        throughput(Path(folder))


if __name__ == "__main__":
    main()
