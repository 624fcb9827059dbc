"""A worker's child processes, together: started, watched, ended."""

from __future__ import annotations

import os
from collections.abc import Callable

from simpler_ipc import Doorbell, Peer, Region, WaitSet

from simpler.memory.regions import SharedMemory
from simpler.processes import forking
from simpler.processes.mailbox import MailboxTransport

CHIP, SUB = "chip", "sub worker"


class Children:
    """The children and what wakes their parent. It does not refer to the worker, so it can end them any time."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.endpoints: list[MailboxTransport] = []
        self.memory: SharedMemory | None = None

    def open(self, chips: int, subs: int) -> None:
        """Map what they share with their parent. Comes before the first fork."""
        self.doorbell = Doorbell(Region(Doorbell.NBYTES, label="simpler-doorbell"))
        self.wait_set = WaitSet(self.doorbell)
        self.parent = Peer(os.getpid())
        self.endpoints = [MailboxTransport(CHIP, index, self.doorbell) for index in range(chips)]
        self.endpoints += [MailboxTransport(SUB, index, self.doorbell) for index in range(subs)]

    def fork(self, endpoint: MailboxTransport, main: Callable[[], None]) -> None:
        """Start the child behind an endpoint."""
        endpoint.peer = forking.fork(main, self.parent, f"simpler-{endpoint.kind[:4]}-{endpoint.index}")

    def watch(self, endpoint: MailboxTransport) -> None:
        assert endpoint.peer is not None
        self.wait_set.watch(endpoint.peer)

    def unwatch(self, endpoint: MailboxTransport) -> None:
        """Let go of the peer of an endpoint whose child has died, and of what its tasks have left running."""
        if endpoint.peer is not None:
            self.wait_set.forget(endpoint.peer)
            forking.end_group(endpoint.peer.pid)

    def end(self) -> None:
        """Ask every child to end, see to it that it does, and let go of everything."""
        if os.getpid() != self.owner:  # a forked copy of the worker: the children are not ours
            return
        endpoints, self.endpoints = self.endpoints, []
        memory, self.memory = self.memory, None
        try:
            if endpoints:
                self._end(endpoints)
        finally:
            if memory is not None:
                memory.close()

    def _end(self, endpoints: list[MailboxTransport]) -> None:
        try:
            for endpoint in endpoints:
                endpoint.close()
            forking.reap([endpoint.peer for endpoint in endpoints if endpoint.peer and endpoint.health() is None])
        finally:
            self.wait_set.close()
            for endpoint in endpoints:
                if endpoint.peer is not None:
                    forking.end_group(endpoint.peer.pid)
                endpoint.dispose()
            del self.wait_set, self.doorbell, self.parent
