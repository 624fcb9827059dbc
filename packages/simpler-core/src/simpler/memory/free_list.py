"""Allocation in any order out of one range of numbers. Knows offsets only, touches no memory.

Free ranges are kept by size class, the power of two below their size: a range of a higher class than the one asked for
fits whatever it is, and one integer says which classes have any. So no search gets longer with the number of ranges.
"""

from __future__ import annotations

from collections.abc import Iterable

TRIES = 8
"""Ranges of the wanted size's own class that are looked at before a range of a higher class is cut."""


class FreeList:
    """The free ranges of ``[0, nbytes)``; at first all of it, but for those in ``used``."""

    def __init__(self, nbytes: int, used: Iterable[tuple[int, int]] = ()) -> None:
        """``used`` are pairs of offset and size."""
        self.nbytes = nbytes
        self.free = 0
        self._ends: dict[int, int] = {}  # of the free ranges, by start; they never touch each other
        self._starts: dict[int, int] = {}  # the same by end
        self._classes: dict[int, dict[int, None]] = {}  # starts by size class, in order of their release
        self._filled = 0  # bit i: class i has any
        at = 0
        for offset, size in sorted(used):
            if at < offset:
                self._add(at, offset)
            at = offset + size
        if at < nbytes:
            self._add(at, nbytes)

    def __len__(self) -> int:
        return len(self._ends)

    @property
    def largest(self) -> int:
        if not self._filled:
            return 0
        return max(self._ends[start] - start for start in self._classes[self._filled.bit_length() - 1])

    def alloc(self, nbytes: int) -> int | None:
        """The offset of a range of that many bytes, None if no free range is long enough."""
        own = nbytes.bit_length() - 1
        higher = self._filled >> (own + 1) << (own + 1)
        for tried, start in enumerate(self._classes.get(own, ())):
            if tried == TRIES and higher:
                break
            if self._ends[start] - start >= nbytes:
                return self._cut(start, nbytes)
        if not higher:
            return None
        lowest = (higher & -higher).bit_length() - 1
        return self._cut(next(iter(self._classes[lowest])), nbytes)

    def release(self, start: int, nbytes: int) -> tuple[int, int]:
        """Take a range back; returns the free range it is now part of."""
        end = start + nbytes
        behind = self._ends.get(end)
        if behind is not None:
            self._remove(end, behind)
            end = behind
        before = self._starts.get(start)
        if before is not None:
            self._remove(before, start)
            start = before
        self._add(start, end)
        return start, end

    def _cut(self, start: int, nbytes: int) -> int:
        end = self._ends[start]
        self._remove(start, end)
        if start + nbytes < end:
            self._add(start + nbytes, end)
        return start

    def _add(self, start: int, end: int) -> None:
        self._ends[start] = end
        self._starts[end] = start
        size_class = (end - start).bit_length() - 1
        self._classes.setdefault(size_class, {})[start] = None
        self._filled |= 1 << size_class
        self.free += end - start

    def _remove(self, start: int, end: int) -> None:
        del self._ends[start], self._starts[end]
        size_class = (end - start).bit_length() - 1
        members = self._classes[size_class]
        del members[start]
        if not members:
            self._filled &= ~(1 << size_class)
        self.free -= end - start
