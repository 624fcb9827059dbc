"""The life of a task, in one table.

    FREE → BUILDING → PENDING → READY → RUNNING → COMPLETED | FAILED → CONSUMED → FREE

``EVENTS`` holds every transition there is. The engine moves a task with ``slot.state = LAUNCH[slot.state]``: one
dictionary lookup, which raises :class:`IllegalTransition` for a move that is not in the table.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NoReturn

from simpler.errors import IllegalTransition


class TaskState(IntEnum):
    """Where a task is in its life. FREE is 0 so that "is anything left of it?" is a truth test."""

    FREE = 0
    """Its slot belongs to no task."""
    BUILDING = 1
    """Being submitted: tags are walked, dependencies looked up."""
    PENDING = 2
    """Waits for tasks whose results it needs or whose reads it must not overtake."""
    READY = 3
    """Waits for a worker with room."""
    RUNNING = 4
    """Handed to a worker: in its mailbox or executing."""
    COMPLETED = 5
    """Ended well."""
    FAILED = 6
    """Raised, lost its worker, or was poisoned by the failure of a task it needs."""
    CONSUMED = 7
    """Ended, and everything that waited for it has been told."""


class Event(dict[int, int]):
    """One kind of transition: state before → state after."""

    def __init__(self, name: str, moves: dict[TaskState, TaskState]) -> None:
        # Plain integers: hashing an enum member costs a Python call, and the engine looks up six of these a task.
        super().__init__({int(before): int(after) for before, after in moves.items()})
        self.name = name

    def __missing__(self, state: int) -> NoReturn:
        raise IllegalTransition(f"a task that is {TaskState(state).name} cannot {self.name}")


S = TaskState
BUILD = Event("be built", {S.FREE: S.BUILDING})
SUBMIT = Event("be submitted", {S.BUILDING: S.PENDING})
RELEASE = Event("become ready", {S.PENDING: S.READY})
# PENDING → RUNNING: a task may follow the only task it waits for into the same mailbox, which executes in order.
LAUNCH = Event("be launched", {S.READY: S.RUNNING, S.PENDING: S.RUNNING})
COMPLETE = Event("complete", {S.RUNNING: S.COMPLETED})
# BUILDING, PENDING → FAILED: poisoned before it could run. READY → FAILED: no worker is left to run it.
FAIL = Event("fail", {S.RUNNING: S.FAILED, S.BUILDING: S.FAILED, S.PENDING: S.FAILED, S.READY: S.FAILED})
# Its worker died before it began; RECALL puts it back, RELEASE follows when it waits for nothing.
RECALL = Event("be recalled", {S.RUNNING: S.PENDING})
CONSUME = Event("be consumed", {S.COMPLETED: S.CONSUMED, S.FAILED: S.CONSUMED})
FREE = Event("be freed", {S.CONSUMED: S.FREE})
del S

EVENTS = (BUILD, SUBMIT, RELEASE, LAUNCH, COMPLETE, FAIL, RECALL, CONSUME, FREE)
