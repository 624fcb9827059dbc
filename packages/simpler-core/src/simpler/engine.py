"""The scheduler: advances the graph of a run, on the thread of whoever waits for it.

Nothing here runs by itself. ``add`` sends what can be sent, ``advance`` waits for something to end. Between the two,
children work on what lies in their mailboxes, so tasks are sent ahead:

- A ready task goes to the endpoint with the least load. Quick ones queue there, up to the depth of the mailbox; of
  those that take some milliseconds one waits behind another; what takes long (or is not known yet) is only sent to an
  endpoint that has nothing else, so that nobody waits behind it while another endpoint is idle. Where there is only one
  endpoint, everything queues.
- A task whose predecessors all lie in one mailbox follows them into it, ready or not: that mailbox executes in order.
  Of the tasks that wait for the same predecessor only one does (its heir); the others can run elsewhere.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from simpler_ipc import Doorbell, PeerDied, WaitSet, WaitTimeout

from .callables import CallableKind
from .endpoint import Answer, ControlCall, Endpoint
from .errors import NoSuchWorker, RunTimeout, TaskFailed, WorkerDied, WorkerStateError, describe_death
from .memory import SharedMemory
from .protocol import DEPTH, FAILED, MAX_NEEDS, OK_SLOW, unpack_failure
from .slot import Slot
from .staging import Staging
from .states import BUILD, COMPLETE, CONSUME, FAIL, FREE, LAUNCH, RECALL, RELEASE, SUBMIT, TaskState
from .tensor_map import TensorMap

_FREE = int(TaskState.FREE)
_PENDING = int(TaskState.PENDING)
_RUNNING = int(TaskState.RUNNING)
_COMPLETED = int(TaskState.COMPLETED)
_FAILED = int(TaskState.FAILED)

WEIGHTS = (1, DEPTH // 2, DEPTH)
"""By the code of a successful answer: what the next task of that callable weighs. An endpoint bears DEPTH."""

MAX_LIVE = 16384
"""Tasks of a run that have not ended. At this many, submit waits for some to end, so that memory stays bounded."""

HARVEST_EVERY = 8
"""How many submits may pass between looks at the mailboxes while nothing waits for an answer."""

CROWDED = 8
"""A mailbox with this many messages gets no heirs while another endpoint of its kind is idle."""

NOTES = 10
"""How many further failures an error lists by name."""

CHECK_S = 0.25
"""How long a wait may go on before every child is looked at, whatever the doorbell said."""


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


class Engine:
    """Runs graphs on endpoints, one run at a time, single-threaded.

    Args:
        pools: the endpoints by kind.
        memory: what they share.
        doorbell: rung whenever an endpoint answered or died.
        wait_set: waits for it.

    ``replace`` puts a new child in the place of a dead one; None if the dead stay dead.
    """

    def __init__(
        self,
        pools: Sequence[Pool],
        memory: SharedMemory,
        doorbell: Doorbell,
        wait_set: WaitSet,
    ) -> None:
        self.pools = list(pools)
        self._endpoints = [endpoint for pool in pools for endpoint in pool.endpoints]
        self._memory = memory
        self._doorbell = doorbell
        self._wait_set = wait_set
        self._cancelled = False
        self._any_dead = False  # that stays so
        self.replace: Callable[[Any], None] | None = None
        self._deadline: float | None = None
        self._forget()

    def begin(self, deadline: float | None) -> None:
        """Start a run; ``deadline`` is when ``advance`` gives up, on the monotonic clock."""
        self._deadline = deadline

    def finish(self) -> None:
        """The run is over: let go of everything it held."""
        for slot in self.failed:
            slot.state = FREE[CONSUME[slot.state]]
        self._deadline = None
        self._forget()

    def _forget(self) -> None:
        self.live = 0  # tasks added that have not ended
        self.count = 0  # tasks added
        self.failures: list[TaskFailed] = []
        self.failed: list[Slot] = []  # also the poisoned: later tasks may need what they did not write
        self.skipped: list[str] = []
        self.tensor_map: TensorMap[Slot] = TensorMap()
        self.staging = Staging(self._memory, self.allocate, self.wait_until, self.drain)
        self._unsent = 0  # tasks that are PENDING or READY
        self._since_harvest = 0
        for pool in self.pools:
            pool.ready.clear()
        for endpoint in self._endpoints:
            endpoint.waiting.clear()
            endpoint.pinned.clear()

    # -- submitting ---------------------------------------------------------------------------------------------------

    def add(self, slot: Slot, needs: list[Slot], follows: list[Slot]) -> None:
        """Take a task into the graph: it needs what ``needs`` write, and must not start before ``follows`` ended."""
        slot.index = self.count
        self.count += 1
        self.live += 1
        self._unsent += 1
        slot.state = BUILD[slot.state]
        if needs or follows:
            self._wire(slot, needs, follows)
        if slot.cause is not None:
            self._skip(slot)
        else:
            slot.state = SUBMIT[slot.state]
            if not slot.fan_in:
                slot.state = RELEASE[slot.state]
                self._dispatch(slot)
            else:
                self._follow(slot)
        self._since_harvest += 1
        if self._unsent or self._since_harvest >= HARVEST_EVERY:
            self.harvest()
            while self.live >= MAX_LIVE:
                self.advance()

    @staticmethod
    def _wire(slot: Slot, needs: list[Slot], follows: list[Slot]) -> None:
        before = []
        for task in needs:
            if task.state == _FAILED:
                slot.cause = task.cause
            elif task.consumers is None:
                task.consumers = [slot]
                before.append(task)
            elif task.consumers[-1] is not slot:  # else it was named twice
                task.consumers.append(slot)
                before.append(task)
        slot.needed = len(before)
        for task in follows:
            if task.state == _FAILED:
                continue
            if task.followers is None:
                task.followers = [slot]
                before.append(task)
            elif task.followers[-1] is not slot:
                task.followers.append(slot)
                before.append(task)
        slot.before = before
        slot.fan_in = len(before)

    # -- sending ------------------------------------------------------------------------------------------------------

    def _dispatch(self, slot: Slot) -> None:
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
            dead = self._out_of_reach(slot) if self._any_dead else None
            if dead is None:
                queue.append(slot)
            else:
                self._abandon(slot, dead)

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
        self._unsent -= 1
        slot.state = LAUNCH[slot.state]
        slot.endpoint = endpoint
        slot.weight = slot.entry.weight
        endpoint.load += slot.weight
        if slot.consumers is not None:  # perhaps one of them can follow it
            for consumer in slot.consumers:
                if consumer.state == _PENDING:
                    self._follow(consumer)
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
        self._unsent -= 1
        slot.state = LAUNCH[slot.state]
        slot.weight = slot.entry.weight
        for endpoint, plain in zip(targets, slot.members, strict=True):
            if not endpoint.submit(slot, plain, ()):
                raise AssertionError(f"{endpoint.name} has room and takes nothing")
            endpoint.load += slot.weight
        return True

    def _follow(self, slot: Slot) -> None:
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

    def _pump(self) -> None:
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
                        self._follow(slot)
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

    # -- what ended ---------------------------------------------------------------------------------------------------

    def harvest(self) -> bool:
        """Take in all answers there are; whether there were any."""
        self._since_harvest = 0
        any_answer = False
        for endpoint in self._endpoints:
            if endpoint.in_flight:
                poll = endpoint.poll
                while (answer := poll()) is not None:
                    any_answer = True
                    self._answered(endpoint, answer)
        if any_answer and self._unsent:
            self._pump()
        return any_answer

    def _answered(self, endpoint: Endpoint, answer: Answer) -> None:
        slot = endpoint.in_flight.popleft()
        if isinstance(slot, ControlCall):
            slot.answer = answer
            return
        endpoint.load -= slot.weight
        code = answer.code
        if code <= OK_SLOW:
            slot.entry.weight = WEIGHTS[code]
        elif code == FAILED:
            error, text = unpack_failure(answer.payload)
            name = slot.entry.name
            self._note(slot, TaskFailed(name, slot.index, endpoint.name, original=error, remote_traceback=text))
        else:  # POISONED; the failure it suffers from came in before this answer
            self.skipped.append(slot.entry.name)
        slot.awaited -= 1
        if not slot.awaited:
            if slot.cause is None:
                self._complete(slot)
            else:
                self._fail(slot)

    def _complete(self, slot: Slot) -> None:
        slot.state = COMPLETE[slot.state]
        for waiting in (slot.consumers, slot.followers):
            if waiting is not None:
                for task in waiting:
                    self._one_less(task)
        slot.keep = None
        slot.state = CONSUME[slot.state]
        self._retire(slot)
        slot.state = FREE[slot.state]

    def _one_less(self, slot: Slot) -> None:
        """A task that ``slot`` waits for has ended."""
        slot.fan_in -= 1
        if not slot.fan_in and slot.state == _PENDING:
            slot.state = RELEASE[slot.state]
            self._dispatch(slot)

    def _note(self, slot: Slot, error: TaskFailed) -> None:
        self.failures.append(error)
        slot.cause = error

    def _skip(self, slot: Slot) -> None:
        """End a task that was not sent and will not be."""
        self._unsent -= 1
        self.skipped.append(slot.entry.name)
        self._fail(slot)

    def _fail(self, slot: Slot) -> None:
        """End a task whose ``cause`` is known; poison what needs it, let go what only waited for it."""
        pending = [slot]
        while pending:
            slot = pending.pop()
            slot.state = FAIL[slot.state]
            self.failed.append(slot)
            for task in slot.consumers or ():
                if task.state == _PENDING:
                    self._unsent -= 1
                    self.skipped.append(task.entry.name)
                    task.cause = slot.cause
                    pending.append(task)
                elif task.state == _RUNNING:  # right behind it in its mailbox: the child will not run it
                    task.cause = slot.cause
            for task in slot.followers or ():
                self._one_less(task)
            self._retire(slot)

    def _retire(self, slot: Slot) -> None:
        """Forget what only a living task needs."""
        self.live -= 1
        if slot.copies is not None:
            self.staging.release(slot.copies)
            slot.copies = None
        if slot.scope is not None:
            slot.scope.task_ended()
            slot.scope = None
        slot.plain = slot.members = slot.before = slot.consumers = slot.followers = slot.endpoint = None

    # -- children that died -------------------------------------------------------------------------------------------

    def check_children(self) -> None:
        """Notice children that died, and end or resend their tasks."""
        for endpoint in self._endpoints:
            if endpoint.death is None and endpoint.died() is not None:
                self._bury(endpoint)

    def _bury(self, endpoint: Endpoint) -> None:
        while (answer := endpoint.poll()) is not None:  # what it still got done counts
            self._answered(endpoint, answer)
        death = endpoint.death
        assert death is not None
        left = list(endpoint.in_flight)
        endpoint.in_flight.clear()
        endpoint.load = 0
        for slot in left:
            if isinstance(slot, Slot):
                slot.endpoint = None  # nothing can follow it there
        reason = gone(endpoint)
        if self.replace is not None:  # takes answers of other children in, so nothing may be half done
            self.replace(endpoint)
        self._any_dead = any(other.death is not None for other in self._endpoints)
        recalled = []
        for position, slot in enumerate(left):
            if isinstance(slot, ControlCall):
                slot.error = reason
            elif slot.cause is not None:  # poisoned, or of a group that failed already
                if slot.plain is not None:
                    self.skipped.append(slot.entry.name)
                self._lost(slot)
            elif position == 0 or slot.plain is None:  # only the oldest can have been running
                self._note(slot, _died(slot, endpoint.name, death, started=position == 0))
                self._lost(slot)
            else:
                slot.state = RECALL[slot.state]
                self._unsent += 1
                recalled.append(slot)
        for slot in recalled:
            if slot.state == _PENDING and not slot.fan_in:
                slot.state = RELEASE[slot.state]
                self._dispatch(slot)
        self._give_up()
        self._pump()

    def _lost(self, slot: Slot) -> None:
        slot.awaited -= 1
        if not slot.awaited:
            self._fail(slot)

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

    def _abandon(self, slot: Slot, endpoint: Endpoint) -> None:
        assert endpoint.death is not None
        self._note(slot, _died(slot, endpoint.name, endpoint.death, started=False))
        self._unsent -= 1
        self._fail(slot)

    def _give_up(self) -> None:
        """End queued tasks that no living endpoint may run."""
        queues = [endpoint.pinned for endpoint in self._endpoints] + [pool.ready for pool in self.pools]
        for queue in queues:
            for _ in range(len(queue)):
                slot = queue.popleft()
                dead = self._out_of_reach(slot)
                if dead is None:
                    queue.append(slot)
                else:
                    self._abandon(slot, dead)

    # -- waiting ------------------------------------------------------------------------------------------------------

    def advance(self) -> None:
        """Take in answers; if there are none, wait until something happens (an answer, a death, some time).

        Raises:
            RunTimeout: the run's time is up.
            WorkerStateError: the worker is being closed.
        """
        seen = self._doorbell.value
        if self._cancelled:
            raise WorkerStateError("the worker was closed by another thread while this run was going on")
        if self.harvest():
            return
        limit = CHECK_S
        if self._deadline is not None:
            limit = min(limit, self._deadline - time.monotonic())
            if limit <= 0:
                raise RunTimeout(f"the run took longer than the worker's timeout; {self.live} tasks had not ended")
        try:
            self._wait_set.wait(seen, limit)
        except WaitTimeout:
            self.check_children()
            self._check_progress()
        else:
            if not self.harvest():
                self.check_children()

    def _check_progress(self) -> None:
        """A task that nobody works on and that nothing will send is a bug; say so instead of waiting for it."""
        if self.live and not any(endpoint.in_flight for endpoint in self._endpoints):
            self._pump()
            if self.live and not any(endpoint.in_flight for endpoint in self._endpoints):
                raise AssertionError(f"{self.live} tasks are left and none can be sent")

    def cancel(self) -> None:
        """From any thread: end whatever waits in ``advance``, now and from now on."""
        self._cancelled = True
        self._doorbell.ring()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.advance()

    def drain(self) -> None:
        """Advance until every task has ended."""
        while self.live:
            self.advance()

    def control(self, endpoint: Endpoint, payload: bytes, limit: float) -> Answer:
        """Send a control message behind all that lies in the mailbox; wait ``limit`` seconds for its answer."""
        deadline = time.monotonic() + limit
        call = endpoint.control(payload)
        while call is None or (call.answer is None and call.error is None):
            if time.monotonic() > deadline:
                raise WorkerStateError(f"{endpoint.name} did not answer a control message within {limit} s")
            if endpoint.death is not None:
                raise gone(endpoint)
            self.advance()
            if call is None:
                call = endpoint.control(payload)
        if call.error is not None:
            raise call.error
        assert call.answer is not None
        return call.answer

    # -- memory -------------------------------------------------------------------------------------------------------

    def allocate(self, depth: int, nbytes: int, what: str) -> int:
        """The address of a HeapRing block, after waiting for tasks to release others if need be."""
        while True:
            address = self._memory.alloc(depth, nbytes, what)
            if address is not None:
                return address
            if depth == 0 and self.staging.settle_idle():
                continue
            if not self.live:
                raise self._memory.full(depth, nbytes, what)
            self.advance()

    # -- the end ------------------------------------------------------------------------------------------------------

    def outcome(self) -> TaskFailed | None:
        """The error a drained run ends with: the first failure, which tells of the others."""
        if not self.failures:
            return None
        error, *others = self.failures
        error.others = tuple(others)
        error.skipped = tuple(self.skipped)
        for other in others[:NOTES]:
            error.add_note(f"also failed: task {other.task} ({other.function}) on {other.worker}: {other.brief}")
        if len(others) > NOTES:
            error.add_note(f"and {len(others) - NOTES} more failures, see .others")
        if self.skipped:
            names = ", ".join(sorted(set(self.skipped))[:NOTES])
            error.add_note(f"{len(self.skipped)} tasks that needed its results were not run: {names}")
        return error


def _died(slot: Slot, name: str, death: PeerDied, *, started: bool) -> WorkerDied:
    return WorkerDied(
        slot.entry.name,
        slot.index,
        name,
        pid=death.pid,
        exit_status=death.exit_status,
        signal=death.signal,
        started=started,
    )


def gone(endpoint: Endpoint) -> WorkerStateError:
    death = endpoint.death
    assert death is not None
    how = describe_death(death.pid, death.exit_status, death.signal)
    return WorkerStateError(
        f"{endpoint.name} is gone: its process {how}; close this worker and make a new one, or make workers with "
        "restart=True to have dead children replaced"
    )
