"""Whether the tiles of a kernel fit a core: told before it runs, with what takes the room."""

from __future__ import annotations

from pypto.errors import CoreMemoryFull
from pypto.ir import walk
from pypto.ir.nodes import Alloc, Function, Stmt

_NEIGHBOURS = 3  # how many of the largest other tiles an error names


def check_memory(kernel: Function, capacity: int, core: str) -> None:
    """Raises CoreMemoryFull at the tile for which there is no room.

    Args:
        kernel: an InCore function after ``plan_memory``.
        capacity: bytes of local memory that a core has; 0 for no limit.
        core: what has them, for the error: ``"an AIV core of a2a3sim"``.
    """
    assert kernel.memory is not None
    if capacity:
        _check(kernel, kernel.body, {alloc.name: alloc for alloc in kernel.memory}, [], capacity, core)


def _check(
    kernel: Function, body: tuple[Stmt, ...], allocs: dict[str, Alloc], outer: list[Alloc], capacity: int, core: str
) -> None:
    live = list(outer)  # what is allocated in a body is given back at its end
    for stmt in body:
        for var in (*walk.parameters(stmt), *walk.defines(stmt)):
            alloc = allocs.get(var.name)
            if alloc is None:
                continue
            taken = sum(other.nbytes for other in live)
            if taken + alloc.nbytes > capacity:
                raise _full(kernel, alloc, live, taken, capacity, core)
            live.append(alloc)
        for inner in walk.bodies(stmt):
            _check(kernel, inner, allocs, live, capacity, core)


def _full(kernel: Function, alloc: Alloc, live: list[Alloc], taken: int, capacity: int, core: str) -> CoreMemoryFull:
    others = sorted(live, key=lambda other: other.nbytes, reverse=True)[:_NEIGHBOURS]
    beside = ", ".join(f"{other.name} {other.type} ({other.nbytes} bytes, line {other.span.line})" for other in others)
    return CoreMemoryFull(
        f"kernel {kernel.name} has no room for the tile {alloc.name} {alloc.type} of {alloc.nbytes} bytes: {core} has "
        f"{capacity} bytes, of which {taken} are taken" + (f", most by {beside}" if beside else ""),
        alloc.span,
        "take smaller tiles, and loop over them",
    )
