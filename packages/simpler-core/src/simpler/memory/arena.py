"""Memory that is freed in any order: shared arrays, copies of arrays that children cannot see, callables on their way.

One sparse range, mapped before any child is forked, so that every child sees every block at the same address.

An array's block is freed when the last numpy view of it is collected. That may happen between any two bytecodes, and
what Python code raises there is lost, Ctrl-C too. So none runs there: weak references call functions written in C, one
that gives whole pages back to the system at once and one that leaves a message. The arena reads its messages when it is
next asked for something. A forked process has copies of the arrays, but the pages are its parent's: there, another C
function drops those weak references before anything is collected.
"""

from __future__ import annotations

import math
import mmap
import os
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable
from operator import methodcaller
from typing import Any

import numpy as np
from simpler_ipc import Region

from simpler.errors import SharedMemoryFull
from simpler.memory.free_list import FreeList

ALIGNMENT = 64  # a cache line, and what vector loads like

KEEP = 64 << 20
"""Bytes of released blocks whose pages are kept for the next block of the same size; beyond, they are given back."""


class Watch(weakref.ref[np.ndarray[Any, Any]]):
    """Calls back when an array and all its views are gone. The slots are for what is called."""

    __slots__ = ("nbytes", "offset", "punch")
    offset: int
    nbytes: int
    punch: Callable[[int, int], None]


_punching: dict[int, Watch] = {}
"""By address: what gives the pages of a collected array back."""

os.register_at_fork(after_in_child=_punching.clear)


class Arena:
    """The first ``nbytes`` of ``region``."""

    def __init__(self, region: Region, nbytes: int) -> None:
        self.region = region
        self.nbytes = nbytes
        self._address = region.address
        self._view: memoryview | None = memoryview(region)
        self._free = FreeList(nbytes)
        self._lock = threading.Lock()
        self._arrays: dict[int, Watch] = {}  # by offset
        self._gone: deque[Watch] = deque()  # of arrays that were collected
        self._blocks: dict[int, int] = {}  # offset → bytes
        self._warm: OrderedDict[int, list[int]] = OrderedDict()  # released blocks that keep their pages, by size
        self._warm_nbytes = 0

    # -- arrays -------------------------------------------------------------------------------------------------------

    def empty(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
        """A new array of undefined content. SharedMemoryFull if there is no room."""
        wanted = dtype.itemsize * math.prod(shape)
        nbytes = _rounded(wanted)
        assert self._view is not None, "the arena is closed"
        with self._lock:
            self._sweep()
            offset = self._take(nbytes)
            if offset is None:
                raise self._full(wanted, "an array")
            # Every view's base, as it has one that is no array itself; and that one keeps the region mapped.
            owner = np.frombuffer(self._view[offset : offset + nbytes], np.uint8)
            watch = Watch(owner, self._gone.append)
            watch.offset, watch.nbytes = offset, nbytes
            self._arrays[offset] = watch
            if nbytes >= mmap.PAGESIZE:
                # Made later, so called earlier: the pages are gone before anybody can allocate them again.
                punching = Watch(owner, methodcaller("punch", offset, nbytes))
                punching.punch = self.region.punch
                _punching[self._address + offset] = punching
        return np.ndarray(shape, dtype, owner)

    @property
    def used(self) -> int:
        """Bytes that live arrays and blocks occupy."""
        with self._lock:
            self._sweep()
            return sum(watch.nbytes for watch in self._arrays.values()) + sum(self._blocks.values())

    def _sweep(self) -> None:
        """Free what was collected."""
        while self._gone:
            watch = self._gone.popleft()
            del self._arrays[watch.offset]
            _punching.pop(self._address + watch.offset, None)
            start, end = self._free.release(watch.offset, watch.nbytes)
            if watch.nbytes < mmap.PAGESIZE:
                self._punch_around(watch.offset, watch.nbytes, start, end)

    # -- blocks -------------------------------------------------------------------------------------------------------

    def alloc(self, nbytes: int) -> int | None:
        """The address of a block, of undefined content; None if there is no room for it."""
        nbytes = _rounded(nbytes)
        with self._lock:
            warm = self._warm.get(nbytes)
            if warm:
                offset = warm.pop()
                self._warm_nbytes -= nbytes
            else:
                self._sweep()
                found = self._take(nbytes)
                if found is None:
                    return None
                offset = found
            self._blocks[offset] = nbytes
            return self._address + offset

    def release(self, address: int) -> None:
        """Take a block back."""
        offset = address - self._address
        with self._lock:
            nbytes = self._blocks.pop(offset)
            self._warm.setdefault(nbytes, []).append(offset)
            self._warm_nbytes += nbytes
            if self._warm_nbytes > KEEP:
                self._cool(KEEP)

    def full(self, nbytes: int, what: str) -> SharedMemoryFull:
        """The error for a block that no waiting will make room for."""
        with self._lock:
            return self._full(nbytes, what)

    def recover(self) -> None:
        """Ctrl-C came at some moment in here: forget blocks, and free whatever no array holds."""
        with self._lock:
            self._blocks.clear()
            self._warm.clear()
            self._warm_nbytes = 0
            self._sweep()
            self._free = FreeList(self.nbytes, ((offset, watch.nbytes) for offset, watch in self._arrays.items()))

    def close(self) -> None:
        """No more arrays; memory goes with the last one there is."""
        with self._lock:
            for offset in self._arrays:
                _punching.pop(self._address + offset, None)
            self._view = None

    def _take(self, nbytes: int) -> int | None:
        offset = self._free.alloc(nbytes)
        if offset is None and self._warm_nbytes:
            self._cool(0)
            offset = self._free.alloc(nbytes)
        return offset

    def _cool(self, limit: int) -> None:
        """Give back released blocks until at most ``limit`` bytes of them are kept, sizes unused for long first."""
        while self._warm_nbytes > limit:
            nbytes, offsets = self._warm.popitem(last=False)
            for offset in offsets:
                self._warm_nbytes -= nbytes
                start, end = self._free.release(offset, nbytes)
                self._punch_around(offset, nbytes, start, end)

    def _punch_around(self, offset: int, nbytes: int, start: int, end: int) -> None:
        """Give back the pages that a range has just made free, as part of the free range ``[start, end)``."""
        page = mmap.PAGESIZE
        first = -(-max(start, offset // page * page) // page) * page
        last = min(end, -(-(offset + nbytes) // page) * page) // page * page
        if first < last:
            self.region.punch(first, last - first)

    def _full(self, nbytes: int, what: str) -> SharedMemoryFull:
        return SharedMemoryFull(
            f"{what} of {nbytes} bytes does not fit the worker's shared memory: {self._free.free} of {self.nbytes} "
            f"bytes are free, {self._free.largest} in one piece; drop arrays, or make the worker with a larger "
            "shared_memory_size"
        )


def _rounded(nbytes: int) -> int:
    """What is set aside for that many bytes: whole pages from one on, so that all of them can be given back."""
    unit = mmap.PAGESIZE if nbytes >= mmap.PAGESIZE else ALIGNMENT
    return max(ALIGNMENT, -(-nbytes // unit) * unit)
