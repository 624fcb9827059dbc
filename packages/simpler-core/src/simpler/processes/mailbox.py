"""The transport to a forked child: a mailbox."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from simpler_ipc import CONTROL, SHUTDOWN, TASK, Doorbell, IpcError, Mailbox, MailboxClient, Peer, Region
from simpler_runtime import CallConfig, write_task

from simpler.arguments.bound import Bound
from simpler.processes.forking import KILLED_S
from simpler.protocol import DEPTH, FRAME_NBYTES, HEADER_NBYTES, HEADERS
from simpler.tasks.lane import Answer, Death


class MailboxTransport:
    """Carries messages to a child of this process.

    Attributes:
        kind, index: which child.
        peer: its process; None before it is forked.
    """

    def __init__(self, kind: str, index: int, doorbell: Doorbell) -> None:
        self.kind = kind
        self.index = index
        self.name = f"{kind} {index}"
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
        self.peer = None

    def submit(self, digest: bytes, config: CallConfig, bound: Bound, needs: Sequence[int]) -> int | None:
        frame = self._reserve()
        if frame is None:
            return None
        plain, readonly, notes = bound
        end = HEADER_NBYTES + write_task(frame[HEADER_NBYTES:], digest, config, plain)
        if notes:
            HEADERS[len(needs)].pack_into(frame, 0, len(needs), end, readonly, *needs)
            frame[end : end + len(notes)] = notes
            end += len(notes)
        else:
            HEADERS[len(needs)].pack_into(frame, 0, len(needs), 0, readonly, *needs)
        return self._post(TASK, end)

    def control(self, payload: bytes) -> bool:
        return self._client.send(CONTROL, payload) is not None

    def health(self) -> Death | None:
        died = None if self.peer is None else self.peer.died()
        return None if died is None else Death(died.pid, died.exit_status, died.signal)

    def rest(self) -> bool:
        while self._client.in_flight and self._client.poll() is not None:
            pass
        return not self._client.in_flight

    def kill(self) -> None:
        """End the child now, and see that it has ended."""
        if self.peer is not None:
            self.peer.kill()
            self.peer.wait(KILLED_S)

    def close(self) -> None:
        if self.peer is None or self.health() is not None:
            return
        try:
            self._client.send(SHUTDOWN, b"")
        except IpcError:
            self.peer.kill()

    def dispose(self) -> None:
        """Let go of the mailbox. The child is gone."""
        del self._client, self._reserve, self._post, self.poll, self.mailbox, self._region
        self.peer = None
