"""Who last wrote, and who reads, each byte.

The map is a set of disjoint segments ``[start, end)``. Most tasks name exactly the ranges that tasks before them
named: one dictionary lookup finds such a segment, and disjointness says that nothing else overlaps it. Any other
range goes the long way: segments are cut where it begins and ends, and gaps are filled.

A task is any object with a ``state``; 0 (``TaskState.FREE``) means that it ended well, so nobody waits for it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from typing import Generic, Protocol, TypeVar


class HasState(Protocol):
    state: int


Task = TypeVar("Task", bound=HasState)

# Readers of one segment are looked through for ended ones when there are this many, then at every doubling.
PRUNE_READERS = 16
# Segments are looked through for forgettable ones when there are this many, then at every doubling.
PRUNE_SEGMENTS = 4096


class Segment(Generic[Task]):
    __slots__ = ("end", "prune_at", "readers", "writer")

    def __init__(self, end: int, writer: Task | None, readers: list[Task]) -> None:
        self.end = end
        self.writer = writer
        self.readers = readers  # since the last write
        self.prune_at = PRUNE_READERS

    def add_reader(self, task: Task) -> None:
        readers = self.readers
        if len(readers) >= self.prune_at:
            self.readers = readers = [reader for reader in readers if reader.state]
            self.prune_at = max(PRUNE_READERS, 2 * len(readers))
        readers.append(task)

    def idle(self) -> bool:
        """Whether no task has to wait for anything in it."""
        return not (self.writer is not None and self.writer.state) and not any(task.state for task in self.readers)


class TensorMap(Generic[Task]):
    """Byte ranges → last writer and its readers."""

    def __init__(self) -> None:
        self._segments: dict[int, Segment[Task]] = {}
        self._starts: list[int] = []  # sorted keys of _segments
        self._prune_at = PRUNE_SEGMENTS

    def __len__(self) -> int:
        return len(self._starts)

    def access(self, task: Task, start: int, end: int, writes: bool, needs: list[Task], follows: list[Task]) -> None:
        """Note that ``task`` reads, or if ``writes`` is true writes, ``[start, end)``; say which tasks come before it.

        Appended to ``needs``: the last writers of what it touches. A writer, too, needs them: it may write only a part,
        and the rest must be what they left there. Appended to ``follows``: tasks that still read what it writes.
        A task can be named more than once, except itself.
        """
        segment = self._segments.get(start)
        if segment is not None and segment.end == end:
            self._touch(segment, task, writes, needs, follows)
        elif start < end:
            for part in self._cut(start, end):
                self._touch(part, task, writes, needs, follows)

    @staticmethod
    def _touch(segment: Segment[Task], task: Task, writes: bool, needs: list[Task], follows: list[Task]) -> None:
        writer = segment.writer
        if writer is not None and writer is not task:
            if writer.state:
                needs.append(writer)
            else:
                segment.writer = None
        if writes:
            for reader in segment.readers:
                if reader.state and reader is not task:
                    follows.append(reader)
            segment.writer = task
            segment.readers = []
        elif writer is not task:
            segment.add_reader(task)

    def clear(self) -> None:
        """Forget everything."""
        if self._starts:
            self._segments.clear()
            self._starts.clear()
            self._prune_at = PRUNE_SEGMENTS

    def forget(self, start: int, end: int) -> None:
        """What lay in ``[start, end)`` is gone; whatever comes to lie there next has no past."""
        if start < end:
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
                gap: Segment[Task] = Segment(min(next_start, end), None, [])
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
            self._segments[at] = Segment(segment.end, segment.writer, list(segment.readers))
            insort(self._starts, at)
            segment.end = at

    def _prune(self) -> None:
        self._segments = {start: segment for start, segment in self._segments.items() if not segment.idle()}
        self._starts = sorted(self._segments)
        self._prune_at = max(PRUNE_SEGMENTS, 2 * len(self._starts))
