"""What the engine knows of one task."""

from __future__ import annotations

from typing import Any

from simpler_runtime import CallConfig

from simpler.arguments.bound import Bound
from simpler.errors import TaskFailed
from simpler.memory.staging import Use
from simpler.tasks.callables import Entry
from simpler.tasks.lane import Lane
from simpler.tasks.pool import Pool
from simpler.tasks.run import Run
from simpler.tasks.scope import Scope
from simpler.tasks.states import TaskState

_FREE = int(TaskState.FREE)


class Slot:
    """One node of the graph.

    Attributes:
        run: whose task it is.
        state: a ``TaskState``, as a plain integer.
        index: number of the task in its run.
        bound: arguments as they go into the frame; of a group, None.
        members: of a group, the arguments of each member; else None.
        targets: of a group, the number of the endpoint of each member; None if any will do.
        keep: what must stay alive until the task has ended (the arrays).
        before: the live tasks this one waits for, while it waits.
        needed: how many of ``before``, from the front, write what this task needs.
        fan_in: how many tasks it still waits for.
        consumers: tasks that need what it writes. A failure poisons them.
        followers: tasks that must not start before it ended. A failure lets them go.
        lane, ticket: where it was sent, and as which message.
        awaited: replies that are still to come (one a member).
        weight: what it adds to the load of each lane it was sent to.
        heir: some task was sent right behind it.
        cause: the failure that makes it pointless to run this task.
    """

    __slots__ = (
        "awaited",
        "before",
        "bound",
        "cause",
        "config",
        "consumers",
        "copies",
        "entry",
        "fan_in",
        "followers",
        "heir",
        "index",
        "keep",
        "lane",
        "members",
        "needed",
        "pin",
        "pool",
        "run",
        "scope",
        "state",
        "targets",
        "ticket",
        "weight",
    )

    def __init__(
        self,
        run: Run[Slot],
        entry: Entry,
        bound: Bound | None,
        keep: Any,
        config: CallConfig,
        pool: Pool[Slot],
        pin: int,
    ) -> None:
        self.run = run
        self.entry = entry
        self.bound = bound
        self.keep = keep
        self.config = config
        self.pool = pool
        self.pin = pin
        self.state = _FREE
        self.fan_in = 0
        self.awaited = 1
        self.heir = False
        self.weight = 0
        self.index = -1
        self.ticket = -1
        self.needed = 0
        self.members: list[Bound] | None = None
        self.targets: list[int] | None = None
        self.lane: Lane[Slot] | None = None
        self.before: list[Slot] | None = None
        self.consumers: list[Slot] | None = None
        self.followers: list[Slot] | None = None
        self.copies: list[Use] | None = None
        self.scope: Scope | None = None
        self.cause: TaskFailed | None = None
