"""When the engine sends what where: with endpoints that answer when the test says so."""

from __future__ import annotations

from collections import deque

import pytest
from simpler.errors import TaskFailed
from simpler.graph.dispatcher import CROWDED
from simpler.graph.engine import Engine
from simpler.memory.regions import SharedMemory
from simpler.protocol import DEPTH, FAILED, OK, OK_MEDIUM, OK_SLOW, POISONED, pack_failure
from simpler.tasks.callables import CallableKind, Entry
from simpler.tasks.lane import Lane
from simpler.tasks.pool import Pool
from simpler.tasks.slot import Slot
from simpler_ipc import Doorbell, Region, WaitSet
from simpler_runtime import CallConfig


class Answer:
    def __init__(self, code: int, payload: bytes = b"") -> None:
        self.code = code
        self.payload = payload


class ByHand:
    """A transport that keeps what it is sent until the test answers."""

    def __init__(self, index: int) -> None:
        self.lane: Lane[Slot] = Lane(index, f"hand {index}", self)
        self.sent: list[tuple[Slot, list[int]]] = []
        self._answers: deque[Answer] = deque()

    def submit(self, digest, config, bound, needs):
        if len(self.lane.in_flight) >= DEPTH:
            return None
        self.sent.append((bound.slot, list(needs)))
        return len(self.sent) - 1

    def answer(self, *codes: int) -> None:
        for code in codes:
            self._answers.append(Answer(code, pack_failure(ValueError("no"), 65536) if code == FAILED else b""))

    def poll(self):
        return self._answers.popleft() if self._answers else None

    def health(self):
        return None

    @property
    def indices(self) -> list[int]:
        return [slot.index for slot, _ in self.sent]


class Arguments:
    """Stands for a task's arguments, and says whose they are."""

    slot: Slot


class Bench:
    """An engine over endpoints by hand."""

    def __init__(self, count: int) -> None:
        self.ends = [ByHand(index) for index in range(count)]
        lanes = [end.lane for end in self.ends]
        self.pool = Pool([CallableKind.PYTHON_FUNCTION], "hand", "hands", "count", "submit_sub", lanes)
        self.memory = SharedMemory(1 << 16, 1 << 16)
        doorbell = Doorbell(Region(Doorbell.NBYTES))
        self.engine = Engine([self.pool], self.memory, doorbell, WaitSet(doorbell), respawn=lambda lane: None)
        self.run = self.engine.begin()
        self.entries: dict[str, Entry] = {}

    def submit(self, *after: Slot, name: str = "task", quick: bool = True, follows=(), worker: int = -1) -> Slot:
        entry = self.entries.setdefault(name, Entry(bytes(32), CallableKind.PYTHON_FUNCTION, name, None, None))
        if quick:
            entry.weight = 1
        slot = Slot(self.run, entry, Arguments(), None, CallConfig(), self.pool, worker)
        slot.bound.slot = slot
        self.engine.add(slot, list(after), list(follows))
        return slot

    def sent(self) -> list[list[int]]:
        return [end.indices for end in self.ends]


def test_quick_tasks_are_sent_ahead_to_the_least_busy():
    bench = Bench(2)
    for _ in range(6):
        bench.submit()
    assert bench.sent() == [[0, 2, 4], [1, 3, 5]]


def test_tasks_that_may_take_long_do_not_queue():
    """Nobody knows how long these take: they wait here until somebody has nothing to do."""
    bench = Bench(2)
    for _ in range(5):
        bench.submit(name="unknown", quick=False)
    assert bench.sent() == [[0], [1]]
    bench.ends[1].answer(OK_SLOW)
    bench.engine.harvest()
    assert bench.sent() == [[0], [1, 2]]
    bench.ends[1].answer(OK_SLOW)
    bench.engine.harvest()
    assert bench.sent() == [[0], [1, 2, 3]]


def test_nothing_queues_behind_a_task_that_may_take_long():
    bench = Bench(2)
    bench.submit(name="unknown", quick=False)
    for _ in range(3):
        bench.submit()
    assert bench.sent() == [[0], [1, 2, 3]]


def test_how_long_a_callable_takes_is_learned_from_answers():
    bench = Bench(2)
    for _ in range(8):
        bench.submit(name="unknown", quick=False)
    assert bench.sent() == [[0], [1]]
    bench.ends[0].answer(OK_MEDIUM)  # one may wait behind another
    bench.engine.harvest()
    assert bench.sent() == [[0, 2, 3], [1]]
    bench.ends[0].answer(OK)
    bench.engine.harvest()
    assert bench.sent() == [[0, 2, 3, 4, 5, 6, 7], [1]]
    bench.ends[1].answer(OK_SLOW)
    bench.engine.harvest()
    bench.submit(quick=False)
    bench.submit(quick=False)
    assert bench.sent()[1] == [1, 8]


def test_where_nothing_can_be_balanced_everything_queues():
    bench = Bench(1)
    for _ in range(4):
        bench.submit(name="unknown", quick=False)
    assert bench.sent() == [[0, 1, 2, 3]]


def test_a_pinned_task_queues_whatever_is_before_it():
    bench = Bench(2)
    for _ in range(3):
        bench.submit(name="unknown", quick=False, worker=1)
    assert bench.sent() == [[], [0, 1, 2]]


def test_a_full_mailbox_keeps_tasks_here_in_order():
    bench = Bench(1)
    for _ in range(DEPTH + 5):
        bench.submit(worker=0)
    assert bench.ends[0].indices == list(range(DEPTH))
    bench.ends[0].answer(OK, OK)
    bench.engine.harvest()
    assert bench.ends[0].indices == list(range(DEPTH + 2))


