"""The scheduler: advances the graph of a run, on the thread of whoever waits for it.

Nothing here runs by itself. ``add`` takes a task in and sends what can be sent (``dispatcher``), ``advance`` takes
answers in and waits for something to end. That a child died is noticed in one place, ``notice``: whoever else asks a
transport for its health changes nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

from simpler_ipc import Doorbell, WaitSet, WaitTimeout

from simpler.errors import RunTimeout, TaskFailed, WorkerDied, WorkerStateError
from simpler.graph.dispatcher import Dispatcher
from simpler.graph.tensor_map import TensorMap
from simpler.memory.regions import Lease, SharedMemory
from simpler.protocol import DEPTH, FAILED, OK, OK_SLOW, unpack_failure
from simpler.tasks.lane import Answer, ControlCall, Death, Lane
from simpler.tasks.pool import Pool
from simpler.tasks.run import Run
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

MAX_STILLBIRTHS = 3
"""Children in a row that may die before they are up; then their endpoint stays dead."""


class Engine:
    """Runs graphs on endpoints, one run at a time, single-threaded.

    Args:
        pools: the endpoints by kind.
        memory: what they share.
        doorbell: rung whenever an endpoint answered or died.
        wait_set: waits for it.
        respawn: starts a new process behind a lane, without waiting for it.
        hello: the control message that a new child answers when it is up.
        restart: whether any dead child is replaced, or only those that were ended from here.
    """

    def __init__(
        self,
        pools: Sequence[Pool[Slot]],
        memory: SharedMemory,
        doorbell: Doorbell,
        wait_set: WaitSet,
        *,
        respawn: Callable[[Lane[Slot]], None],
        hello: bytes = b"",
        restart: bool = False,
    ) -> None:
        self.sending = Dispatcher(pools)
        self.tensor_map: TensorMap[Slot] = TensorMap()
        self.live = 0  # tasks of all runs
        self._memory = memory
        self._doorbell = doorbell
        self._wait_set = wait_set
        self._respawn = respawn
        self._hello = hello
        self._restart = restart
        self._cancelled = False
        self._run: Run[Slot] | None = None
        self._since_harvest = 0

    def begin(self, deadline: float | None = None) -> Run[Slot]:
        """Start a run; ``deadline`` is when ``advance`` gives up, on the monotonic clock."""
        run: Run[Slot] = Run(deadline)
        self._run = run
        return run

    def finish(self, run: Run[Slot], *, write_back: bool = True) -> None:
        """The run is over: give the caller what its tasks wrote, and let go of everything it held."""
        for slot in run.failed:
            slot.state = FREE[CONSUME[slot.state]]
        self._run = None
        self.live = 0
        self._since_harvest = 0
        self.tensor_map.clear()
        self.sending.clear()
        try:
            if run.staging is not None:
                run.staging.finish(write_back)
        finally:
            for _, lease in run.leases.values():
                lease.live = False
            run.leases.clear()
            self._memory.release_all()
            self._memory.trim()
            if not write_back:  # interrupted while it was cleaned up: the books may say anything
                self._memory.arena.recover()

    # -- submitting ---------------------------------------------------------------------------------------------------

    def add(self, slot: Slot, needs: list[Slot], follows: list[Slot]) -> None:
        """Take a task into the graph: it needs what ``needs`` write, and must not start before ``follows`` ended."""
        run = slot.run
        slot.index = run.count
        run.count += 1
        run.live += 1
        self.live += 1
        sending = self.sending
        sending.unsent += 1
        slot.state = BUILD[slot.state]
        if needs or follows:
            self._wire(slot, needs, follows)
        if slot.cause is not None:
            sending.unsent -= 1
            run.skipped.append(slot.entry.name)
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
        for lane in self.sending.lanes:
            if lane.in_flight:
                poll = lane.transport.poll
                while (answer := poll()) is not None:
                    any_answer = True
                    self._answered(lane, answer)
        if any_answer and self.sending.unsent:
            self.sending.pump()
        if self.sending.stranded:
            self._give_up()
        return any_answer

    def _answered(self, lane: Lane[Slot], answer: Answer) -> None:
        slot = lane.in_flight.popleft()
        if isinstance(slot, ControlCall):
            slot.answer = answer
            if slot.hello and answer.code == OK:
                lane.stillbirths = 0
            return
        lane.load -= slot.weight
        code = answer.code
        if code <= OK_SLOW:
            slot.entry.weight = WEIGHTS[code]
        elif code == FAILED:
            error, text = unpack_failure(answer.payload)
            name = slot.entry.name
            self._note(slot, TaskFailed(name, slot.index, lane.name, original=error, remote_traceback=text))
        else:  # POISONED; the failure it suffers from came in before this answer
            slot.run.skipped.append(slot.entry.name)
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
        slot.run.failures.append(error)
        slot.cause = error

    def _fail(self, slot: Slot) -> None:
        """End a task whose ``cause`` is known; poison what needs it, let go what only waited for it."""
        pending = [slot]
        while pending:
            slot = pending.pop()
            slot.state = FAIL[slot.state]
            run = slot.run
            run.failed.append(slot)
            for task in slot.consumers or ():
                if task.state == _PENDING:
                    self.sending.unsent -= 1
                    run.skipped.append(task.entry.name)
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
        slot.run.live -= 1
        if slot.copies is not None:
            assert slot.run.staging is not None
            own = slot.cause is None or slot.cause.task == slot.index
            slot.run.staging.release(slot.copies, slot.cause is None if own else None)
            slot.copies = None
        if slot.scope is not None:
            slot.scope.task_ended()
            slot.scope = None
        slot.bound = slot.members = slot.before = slot.consumers = slot.followers = slot.lane = None

    # -- children that died -------------------------------------------------------------------------------------------

    def notice(self) -> bool:
        """Look after every child: bury those that died, end or resend their tasks, replace them if that is wanted.

        Whether any had died.
        """
        noticed = False
        for lane in self.sending.lanes:
            if lane.death is None:
                death = lane.transport.health()
                if death is not None:
                    self._bury(lane, death)
                    noticed = True
        return noticed

    def revive(self) -> None:
        """See that all children live. WorkerStateError if one is dead and stays so."""
        self.notice()
        for lane in self.sending.lanes:
            if lane.death is not None:
                raise lane.gone(self._restart)

    def _bury(self, lane: Lane[Slot], death: Death) -> None:
        lane.death = death
        while lane.in_flight and (answer := lane.transport.poll()) is not None:  # what it still got done counts
            self._answered(lane, answer)
        left = list(lane.in_flight)
        lane.in_flight.clear()
        lane.load = 0
        for slot in left:
            if isinstance(slot, Slot):
                slot.lane = None  # nothing can follow it there
            elif slot.hello:
                lane.stillbirths += 1
        reason = lane.gone(self._restart)
        try:
            if (self._restart or lane.expendable) and lane.stillbirths < MAX_STILLBIRTHS:
                self._respawn(lane)
                lane.death = None
                lane.expendable = False
                lane.transport.control(self._hello)
                lane.in_flight.append(ControlCall(hello=True))
        finally:
            self._settle(left, lane.name, death, reason)

    def _settle(self, left: list[Slot | ControlCall], name: str, death: Death, reason: Exception) -> None:
        """End or recall the tasks that a dead child had not answered."""
        recalled = []
        for position, slot in enumerate(left):
            if isinstance(slot, ControlCall):
                slot.error = reason
            elif slot.cause is not None:  # poisoned, or of a group that failed already
                if slot.bound is not None:
                    slot.run.skipped.append(slot.entry.name)
                self._lost(slot)
            elif position == 0 or slot.bound is None:  # only the oldest can have been running
                self._note(slot, _died(slot, name, death, started=position == 0))
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

    def abandon(self, grace: float) -> None:
        """Nothing works on in the run's memory any more: wait ``grace`` seconds for children at work, then end those.

        Ctrl-C may have left the books in any state, so this goes by what the mailboxes say. Those that are ended here
        are replaced when they are noticed.
        """
        self.sending.clear()
        deadline = time.monotonic() + grace
        busy = list(self.sending.lanes)
        while True:
            seen = self._doorbell.value
            for lane in busy:
                self._take_last(lane)
            busy = [lane for lane in busy if not lane.transport.rest() and lane.transport.health() is None]
            left = deadline - time.monotonic()
            if not busy or left <= 0:
                break
            try:
                self._wait_set.wait(seen, left)
            except (WaitTimeout, KeyboardInterrupt):  # a second Ctrl-C: no more patience
                break
        for lane in busy:
            lane.expendable = True
            lane.transport.kill()
        for lane in self.sending.lanes:
            if lane.in_flight:
                self._keep(lane.in_flight[0], False)
            lane.in_flight.clear()
            lane.load = 0

    def _take_last(self, lane: Lane[Slot]) -> None:
        """Take answers in of tasks whose run is given up: all that counts is that what they wrote arrives."""
        while (answer := lane.transport.poll()) is not None:
            while lane.in_flight:
                task = lane.in_flight.popleft()
                if isinstance(task, ControlCall) or task.ticket in (answer.ticket, -1):
                    self._keep(task, answer.code <= OK_SLOW)
                    break

    @staticmethod
    def _keep(task: Slot | ControlCall, ended: bool) -> None:
        """What a task has written is written back at the end of its run, which is given up."""
        if isinstance(task, Slot) and task.copies is not None:
            task.awaited -= 1
            if task.awaited <= 0 or not ended:
                copies, task.copies = task.copies, None
                assert task.run.staging is not None
                task.run.staging.release(copies, ended)

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
        run = self._run
        if run is not None and run.deadline is not None:
            limit = min(limit, run.deadline - time.monotonic())
            if limit <= 0:
                raise RunTimeout(f"the run took longer than the worker's timeout; {run.live} tasks had not ended")
        try:
            self._wait_set.wait(seen, limit)
        except WaitTimeout:
            self.notice()
            self._check_progress()
        else:
            if not self.harvest():
                self.notice()

    def _check_progress(self) -> None:
        """A task that nobody works on and that nothing will send is a bug; say so instead of waiting for it."""
        if self.live and not any(lane.in_flight for lane in self.sending.lanes):
            self.sending.pump()
            if self.live and not any(lane.in_flight for lane in self.sending.lanes):
                raise AssertionError(f"{self.live} tasks are left and none can be sent")

    @property
    def cancelled(self) -> bool:
        return self._cancelled

    def cancel(self) -> None:
        """From any thread: end whatever waits in ``advance``, now and from now on."""
        self._cancelled = True
        self._doorbell.ring()

    def step(self) -> bool:
        """Advance if any task is left; whether one was."""
        if not self.live:
            return False
        self.advance()
        return True

    def drain(self) -> None:
        """Advance until every task has ended."""
        while self.live:
            self.advance()

    def ask(self, lane: Lane[Slot], payload: bytes, limit: float | None = None, *, hello: bool = False) -> Answer:
        """Send a control message behind all that lies in the mailbox; wait (``limit`` seconds) for its answer.

        WorkerStateError if the child died before it answered, or takes longer.
        """
        deadline = math.inf if limit is None else time.monotonic() + limit
        call = ControlCall(hello)
        sent = False
        while call.answer is None and call.error is None:
            if not sent:
                if lane.death is not None:
                    raise lane.gone(self._restart)
                sent = lane.transport.control(payload)
                if sent:
                    lane.in_flight.append(call)
                    continue
            if time.monotonic() > deadline:
                raise WorkerStateError(f"{lane.name} did not answer a control message within {limit} s")
            self.advance()
        if call.error is not None:
            raise call.error
        assert call.answer is not None
        return call.answer

    # -- memory -------------------------------------------------------------------------------------------------------

    def allocate(self, run: Run[Slot], depth: int, nbytes: int, what: str) -> Lease:
        """A HeapRing block, after waiting for tasks to release others if need be."""
        while True:
            address = self._memory.alloc(depth, nbytes, what)
            if address is not None:
                lease = Lease(self._memory.region, address, nbytes)
                run.leases[address] = depth, lease
                return lease
            if not self.step():
                raise self._memory.full(depth, nbytes, what)

    def free(self, run: Run[Slot], lease: Lease) -> None:
        """Give a block back, and forget who used it: the next block there is another array."""
        lease.live = False
        self.tensor_map.forget(lease.address, lease.address + lease.nbytes)
        depth, _ = run.leases.pop(lease.address)
        self._memory.release(depth, lease.address)


def _died(slot: Slot, name: str, death: Death, *, started: bool) -> WorkerDied:
    return WorkerDied(
        slot.entry.name,
        slot.index,
        name,
        pid=death.pid,
        exit_status=death.exit_status,
        signal=death.signal,
        started=started,
    )
