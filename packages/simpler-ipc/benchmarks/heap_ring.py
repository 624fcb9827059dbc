"""A block of shared memory, allocated and released: HeapRing from Rust and from Python, and what Python comes with.

python benchmarks/heap_ring.py [--rounds 20] [--messages 20000] [--only WORD] [--json FILE]
"""

from __future__ import annotations

import collections
import sys
import time
from collections.abc import Callable
from multiprocessing import heap, shared_memory

import simpler_ipc as ipc
from support import peers
from support.measure import Study, options, study

NBYTES = 4096
WINDOW = 32
"""Blocks that live at a time, where the oldest goes for each new one."""
RUST, RUST_WINDOW = "Rust", f"Rust, {WINDOW} live"
PYTHON, PYTHON_WINDOW = "Python", f"Python, {WINDOW} live"
MULTIPROCESSING, SYSTEM = "multiprocessing.heap", "multiprocessing.shared_memory"


def compare(it: Study) -> None:
    stage, messages = it.stage, it.options.messages

    def rust(live: int) -> Callable[[], float]:
        region = peers.region_for(1, 256)
        client = stage.rust("ask", region, 1, 256)
        many = 10 * messages  # as long as a turn in Python
        return lambda: client.measure("heap", many, NBYTES, live)[0] / many

    def python(live: int) -> Callable[[], float]:
        nbytes = (live + 2) * NBYTES
        ring = ipc.HeapRing(ipc.Region(ipc.HeapRing.required_bytes(nbytes)), nbytes=nbytes)
        blocks = collections.deque(ring.alloc(NBYTES) for _ in range(live))

        def turn() -> float:
            alloc, release, push, pop = ring.alloc, ring.release, blocks.append, blocks.popleft
            start = time.perf_counter()
            if live:
                for _ in range(messages):
                    push(alloc(NBYTES))
                    release(pop())
            else:
                for _ in range(messages):
                    release(alloc(NBYTES))
            return (time.perf_counter() - start) / messages

        return turn

    def of_multiprocessing() -> Callable[[], float]:
        few = max(1, messages // 20)

        def turn() -> float:
            start = time.perf_counter()
            for _ in range(few):
                heap.BufferWrapper(NBYTES)
            return (time.perf_counter() - start) / few

        return turn

    def of_the_system() -> Callable[[], float]:
        few = max(1, messages // 200)

        def turn() -> float:
            start = time.perf_counter()
            for _ in range(few):
                block = shared_memory.SharedMemory(create=True, size=NBYTES)
                block.close()
                block.unlink()
            return (time.perf_counter() - start) / few

        return turn

    it.add(RUST, lambda: rust(0))
    it.add(RUST_WINDOW, lambda: rust(WINDOW))
    it.add(PYTHON, lambda: python(0))
    it.add(PYTHON_WINDOW, lambda: python(WINDOW))
    it.add(MULTIPROCESSING, of_multiprocessing)
    it.add(SYSTEM, of_the_system)
    it.run()

    for name, limit in ((RUST, 20), (RUST_WINDOW, 20), (PYTHON, 250), (PYTHON_WINDOW, 250)):
        it.goal(f"{name}: alloc and release", limit, "ns", [1e9 * seconds for seconds in it.seconds(name)])
    it.report({name: PYTHON for name in (MULTIPROCESSING, SYSTEM)})


if __name__ == "__main__":
    sys.exit(study(f"heap ring, blocks of {NBYTES} bytes", options(__doc__, rounds=20, messages=20000), compare))
