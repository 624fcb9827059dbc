"""The scheduler: advances the graph of a run, on the thread of whoever waits for it.

Nothing here runs by itself. ``add`` takes a task in and sends what can be sent (``dispatcher``), ``advance`` takes
answers in and waits for something to end.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from simpler_ipc import Doorbell, PeerDied, WaitSet, WaitTimeout

from simpler.errors import RunTimeout, TaskFailed, WorkerDied, WorkerStateError, combine, describe_death
from simpler.graph.dispatcher import Dispatcher, Pool
from simpler.graph.tensor_map import TensorMap
from simpler.memory.regions import SharedMemory
from simpler.memory.staging import Staging
from simpler.processes.endpoint import Answer, ControlCall, Endpoint
from simpler.protocol import DEPTH, FAILED, OK_SLOW, unpack_failure
from simpler.tasks.slot import Slot
from simpler.tasks.states import BUILD, COMPLETE, CONSUME, FAIL, FREE, RECALL, RELEASE, SUBMIT, TaskState

_PENDING = int(TaskState.PENDING)
_RUNNING = int(TaskState.RUNNING)
_FAILED = int(TaskState.FAILED)

WEIGHTS = (1, DEPTH // 2, DEPTH)
"""By the code of a successful answer: what the next task of that callable weighs. An endpoint bears DEPTH."""

MAX_LIVE = 16384
"""Tasks of a run that have not ended. At this many, submit waits for some to end, so that memory stays bounded."""

HARVEST_EVERY = 8
"""How many submits may pass between looks at the mailboxes while nothing waits for an answer."""

CHECK_S = 0.25
"""How long a wait may go on before every child is looked at, whatever the doorbell said."""


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
        self.sending = Dispatcher(pools)
        self._memory = memory
        self._doorbell = doorbell
        self._wait_set = wait_set
        self._cancelled = False
        self.replace: Callable[[Any], None] | None = None
        self._deadline: float | None = None
        self.tensor_map: TensorMap[Slot] = TensorMap()
        self.staging = Staging(memory, self.allocate, self.wait_until, self.drain)
        self._forget()

    def begin(self, deadline: float | None) -> None:
        """Start a run; ``deadline`` is when ``advance`` gives up, on the monotonic clock."""
        self._deadline = deadline

    def finish(self, *, write_back: bool = True) -> None:
        """The run is over: give the caller what its tasks wrote, and let go of everything it held."""
        for slot in self.failed:
            slot.state = FREE[CONSUME[slot.state]]
        self._deadline = None
        self._forget()
        try:
            self.staging.finish(write_back)
        finally:
            self._memory.release_all()
            self._memory.trim()

    def _forget(self) -> None:
        self.live = 0  # tasks added that have not ended
        self.count = 0  # tasks added
        self.failures: list[TaskFailed] = []
        self.failed: list[Slot] = []  # also the poisoned: later tasks may need what they did not write
        self.skipped: list[str] = []
        self._since_harvest = 0
        self.tensor_map.clear()
        self.sending.clear()

    # -- submitting ---------------------------------------------------------------------------------------------------

    def add(self, slot: Slot, needs: list[Slot], follows: list[Slot]) -> None:
        """Take a task into the graph: it needs what ``needs`` write, and must not start before ``follows`` ended."""
        slot.index = self.count
        self.count += 1
        self.live += 1
        sending = self.sending
        sending.unsent += 1
        slot.state = BUILD[slot.state]
        if needs or follows:
            self._wire(slot, needs, follows)
        if slot.cause is not None:
            sending.unsent -= 1
            self.skipped.append(slot.entry.name)
            self._fail(slot)
        else:
            slot.state = SUBMIT[slot.state]
            if not slot.fan_in:
                slot.state = RELEASE[slot.state]
                sending.dispatch(slot)
            else:
                sending.follow(slot)
        self._since_harvest += 1
        if sending.unsent or self._since_harvest >= HARVEST_EVERY:
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

    # -- what ended ---------------------------------------------------------------------------------------------------

    def harvest(self) -> bool:
        """Take in all answers there are; whether there were any."""
        self._since_harvest = 0
        any_answer = False
        for endpoint in self.sending.endpoints:
            if endpoint.in_flight:
                poll = endpoint.poll
                while (answer := poll()) is not None:
                    any_answer = True
                    self._answered(endpoint, answer)
        if any_answer and self.sending.unsent:
            self.sending.pump()
        if self.sending.stranded:
            self._give_up()
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
            self.sending.dispatch(slot)

    def _note(self, slot: Slot, error: TaskFailed) -> None:
        self.failures.append(error)
        slot.cause = error

    def _fail(self, slot: Slot) -> None:
        """End a task whose ``cause`` is known; poison what needs it, let go what only waited for it."""
        pending = [slot]
        while pending:
            slot = pending.pop()
            slot.state = FAIL[slot.state]
            self.failed.append(slot)
            for task in slot.consumers or ():
                if task.state == _PENDING:
                    self.sending.unsent -= 1
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
        for endpoint in self.sending.endpoints:
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
        self.sending.any_dead = any(other.death is not None for other in self.sending.endpoints)
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
                self.sending.unsent += 1
                recalled.append(slot)
        for slot in recalled:
            if slot.state == _PENDING and not slot.fan_in:
                slot.state = RELEASE[slot.state]
                self.sending.dispatch(slot)
        self.sending.stranded = True
        self._give_up()
        self.sending.pump()

    def _lost(self, slot: Slot) -> None:
        slot.awaited -= 1
        if not slot.awaited:
            self._fail(slot)

    def _give_up(self) -> None:
        """End queued tasks that no living endpoint can run; each may let go others."""
        sending = self.sending
        while sending.stranded:
            for slot, dead in sending.take_stranded():
                assert dead.death is not None
                self._note(slot, _died(slot, dead.name, dead.death, started=False))
                sending.unsent -= 1
                self._fail(slot)

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
        if self.live and not any(endpoint.in_flight for endpoint in self.sending.endpoints):
            self.sending.pump()
            if self.live and not any(endpoint.in_flight for endpoint in self.sending.endpoints):
                raise AssertionError(f"{self.live} tasks are left and none can be sent")

    @property
    def cancelled(self) -> bool:
        return self._cancelled

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

    def control(self, endpoint: Endpoint, payload: bytes, limit: float | None = None) -> Answer:
        """Send a control message behind all that lies in the mailbox; wait (``limit`` seconds) for its answer."""
        deadline = math.inf if limit is None else time.monotonic() + limit
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
        """The error a drained run ends with."""
        return combine(self.failures, self.skipped)


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
