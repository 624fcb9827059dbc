from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from simpler.graph import tensor_map
from simpler.graph.tensor_map import TensorMap


@dataclass(eq=False)
class Task:
    name: int
    state: int = 4
    needs: set[int] = field(default_factory=set)
    follows: set[int] = field(default_factory=set)


class ByteByByte:
    """The model: what happened to each byte."""

    def __init__(self) -> None:
        self.writer: dict[int, Task] = {}
        self.readers: dict[int, list[Task]] = {}

    def access(self, task: Task, start: int, end: int, writes: bool) -> tuple[set[int], set[int]]:
        needs, follows = set(), set()
        for byte in range(start, end):
            writer = self.writer.get(byte)
            if writer is not None and writer is not task and writer.state:
                needs.add(writer.name)
            if writes:
                follows |= {reader.name for reader in self.readers.get(byte, []) if reader is not task and reader.state}
                self.writer[byte] = task
                self.readers[byte] = []
            elif writer is not task:
                self.readers.setdefault(byte, []).append(task)
        return needs, follows

    def forget(self, start: int, end: int) -> None:
        for byte in range(start, end):
            self.writer.pop(byte, None)
            self.readers.pop(byte, None)


ranges = st.tuples(st.integers(0, 40), st.integers(0, 12)).map(lambda pair: (pair[0], pair[0] + pair[1]))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("task"), st.lists(st.tuples(ranges, st.booleans()), min_size=1, max_size=3)),
        st.tuples(st.just("end"), st.integers(0, 30)),
        st.tuples(st.just("forget"), ranges),
    ),
    max_size=40,
)


def follow(program, prune_at: int | None = None) -> TensorMap[Task]:
    found: TensorMap[Task] = TensorMap()
    if prune_at is not None:
        found._prune_at = prune_at
    model = ByteByByte()
    tasks: list[Task] = []
    for kind, detail in program:
        if kind == "task":
            task = Task(len(tasks))
            tasks.append(task)
            for (start, end), writes in detail:
                needs: list[Task] = []
                follows: list[Task] = []
                found.access(task, start, end, writes, needs, follows)
                expected = model.access(task, start, end, writes)
                assert ({task.name for task in needs}, {task.name for task in follows}) == expected
        elif kind == "end":
            if tasks:
                tasks[detail % len(tasks)].state = 0
        else:
            found.forget(*detail)
            model.forget(*detail)
    return found


@given(steps)
def test_dependencies_are_those_of_a_map_kept_byte_by_byte(program):
    follow(program)


@given(steps)
def test_pruning_changes_no_dependency(program):
    follow(program, prune_at=1)


@given(steps)
def test_segments_never_overlap_and_are_sorted(program):
    found = follow(program)
    edges = [(start, found._segments[start].end) for start in found._starts]
    assert all(start < end for start, end in edges)
    assert all(end <= start for (_, end), (start, _) in pairwise(edges))
    assert set(found._starts) == set(found._segments)


def test_ranges_nobody_waits_for_any_more_are_forgotten(monkeypatch):
    monkeypatch.setattr(tensor_map, "PRUNE_SEGMENTS", 100)
    found: TensorMap[Task] = TensorMap()
    found._prune_at = 100
    for number in range(10_000):
        task = Task(number)
        found.access(task, 64 * number, 64 * number + 64, True, [], [])
        task.state = 0
    assert len(found) <= 200


def test_ended_readers_of_a_range_that_is_never_written_are_forgotten():
    found: TensorMap[Task] = TensorMap()
    for number in range(10_000):
        task = Task(number)
        found.access(task, 0, 64, False, [], [])
        task.state = 0
    assert len(found._segments[0].readers) <= 2 * tensor_map.PRUNE_READERS


def test_a_failed_writer_is_still_needed():
    found: TensorMap[Task] = TensorMap()
    failed, reader = Task(0, state=6), Task(1)
    found.access(failed, 0, 64, True, [], [])
    needs: list[Task] = []
    found.access(reader, 32, 40, False, needs, [])
    assert needs == [failed]
