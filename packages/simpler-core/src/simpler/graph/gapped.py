"""Who last wrote, and who reads, views with gaps between their elements.

A record a view, sorted by where they begin, compared with others by address, shape and stride: a view costs the same
however many elements it has.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from typing import Any, Generic

import numpy as np

from simpler.arguments.overlap import overlap, shadow, shadow_of
from simpler.graph.users import Task, Users

Key = tuple[int, tuple[int, ...], tuple[int, ...], int]

# Records are looked through for forgettable ones when there are this many, then at every doubling.
PRUNE_RECORDS = 1024


class Record(Users[Task]):
    """One view."""

    __slots__ = ("end", "key", "shadow", "start")

    def __init__(self, key: Key, view: np.ndarray[Any, Any], start: int, end: int) -> None:
        super().__init__()
        self.key = key
        self.start = start
        self.end = end
        self.shadow = shadow_of(view)


class Records(Generic[Task]):
    """The views with gaps of a tensor map."""

    def __init__(self) -> None:
        self._records: dict[Key, Record[Task]] = {}
        self._order: list[tuple[int, Key]] = []  # sorted by start
        self._longest = 0
        self._prune_at = PRUNE_RECORDS

    def __len__(self) -> int:
        return len(self._records)

    def clear(self) -> None:
        """Forget everything."""
        self.__init__()  # type: ignore[misc]

    def of(self, view: np.ndarray[Any, Any], start: int, end: int) -> Record[Task]:
        """The record of a view."""
        key = (view.__array_interface__["data"][0], view.shape, view.strides, view.itemsize)
        record = self._records.get(key)
        if record is None:
            if len(self._records) >= self._prune_at:
                self._prune()
            record = self._records[key] = Record(key, view, start, end)
            insort(self._order, (start, key))
            self._longest = max(self._longest, end - start)
        return record

    def near(self, start: int, end: int) -> Iterator[Record[Task]]:
        """Records with a byte or a gap in ``[start, end)``."""
        first = bisect_left(self._order, start - self._longest, key=_start)
        last = bisect_right(self._order, end - 1, key=_start)
        for _, key in self._order[first:last]:
            record = self._records[key]
            if record.end > start:
                yield record

    def in_range(self, start: int, end: int) -> list[Record[Task]]:
        """Records with a byte in ``[start, end)``."""
        near = list(self.near(start, end))
        if not near:
            return near
        whole = shadow(start, (end - start,), None, 1)
        return [record for record in near if overlap(record.shadow, whole)]

    def remove(self, record: Record[Task]) -> None:
        """Forget one: what lies there now has another history."""
        del self._records[record.key]
        first = bisect_left(self._order, record.start, key=_start)
        while self._order[first][1] != record.key:
            first += 1
        del self._order[first]

    def _prune(self) -> None:
        self._records = {key: record for key, record in self._records.items() if not record.idle()}
        self._order = sorted((record.start, key) for key, record in self._records.items())
        self._longest = max((record.end - record.start for record in self._records.values()), default=0)
        self._prune_at = max(PRUNE_RECORDS, 2 * len(self._records))


def _start(entry: tuple[int, Key]) -> int:
    return entry[0]
