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

from collections.abc import Sequence

from simpler.protocol import DEPTH, MAX_NEEDS
from simpler.tasks.lane import Lane
from simpler.tasks.pool import Pool
from simpler.tasks.slot import Slot
from simpler.tasks.states import LAUNCH, TaskState

_FREE = int(TaskState.FREE)
_PENDING = int(TaskState.PENDING)
_RUNNING = int(TaskState.RUNNING)
_COMPLETED = int(TaskState.COMPLETED)

CROWDED = 8
"""Nothing follows into a mailbox with this many messages while another endpoint of its kind is idle."""


class Dispatcher:
    """Sends tasks to endpoints, or keeps them until it can.

    Attributes:
        pools: the endpoints by kind.
        unsent: how many tasks are PENDING or READY.
        stranded: a queue may hold a task that no living endpoint can run.
    """

    def __init__(self, pools: Sequence[Pool[Slot]]) -> None:
        self.pools = list(pools)
        self.lanes = [lane for pool in pools for lane in pool.lanes]
        self.unsent = 0
        self.stranded = False

    @property
    def any_dead(self) -> bool:
        """Whether an endpoint is dead and was not replaced."""
        return any(lane.death is not None for lane in self.lanes)

    def clear(self) -> None:
        """Forget every task."""
        self.unsent = 0
        self.stranded = False
        for pool in self.pools:
            pool.ready.clear()
        for lane in self.lanes:
            lane.waiting.clear()
            lane.pinned.clear()

    def dispatch(self, slot: Slot) -> None:
        """Send a ready task, or queue it."""
        pool = slot.pool
        if slot.members is not None:
            queue = pool.ready
            sent = not queue and self._send_group(slot)
        elif slot.pin >= 0:
            target = pool.lanes[slot.pin]
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
    def _pick(pool: Pool[Slot], weight: int) -> Lane[Slot] | None:
        """The lane with the least load, if a task of that weight may be sent to it now."""
        lanes = pool.lanes
        if len(lanes) == 1:
            return lanes[0] if lanes[0].death is None else None
        best, least = None, DEPTH - weight + 1
        for lane in lanes:
            if lane.load < least and lane.death is None:
                best, least = lane, lane.load
        return best

    def _send(self, slot: Slot, lane: Lane[Slot], needs: Sequence[int] = ()) -> bool:
        assert slot.bound is not None
        ticket = lane.transport.submit(slot.entry.digest, slot.config, slot.bound, needs)
        if ticket is None:
            return False
        slot.ticket = ticket
        lane.in_flight.append(slot)
        self.unsent -= 1
        slot.state = LAUNCH[slot.state]
        slot.lane = lane
        slot.weight = slot.entry.weight
        lane.load += slot.weight
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
        lanes = slot.pool.lanes
        if slot.targets is not None:
            targets = [lanes[index] for index in slot.targets]
        else:
            alive = [lane for lane in lanes if lane.death is None]
            targets = sorted(alive, key=lambda lane: len(lane.in_flight))[: len(slot.members)]
        if len(targets) < len(slot.members):
            return False
        if any(lane.death is not None or len(lane.in_flight) >= DEPTH for lane in targets):
            return False
        self.unsent -= 1
        slot.state = LAUNCH[slot.state]
        slot.weight = slot.entry.weight
        for lane, bound in zip(targets, slot.members, strict=True):
            if lane.transport.submit(slot.entry.digest, slot.config, bound, ()) is None:
                raise AssertionError(f"{lane.name} has room and takes nothing")
            lane.in_flight.append(slot)
            lane.load += slot.weight
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
            if task.lane is None or (task.lane is not target and target is not None):
                return
            target = task.lane
            if position < slot.needed:
                needs.append(task.ticket)
        if target is None or target.death is not None or len(needs) > MAX_NEEDS:
            return
        lanes = slot.pool.lanes
        if slot.pin >= 0:
            if lanes[slot.pin] is not target:
                return
        elif len(lanes) == 1:
            if lanes[0] is not target:
                return
        elif target not in lanes or any(task.heir and task.state == _RUNNING for task in before):
            return
        if len(target.in_flight) < self._room(target, slot.pool) and self._send(slot, target, needs):
            for task in before:
                task.heir = True
        else:
            target.waiting.append(slot)

    @staticmethod
    def _room(lane: Lane[Slot], pool: Pool[Slot]) -> int:
        """How many messages its mailbox may hold before nothing more follows into it."""
        for other in pool.lanes:
            if not other.in_flight and other is not lane and other.death is None:
                return CROWDED
        return DEPTH

    def pump(self) -> None:
        """Send what was queued, now that mailboxes have room."""
        for pool in self.pools:
            for lane in pool.lanes:
                queue = lane.pinned
                while queue and lane.death is None and self._send(queue[0], lane):
                    queue.popleft()
                waiting = lane.waiting
                for _ in range(len(waiting)):
                    if len(lane.in_flight) >= self._room(lane, pool):
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

    def take_stranded(self) -> list[tuple[Slot, Lane[Slot]]]:
        """Take the tasks that no living endpoint can run out of the queues; each with a dead one it would need."""
        self.stranded = False
        taken = []
        for queue in [lane.pinned for lane in self.lanes] + [pool.ready for pool in self.pools]:
            for _ in range(len(queue)):
                slot = queue.popleft()
                dead = self._out_of_reach(slot)
                if dead is None:
                    queue.append(slot)
                else:
                    taken.append((slot, dead))
        return taken

    @staticmethod
    def _out_of_reach(slot: Slot) -> Lane[Slot] | None:
        """A dead endpoint for want of which the task cannot be run any more."""
        lanes = slot.pool.lanes
        if slot.pin >= 0:
            lane = lanes[slot.pin]
            return lane if lane.death is not None else None
        dead = [lane for lane in lanes if lane.death is not None]
        if not dead:
            return None
        if slot.targets is not None:
            return next((lanes[index] for index in slot.targets if lanes[index].death is not None), None)
        wanted = 1 if slot.members is None else len(slot.members)
        return dead[0] if len(lanes) - len(dead) < wanted else None
