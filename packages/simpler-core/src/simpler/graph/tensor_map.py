"""Who last wrote, and who reads, each byte.

The map is a set of disjoint segments ``[start, end)``. Most tasks name exactly the ranges that tasks before them
named: one dictionary lookup finds such a segment, and disjointness says that nothing else overlaps it. Any other
range goes the long way: segments are cut where it begins and ends, and gaps are filled. Views with gaps between their
elements are kept beside (``gapped``).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from typing import Any, Generic

import numpy as np

from simpler.arguments.overlap import overlap, shadow
from simpler.graph.gapped import Records
from simpler.graph.users import Task, Users

# Segments are looked through for forgettable ones when there are this many, then at every doubling.
PRUNE_SEGMENTS = 4096


class Segment(Users[Task]):
    """Users of ``[start, end)``; ``start`` is what it is found by."""

    __slots__ = ("end",)

    def __init__(self, end: int) -> None:
        super().__init__()
        self.end = end

    def split(self, at: int) -> Segment[Task]:
        """Cut off what lies behind ``at``."""
        other: Segment[Task] = Segment(self.end)
        other.writer, other.readers, other.turn = self.writer, list(self.readers), self.turn
        self.end = at
        return other


class TensorMap(Generic[Task]):
    """Byte ranges → last writer and its readers."""

    def __init__(self) -> None:
        self._segments: dict[int, Segment[Task]] = {}
        self._starts: list[int] = []  # sorted keys of _segments
        self._prune_at = PRUNE_SEGMENTS
        self._turn = 0
        self._gapped: Records[Task] = Records()

    def __len__(self) -> int:
        return len(self._starts)

    def access(
        self, task: Task, start: int, end: int, reads: bool, writes: bool, needs: list[Task], follows: list[Task]
    ) -> None:
        """Note that ``task`` reads or writes ``[start, end)``, or both; say which tasks come before it.

        Appended to ``needs``: the last writers of what it reads. Appended to ``follows``: tasks that still read what it
        writes, and the last writers of what it overwrites without reading. A task can be named more than once, except
        itself.
        """
        segment = self._segments.get(start)
        if segment is not None and segment.end == end:
            parts = [segment]
        elif start < end:
            parts = self._cut(start, end)
        else:
            return
        self._turn += 1
        if self._gapped:
            oldest = min(part.turn for part in parts)
            for record in self._gapped.in_range(start, end):
                self._look(record, oldest, task, reads, writes, needs, follows)
                if writes and start <= record.start and record.end <= end:
                    self._gapped.remove(record)
        for part in parts:
            part.touch(task, reads, writes, self._turn, needs, follows)

    def access_view(
        self,
        task: Task,
        view: np.ndarray[Any, Any],
        start: int,
        end: int,
        reads: bool,
        writes: bool,
        needs: list[Task],
        follows: list[Task],
    ) -> None:
        """The same for a view with gaps between its elements, which lies in ``[start, end)``."""
        self._turn += 1
        record = self._gapped.of(view, start, end)
        for other in self._gapped.near(start, end):
            if other is not record and overlap(record.shadow, other.shadow):
                self._look(other, record.turn, task, reads, writes, needs, follows)
        index = max(0, bisect_right(self._starts, start) - 1)
        while index < len(self._starts) and self._starts[index] < end:
            first = self._starts[index]
            segment = self._segments[first]
            index += 1
            if segment.end > start and overlap(record.shadow, shadow(first, (segment.end - first,), None, 1)):
                self._look(segment, record.turn, task, reads, writes, needs, follows)
        record.touch(task, reads, writes, self._turn, needs, follows)

    @staticmethod
    def _look(
        users: Users[Task],
        since: int,
        task: Task,
        reads: bool,
        writes: bool,
        needs: list[Task],
        follows: list[Task],
    ) -> None:
        """Look at users of some of the bytes. What they wrote before turn ``since`` was overwritten then."""
        if users.turn > since:
            users.look(task, reads, writes, needs, follows)
        elif writes:
            follows.extend(reader for reader in users.readers if reader.state and reader is not task)

    def clear(self) -> None:
        """Forget everything."""
        if self._gapped:
            self._gapped.clear()
        if self._starts:
            self._segments.clear()
            self._starts.clear()
            self._prune_at = PRUNE_SEGMENTS

    def forget(self, start: int, end: int) -> None:
        """What lay in ``[start, end)`` is gone; whatever comes to lie there next has no past."""
        if start < end:
            for record in list(self._gapped.near(start, end)):
                self._gapped.remove(record)
            for segment_start in self._keys(start, end):
                del self._segments[segment_start]
                del self._starts[bisect_left(self._starts, segment_start)]

    def _keys(self, start: int, end: int) -> list[int]:
        self._split(start)
        self._split(end)
        return self._starts[bisect_left(self._starts, start) : bisect_left(self._starts, end)]

    def _cut(self, start: int, end: int) -> list[Segment[Task]]:
        """The segments that make up ``[start, end)``, after cutting those that stick out and filling the gaps."""
        if len(self._starts) >= self._prune_at:
            self._prune()
        segments, starts = self._segments, self._starts
        self._split(start)
        self._split(end)
        parts = []
        at = start
        index = bisect_left(starts, start)
        while at < end:
            next_start = starts[index] if index < len(starts) else end
            if next_start > at:
                gap: Segment[Task] = Segment(min(next_start, end))
                segments[at] = gap
                starts.insert(index, at)
                parts.append(gap)
                at = gap.end
            else:
                part = segments[at]
                parts.append(part)
                at = part.end
            index += 1
        return parts

    def _split(self, at: int) -> None:
        index = bisect_right(self._starts, at) - 1
        if index < 0:
            return
        start = self._starts[index]
        segment = self._segments[start]
        if start < at < segment.end:
            self._segments[at] = segment.split(at)
            insort(self._starts, at)

    def _prune(self) -> None:
        self._segments = {start: segment for start, segment in self._segments.items() if not segment.idle()}
        self._starts = sorted(self._segments)
        self._prune_at = max(PRUNE_SEGMENTS, 2 * len(self._starts))
