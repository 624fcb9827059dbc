"""What a ChiaFunction costs over the bare Ray task it stands on.

Both sides run the same no-op in the same Ray, in turns; the medians of the turns are compared.

    python packages/chia-flow/benchmarks/over_ray.py [--rounds 15]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import ray
from chia.base.ChiaFunction import ChiaFunction, get
from chia.base.local_ray import start_local_ray

CALLS = 50  # blocking calls in one turn
TASKS = 500  # no-ops in flight at once
CHAIN = 50  # references, each the argument of the next


def no_op(*_: object) -> None:
    return None


bare = ray.remote(no_op)
node = ChiaFunction(no_op)


@dataclass
class Comparison:
    """One measure on both sides: microseconds per task of each turn."""

    name: str
    limit: float  # the most that our time may be, as a multiple of Ray's
    ray_side: Callable[[], None]
    our_side: Callable[[], None]
    tasks: int
    ray_times: list[float] = field(default_factory=list)
    our_times: list[float] = field(default_factory=list)

    def turn(self, ours_first: bool) -> None:
        sides = [(self.ray_side, self.ray_times), (self.our_side, self.our_times)]
        for run, times in reversed(sides) if ours_first else sides:
            started = time.perf_counter()
            run()
            times.append((time.perf_counter() - started) / self.tasks * 1e6)

    @property
    def ratio(self) -> float:
        return statistics.median(self.our_times) / statistics.median(self.ray_times)


def comparisons() -> list[Comparison]:
    return [
        Comparison("blocking call", 1.15, _times(CALLS, lambda: ray.get(bare.remote())),
                   _times(CALLS, node.chia_remote_blocking), CALLS),
        Comparison("blocking call, .options()", 1.3, _times(CALLS, lambda: ray.get(bare.options(num_cpus=1).remote())),
                   _times(CALLS, lambda: node.options(num_cpus=1).chia_remote_blocking()), CALLS),
        Comparison(f"{TASKS} no-ops", 1 / 0.9, lambda: _drain([bare.remote() for _ in range(TASKS)]),
                   lambda: _drain([node.chia_remote() for _ in range(TASKS)]), TASKS),
        Comparison(f"chain of {CHAIN} references", 1.1, lambda: ray.get(_chain(bare.remote)),
                   lambda: get(_chain(node.chia_remote)), CHAIN),
    ]  # fmt: skip


def measure(rounds: int) -> list[Comparison]:
    """Take ``rounds`` turns of each comparison, interleaved, in a Ray that is already running."""
    measured = comparisons()
    for comparison in measured:  # workers started, functions exported
        comparison.ray_side()
        comparison.our_side()
    for round_ in range(rounds):
        for comparison in measured:
            comparison.turn(ours_first=bool(round_ % 2))
    return measured


def _times(count: int, call: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        for _ in range(count):
            call()

    return run


def _drain(refs: list[ray.ObjectRef[None]]) -> None:
    ray.get(refs)


def _chain(dispatch: Callable[..., ray.ObjectRef[None]]) -> ray.ObjectRef[None]:
    ref = dispatch()
    for _ in range(CHAIN - 1):
        ref = dispatch(ref)
    return ref


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    start_local_ray(num_cpus=2, logging_level="ERROR", object_store_memory=100 * 2**20)
    print(f"{'medians of ' + str(rounds):28}{'Ray µs':>10}{'chia µs':>10}{'ratio':>8}{'limit':>8}")
    for comparison in measure(rounds):
        ours, rays = statistics.median(comparison.our_times), statistics.median(comparison.ray_times)
        print(f"{comparison.name:28}{rays:10.0f}{ours:10.0f}{comparison.ratio:8.2f}{comparison.limit:8.2f}", flush=True)
    ray.shutdown()


if __name__ == "__main__":
    main()
