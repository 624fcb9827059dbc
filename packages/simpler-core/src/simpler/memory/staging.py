"""Copies of arrays that children cannot see.

Children share the worker's region and nothing else. An array outside of it is copied into the arena when the first task
that uses it is submitted; tasks work on the copy; what they wrote is copied back when the run ends, or earlier when the
copy has to make way. So a run leaves arrays as if its tasks had worked on them directly, also when some of its tasks
failed.

A copy stands for a range of addresses, or for a view with gaps between its elements, which is copied without the gaps.
No two copies that can be found overlap. Arguments of one task that overlap make up one range and share its copy;
children see them there with their gaps. Where older copies overlap what a task needs, they are settled first: their
tasks finish, they are written back, the new copy is made from the up-to-date array. All of that comes before the task
takes any copy, so it never waits for itself.
"""

from __future__ import annotations

import ctypes
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from simpler.arguments.arrays import ArrayInfo, first_byte
from simpler.arguments.overlap import overlap, shadow, shadow_of
from simpler.arguments.task_args import Tensor
from simpler.errors import TensorError
from simpler.memory.regions import SharedMemory

# With this many copies, those that no task uses are settled: a long run must not hold on to every array it ever saw.
MAX_COPIES = 4096
# With this many written ranges, those of a copy that touch each other are merged.
MERGE_AT = 1024

Range = tuple[int, int]


class Copy:
    """The copy of ``[start, end)``, or of a view with gaps in there, at ``address``.

    Attributes:
        view: the view with gaps; None for a range.
        shadow: where the original lies.
        arrays: kept, so that nothing else comes to lie at these addresses.
        in_shared: it stands for memory that children see too.
        uses: by tasks that have not ended; ``writers`` of them may write.
        written: by tasks that have ended: ranges, of original addresses.
        views: the same for views with gaps into a range.
        blank: it was made for a task that overwrites all of it, which has not ended well: its bytes mean nothing yet.
        detached: no new task finds it; it goes when the last of its tasks ends.
    """

    __slots__ = (
        "address",
        "arrays",
        "blank",
        "detached",
        "end",
        "in_shared",
        "key",
        "nbytes",
        "shadow",
        "start",
        "uses",
        "view",
        "views",
        "writers",
        "written",
    )

    def __init__(self, place: Place, address: int, nbytes: int, in_shared: bool) -> None:
        self.key = place.key
        self.start, self.end = place.start, place.end
        self.view = place.view
        self.shadow = place.shadow
        self.arrays = list(place.arrays)
        self.address = address
        self.nbytes = nbytes
        self.in_shared = in_shared
        self.uses = 0
        self.writers = 0
        self.written: set[Range] = set()
        self.views: dict[object, np.ndarray[Any, Any]] = {}
        self.blank = False
        self.detached = False


class Use:
    """One task's use of a copy, for one tensor."""

    __slots__ = ("copy", "tensor")

    def __init__(self, copy: Copy, tensor: Tensor) -> None:
        self.copy = copy
        self.tensor = tensor


class Place:
    """What one copy is to stand for: a range, or a view with gaps.

    ``private`` says that no other task may find it: the same task sees the same bytes elsewhere, too.
    """

    __slots__ = ("arrays", "end", "key", "private", "shadow", "start", "view")

    def __init__(self, start: int, end: int, view: np.ndarray[Any, Any] | None, arrays: list[object]) -> None:
        self.start, self.end = start, end
        self.view = view
        self.arrays = arrays
        self.private = False
        self.key: object
        if view is None:
            self.key = (start, end)
            self.shadow = shadow(start, (end - start,), None, 1)
        else:
            self.key = _layout(view, start)
            self.shadow = shadow_of(view)

    def overlaps(self, other: Place) -> bool:
        if self.start >= other.end or other.start >= self.end:
            return False
        return self.key == other.key or overlap(self.shadow, other.shadow)

    @property
    def nbytes(self) -> int:
        return self.end - self.start if self.view is None else self.view.nbytes


