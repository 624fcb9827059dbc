"""A chip task from the host beside round trips of peers, and what idle children cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection
from statistics import median

import psutil
import simpler
from simpler_runtime import ChipCallable, CompileUnit, CoreType, Kernel, KernelCompiler

ROUNDS = 400
IDLE_SECONDS = 2.0

KERNEL = """
#include "simpler/kernel.h"
extern "C" void kernel(simpler::Core &, simpler::TaskArgsView) {}
"""
ORCHESTRATION = """
#include "simpler/orchestration.h"
extern "C" void orchestrate(simpler::Graph &graph, simpler::TaskArgsView) { graph.submit(simpler::Task(0)); }
"""


def trivial_callable() -> ChipCallable:
    kernel, orchestration = KernelCompiler().compile(
        [CompileUnit("kernel", KERNEL), CompileUnit("orchestration", ORCHESTRATION)]
    )
    return ChipCallable.build(
        name="trivial",
        orchestration=orchestration,
        signature=[],
        kernels=[Kernel(func_id=0, name="nothing", core_type=CoreType.AIV, object=kernel)],
    )


def echo(connection: Connection) -> None:
    while (message := connection.recv_bytes()) != b"end":
        connection.send_bytes(message)


def nothing() -> None:
    """What the pool's process runs."""


def round_trips(chip_task: Callable[[], object]) -> dict[str, float]:
    """Medians in µs; one of each in turn, so that all meet the same machine."""
    ours, theirs = Pipe()
    child = Process(target=echo, args=(theirs,), daemon=True)
    child.start()

    def pipe() -> None:
        ours.send_bytes(b"x" * 100)
        ours.recv_bytes()

    with ProcessPoolExecutor(1) as pool:
        calls = {
            "chip task from the host, trivial kernel": chip_task,
            "multiprocessing.Pipe round trip, 100 bytes": pipe,
            "ProcessPoolExecutor round trip": lambda: pool.submit(nothing).result(),
        }
        for call in calls.values():
            call()
        times: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(ROUNDS):
            for name, call in calls.items():
                start = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - start)
    ours.send_bytes(b"end")
    child.join()
    return {name: median(taken) * 1e6 for name, taken in times.items()}


def idle_cpu() -> float:
    """Percent of one CPU used by all children of this process together while nobody asks them anything."""
    children = psutil.Process().children(recursive=True)
    if not children:
        raise RuntimeError("no child to measure")

    def used() -> float:
        return sum(child.cpu_times().user + child.cpu_times().system for child in children)

    start, before = time.perf_counter(), used()
    time.sleep(IDLE_SECONDS)
    return (used() - before) / (time.perf_counter() - start) * 100


def main() -> None:
    worker = simpler.Worker(level=3, platform="a2a3sim", device_ids=[0], num_sub_workers=1)
    handle = worker.register(trivial_callable())
    with worker:

        def one_task(orch: simpler.Orchestrator, args: object, config: object) -> None:
            orch.submit_next_level(handle, simpler.TaskArgs())

        medians = round_trips(lambda: worker.run(one_task))
        idle = idle_cpu()
    ours = next(iter(medians.values()))
    for name, value in medians.items():
        print(f"{name:48} {value:8.1f} µs   {value / ours:6.2f}× ours")
    print(f"{'goal for the chip task: 200 µs':48} {ours / 200:8.2f}× the goal")
    print(f"{'idle CPU of all children (goal: 1 %)':48} {idle:8.2f} %")


if __name__ == "__main__":
    main()
