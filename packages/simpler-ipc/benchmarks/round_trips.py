"""Round trips between two processes, Rust and Python, us and our peers: spinning, after idle, on one CPU.

Each side runs on a CPU of its own, ours and theirs alike; "free" is what a scheduler makes of it that may move both.

On a machine that others use, `chrt -r 1` before the command keeps them away (only "free" polling peers suffer from it).

    python benchmarks/round_trips.py [--rounds 30] [--messages 4000] [--only WORD] [--json FILE]
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from statistics import median

from support import peers
from support.machine import Placement, RustProcess
from support.measure import Study, options, study

GAP = 500_000
"""Nanoseconds between two round trips: both sides have long stopped spinning and sleep."""
NBYTES = peers.NBYTES
PYTHON = f"Python ↔ Python, {NBYTES} bytes"
RUST = f"Rust ↔ Rust, {NBYTES} bytes"
SIZES = {8: (1.4, 1.2), 32: (1.5, 1.2), NBYTES: (1.9, 1.2)}
"""Bytes of a round trip without `unsafe` on either side: at most so many C ping-pongs, well placed and badly."""
RAW = f"{RUST}, by pointers"
IDLE, IDLE_FUTEX = f"{RUST}, after idle", "raw futex, after idle"
ONE, ONE_FUTEX = f"{RUST}, on one CPU", "raw futex, on one CPU"


def compare(it: Study) -> None:
    stage, floor, messages = it.stage, it.floor, it.options.messages
    few, fewest = max(1, messages // 10), max(1, messages // 100)

    @functools.cache
    def rust(role: str = "serve") -> RustProcess:
        region = peers.region_for(1, 256)
        stage.rust(role, region, 1, 256)
        return stage.rust("ask", region, 1, 256)

    def calls(count: int, nbytes: int, raw: bool = False) -> Callable[[], float]:
        client, trips = (rust("serve_raw"), "trips_raw") if raw else (rust(), "trips")

        def turn() -> float:
            client.measure(trips, max(1, count // 4), nbytes)  # until both are awake
            return client.measure(trips, count, nbytes)[0] / count

        return turn

    def after_idle() -> Callable[[], float]:
        client = rust()
        return lambda: median(client.measure("after_idle", fewest, NBYTES, GAP))

    def python(start: Callable[[], peers.Ask], count: int) -> Callable[[], float]:
        ask = start()

        def turn() -> float:
            ask(max(1, count // 4))
            return ask(count)

        return turn

    for nbytes in SIZES:
        it.add(f"Rust ↔ Rust, {nbytes} bytes", functools.partial(calls, 2 * messages, nbytes))
    it.add(RAW, lambda: calls(2 * messages, NBYTES, raw=True))
    it.add(f"{RUST}, free", lambda: calls(2 * messages, NBYTES), Placement.FREE)
    for name, (prepare, fewer) in {PYTHON: (peers.ours, 1), **peers.PEERS}.items():
        ask = functools.partial(python, functools.cache(functools.partial(prepare, stage)), max(1, messages // fewer))
        it.add(name, ask, alone=name in (PYTHON, peers.POLLING))
        it.add(f"{name}, free", ask, Placement.FREE)
    it.add(IDLE_FUTEX, lambda: lambda: median(floor.futex(fewest, GAP)), alone=False)
    it.add(IDLE, after_idle, alone=False)
    it.add(ONE_FUTEX, lambda: lambda: median(floor.futex_on_one_cpu(few)), Placement.TOGETHER)
    it.add(ONE, lambda: calls(few, NBYTES), Placement.TOGETHER)
    it.run()

    for nbytes, (near, far) in SIZES.items():
        it.goals_over_floor(f"Rust ↔ Rust, {nbytes} bytes", near, far)
    it.goal_near(PYTHON, PYTHON, 0.8, "µs", lambda seconds: seconds * 1e6)
    it.goal(f"{IDLE}: over the raw futex", 1.3, "×", it.ratios(IDLE, IDLE_FUTEX))
    it.goal(f"{ONE}: over the raw futex", 1.5, "×", it.ratios(ONE, ONE_FUTEX))
    beside = {name: PYTHON for name in peers.PEERS} | {f"{name}, free": f"{PYTHON}, free" for name in peers.PEERS}
    it.report(beside)


if __name__ == "__main__":
    sys.exit(study("round trips", options(__doc__, rounds=30, messages=4000), compare))
