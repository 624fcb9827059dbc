from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from simpler.arguments.arrays import describe
from simpler.graph import tensor_map
from simpler.graph.tensor_map import TensorMap
from simpler.graph.users import PRUNE_READERS


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

    def access(self, task: Task, cells: Iterable[int], reads: bool, writes: bool) -> tuple[set[int], set[int]]:
        needs, follows = set(), set()
        for byte in cells:
            writer = self.writer.get(byte)
            if writer is not None and writer is not task and writer.state:
                (needs if reads else follows).add(writer.name)
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
tags = st.sampled_from([(True, False), (False, True), (True, True)])  # reads, writes
steps = st.lists(
    st.one_of(
        st.tuples(st.just("task"), st.lists(st.tuples(ranges, tags), min_size=1, max_size=3)),
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
            for (start, end), (reads, writes) in detail:
                needs: list[Task] = []
                follows: list[Task] = []
                found.access(task, start, end, reads, writes, needs, follows)
                expected = model.access(task, range(start, end), reads, writes)
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
        found.access(task, 64 * number, 64 * number + 64, True, True, [], [])
        task.state = 0
    assert len(found) <= 200


def test_ended_readers_of_a_range_that_is_never_written_are_forgotten():
    found: TensorMap[Task] = TensorMap()
    for number in range(10_000):
        task = Task(number)
        found.access(task, 0, 64, True, False, [], [])
        task.state = 0
    assert len(found._segments[0].readers) <= 2 * PRUNE_READERS


def test_a_failed_writer_is_still_needed():
    found: TensorMap[Task] = TensorMap()
    failed, reader = Task(0, state=6), Task(1)
    found.access(failed, 0, 64, True, True, [], [])
    needs: list[Task] = []
    found.access(reader, 32, 40, True, False, needs, [])
    assert needs == [failed]


BASE = np.zeros((12, 10), np.uint8)
ADDRESS = BASE.ctypes.data
slices = st.builds(slice, st.integers(0, 8), st.integers(1, 12), st.sampled_from([1, 1, 2, 3, -1]))
views = st.tuples(slices, slices).map(lambda cut: BASE[cut]).filter(lambda view: view.size)


def cells_of(view: np.ndarray) -> set[int]:
    BASE.fill(0)
    view.fill(1)
    return set(np.flatnonzero(BASE).tolist())


def before(tasks: list[Task], names: set[int]) -> set[int]:
    """The live tasks that end before these have, themselves among them."""
    found = set()
    for name in names:
        if name not in found:
            found |= {name} | before(tasks, tasks[name].needs | tasks[name].follows)
    return {name for name in found if tasks[name].state}


@given(st.lists(st.tuples(views, tags, st.integers(0, 3)), max_size=25))
def test_views_with_gaps_wait_for_those_they_share_a_byte_with(program):
    """At least for all that a map kept byte by byte names, and for nothing that shares no byte with them."""
    found: TensorMap[Task] = TensorMap()
    model = ByteByByte()
    tasks: list[Task] = []
    cells: list[set[int]] = []
    for view, (reads, writes), ending in program:
        task = Task(len(tasks))
        tasks.append(task)
        cells.append(cells_of(view))
        needs: list[Task] = []
        follows: list[Task] = []
        info = describe(view)
        if info.strided is None:
            found.access(task, info.start, info.end, reads, writes, needs, follows)
        else:
            found.access_view(task, info.strided, info.start, info.end, reads, writes, needs, follows)
        task.needs, task.follows = {one.name for one in needs}, {one.name for one in follows}
        needed, followed = model.access(task, cells[-1], reads, writes)
        assert needed <= before(tasks, task.needs)
        assert needed | followed <= before(tasks, task.needs | task.follows)
        assert all(cells[-1] & cells[other] for other in task.needs | task.follows)
        if ending == 0 and not before(tasks, {0}) - {0}:
            tasks[0].state = 0


def test_views_of_a_million_rows_are_told_apart():
    found: TensorMap[Task] = TensorMap()
    base = np.lib.stride_tricks.as_strided(np.zeros(1, np.int8), (1_000_000, 64), (64, 1))
    tasks = [Task(number) for number in range(17)]
    for number in range(16):
        needs: list[Task] = []
        view = base[:, 4 * number : 4 * number + 4]
        info = describe(view)
        found.access_view(tasks[number], view, info.start, info.end, False, True, needs, needs)
        assert needs == []
    info = describe(base[:, 6:10])
    found.access_view(tasks[16], info.strided, info.start, info.end, True, False, needs, [])
    assert needs == [tasks[1], tasks[2]]


def test_what_overwrites_a_view_whole_lets_a_failure_below_be_forgotten():
    found: TensorMap[Task] = TensorMap()
    failed, writer, reader = Task(0, state=6), Task(1), Task(2)
    view = np.zeros((8, 8), np.int8)[:, 2:5]
    info = describe(view)
    found.access(failed, info.start - 8, info.end + 8, True, True, [], [])
    needs: list[Task] = []
    found.access_view(writer, view, info.start, info.end, False, True, needs, [])
    found.access_view(reader, view, info.start, info.end, True, False, needs, [])
    assert needs == [writer]


def test_views_nobody_waits_for_any_more_are_forgotten(monkeypatch):
    monkeypatch.setattr("simpler.graph.gapped.PRUNE_RECORDS", 100)
    found: TensorMap[Task] = TensorMap()
    base = np.zeros((2, 20_000), np.int8)
    for number in range(5000):
        task = Task(number)
        view = base[:, 4 * number : 4 * number + 2]
        info = describe(view)
        found.access_view(task, view, info.start, info.end, False, True, [], [])
        task.state = 0
    assert len(found._gapped) <= 2048
