"""One execution of an orchestration."""

from __future__ import annotations

from typing import Generic

from simpler.errors import TaskFailed, combine
from simpler.memory.regions import Lease
from simpler.memory.staging import Staging
from simpler.tasks.lane import Task


class Run(Generic[Task]):
    """What belongs to a run and goes with it; lanes and the tensor map are the engine's.

    Attributes:
        deadline: when it is given up, on the monotonic clock; None for never.
        staging: its copies of arrays that children cannot see.
        leases: its HeapRing blocks, by address, each with its scope depth.
        count: tasks submitted.
        live: tasks that have not ended.
        failures: of its tasks, in the order they happened.
        failed: tasks that failed or were poisoned: later ones may need what they did not write.
        skipped: names of the poisoned.
    """

    __slots__ = ("count", "deadline", "failed", "failures", "leases", "live", "skipped", "staging")

    def __init__(self, deadline: float | None = None) -> None:
        self.deadline = deadline
        self.staging: Staging | None = None
        self.leases: dict[int, tuple[int, Lease]] = {}
        self.count = 0
        self.live = 0
        self.failures: list[TaskFailed] = []
        self.failed: list[Task] = []
        self.skipped: list[str] = []

    def outcome(self) -> TaskFailed | None:
        """The error it ends with, when no task is left."""
        return combine(self.failures, self.skipped)
