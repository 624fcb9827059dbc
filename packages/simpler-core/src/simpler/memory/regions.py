"""The memory a worker shares with its children: one sparse region, mapped before the first fork.

The arena comes first, the HeapRings follow. Because it is one range of addresses, whether children can see an array is
two comparisons.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
from typing import Any

import numpy as np
from simpler_ipc import HeapRing, HeapRingFull, Region

from simpler.arguments.arrays import Element, numpy_dtype
from simpler.errors import SharedMemoryFull
from simpler.memory.arena import Arena

KEEP = 64 << 20
"""Bytes at the front of each HeapRing that stay warm between runs; what a run used beyond is given back after it."""

RINGS = 4  # one a scope depth; deeper scopes share the last


def _whole_pages(nbytes: int) -> int:
    return -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE


class Lease:
    """A HeapRing block of a run: the base of every array in it. ``live`` ends with its scope, or the run."""

    __slots__ = ("__array_interface__", "_region", "address", "live", "nbytes")

    def __init__(self, region: Region, address: int, nbytes: int) -> None:
        self._region = memoryview(region)  # mapped as long as an array is there
        self.address = address
        self.nbytes = nbytes
        self.live = True
        self.__array_interface__ = {"version": 3, "data": (address, False), "shape": (nbytes,), "typestr": "|u1"}


def lease_of(array: object) -> Lease | None:
    """The lease a numpy array lies in, if it is of a HeapRing."""
    while isinstance(array, np.ndarray):
        array = array.base
    return array if isinstance(array, Lease) else None


class SharedMemory:
    """Arena and HeapRings of one worker.

    Args:
        arena_nbytes: address space for shared arrays; costs nothing until used.
        ring_nbytes: size of each of the four HeapRings; costs nothing until used.
    """

    def __init__(self, arena_nbytes: int, ring_nbytes: int) -> None:
        arena_nbytes = _whole_pages(arena_nbytes)
        self._ring_nbytes = ring_nbytes
        self._ring_stride = _whole_pages(HeapRing.required_bytes(ring_nbytes))
        self.region = Region(arena_nbytes + RINGS * self._ring_stride, label="simpler")
        self.start = self.region.address
        self.end = self.start + self.region.nbytes
        self.view: memoryview = memoryview(self.region)
        self.arena = Arena(self.region, arena_nbytes)
        self._rings_offset = arena_nbytes
        self.rings = [self._new_ring(index) for index in range(RINGS)]
        self._blocks: dict[int, int] = {}  # address → scope depth
        self._used: list[tuple[int, int] | None] = [None] * RINGS  # addresses from the front to the furthest used

    def _new_ring(self, index: int) -> HeapRing:
        """A ring where the memory is zero."""
        offset = self._rings_offset + index * self._ring_stride
        return HeapRing(self.region, offset=offset, nbytes=self._ring_nbytes, name=f"heap {index}")

    def alloc(self, depth: int, nbytes: int, what: str) -> int | None:
        """The address of a block from the ring of scope depth ``depth``; None if it is full for now."""
        ring = self.rings[min(depth, RINGS - 1)]
        if nbytes > ring.nbytes:
            raise SharedMemoryFull(
                f"{what} needs {nbytes} bytes, but a HeapRing has {ring.nbytes}: make the worker with a larger "
                "heap_ring_size, or take an array from worker.empty"
            )
        try:
            address = ring.alloc(max(1, nbytes))
        except HeapRingFull:
            return None
        self._blocks[address] = depth
        used = self._used[min(depth, RINGS - 1)]
        if used is None:  # the first block of all lies at the front
            self._used[min(depth, RINGS - 1)] = (address, address + nbytes)
        elif address + nbytes > used[1]:
            self._used[min(depth, RINGS - 1)] = (used[0], address + nbytes)
        return address

    def release(self, depth: int, address: int) -> None:
        del self._blocks[address]
        self.rings[min(depth, RINGS - 1)].release(address)

    def release_all(self) -> None:
        """Give back every block there is."""
        for address, depth in list(self._blocks.items()):
            self.release(depth, address)
        for index, ring in enumerate(self.rings):
            if ring.live:  # Ctrl-C came between an allocation and its entry in the books
                self.region.punch(self._rings_offset + index * self._ring_stride, self._ring_stride)
                self.rings[index] = self._new_ring(index)
                self._used[index] = None

    def trim(self) -> None:
        """Give back what a large run has used of the rings, beyond what is worth keeping warm."""
        for index, used in enumerate(self._used):
            if used is not None and used[1] - used[0] > KEEP and not self.rings[index].live:
                keep = used[0] + KEEP
                self.region.punch(keep - self.start, used[1] - keep)
                self._used[index] = (used[0], keep)

    def full(self, depth: int, nbytes: int, what: str) -> SharedMemoryFull:
        """The error for a ring that no waiting will make room in."""
        ring = self.rings[min(depth, RINGS - 1)]
        return SharedMemoryFull(
            f"{what} needs {nbytes} bytes, but HeapRing {ring.name!r} has {ring.used} of {ring.nbytes} bytes in "
            f"{ring.live} blocks in use, which no running task will release: make the worker with a larger "
            "heap_ring_size, or bracket intermediates with orch.scope()"
        )

    def in_rings(self, address: int) -> bool:
        """Whether it lies in a HeapRing."""
        return self.start + self._rings_offset <= address < self.end

    def array(self, lease: Lease, shape: tuple[int, ...], dtype: Element) -> np.ndarray[Any, Any]:
        """A numpy array over a lease."""
        return np.ndarray(shape, numpy_dtype(dtype), np.asarray(lease))

    def write(self, address: int, content: bytes) -> None:
        ctypes.memmove(address, content, len(content))

    def read(self, address: int, nbytes: int) -> bytes:
        return ctypes.string_at(address, nbytes)

    def close(self) -> None:
        """Give the rings' pages back; the mapping too if no shared array is left, else it goes with the last."""
        self.rings.clear()
        self.region.punch(self._rings_offset, self.region.nbytes - self._rings_offset)
        self.arena.close()
        del self.view
        with contextlib.suppress(BufferError):  # somebody holds an array
            self.region.close()
