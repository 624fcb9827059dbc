"""Where a task can be sent.

The engine knows workers as endpoints only. The one here is a forked child behind a mailbox; a worker on another host
is another implementation of the same interface.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from simpler_ipc import CONTROL, SHUTDOWN, TASK, Doorbell, IpcError, Mailbox, MailboxClient, Peer, PeerDied, Region
from simpler_runtime import TaskArgs as PlainTaskArgs
from simpler_runtime import write_task

from simpler.processes.forking import KILLED_S
from simpler.protocol import DEPTH, FRAME_NBYTES, HEADER_NBYTES, TICKETS
from simpler.tasks.slot import Slot


class Answer(Protocol):
    """What an endpoint says when it is done with a message: one of the protocol's codes, and a payload."""

    @property
    def code(self) -> int: ...
    @property
    def payload(self) -> bytes: ...


class ControlCall:
    """A control message on its way; ``answer`` or ``error`` is set when it is over."""

    __slots__ = ("answer", "error")

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self.error: Exception | None = None


class Endpoint(Protocol):
    """Executes messages one after the other, in the order they were sent.

    Attributes:
        index: its number among its kind: what ``worker=`` selects.
        name: for messages, e.g. ``"chip 0"``.
        in_flight: messages sent and not answered, oldest first.
        load: weight of the tasks among them; the engine keeps it.
        waiting: tasks that go here as soon as there is room, because what they wait for is here.
        pinned: ready tasks that may run nowhere else.
        death: how it died; None while it lives.
    """

    index: int
    name: str
    in_flight: deque[Slot | ControlCall]
    load: int
    waiting: deque[Slot]
    pinned: deque[Slot]
    death: PeerDied | None

    def submit(self, slot: Slot, plain: PlainTaskArgs, needs: Sequence[int]) -> bool:
        """Send a task; False when there is no room. ``needs``: tickets of tasks ahead whose failure is its own."""

    def control(self, payload: bytes) -> ControlCall | None:
        """Send a control message; None when there is no room."""

    def poll(self) -> Answer | None:
        """The answer to the oldest message that is not answered yet, if it is there."""

    def died(self) -> PeerDied | None:
        """How it died, or None while it lives. Found out now."""

    def close(self) -> None:
        """Ask it to end, behind everything it was sent."""


class LocalEndpoint:
    """A forked child of this process behind a mailbox."""

    def __init__(self, kind: str, index: int, doorbell: Doorbell) -> None:
        self.kind = kind
        self.index = index
        self.name = f"{kind} {index}"
        self.in_flight: deque[Slot | ControlCall] = deque()
        self.load = 0
        self.waiting: deque[Slot] = deque()
        self.pinned: deque[Slot] = deque()
        self.death: PeerDied | None = None
        self.peer: Peer | None = None
        self._doorbell = doorbell
        self.open()

    def open(self) -> None:
        """A fresh mailbox: before the child is forked, and again before another takes its place."""
        self._region = Region(Mailbox.required_bytes(DEPTH, FRAME_NBYTES), label=f"simpler-{self.kind}-{self.index}")
        self.mailbox = Mailbox(self._region, depth=DEPTH, frame_bytes=FRAME_NBYTES)
        self._client: MailboxClient = self.mailbox.client(self._doorbell)
        self._reserve = self._client.reserve
        self._post = self._client.post
        self.poll: Callable[[], Answer | None] = self._client.poll
        self.in_flight.clear()
        self.load = 0
        self.death = None
        self.peer = None

    def submit(self, slot: Slot, plain: PlainTaskArgs, needs: Sequence[int]) -> bool:
        frame = self._reserve()
        if frame is None:
            return False
        if needs:
            TICKETS[len(needs)].pack_into(frame, 0, len(needs), *needs)
        else:
            frame[0] = 0
        nbytes = write_task(frame[HEADER_NBYTES:], slot.entry.digest, slot.config, plain)
        slot.ticket = self._post(TASK, HEADER_NBYTES + nbytes)
        self.in_flight.append(slot)
        return True

    def control(self, payload: bytes) -> ControlCall | None:
        if self._client.send(CONTROL, payload) is None:
            return None
        call = ControlCall()
        self.in_flight.append(call)
        return call

    def died(self) -> PeerDied | None:
        if self.death is None and self.peer is not None:
            self.death = self.peer.died()
        return self.death

    def unanswered(self) -> int:
        """Messages the child still has, as the mailbox counts them; answers that came are thrown away."""
        while self._client.in_flight and self._client.poll() is not None:
            pass
        return self._client.in_flight

    def close(self) -> None:
        if self.peer is None or self.died() is not None:
            return
        try:
            self._client.send(SHUTDOWN, b"")
        except IpcError:
            self.peer.kill()

    def kill(self) -> None:
        """End the child now, and find out that it ended."""
        if self.peer is not None:
            self.peer.kill()
            self.death = self.peer.wait(KILLED_S)

    def dispose(self) -> None:
        """Let go of the mailbox. The child is gone."""
        self.in_flight.clear()
        self.waiting.clear()
        self.pinned.clear()
        del self._client, self._reserve, self._post, self.poll, self.mailbox, self._region
        self.peer = None
