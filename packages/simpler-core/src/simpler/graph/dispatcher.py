"""Where tasks go, and when: the part of the engine that sends.

Children work on what lies in their mailboxes, so tasks are sent ahead:

- A ready task goes to the endpoint with the least load. Quick ones queue there, up to the depth of the mailbox; of
  those that take some milliseconds one waits behind another; what takes long (or is not known yet) is only sent to an
  endpoint that has nothing else, so that nobody waits behind it while another endpoint is idle. Where there is only one
  endpoint, everything queues.
- A task whose predecessors all lie in one mailbox follows them into it, ready or not: that mailbox executes in order.
  Of the tasks that wait for the same predecessor only one does (its heir); the others can run elsewhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from simpler.errors import NoSuchWorker
from simpler.processes.endpoint import Endpoint
from simpler.protocol import DEPTH, MAX_NEEDS
from simpler.tasks.callables import CallableKind
from simpler.tasks.slot import Slot
from simpler.tasks.states import LAUNCH, TaskState

_FREE = int(TaskState.FREE)
_PENDING = int(TaskState.PENDING)
_RUNNING = int(TaskState.RUNNING)
_COMPLETED = int(TaskState.COMPLETED)

CROWDED = 8
"""Nothing follows into a mailbox with this many messages while another endpoint of its kind is idle."""


class Pool:
    """The endpoints of one kind, and the ready tasks that any of them may run."""

    def __init__(self, kind: CallableKind, noun: str, plural: str, endpoints: Sequence[Endpoint], knob: str) -> None:
        self.kind = kind
        self.noun = noun
        self.plural = plural
        self.knob = knob
        self.endpoints = list(endpoints)
        self.ready: deque[Slot] = deque()

    def check(self, worker: int) -> None:
        """NoSuchWorker unless there is an endpoint of that number (-1: any)."""
        count = len(self.endpoints)
        if not count:
            raise NoSuchWorker(f"this worker has no {self.plural}: make it with {self.knob}")
        if not -1 <= worker < count:
            raise NoSuchWorker(
                f"there is no {self.noun} {worker}: this worker has {count} ({self.knob} decides), numbered "
                f"0..{count - 1}; -1 means any"
            )


class Dispatcher:
    """Sends tasks to endpoints, or keeps them until it can.

    Attributes:
        pools: the endpoints by kind.
        unsent: how many tasks are PENDING or READY.
        stranded: a queue may hold a task that no living endpoint can run.
    """

    def __init__(self, pools: Sequence[Pool]) -> None:
        self.pools = list(pools)
        self.endpoints = [endpoint for pool in pools for endpoint in pool.endpoints]
        self.unsent = 0
        self.stranded = False
        self.any_dead = False  # and not replaced

    def clear(self) -> None:
        """Forget every task."""
        self.unsent = 0
        self.stranded = False
        for pool in self.pools:
            pool.ready.clear()
        for endpoint in self.endpoints:
            endpoint.waiting.clear()
            endpoint.pinned.clear()

    def dispatch(self, slot: Slot) -> None:
        """Send a ready task, or queue it."""
        pool = slot.pool
        if slot.members is not None:
            queue = pool.ready
            sent = not queue and self._send_group(slot)
        elif slot.pin >= 0:
            target = pool.endpoints[slot.pin]
            queue = target.pinned
            sent = not queue and target.death is None and self._send(slot, target)
        else:
            queue = pool.ready
            best = None if queue else self._pick(pool, slot.entry.weight)
            sent = best is not None and self._send(slot, best)
        if not sent:
            queue.append(slot)
            if self.any_dead:
                self.stranded = True

    @staticmethod
    def _pick(pool: Pool, weight: int) -> Endpoint | None:
        """The endpoint with the least load, if a task of that weight may be sent to it now."""
        endpoints = pool.endpoints
        if len(endpoints) == 1:
            return endpoints[0] if endpoints[0].death is None else None
        best, least = None, DEPTH - weight + 1
        for endpoint in endpoints:
            if endpoint.load < least and endpoint.death is None:
                best, least = endpoint, endpoint.load
        return best

    def _send(self, slot: Slot, endpoint: Endpoint, needs: Sequence[int] = ()) -> bool:
        assert slot.plain is not None
        if not endpoint.submit(slot, slot.plain, needs):
            return False
        self.unsent -= 1
        slot.state = LAUNCH[slot.state]
        slot.endpoint = endpoint
        slot.weight = slot.entry.weight
        endpoint.load += slot.weight
        if slot.consumers is not None:  # perhaps one of them can follow it
            for consumer in slot.consumers:
                if consumer.state == _PENDING:
                    self.follow(consumer)
        return True

    def _send_group(self, slot: Slot) -> bool:
        """Send all members of a group, each to an endpoint of its own, or none.

        Groups reach every mailbox in the same order, so members that wait for each other cannot block one another.
        """
        assert slot.members is not None
        endpoints = slot.pool.endpoints
        if slot.targets is not None:
            targets = [endpoints[index] for index in slot.targets]
        else:
            alive = [endpoint for endpoint in endpoints if endpoint.death is None]
            targets = sorted(alive, key=lambda endpoint: len(endpoint.in_flight))[: len(slot.members)]
        if len(targets) < len(slot.members):
            return False
        if any(endpoint.death is not None or len(endpoint.in_flight) >= DEPTH for endpoint in targets):
            return False
        self.unsent -= 1
        slot.state = LAUNCH[slot.state]
        slot.weight = slot.entry.weight
        for endpoint, plain in zip(targets, slot.members, strict=True):
            if not endpoint.submit(slot, plain, ()):
                raise AssertionError(f"{endpoint.name} has room and takes nothing")
            endpoint.load += slot.weight
        return True

    def follow(self, slot: Slot) -> None:
        """Send a task that still waits right behind the tasks it waits for, if they are all in one mailbox."""
        before = slot.before
        if before is None or slot.members is not None:
            return
        target = None
        needs = []
        for position, task in enumerate(before):
            if task.state != _RUNNING:
                if task.state == _FREE or task.state == _COMPLETED:
                    continue
                return
            if task.endpoint is None or (task.endpoint is not target and target is not None):
                return
            target = task.endpoint
            if position < slot.needed:
                needs.append(task.ticket)
        if target is None or target.death is not None or len(needs) > MAX_NEEDS:
            return
        endpoints = slot.pool.endpoints
        if slot.pin >= 0:
            if endpoints[slot.pin] is not target:
                return
        elif len(endpoints) == 1:
            if endpoints[0] is not target:
                return
        elif target not in endpoints or any(task.heir and task.state == _RUNNING for task in before):
            return
        if len(target.in_flight) < self._room(target, slot.pool) and self._send(slot, target, needs):
            for task in before:
                task.heir = True
        else:
            target.waiting.append(slot)

    @staticmethod
    def _room(endpoint: Endpoint, pool: Pool) -> int:
        """How many messages its mailbox may hold before nothing more follows into it."""
        for other in pool.endpoints:
            if not other.in_flight and other is not endpoint and other.death is None:
                return CROWDED
        return DEPTH

    def pump(self) -> None:
        """Send what was queued, now that mailboxes have room."""
        for pool in self.pools:
            for endpoint in pool.endpoints:
                queue = endpoint.pinned
                while queue and endpoint.death is None and self._send(queue[0], endpoint):
                    queue.popleft()
                waiting = endpoint.waiting
                for _ in range(len(waiting)):
                    if len(endpoint.in_flight) >= self._room(endpoint, pool):
                        break
                    slot = waiting.popleft()
                    if slot.state == _PENDING:
                        self.follow(slot)
            while pool.ready:
                slot = pool.ready[0]
                if slot.members is not None:
                    if not self._send_group(slot):
                        break
                else:
                    best = self._pick(pool, slot.entry.weight)
                    if best is None or not self._send(slot, best):
                        break
                pool.ready.popleft()

    def take_stranded(self) -> list[tuple[Slot, Endpoint]]:
        """Take the tasks that no living endpoint can run out of the queues; each with a dead one it would need."""
        self.stranded = False
        taken = []
        for queue in [endpoint.pinned for endpoint in self.endpoints] + [pool.ready for pool in self.pools]:
            for _ in range(len(queue)):
                slot = queue.popleft()
                dead = self._out_of_reach(slot)
                if dead is None:
                    queue.append(slot)
                else:
                    taken.append((slot, dead))
        return taken

    @staticmethod
    def _out_of_reach(slot: Slot) -> Endpoint | None:
        """A dead endpoint for want of which the task cannot be run any more."""
        endpoints = slot.pool.endpoints
        if slot.pin >= 0:
            endpoint = endpoints[slot.pin]
            return endpoint if endpoint.death is not None else None
        dead = [endpoint for endpoint in endpoints if endpoint.death is not None]
        if not dead:
            return None
        if slot.targets is not None:
            return next((endpoints[index] for index in slot.targets if endpoints[index].death is not None), None)
        wanted = 1 if slot.members is None else len(slot.members)
        return dead[0] if len(endpoints) - len(dead) < wanted else None
