"""A worker's child processes, together: started, watched, stopped, ended."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from simpler_ipc import Doorbell, Peer, Region, WaitSet, WaitTimeout

from simpler.processes import forking
from simpler.processes.endpoint import LocalEndpoint

CHIP, SUB = "chip", "sub worker"


class Children:
    """The children and what wakes their parent. It does not refer to the worker, so it can end them any time."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.endpoints: list[LocalEndpoint] = []

    def open(self, chips: int, subs: int) -> None:
        """Map what they share with their parent. Comes before the first fork."""
        self.doorbell = Doorbell(Region(Doorbell.NBYTES, label="simpler-doorbell"))
        self.wait_set = WaitSet(self.doorbell)
        self.parent = Peer(os.getpid())
        self.endpoints = [LocalEndpoint(CHIP, index, self.doorbell) for index in range(chips)]
        self.endpoints += [LocalEndpoint(SUB, index, self.doorbell) for index in range(subs)]

    def fork(self, endpoint: LocalEndpoint, main: Callable[[], None]) -> None:
        """Start the child behind an endpoint."""
        endpoint.peer = forking.fork(main, self.parent, f"simpler-{endpoint.kind[:4]}-{endpoint.index}")

    def watch(self, endpoint: LocalEndpoint) -> None:
        assert endpoint.peer is not None
        self.wait_set.watch(endpoint.peer)

    def unwatch(self, endpoint: LocalEndpoint) -> None:
        assert endpoint.peer is not None
        self.wait_set.forget(endpoint.peer)

    def stop(self, grace: float) -> None:
        """Get every mailbox empty: wait ``grace`` seconds for children at work, then kill those."""
        deadline = time.monotonic() + grace
        busy = self.endpoints
        while True:
            seen = self.doorbell.value
            busy = [endpoint for endpoint in busy if endpoint.died() is None and endpoint.unanswered()]
            left = deadline - time.monotonic()
            if not busy or left <= 0:
                break
            try:
                self.wait_set.wait(seen, left)
            except (WaitTimeout, KeyboardInterrupt):  # a second Ctrl-C: no more patience
                break
        for endpoint in busy:
            endpoint.kill()
        for endpoint in self.endpoints:
            endpoint.in_flight.clear()
            endpoint.load = 0

    def end(self) -> None:
        """Ask every child to end, see to it that it does, and let go of everything."""
        if os.getpid() != self.owner:  # a forked copy of the worker: the children are not ours
            return
        endpoints, self.endpoints = self.endpoints, []
        if not endpoints:
            return
        try:
            for endpoint in endpoints:
                endpoint.close()
            forking.reap([endpoint.peer for endpoint in endpoints if endpoint.peer and endpoint.died() is None])
        finally:
            self.wait_set.close()
            for endpoint in endpoints:
                endpoint.dispose()
            del self.wait_set, self.doorbell, self.parent
