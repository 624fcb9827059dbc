"""Copies of arrays that children cannot see.

Children share the worker's region and nothing else. An array outside of it is copied into the HeapRing when the first
task that uses it is submitted; tasks work on the copy; what they wrote is copied back when the run ends, or earlier
when the copy has to make way. So a run leaves arrays as if its tasks had worked on them directly, also when some of
its tasks failed.

Copies are known by the bytes they stand for, not by the object: two views of one buffer share one copy. Views that
overlap without one containing the other, and views with gaps between their elements, cannot share a copy; then the
older copy is settled first: its tasks finish, it is written back, the new one is made from the up-to-date array.
"""

from __future__ import annotations

import ctypes
import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from simpler.arguments.arrays import ArrayInfo
from simpler.arguments.task_args import Tensor
from simpler.errors import TensorError
from simpler.memory.regions import SharedMemory

# A view with gaps is this many runs of bytes at most; beyond, it counts as everything between its ends.
MAX_RUNS = 4096
# With this many copies, those that no task uses are settled: a long run must not hold on to every array it ever saw.
MAX_COPIES = 4096
# With this many written ranges, those of a copy that touch each other are merged.
MERGE_AT = 1024

Runs = list[tuple[int, int]]


class Copy:
    """The copy of ``[start, end)``, or of a view with gaps, at ``address``."""

    __slots__ = (
        "address",
        "arrays",
        "detached",
        "key",
        "merge_at",
        "runs",
        "shared",
        "start",
        "strided",
        "uses",
        "written",
    )

    def __init__(
        self, info: ArrayInfo, start: int, address: int, runs: Runs, shared: bool, arrays: list[object]
    ) -> None:
        self.start = start
        self.address = address
        self.runs = runs
        self.strided = info.strided
        self.shared = shared  # stands for memory that children see too
        self.arrays = arrays  # kept, so that nothing else comes to lie at these addresses
        self.key: object = None  # what exactly this array, or hull of arrays, is found by
        self.uses = 0  # by tasks that have not ended
        self.written: set[tuple[int, int]] = set()
        self.merge_at = MERGE_AT
        self.detached = False  # no longer found by new tasks; goes when the last of its tasks ends


def layout_of(info: ArrayInfo) -> object:
    """None for a C-ordered array; for a view with gaps, what another must equal to be the same view."""
    view = info.strided
    return None if view is None else (info.start, view.shape, view.strides, view.dtype.str)


def runs_of(info: ArrayInfo) -> Runs:
    """The ranges of addresses an array occupies, each without gaps."""
    view = info.strided
    if view is None:
        return [(info.start, info.end)]
    # Axes by rising stride: inner ones that touch each other make up one run.
    axes = sorted((abs(stride), extent) for stride, extent in zip(view.strides, view.shape, strict=True) if extent > 1)
    length = span = view.itemsize
    outer: Runs = []
    for stride, extent in axes:
        if stride < span:  # elements share bytes
            return [(info.start, info.end)]
        if stride == length and not outer:
            length *= extent
        else:
            outer.append((stride, extent))
        span = stride * (extent - 1) + span
    if math.prod(extent for _, extent in outer) > MAX_RUNS:
        return [(info.start, info.end)]
    starts = np.array([info.start], dtype=np.int64)
    for stride, extent in reversed(outer):
        starts = (starts[:, None] + np.arange(extent, dtype=np.int64) * stride).ravel()
    return [(start, start + length) for start in starts.tolist()]


def overlap(one: Runs, other: Runs) -> bool:
    """Whether two sorted lists of ranges have a byte in common."""
    i = j = 0
    while i < len(one) and j < len(other):
        if one[i][0] < other[j][1] and other[j][0] < one[i][1]:
            return True
        if one[i][1] <= other[j][1]:
            i += 1
        else:
            j += 1
    return False


def merged(ranges: Iterable[tuple[int, int]]) -> set[tuple[int, int]]:
    """The same bytes in as few ranges as there can be."""
    out: Runs = []
    for start, end in sorted(ranges):
        if out and start <= out[-1][1]:
            out[-1] = (out[-1][0], max(end, out[-1][1]))
        else:
            out.append((start, end))
    return set(out)


