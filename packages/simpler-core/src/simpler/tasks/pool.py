"""Endpoints of one kind, among which a task may choose."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Generic

from simpler.errors import NoSuchWorker
from simpler.tasks.callables import CallableKind
from simpler.tasks.lane import Lane, Task


class Pool(Generic[Task]):
    """Some lanes, and the ready tasks that any of them may run.

    Attributes:
        accepts: the kinds of callable that its endpoints execute.
        noun, plural: what one of them, and several, are called in messages.
        knob: the argument of ``Worker`` that says how many there are.
        submit: the method of ``Orchestrator`` that sends tasks here.
        lanes: one an endpoint.
        ready: tasks for any of them, in the order in which they became ready.
    """

    def __init__(
        self,
        accepts: Iterable[CallableKind],
        noun: str,
        plural: str,
        knob: str,
        submit: str,
        lanes: Iterable[Lane[Task]] = (),
    ) -> None:
        self.accepts = frozenset(accepts)
        self.noun = noun
        self.plural = plural
        self.knob = knob
        self.submit = submit
        self.lanes = list(lanes)
        self.ready: deque[Task] = deque()

    def check(self, worker: int) -> None:
        """NoSuchWorker unless there is an endpoint of that number (-1: any)."""
        count = len(self.lanes)
        if isinstance(worker, bool) or not isinstance(worker, int):
            raise NoSuchWorker(f"worker is {worker!r}; it is the number of a {self.noun}, or -1 for any")
        if not count:
            raise NoSuchWorker(f"this worker has no {self.plural}: make it with {self.knob}")
        if not -1 <= worker < count:
            raise NoSuchWorker(
                f"there is no {self.noun} {worker}: this worker has {count} ({self.knob} decides), numbered "
                f"0..{count - 1}; -1 means any"
            )
