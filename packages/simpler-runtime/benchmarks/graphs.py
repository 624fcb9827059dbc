"""Graphs of empty kernels, beside libraries of task graphs; what a small run costs from Python.

Each number is the least of some rounds, in which we and the peers take turns; each round is a process of its own. A
peer that this machine has no headers of is named and left out: OpenMP comes with g++, oneTBB is Debian's libtbb-dev;
Taskflow has no package there, $TASKFLOW names a checkout of it.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from simpler_runtime import (
    INOUT,
    ChipCallable,
    ChipWorker,
    CompileUnit,
    ContinuousTensor,
    CoreType,
    DataType,
    Kernel,
    KernelCompiler,
    TaskArgs,
)

SIDE = 316  # of the wavefront; the other graphs have as many tasks
ROUNDS = 3
THREADS = (1, 2)

NOTHING = '#include "simpler/kernel.h"\nextern "C" void kernel(simpler::Core &, simpler::TaskArgsView) {}'
ORCHESTRATION = """
#include "simpler/orchestration.h"
using namespace simpler;
extern "C" void orchestrate(Graph &graph, TaskArgsView args) {
  const auto cell = [&](int64_t i, int64_t j) {
    ContinuousTensor t = args.tensors[0];
    t.data += uint64_t(i * SIDE + j);
    t.shapes[0] = 1;
    return t;
  };
  for (int64_t i = 0; i < SIDE; ++i)
    for (int64_t j = 0; j < SIDE; ++j) {
      Task task(0);
      SUBMIT
    }
}
"""
GRAPHS = {
    "independent": "graph.submit(task.out(cell(i, j)));",
    "chain": "graph.submit(task.inout(cell(0, 0)));",
    "wavefront": "if (i) task.in(cell(i - 1, j)); if (j) task.in(cell(i, j - 1)); graph.submit(task.out(cell(i, j)));",
}
FIVE = """
#include "simpler/orchestration.h"
using namespace simpler;
extern "C" void orchestrate(Graph &graph, TaskArgsView args) {
  for (int i = 0; i < 5; ++i) graph.submit(Task(0).inout(args.tensors[0]));
}
"""
PEERS = {"OpenMP": ["-DPEER_OPENMP", "-fopenmp"], "oneTBB": ["-DPEER_TBB", "-ltbb"]}


def callable_of(source: str) -> ChipCallable:
    nothing, orchestration = KernelCompiler().compile([CompileUnit("nothing", NOTHING), CompileUnit("graph", source)])
    kernels = [Kernel(0, "nothing", CoreType.AIV, nothing)]
    return ChipCallable.build(name="graph", orchestration=orchestration, signature=[INOUT], kernels=kernels)


def arguments(cells: np.ndarray) -> TaskArgs:
    return TaskArgs().add_tensor(ContinuousTensor.make(cells.ctypes.data, cells.shape, DataType.UINT8), INOUT)


def seconds_of_a_run(chip: ChipWorker, args: TaskArgs) -> float:
    start = time.perf_counter()
    chip.run_prepared(callable_id=0, args=args)
    return time.perf_counter() - start


def ours(runtime: str, graph: str, threads: int) -> None:
    """Prints microseconds a task."""
    cells = np.zeros(SIDE * SIDE, np.uint8)
    source = ORCHESTRATION.replace("SUBMIT", GRAPHS[graph]).replace("SIDE", str(SIDE))
    with ChipWorker(runtime=runtime, threads=threads) as chip:
        chip.prepare_callable(callable_id=0, callable=callable_of(source))
        least = min(seconds_of_a_run(chip, arguments(cells)) for _ in range(4))
    print(least / SIDE**2 * 1e6)


def peers(folder: Path) -> dict[str, Path]:
    """The programs of those peers that this machine has."""
    source = Path(__file__).with_name("peers") / "graphs.cpp"
    wanted = dict(PEERS)
    if "TASKFLOW" in os.environ:
        wanted["Taskflow"] = ["-DPEER_TASKFLOW", f"-I{os.environ['TASKFLOW']}"]
    programs = {}
    for name, flags in wanted.items():
        program = folder / name
        command = ["c++", "-std=c++20", "-O2", str(source), *flags, "-pthread", "-o", str(program)]
        if subprocess.run(command, capture_output=True, timeout=300).returncode == 0:
            programs[name] = program
        else:
            print(f"{name} is not here: left out")
    return programs


def microseconds(*command: str) -> float:
    return float(subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout)


def graphs(folder: Path) -> None:
    programs = peers(folder)
    us = {"built while it runs": "tensormap_and_ringbuffer", "replayed": "host_build_graph"}
    print(f"\n{'µs a task':26}" + "".join(f"{name:>22}" for name in (*us, *programs)))
    for graph in GRAPHS:
        for threads in THREADS:
            commands = [[sys.executable, __file__, runtime, graph, str(threads)] for runtime in us.values()]
            commands += [[str(program), graph, str(threads)] for program in programs.values()]
            rounds = [[microseconds(*command) for command in commands] for _ in range(ROUNDS)]
            least = [min(column) for column in zip(*rounds, strict=True)]
            shown = [f"{least[0]:.3f}", f"{least[1]:.3f}"]
            shown += [f"{value:.3f} (ours {least[0] / value:.2f} ×)" for value in least[2:]]
            print(f"{f'{graph}, {threads} threads':26}" + "".join(f"{text:>22}" for text in shown))


def small_runs() -> None:
    built = callable_of(FIVE)
    cells = np.zeros(64, np.uint8)
    args = arguments(cells)
    for runtime in ("tensormap_and_ringbuffer", "host_build_graph"):
        with ChipWorker(platform="a2a3sim", runtime=runtime) as chip:
            start = time.perf_counter()
            chip.prepare_callable(callable_id=0, callable=built)
            prepare = time.perf_counter() - start
            first = seconds_of_a_run(chip, args)
            later = sorted(seconds_of_a_run(chip, args) for _ in range(20_000))
        p50, p99 = statistics.median(later), later[len(later) * 99 // 100]
        print(
            f"five tasks from Python, {runtime}: p50 {p50 * 1e6:.1f} µs, p99 {p99 * 1e6:.1f} µs; "
            f"the first run {first / p50:.1f} × that; prepare {prepare * 1e3:.2f} ms"
        )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        graphs(Path(folder))
    small_runs()


if __name__ == "__main__":
    if len(sys.argv) == 4:
        ours(sys.argv[1], sys.argv[2], int(sys.argv[3]))
    elif shutil.which("c++") is None:
        sys.exit("no C++ compiler: nothing to measure")
    else:
        main()