class Staging:
    """The copies of one run.

    Args:
        memory: the region that children see.
        allocate: gives the address of a HeapRing block (scope depth, bytes, what for), waiting for tasks if it must.
        wait_until: advances the run until a condition holds.
        drain: advances the run until no task is left.
    """

    def __init__(
        self,
        memory: SharedMemory,
        allocate: Callable[[int, int, str], int],
        wait_until: Callable[[Callable[[], bool]], None],
        drain: Callable[[], None],
    ) -> None:
        self._memory = memory
        self._allocate = allocate
        self._wait_until = wait_until
        self._drain = drain
        self._exact: dict[object, Copy] = {}
        self._copies: dict[int, Copy] = {}  # by address of the copy
        self._starts: list[int] = []  # of the runs of all copies that can be found; runs never overlap
        self._runs: dict[int, tuple[int, Copy]] = {}
        self.of_shared = 0  # copies of views with gaps of memory that children see too

    def _visible(self, info: ArrayInfo) -> bool:
        """Whether children see every byte of it."""
        return self._memory.start <= info.start and info.end <= self._memory.end

    def _in_place(self, info: ArrayInfo) -> bool:
        return info.device or info.start == info.end or (info.strided is None and self._visible(info))

    def place(self, tensors: Sequence[Tensor], held: list[Copy]) -> list[int]:
        """The address that children use for each tensor of a task, making copies as needed.

        Copies the task now uses are appended to ``held``; give them to ``release`` when the task has ended.
        """
        self._check_gaps(tensors)
        hulls = self._hulls(tensors)
        # First whatever is in the way goes, then copies are taken: a task must not wait for one it holds.
        for tensor in tensors:
            info = tensor.info
            if not self._in_place(info):
                if self._found(info, hulls) is None:
                    self._make_way(runs_of(info) if info.strided is not None else [hulls[info.start]])
            elif self.of_shared and not info.device:
                self._make_way([(info.start, info.end)])
        addresses = []
        for tensor in tensors:
            info = tensor.info
            if self._in_place(info):
                addresses.append(info.start)
                continue
            copy = self._found(info, hulls) or self._make(info, hulls, tensors)
            copy.uses += 1
            held.append(copy)
            if tensor.writes and info.writable:
                copy.written.add((info.start, info.end))
                if len(copy.written) >= copy.merge_at:
                    copy.written = merged(copy.written)
                    copy.merge_at = max(MERGE_AT, 2 * len(copy.written))
            addresses.append(copy.address + (info.start - copy.start if info.strided is None else 0))
        return addresses

    def release(self, copies: Sequence[Copy]) -> None:
        """A task that used these copies has ended."""
        for copy in copies:
            copy.uses -= 1
            if copy.detached and not copy.uses:
                self._drop(copy)

    def settle_idle(self) -> bool:
        """Write back and drop copies that no task uses; whether there were any."""
        idle = [copy for copy in self._copies.values() if not copy.uses]
        for copy in idle:
            self._settle(copy)
        return bool(idle)

    def finish(self, write_back: bool) -> None:
        """Write everything back and forget it: the run has ended, whatever its tasks came to.

        The blocks are the caller's to release: an interrupted run may have left the books here unbalanced.
        """
        copies = list(self._copies.values())
        if copies or self._starts:
            self._exact, self._copies, self._starts, self._runs, self.of_shared = {}, {}, [], {}, 0
        for copy in copies if write_back else ():
            self._write_back(copy)

    @staticmethod
    def _check_gaps(tensors: Sequence[Tensor]) -> None:
        """Two copies of one array cannot both be right while a task writes one of them."""
        for gapped in tensors:
            if gapped.info.strided is None:
                continue
            runs = runs_of(gapped.info)
            for other in tensors:
                if layout_of(other.info) == layout_of(gapped.info):
                    continue
                if (gapped.writes or other.writes) and overlap(runs, runs_of(other.info)):
                    raise TensorError(
                        f"two arguments of one task, of shapes {list(gapped.info.shape)} and {list(other.info.shape)}, "
                        "share memory; one is written, and one has gaps between its elements: pass contiguous arrays"
                    )

    def _hulls(self, tensors: Sequence[Tensor]) -> dict[int, tuple[int, int]]:
        """By start of a gapless array: the range that is copied for it.

        Arrays of one task that overlap make up one range, so that they share a copy.
        """
        hulls: dict[int, tuple[int, int]] = {}
        hull = (0, 0)
        members: list[int] = []
        for start, end in sorted((t.info.start, t.info.end) for t in tensors if t.info.strided is None):
            if start < hull[1]:
                hull = (hull[0], max(end, hull[1]))
            else:
                hull, members = (start, end), []
            members.append(start)
            for member in members:
                hulls[member] = hull
        return hulls

    def _found(self, info: ArrayInfo, hulls: dict[int, tuple[int, int]]) -> Copy | None:
        """The copy there is for an array, if there is one."""
        if info.strided is not None:
            return self._exact.get(layout_of(info))
        hull = hulls[info.start]
        copy = self._exact.get(hull)
        if copy is None:
            index = bisect_right(self._starts, hull[0]) - 1
            if index >= 0:
                run_end, other = self._runs[self._starts[index]]
                if hull[1] <= run_end and other.strided is None:
                    copy = other
        return copy

    def _make(self, info: ArrayInfo, hulls: dict[int, tuple[int, int]], tensors: Sequence[Tensor]) -> Copy:
        if len(self._copies) >= MAX_COPIES:
            self.settle_idle()
        shared = self._visible(info)
        if shared:  # tasks may be at work on these very bytes, in place
            self._drain()
        view = info.strided
        key: object
        if view is None:
            key = start, end = hulls[info.start]
            runs = [(start, end)]
            nbytes = end - start
            arrays = [t.info.array for t in tensors if t.info.strided is None and hulls[t.info.start] == key]
        else:
            key, start, runs, nbytes = layout_of(info), info.start, runs_of(info), view.nbytes
            arrays = [info.array]
        self._make_way(runs)
        address = self._allocate(0, nbytes, f"the copy of an array of shape {list(info.shape)}")
        copy = Copy(info, start, address, runs, shared, arrays)
        if view is None:
            ctypes.memmove(address, start, nbytes)
        else:
            np.copyto(self._view(copy, view), view)
        self.of_shared += shared
        self._copies[address] = copy
        copy.key = key
        self._exact[key] = copy
        for run_start, run_end in runs:
            self._starts.insert(bisect_left(self._starts, run_start), run_start)
            self._runs[run_start] = (run_end, copy)
        return copy

    def _make_way(self, runs: Runs) -> None:
        """Afterwards no copy that can be found overlaps ``runs``, and the arrays there are up to date."""
        for copy in self._overlapping(runs):
            if copy.written:
                self._wait_until(lambda copy=copy: not copy.uses)  # type: ignore[misc]
            if copy.uses:  # it is only read: its tasks may keep it, no other task will find it
                self._unlist(copy)
                copy.detached = True
            else:
                self._settle(copy)

    def _overlapping(self, runs: Runs) -> list[Copy]:
        found: dict[int, Copy] = {}
        for start, end in runs:
            index = max(0, bisect_right(self._starts, start) - 1)
            while index < len(self._starts) and self._starts[index] < end:
                run_end, copy = self._runs[self._starts[index]]
                if run_end > start:
                    found[copy.address] = copy
                index += 1
        return list(found.values())

    def _view(self, copy: Copy, like: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return self._memory.region.numpy(like.dtype, like.shape, copy.address - self._memory.start)

    def _write_back(self, copy: Copy) -> None:
        if copy.strided is not None and copy.written:
            np.copyto(copy.strided, self._view(copy, copy.strided))
        elif copy.strided is None:
            for start, end in copy.written:
                ctypes.memmove(start, copy.address + start - copy.start, end - start)

    def _settle(self, copy: Copy) -> None:
        self._write_back(copy)
        if not copy.detached:
            self._unlist(copy)
        self._drop(copy)

    def _unlist(self, copy: Copy) -> None:
        for start, _ in copy.runs:
            del self._runs[start]
            del self._starts[bisect_left(self._starts, start)]
        del self._exact[copy.key]

    def _drop(self, copy: Copy) -> None:
        del self._copies[copy.address]
        self.of_shared -= copy.shared
        self._memory.release(0, copy.address)
