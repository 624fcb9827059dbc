"""Where a task can be sent: an endpoint's two halves.

A lane is what the scheduler keeps of an endpoint: what is in flight there, what waits to go there, whether it lives. A
transport is how bytes get there: a forked child's mailbox, or another host.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from simpler_runtime import CallConfig

from simpler.arguments.bound import Bound
from simpler.errors import WorkerStateError, describe_death

Task = TypeVar("Task")


@dataclass(frozen=True)
class Death:
    """How an endpoint's process ended: with an exit status, or by a signal."""

    pid: int
    exit_status: int | None
    signal: int | None

    def __str__(self) -> str:
        return describe_death(self.pid, self.exit_status, self.signal)


class Answer(Protocol):
    """What an endpoint says when it is done with a message: one of the protocol's codes, and a payload."""

    @property
    def ticket(self) -> int: ...
    @property
    def code(self) -> int: ...
    @property
    def payload(self) -> bytes: ...


class ControlCall:
    """A control message on its way; ``answer`` or ``error`` is set when it is over.

    ``hello`` marks the first one to a new child, which it answers when it is up.
    """

    __slots__ = ("answer", "error", "hello")

    def __init__(self, hello: bool = False) -> None:
        self.hello = hello
        self.answer: Answer | None = None
        self.error: Exception | None = None


class Transport(Protocol):
    """Carries messages to a process that executes them one after the other, in the order they were sent.

    It keeps no books: what was sent is the lane's to know, and asking it anything changes nothing.
    """

    def submit(self, digest: bytes, config: CallConfig, bound: Bound, needs: Sequence[int]) -> int | None:
        """Send a task: its ticket; None when there is no room. ``needs``: tickets ahead whose failure is its own."""

    def control(self, payload: bytes) -> bool:
        """Send a control message; False when there is no room."""

    def poll(self) -> Answer | None:
        """The answer to the oldest message that is not answered yet, if it is there."""

    def health(self) -> Death | None:
        """How its process died; None while it lives."""

    def rest(self) -> bool:
        """Drop the answers that are there; whether none is owed any more."""

    def kill(self) -> None:
        """End its process now."""

    def close(self) -> None:
        """Ask it to end, behind everything it was sent."""


class Lane(Generic[Task]):
    """What is known of an endpoint.

    Attributes:
        index: its number in its pool: what ``worker=`` selects.
        name: for messages, e.g. ``"chip 0"``.
        transport: how messages get there.
        in_flight: messages sent and not answered, oldest first.
        load: weight of the tasks among them.
        waiting: tasks that go here as soon as there is room, because what they wait for is here.
        pinned: ready tasks that may run nowhere else.
        death: how it died; None while it lives. Only the engine sets it.
        expendable: we ended its process ourselves, so it is replaced whatever the caller wants for other deaths.
        stillbirths: how many children in a row died here before they were up.
    """

    __slots__ = (
        "death",
        "expendable",
        "in_flight",
        "index",
        "load",
        "name",
        "pinned",
        "stillbirths",
        "transport",
        "waiting",
    )

    def __init__(self, index: int, name: str, transport: Transport) -> None:
        self.index = index
        self.name = name
        self.transport = transport
        self.in_flight: deque[Task | ControlCall] = deque()
        self.load = 0
        self.waiting: deque[Task] = deque()
        self.pinned: deque[Task] = deque()
        self.death: Death | None = None
        self.expendable = False
        self.stillbirths = 0

    def gone(self, restart: bool) -> WorkerStateError:
        """The error for what a dead endpoint would be needed for."""
        if restart:
            advice = f"{self.stillbirths} children in a row died there before they were up; close this worker"
        else:
            advice = (
                "close this worker and make a new one, or make workers with restart=True to have dead children replaced"
            )
        return WorkerStateError(f"{self.name} is gone: its process {self.death}; {advice}")
