"""What the engine knows of one task."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simpler.tasks.states import TaskState

if TYPE_CHECKING:
    from simpler_runtime import CallConfig
    from simpler_runtime import TaskArgs as PlainTaskArgs

    from simpler.errors import TaskFailed
    from simpler.graph.dispatcher import Pool
    from simpler.graph.orchestrator import Scope
    from simpler.memory.staging import Copy
    from simpler.processes.endpoint import Endpoint
    from simpler.tasks.callables import Entry

_FREE = int(TaskState.FREE)


class Slot:
    """One node of the graph.

    Attributes:
        state: a ``TaskState``, as a plain integer.
        index: number of the task in its run.
        plain: arguments as they go into the frame; of a group, None.
        members: of a group, the arguments of each member; else None.
        targets: of a group, the endpoint of each member; None if any will do.
        keep: what must stay alive until the task has ended (the arrays).
        before: the live tasks this one waits for, while it waits.
        needed: how many of ``before``, from the front, write what this task needs.
        fan_in: how many tasks it still waits for.
        consumers: tasks that need what it writes. A failure poisons them.
        followers: tasks that must not start before it ended. A failure lets them go.
        endpoint, ticket: where it was sent, and as which message.
        awaited: replies that are still to come (one a member).
        weight: what it adds to the load of each endpoint it was sent to.
        heir: some task was sent right behind it.
        cause: the failure that makes it pointless to run this task.
    """

    __slots__ = (
        "awaited",
        "before",
        "cause",
        "config",
        "consumers",
        "copies",
        "endpoint",
        "entry",
        "fan_in",
        "followers",
        "heir",
        "index",
        "keep",
        "members",
        "needed",
        "pin",
        "plain",
        "pool",
        "scope",
        "state",
        "targets",
        "ticket",
        "weight",
    )

    def __init__(
        self, entry: Entry, plain: PlainTaskArgs | None, keep: Any, config: CallConfig, pool: Pool, pin: int
    ) -> None:
        self.entry = entry
        self.plain = plain
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
        self.members: list[PlainTaskArgs] | None = None
        self.targets: list[int] | None = None
        self.endpoint: Endpoint | None = None
        self.before: list[Slot] | None = None
        self.consumers: list[Slot] | None = None
        self.followers: list[Slot] | None = None
        self.copies: list[Copy] | None = None
        self.scope: Scope | None = None
        self.cause: TaskFailed | None = None
