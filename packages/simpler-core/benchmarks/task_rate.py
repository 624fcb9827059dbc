"""How long one task takes, beside what Python has for the same: a pipe's round trip and an executor's.

Tasks are Python functions that do nothing, or one chip kernel that does nothing. Every figure is the median over
rounds in which all of them take their turn, so that a busy machine disturbs them alike; compare ratios.

    python packages/simpler-core/benchmarks/task_rate.py [--rounds N] [--no-chip]
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import simpler

KERNEL = """
#include "simpler/kernel.h"
extern "C" void kernel(simpler::Core &, simpler::TaskArgsView) {}
"""
ORCHESTRATION = """
#include "simpler/orchestration.h"
extern "C" void orchestrate(simpler::Graph &graph, simpler::TaskArgsView) { graph.submit(simpler::Task(0)); }
"""

Measure = Callable[[], None]


def nothing(*_: object) -> None:
    """The task."""


def echo(connection: Any) -> None:
    while (message := connection.recv_bytes()) != b"end":
        connection.send_bytes(message)


@contextmanager
def pipe() -> Iterator[tuple[Measure, int]]:
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=echo, args=(there,))
    process.start()
    message = bytes(100)

    def measure() -> None:
        for _ in range(100):
            here.send_bytes(message)
            here.recv_bytes()

    yield measure, 100
    here.send_bytes(b"end")
    process.join()


@contextmanager
def executor() -> Iterator[tuple[Measure, int]]:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:

        def measure() -> None:
            for _ in range(20):
                pool.submit(nothing).result()

        measure()
        yield measure, 20


@contextmanager
def executor_many() -> Iterator[tuple[Measure, int]]:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as pool:

        def measure() -> None:
            for future in [pool.submit(nothing) for _ in range(500)]:
                future.result()

        measure()
        yield measure, 500


@contextmanager
def tasks(children: int, kind: str, count: int) -> Iterator[tuple[Measure, int]]:
    with simpler.Worker(device_ids=[], num_sub_workers=children) as worker:
        handle = worker.register(nothing)
        link = simpler.TaskArgs().inout(worker.zeros(4))

        def independent(orch: simpler.Orchestrator, args: object, config: object) -> None:
            for _ in range(count):
                orch.submit_sub(handle)

        def chain(orch: simpler.Orchestrator, args: object, config: object) -> None:
            for _ in range(count):
                orch.submit_sub(handle, link)

        orchestration = chain if kind == "chain" else independent

        if kind == "runs":

            def one(orch: simpler.Orchestrator, args: object, config: object) -> None:
                orch.submit_sub(handle)

            def measure() -> None:
                for _ in range(count):
                    worker.run(one)

        else:

            def measure() -> None:
                worker.run(orchestration)

        measure()
        yield measure, count


@contextmanager
def chip_runs(platform: str) -> Iterator[tuple[Measure, int]]:
    from simpler_runtime import ChipCallable, CompileUnit, CoreType, Kernel, KernelCompiler

    kernel, orchestration = KernelCompiler().compile(
        [CompileUnit("nothing", KERNEL), CompileUnit("one", ORCHESTRATION)]
    )
    target = ChipCallable.build(
        name="nothing",
        orchestration=orchestration,
        signature=[],
        kernels=[Kernel(0, "nothing", CoreType.AIV, kernel)],
    )
    with simpler.Worker(platform=platform, device_ids=[0]) as worker:
        handle = worker.register(target)

        def measure() -> None:
            for _ in range(50):
                worker.run(lambda orch, args, config: orch.submit_next_level(handle))

        measure()
        yield measure, 50


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--no-chip", action="store_true", help="leave out what needs a C++ compiler")
    options = parser.parse_args()

    rows: dict[str, Any] = {
        "multiprocessing.Pipe, round trip": pipe(),
        "ProcessPoolExecutor, one at a time": executor(),
        "ProcessPoolExecutor(2), 500 at once": executor_many(),
    }
    for children in (1, 2):
        rows[f"2000 independent tasks, {children} SubWorkers"] = tasks(children, "independent", 2000)
        rows[f"chain of 1000 tasks, {children} SubWorkers"] = tasks(children, "chain", 1000)
        rows[f"runs of one task, {children} SubWorkers"] = tasks(children, "runs", 50)
    if not options.no_chip:
        for platform in ("cpu", "a2a3sim"):
            rows[f"runs of one chip task, {platform}"] = chip_runs(platform)

    figures: dict[str, list[float]] = {name: [] for name in rows}
    with ExitStack() as stack:
        ready = {name: stack.enter_context(row) for name, row in rows.items()}
        for _ in range(options.rounds):
            for name, (measure, count) in ready.items():
                began = time.perf_counter()
                measure()
                figures[name].append((time.perf_counter() - began) / count * 1e6)

    medians = {name: statistics.median(values) for name, values in figures.items()}
    base = medians["multiprocessing.Pipe, round trip"]
    print(f"{'one task':42} {'median µs':>10} {'best µs':>9} {'× Pipe':>8}")
    for name, median in medians.items():
        print(f"{name:42} {median:10.1f} {min(figures[name]):9.1f} {median / base:8.2f}")


if __name__ == "__main__":
    main()