class Placed(NamedTuple):
    """An argument on its way to a child: the address of its first element there, and what it looks like there."""

    address: int
    info: ArrayInfo


def _covers(info: ArrayInfo, whole: Place | Copy) -> bool:
    """Whether an array in there is all of it."""
    if (info.start, info.end) != (whole.start, whole.end):
        return False
    return info.strided is None or whole.view is not None


def _layout(view: np.ndarray[Any, Any], start: int) -> object:
    """What another view must equal to be the same one."""
    return (start, view.shape, view.strides, view.dtype.str)


def merged(ranges: Iterable[Range]) -> set[Range]:
    """The same bytes in as few ranges as there can be."""
    out: list[Range] = []
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
        budget: bytes of copies beyond which those that no task uses are settled.
        advance: takes a step in the run; False if no task is left that could end.
        drain: advances the run until no task is left.
    """

    def __init__(
        self, memory: SharedMemory, budget: int, advance: Callable[[], bool], drain: Callable[[], None]
    ) -> None:
        self._memory = memory
        self._budget = budget
        self._advance = advance
        self._drain = drain
        self._copies: dict[int, Copy] = {}  # by address of the copy
        self._nbytes = 0
        self._exact: dict[object, Copy] = {}  # those that can be found
        self._starts: list[tuple[int, int]] = []  # the same: (start, address of the copy), sorted
        self._longest = 0  # bytes between start and end of any of them
        self.of_shared = 0  # copies of memory that children see too

    # -- a task comes -------------------------------------------------------------------------------------------------

    def in_place(self, info: ArrayInfo, gaps: bool) -> bool:
        """Whether a child can use it where it is; ``gaps`` says whether it can deal with gaps."""
        if info.device or info.start == info.end:
            return True
        if not (self._memory.start <= info.start and info.end <= self._memory.end):
            return False
        return info.strided is None or gaps

    def place(self, tensors: Sequence[Tensor], gaps: bool, held: list[Use]) -> list[Placed]:
        """Where children find each tensor of a task, making copies as needed; ``gaps``: they can deal with gaps.

        What the task now uses is appended to ``held``; give it to ``release`` when the task has ended.
        """
        copied = [tensor.info for tensor in tensors if not self.in_place(tensor.info, gaps)]
        if gaps:
            places = self._places(copied)
        else:
            self._check_gaps(tensors)
            places = self._places_without_gaps(copied)
        for tensor in tensors:
            info = tensor.info
            if info.device or info.start == info.end:
                continue
            place = places.get(id(info))
            if place is None:
                if self.of_shared:
                    view = info.strided
                    self._make_way(Place(info.start, info.end, view, []))
            elif self._found(place) is None:
                self._make_way(place)
        found = []
        for tensor in tensors:
            info = tensor.info
            place = places.get(id(info))
            if place is None:
                found.append(Placed(first_byte(info), info))
                continue
            copy = self._found(place) or self._make(place, self._overwrites(place, tensors, places))
            copy.uses += 1
            copy.writers += tensor.writes
            held.append(Use(copy, tensor))
            if copy.view is not None:
                found.append(Placed(copy.address, info._replace(strided=None)))
            else:
                found.append(Placed(first_byte(info) + copy.address - copy.start, info))
        return found

    @staticmethod
    def _places(infos: list[ArrayInfo]) -> dict[int, Place]:
        """By identity of an array's info: what is copied for it. Arrays that overlap make up one range."""
        groups: list[tuple[Place, list[ArrayInfo]]] = []
        for info in infos:
            place, members = Place(info.start, info.end, info.strided, [info.array]), [info]
            while True:  # what it takes in may make it overlap more
                hit = next((group for group in groups if place.overlaps(group[0])), None)
                if hit is None:
                    break
                groups.remove(hit)
                other, others = hit
                view = place.view if place.key == other.key else None
                start, end = min(place.start, other.start), max(place.end, other.end)
                place, members = Place(start, end, view, other.arrays + place.arrays), others + members
            groups.append((place, members))
        return {id(info): place for place, members in groups for info in members}

    @classmethod
    def _places_without_gaps(cls, infos: list[ArrayInfo]) -> dict[int, Place]:
        """The same for those that cannot deal with gaps: each view with gaps has a copy without."""
        places = cls._places([info for info in infos if info.strided is None])
        ranges = set(places.values())
        views: dict[object, Place] = {}
        for info in infos:
            if info.strided is not None:
                place = Place(info.start, info.end, info.strided, [info.array])
                places[id(info)] = views.setdefault(place.key, place)
        for place in views.values():
            others = [*ranges, *(other for other in views.values() if other is not place)]
            place.private = any(place.overlaps(other) for other in others)
        return places

    @staticmethod
    def _check_gaps(tensors: Sequence[Tensor]) -> None:
        """Two copies of one array cannot both be right while a task writes one of them."""
        for index, gapped in enumerate(tensors):
            if gapped.info.strided is None:
                continue
            place = Place(gapped.info.start, gapped.info.end, gapped.info.strided, [])
            for number, other in enumerate(tensors):
                if other is gapped or other.info.device or not (gapped.writes or other.writes):
                    continue
                beside = Place(other.info.start, other.info.end, other.info.strided, [])
                if beside.key != place.key and place.overlaps(beside):
                    raise TensorError(
                        f"arguments {min(index, number)} and {max(index, number)} of one task share memory; one is "
                        "written, and one has gaps between its elements, which a chip cannot deal with: pass "
                        "contiguous arrays"
                    )

    @staticmethod
    def _overwrites(place: Place, tensors: Sequence[Tensor], places: dict[int, Place]) -> bool:
        """Whether a task overwrites all of a place, and needs nothing that is there."""
        users = [tensor for tensor in tensors if places.get(id(tensor.info)) is place]
        if any(tensor.reads for tensor in users):
            return False
        return any(_covers(tensor.info, place) for tensor in users)

    def _found(self, place: Place) -> Copy | None:
        """The copy there is for a place, if there is one."""
        if place.private:
            return None
        copy = self._exact.get(place.key)
        if copy is None and place.view is None:
            for other in self._near(place.start, place.end):
                if other.view is None and other.start <= place.start and place.end <= other.end:
                    return other
        return copy

    # -- a task goes --------------------------------------------------------------------------------------------------

    def release(self, uses: Sequence[Use], ended: bool | None = None) -> None:
        """A task has ended, well or with a failure; None if it was never run."""
        for use in uses:
            copy, tensor = use.copy, use.tensor
            copy.uses -= 1
            copy.writers -= tensor.writes
            if ended is not None and tensor.writes and tensor.info.writable and (ended or not copy.blank):
                self._note(copy, tensor.info)
                if ended and _covers(tensor.info, copy):
                    copy.blank = False
            if copy.detached and not copy.uses:
                self._drop(copy)

    @staticmethod
    def _note(copy: Copy, info: ArrayInfo) -> None:
        """Note what a task has written."""
        if info.strided is not None and copy.view is None:
            copy.views[_layout(info.strided, info.start)] = info.strided
            return
        copy.written.add((info.start, info.end))
        if len(copy.written) >= MERGE_AT:
            copy.written = merged(copy.written)

    def settle_idle(self) -> bool:
        """Write back and drop copies that no task uses; whether there were any."""
        idle = [copy for copy in self._copies.values() if not copy.uses]
        for copy in idle:
            self._settle(copy)
        return bool(idle)

    def finish(self, write_back: bool) -> None:
        """Write everything back and forget it: the run has ended, whatever its tasks came to."""
        copies = list(self._copies.values())
        self._copies, self._exact, self._starts, self._nbytes, self.of_shared = {}, {}, [], 0, 0
        for copy in copies:
            if write_back:
                self._write_back(copy)
            self._memory.arena.release(copy.address)

    # -- copies -------------------------------------------------------------------------------------------------------

    def _make(self, place: Place, blank: bool) -> Copy:
        if len(self._copies) >= MAX_COPIES:
            self.settle_idle()
        in_shared = self._memory.start <= place.start and place.end <= self._memory.end
        if in_shared:  # tasks may be at work on these very bytes, in place
            self._drain()
        nbytes = place.nbytes
        address = self._allocate(nbytes, place)
        copy = Copy(place, address, nbytes, in_shared)
        copy.blank = blank
        self._copies[address] = copy
        self._nbytes += nbytes
        self.of_shared += in_shared
        if not blank:
            if place.view is None:
                ctypes.memmove(address, place.start, nbytes)
            else:
                np.copyto(self._packed(copy, place.view), place.view)
        if place.private:
            copy.detached = True
            return copy
        self._exact[copy.key] = copy
        insort(self._starts, (copy.start, address))
        self._longest = max(self._longest, copy.end - copy.start)
        return copy

    def _allocate(self, nbytes: int, place: Place) -> int:
        """The address of a block, after waiting for tasks to let go of copies if need be."""
        arena = self._memory.arena
        while True:
            if self._nbytes + nbytes <= self._budget:
                address = arena.alloc(nbytes)
                if address is not None:
                    return address
            if self.settle_idle() or (self._copies and self._advance()):
                continue
            address = arena.alloc(nbytes)  # more than the budget, then: these tasks need it at the same time
            if address is not None:
                return address
            if not self._advance():
                raise arena.full(nbytes, "the copy of an array")

    def _near(self, start: int, end: int) -> list[Copy]:
        """The copies that can be found with a byte between start and end, or a gap there."""
        first = bisect_left(self._starts, (start - self._longest, 0))
        last = bisect_right(self._starts, (end, 0))
        near = (self._copies[address] for _, address in self._starts[first:last])
        return [copy for copy in near if copy.start < end and start < copy.end]

    def _make_way(self, place: Place) -> None:
        """Afterwards no copy that can be found overlaps a place, and the array there is up to date."""
        for copy in self._near(place.start, place.end):
            if not overlap(copy.shadow, place.shadow):
                continue
            if copy.written or copy.views or copy.writers:
                while copy.uses and self._advance():
                    pass
            if copy.address not in self._copies or copy.detached:
                continue  # settled meanwhile, to make room
            if copy.uses:  # it is only read: its tasks may keep it, no other task will find it
                self._unlist(copy)
                copy.detached = True
            else:
                self._settle(copy)

    def _packed(self, copy: Copy, like: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The copy of a view with gaps, without the gaps."""
        return np.ndarray(like.shape, like.dtype, self._memory.view, copy.address - self._memory.start)

    def _write_back(self, copy: Copy) -> None:
        if copy.view is not None:
            if copy.written:
                np.copyto(copy.view, self._packed(copy, copy.view))
            return
        by = copy.address - copy.start
        for start, end in copy.written:
            ctypes.memmove(start, start + by, end - start)
        for view in copy.views.values():
            first = view.__array_interface__["data"][0] + by - self._memory.start
            np.copyto(view, np.ndarray(view.shape, view.dtype, self._memory.view, first, view.strides))

    def _settle(self, copy: Copy) -> None:
        self._write_back(copy)
        if not copy.detached:
            self._unlist(copy)
        self._drop(copy)

    def _unlist(self, copy: Copy) -> None:
        del self._exact[copy.key]
        del self._starts[bisect_left(self._starts, (copy.start, copy.address))]

    def _drop(self, copy: Copy) -> None:
        del self._copies[copy.address]
        self._nbytes -= copy.nbytes
        self.of_shared -= copy.in_shared
        self._memory.arena.release(copy.address)