def test_a_task_follows_the_one_it_needs_into_its_mailbox():
    bench = Bench(2)
    first = bench.submit(name="slow", quick=False)
    second = bench.submit(first)
    bench.submit(second)
    assert bench.sent() == [[0, 1, 2], []]
    assert [needs for _, needs in bench.ends[0].sent] == [[], [0], [1]]


def test_a_task_that_only_comes_after_another_is_sent_without_need():
    bench = Bench(2)
    reader = bench.submit()
    bench.submit(follows=[reader])
    assert [needs for _, needs in bench.ends[0].sent] == [[], []]


def test_only_one_of_several_tasks_follows_so_that_others_can_run_elsewhere():
    bench = Bench(2)
    first = bench.submit(name="slow", quick=False)
    for _ in range(3):
        bench.submit(first)
    assert bench.sent() == [[0, 1], []]
    bench.ends[0].answer(OK)
    bench.engine.harvest()
    assert bench.sent() == [[0, 1, 3], [2]]


def test_with_one_endpoint_everything_follows():
    bench = Bench(1)
    first = bench.submit()
    for _ in range(3):
        bench.submit(first)
    assert bench.sent() == [[0, 1, 2, 3]]


def test_a_task_that_needs_two_in_different_mailboxes_waits():
    bench = Bench(2)
    first, second = bench.submit(), bench.submit()
    bench.submit(first, second)
    assert bench.sent() == [[0], [1]]
    bench.ends[0].answer(OK)
    bench.engine.harvest()
    assert bench.sent() == [[0], [1]]
    bench.ends[1].answer(OK)
    bench.engine.harvest()
    assert sorted(bench.sent()[0] + bench.sent()[1]) == [0, 1, 2]


def test_a_chain_longer_than_the_mailbox_goes_on_following():
    bench = Bench(1)
    last = bench.submit()
    for _ in range(2 * DEPTH):
        last = bench.submit(last)
    assert bench.ends[0].indices == list(range(DEPTH))
    bench.ends[0].answer(*[OK] * 10)
    bench.engine.harvest()
    assert bench.ends[0].indices == list(range(DEPTH + 10))
    assert bench.ends[0].sent[DEPTH + 9][1] == [DEPTH + 8]


def test_a_chain_leaves_a_crowded_mailbox_for_an_idle_endpoint():
    bench = Bench(2)
    last = bench.submit(name="slow", quick=False)
    for _ in range(3 * CROWDED):
        last = bench.submit(last)
    assert len(bench.ends[0].sent) == CROWDED
    bench.ends[0].answer(*[OK] * CROWDED)
    bench.engine.harvest()
    assert len(bench.ends[0].sent) + len(bench.ends[1].sent) > CROWDED


def test_a_failure_poisons_what_is_here_and_what_is_in_the_mailbox():
    bench = Bench(1)
    first = bench.submit(name="fails")
    second = bench.submit(first, name="in the mailbox")
    for _ in range(DEPTH):
        second = bench.submit(second, name="far behind")
    bench.ends[0].answer(FAILED, *[POISONED] * (DEPTH - 1))
    bench.engine.harvest()
    assert bench.engine.live == 0
    error = bench.run.outcome()
    assert isinstance(error, TaskFailed)
    assert error.function == "fails"
    assert error.skipped.count("far behind") == DEPTH
    assert len(error.skipped) == DEPTH + 1


def test_a_failure_lets_go_what_only_came_after_it():
    bench = Bench(2)
    reader = bench.submit(name="fails", worker=0)
    bench.submit(follows=[reader], worker=1)
    assert bench.sent() == [[0], []]
    bench.ends[0].answer(FAILED)
    bench.engine.harvest()
    assert bench.sent() == [[0], [1]]


def test_a_finished_run_leaves_nothing_behind():
    bench = Bench(1)
    first = bench.submit(name="fails")
    bench.submit(first)
    bench.ends[0].answer(FAILED, POISONED)
    bench.engine.drain()
    bench.engine.finish(bench.run)
    bench.run = bench.engine.begin()
    assert (bench.engine.live, bench.run.count, bench.run.outcome()) == (0, 0, None)
    bench.submit()
    bench.ends[0].answer(OK)
    bench.engine.drain()
    assert bench.run.outcome() is None


def test_tasks_nobody_can_run_any_more_are_reported_instead_of_waited_for(monkeypatch):
    monkeypatch.setattr("simpler.graph.engine.CHECK_S", 0.01)
    bench = Bench(1)
    slot = bench.submit()
    bench.ends[0].lane.in_flight.clear()  # as if it had been lost
    with pytest.raises(AssertionError, match="1 tasks are left and none can be sent"):
        bench.engine.drain()
    assert slot.state


def test_memory_of_a_long_run_is_bounded(monkeypatch):
    monkeypatch.setattr("simpler.graph.engine.MAX_LIVE", 100)
    bench = Bench(1)

    class Quick(ByHand):
        def submit(self, digest, config, bound, needs):
            self.sent.clear()
            self.answer(OK)
            return super().submit(digest, config, bound, needs)

    quick = Quick(0)
    quick.lane = bench.pool.lanes[0]
    quick.lane.transport = quick
    most = 0
    for _ in range(5000):
        bench.submit()
        most = max(most, bench.engine.live)
    assert most <= 100
    bench.engine.drain()
    assert bench.run.count == 5000
