"""Shared host arrays: what ``Worker.empty``, ``zeros`` and ``array`` hand out.

One sparse region, mapped before any child is forked, so that every child sees every array at the same address. Blocks
are given out first-fit, freed when the last numpy view of them is garbage collected, merged with free neighbours, and
their whole pages go back to the system.
"""

from __future__ import annotations

import _thread
import math
import mmap
import os
import threading
import time
from bisect import bisect_left
from collections import deque
from typing import Any

import numpy as np
from simpler_ipc import Region

from simpler.errors import SharedMemoryFull

ALIGNMENT = 64  # a cache line, and what vector loads like


class FreeList:
    """First-fit allocation of ``[start, end)`` ranges out of one range. Knows offsets only, touches no memory."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self._starts = [0]  # of the free ranges, sorted; they never touch each other
        self._ends = [nbytes]

    @property
    def free(self) -> int:
        return sum(self._ends) - sum(self._starts)

    @property
    def largest(self) -> int:
        return max((end - start for start, end in zip(self._starts, self._ends, strict=True)), default=0)

    def alloc(self, nbytes: int) -> int | None:
        """The offset of a range of that many bytes, None if no free range is long enough."""
        for index, start in enumerate(self._starts):
            end = self._ends[index]
            if end - start >= nbytes:
                if end - start == nbytes:
                    del self._starts[index], self._ends[index]
                else:
                    self._starts[index] = start + nbytes
                return start
        return None

    def release(self, start: int, nbytes: int) -> tuple[int, int]:
        """Take a range back; returns the free range it is now part of."""
        end = start + nbytes
        index = bisect_left(self._starts, start)
        if index < len(self._starts) and self._starts[index] == end:
            end = self._ends[index]
            del self._starts[index], self._ends[index]
        if index > 0 and self._ends[index - 1] == start:
            index -= 1
            start = self._starts[index]
            self._ends[index] = end
        else:
            self._starts.insert(index, start)
            self._ends.insert(index, end)
        return start, end


class Block:
    """The owner of one array's bytes: base of the numpy array and of every view of it."""

    __slots__ = ("__array_interface__", "__weakref__", "_arena", "_nbytes", "_offset")

    def __init__(self, arena: Arena, offset: int, nbytes: int, address: int, shape: tuple[int, ...], typestr: str):
        self._arena = arena
        self._offset = offset
        self._nbytes = nbytes
        self.__array_interface__ = {"version": 3, "shape": shape, "typestr": typestr, "data": (address, False)}

    def __del__(self) -> None:
        try:
            self._arena._collected(self._offset, self._nbytes)
        except KeyboardInterrupt:
            # Python drops what is raised in here: Ctrl-C would be lost. A thread says it again when this one is out.
            _thread.start_new_thread(_interrupt_again, ())


def _interrupt_again() -> None:
    time.sleep(0.001)
    _thread.interrupt_main()


class Arena:
    """Shared arrays of one worker.

    ``region`` is the mapping, ``nbytes`` how much of its beginning the arena uses.
    """

    def __init__(self, region: Region, nbytes: int) -> None:
        self.region = region
        self._address = region.address
        self._free = FreeList(nbytes)
        self._lock = threading.Lock()
        # Arrays are collected wherever the garbage collector happens to run, in the middle of alloc too.
        self._dead: deque[tuple[int, int]] = deque()
        self._owner = os.getpid()

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
        """A new array of undefined content. SharedMemoryFull if there is no room."""
        wanted = dtype.itemsize * math.prod(shape)
        nbytes = max(ALIGNMENT, -(-wanted // ALIGNMENT) * ALIGNMENT)
        if nbytes >= mmap.PAGESIZE:  # whole pages, so that all of them can be given back
            nbytes = -(-nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
        with self._lock:
            self._sweep()
            offset = self._free.alloc(nbytes)
            if offset is None:
                raise SharedMemoryFull(
                    f"an array of {wanted} bytes does not fit the worker's shared memory: {self._free.free} of "
                    f"{self._free.nbytes} bytes are free, {self._free.largest} in one piece; drop arrays, or make the "
                    "worker with a larger shared_memory_size"
                )
        return np.asarray(Block(self, offset, nbytes, self._address + offset, shape, dtype.str))

    @property
    def used(self) -> int:
        """Bytes that live arrays occupy."""
        with self._lock:
            self._sweep()
            return self._free.nbytes - self._free.free

    def _collected(self, offset: int, nbytes: int) -> None:
        # A forked process has its own copy of every array, but the pages are the owner's.
        if os.getpid() != self._owner:
            return
        self._dead.append((offset, nbytes))
        if self._lock.acquire(blocking=False):  # else whoever holds it, perhaps this very thread, sweeps later
            try:
                self._sweep()
            finally:
                self._lock.release()

    def _sweep(self) -> None:
        while self._dead:
            offset, nbytes = self._dead.popleft()
            start, end = self._free.release(offset, nbytes)
            # Whole pages of what has just become free; the rest of the merged range was given back before.
            first = max(start, offset // mmap.PAGESIZE * mmap.PAGESIZE)
            first = -(-first // mmap.PAGESIZE) * mmap.PAGESIZE
            last = min(end, -(-(offset + nbytes) // mmap.PAGESIZE) * mmap.PAGESIZE) // mmap.PAGESIZE * mmap.PAGESIZE
            if first < last:
                self.region.punch(first, last - first)
