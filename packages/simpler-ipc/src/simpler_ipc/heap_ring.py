"""What a heap ring tells about itself."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HeapRingStats:
    """What a heap ring holds and has seen. Bytes of blocks are rounded up to the ring's alignment.

    Attributes:
        nbytes: the ring's size.
        live_blocks: blocks allocated and not released.
        live_bytes: their bytes.
        held_bytes: what no block can have now: live bytes, those released behind a live block, and what was left unused
            at the end of the arena.
        peak_bytes: most bytes ever held at once: how large the ring has to be.
        allocated: blocks ever allocated.
        wraps: blocks that were put at the front because the end of the arena was reached.
        waits: allocations that had to wait.
        oldest: address in this process of the oldest live block, which space has to wait for; None if there is none.
        oldest_nbytes: its bytes.
    """

    nbytes: int
    live_blocks: int
    live_bytes: int
    held_bytes: int
    peak_bytes: int
    allocated: int
    wraps: int
    waits: int
    oldest: int | None
    oldest_nbytes: int


HeapRingStats.__module__ = "simpler_ipc"  # where users find it
