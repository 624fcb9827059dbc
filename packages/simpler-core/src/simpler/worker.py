"""The worker: children of this process that execute the tasks of a run."""

from __future__ import annotations

import difflib
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any

import numpy as np
from simpler_runtime import CallConfig, ChipCallable, ChipWorker, PlatformError, platforms

from simpler.arguments.arrays import checked_shape, element_type, numpy_dtype
from simpler.errors import RegistrationFailed, WorkerStateError
from simpler.graph.engine import Engine
from simpler.graph.orchestrator import DEFAULT_CONFIG, Orchestrator
from simpler.memory.regions import SharedMemory
from simpler.processes import child
from simpler.processes.children import CHIP, Children
from simpler.processes.mailbox import MailboxTransport
from simpler.protocol import OK, Control, dumps, unpack_failure
from simpler.tasks.callables import CallableHandle, CallableKind, Entry, Registry
from simpler.tasks.lane import Answer, Lane
from simpler.tasks.pool import Pool
from simpler.tasks.run import Run
from simpler.tasks.slot import Slot

START_S = 60.0  # a child may take this long to start
GRACE_S = 0.3  # a run that is interrupted gives its running tasks this long before it ends their children

OPTIONS = (
    "level",
    "platform",
    "runtime",
    "device_ids",
    "num_sub_workers",
    "heap_ring_size",
    "restart",
    "timeout",
    "shared_memory_size",
)

Orchestration = Callable[[Orchestrator, Any, CallConfig], object]


def _nearest(name: object, names: Sequence[str]) -> str:
    found = difflib.get_close_matches(str(name), names, 1)
    return f"; did you mean {found[0]!r}?" if found else ""


class Worker:
    """One host: forked children that execute tasks, and what they share.

    Each chip child holds a ``ChipWorker`` and executes chip callables; each SubWorker child executes Python functions.
    Children are forked by ``init`` (or the first ``run``), end with ``close``, with this process however it ends, and
    with the worker's garbage collection. A worker belongs to the process that made it.

        with Worker(num_sub_workers=2) as worker:
            hello = worker.register(lambda args: print("hello"))
            worker.run(lambda orch, args, config: orch.submit_sub(hello))

    Args:
        level: where in the hierarchy it stands; a label for messages, 3 is a host.
        platform: of the chips: a name in ``simpler_runtime.platforms()``.
        runtime: how chips build their graphs.
        device_ids: one chip child for each; ``worker=i`` selects ``device_ids[i]``.
        num_sub_workers: how many SubWorker children.
        heap_ring_size: bytes of each of the four HeapRings, which hold intermediates; also, how many bytes of copies of
            arrays a run keeps that no task uses. Address space: memory is used when touched.
        restart: replace children that died; otherwise runs after a death raise an error.
        timeout: seconds a run may take; None for no limit.
        shared_memory_size: bytes of address space for ``empty``, ``zeros`` and ``array``, and for copies of arrays.
    """

    def __init__(
        self,
        level: int = 3,
        *,
        platform: str = "cpu",
        runtime: str = "tensormap_and_ringbuffer",
        device_ids: Sequence[int] = (0,),
        num_sub_workers: int = 0,
        heap_ring_size: int = 1 << 30,
        restart: bool = False,
        timeout: float | None = None,
        shared_memory_size: int = 64 << 30,
        **unknown: Any,
    ) -> None:
        for name in unknown:
            raise TypeError(f"Worker takes no argument {name!r}{_nearest(name, OPTIONS)}")
        if isinstance(device_ids, (str, bytes)) or not isinstance(device_ids, Iterable):
            raise TypeError(f"device_ids is {device_ids!r}; it is a list with an integer for each chip, such as [0, 1]")
        if level < 3:
            raise ValueError(f"level {level} is below a host (3); use simpler_runtime.ChipWorker for one chip")
        device_ids = tuple(device_ids)
        if device_ids and platform not in platforms():
            known = sorted(platforms())
            raise PlatformError(
                f"there is no platform {platform!r}; there are {', '.join(known)}{_nearest(platform, known)}"
            )
        for name, value, least in (
            ("num_sub_workers", num_sub_workers, 0),
            ("heap_ring_size", heap_ring_size, 1),
            ("shared_memory_size", shared_memory_size, 1),
        ):
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"{name} is {value!r}; it is an integer")
            if value < least:
                raise ValueError(f"{name} is {value}; it must be at least {least}")
        if timeout is not None and timeout <= 0:
            raise ValueError(f"timeout is {timeout}; it is a number of seconds, or None for no limit")
        self.level = level
        self.platform = platform
        self.runtime = runtime
        self.device_ids = device_ids
        self.num_sub_workers = num_sub_workers
        self.timeout = timeout
        self._restart = restart
        self._heap_ring_size = heap_ring_size
        self._shared_memory_size = shared_memory_size
        self._registry = Registry(self._where_shared)
        self._lock = threading.RLock()  # one thread at a time runs, registers or closes
        self._memory: SharedMemory | None = None
        self._engine: Engine | None = None
        self._chips: Pool[Slot] = Pool([CallableKind.CHIP_CALLABLE], "chip", "chips", "device_ids", "submit_next_level")
        self._subs: Pool[Slot] = Pool(
            [CallableKind.PYTHON_FUNCTION], "SubWorker", "SubWorkers", "num_sub_workers", "submit_sub"
        )
        self._running = False
        self._unfinished: Run[Slot] | None = None  # a run that was not cleaned up
        self._children = Children()
        self._finalizer = weakref.finalize(self, Children.end, self._children)  # also when Python exits

    # -- life ---------------------------------------------------------------------------------------------------------

    def init(self) -> None:
        """Fork the children and wait until they are up. Does nothing if they are.

        Raises:
            WorkerStateError: the worker is closed.
            simpler_runtime.ChipError: a chip could not start.
        """
        with self._exclusive():
            self._start()

    def close(self) -> None:
        """End the children: ask, wait, then SIGTERM, then SIGKILL. Does nothing if that was done.

        A run on another thread ends with a WorkerStateError. Shared arrays stay valid as long as they are referenced.
        """
        if self._children.owner != os.getpid():  # a forked copy: nothing of it is ours
            return
        if not self._lock.acquire(blocking=False):
            if self._engine is not None:
                self._engine.cancel()  # the run of another thread
            self._lock.acquire()
        try:
            if self._running:
                raise WorkerStateError("close was called by the orchestration function of a run; close after the run")
            self._engine = None
            self._chips.lanes.clear()
            self._subs.lanes.clear()
            self._finalizer()
            self._memory = None
        finally:
            self._lock.release()

    def __enter__(self) -> Worker:
        self.init()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if not self._finalizer.alive else "running" if self._engine else "not started"
        return (
            f"<Worker level {self.level}, {len(self.device_ids)} {self.platform} chips, {self.num_sub_workers} "
            f"SubWorkers, {state}>"
        )

    # -- callables ----------------------------------------------------------------------------------------------------

    def register(self, target: ChipCallable | Callable[..., Any]) -> CallableHandle:
        """Make a chip callable or Python function known to the children, before or after they started.

        A Python function is called with a ``SubTaskArgs``. Functions that cannot be pickled can be registered before
        the worker starts.

        Raises:
            RegistrationFailed: it is neither, or cannot be sent to the running children, or the chips' slots are taken.
        """
        with self._exclusive():
            entry = self._registry.identify(target)
            self._registry.check_room(entry)
            handle = self._registry.add(entry)  # first: a child that is replaced meanwhile inherits it
            if self._engine is not None and entry.handles == 1:
                try:
                    self._install(entry)
                except BaseException:
                    self._registry.remove(handle)
                    raise
            entry.content = None
            return handle

    def unregister(self, handle: CallableHandle) -> None:
        """End a handle. The children forget the callable when its last handle has gone.

        Raises:
            UnknownCallable: the handle was unregistered before, or is another worker's.
        """
        with self._exclusive():
            self._registry.resolve(handle)
            if self._engine is not None:
                self._engine.drain()  # tasks that still wait in this process may use it
            entry = self._registry.remove(handle)
            if entry is not None and self._engine is not None:
                self._forget(entry, self._pool(entry).lanes)

    # -- running ------------------------------------------------------------------------------------------------------

    def run(self, orchestration: Orchestration, args: Any = None, config: CallConfig | None = None) -> None:
        """Call ``orchestration(orch, args, config)`` and wait until every task it submitted has ended.

        Afterwards every array holds what the tasks that ran wrote, also when others failed. The worker can be used
        again after any error, unless it lost a child for good (see ``restart``).

        Raises:
            TaskFailed: a task raised; the first one, with the others listed (WorkerDied: its child died).
            RunTimeout: it took longer than ``timeout``; the children that were still at work were ended.
            WorkerStateError: the worker is closed, busy, another process's, or has lost a child.
            Exception: what ``orchestration`` itself raised, after the tasks it had submitted ended.
        """
        with self._exclusive():
            if self._running:
                raise WorkerStateError("run was called inside a run of the same worker; submit tasks to that one")
            engine = self._start()
            engine.revive()
            self._running = True
            try:
                self._run(engine, orchestration, args, config or DEFAULT_CONFIG)
            finally:
                self._running = False

    def _run(self, engine: Engine, orchestration: Orchestration, args: Any, config: CallConfig) -> None:
        if self._unfinished is not None:  # Ctrl-C came while that run was cleaned up: too late to write its results
            engine.abandon(GRACE_S)
            engine.finish(self._unfinished, write_back=False)
            engine.revive()
        self._unfinished = run = engine.begin(None if self.timeout is None else time.monotonic() + self.timeout)
        orch = Orchestrator(engine, run, self._registry, self._shared(), self._chips, self._subs)
        try:
            try:
                orchestration(orch, args, config)
            except Exception as error:
                orch.close()
                engine.drain()
                for failure in run.failures:
                    error.add_note(f"and {failure}")
                raise
            orch.close()
            engine.drain()
        except BaseException:  # Ctrl-C or the timeout, at any point: nothing may work on in this run's memory
            engine.abandon(GRACE_S)
            raise
        finally:
            orch.close()
            outcome = run.outcome()
            engine.finish(run)
            self._unfinished = None
        if outcome is not None:
            raise outcome

    # -- shared arrays ------------------------------------------------------------------------------------------------

    def empty(self, shape: Any, dtype: Any = "float32") -> np.ndarray[Any, Any]:
        """A numpy array of undefined content in memory that all children see: tasks use it in place, without a copy.

        Can be called before the worker starts. The memory is given back when the array and its views are gone.

        Raises:
            TensorError: no such dtype, one of Python objects, or no shape. bfloat16 is given as uint16 bits.
            SharedMemoryFull: ``shared_memory_size`` is used up.
        """
        self._check()
        return self._shared().arena.empty(checked_shape(shape), numpy_dtype(element_type(dtype)))

    def zeros(self, shape: Any, dtype: Any = "float32") -> np.ndarray[Any, Any]:
        """Like ``empty``, filled with zeros."""
        array = self.empty(shape, dtype)
        array.fill(0)
        return array

    def array(self, source: Any, dtype: Any = None) -> np.ndarray[Any, Any]:
        """A shared copy of ``source`` (anything numpy can read, or a torch tensor), of its own dtype by default."""
        values = np.asarray(source)
        array = self.empty(values.shape, values.dtype if dtype is None else dtype)
        np.copyto(array, values, casting="unsafe" if dtype is not None else "same_kind")
        return array

    # -- inside -------------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        owner = self._children.owner
        if owner != os.getpid():
            raise WorkerStateError(
                f"this worker belongs to process {owner}, and this is process {os.getpid()}: make a worker here"
            )
        if not self._finalizer.alive:
            raise WorkerStateError("this worker is closed; make a new one")

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """One thread at a time; the one that has it may enter again."""
        self._check()
        with self._lock:
            self._check()
            yield

    def _shared(self) -> SharedMemory:
        if self._memory is None:
            self._memory = self._children.memory = SharedMemory(self._shared_memory_size, self._heap_ring_size)
        return self._memory

    def _where_shared(self) -> tuple[int, int]:
        return (0, 0) if self._memory is None else (self._memory.start, self._memory.end)

    def _start(self) -> Engine:
        if self._engine is not None:
            return self._engine
        children = self._children
        try:
            # Everything shared is mapped before the first fork, so that all children have it at the same addresses.
            memory = self._shared()
            children.open(len(self.device_ids), self.num_sub_workers)
            lanes = [Lane[Slot](endpoint.index, endpoint.name, endpoint) for endpoint in children.endpoints]
            self._chips.lanes[:] = lanes[: len(self.device_ids)]
            self._subs.lanes[:] = lanes[len(self.device_ids) :]
            for endpoint in children.endpoints:
                self._fork(endpoint)
            for endpoint in children.endpoints:  # after the forks: watching takes a thread
                children.watch(endpoint)
            hello = dumps(Control("hello"))
            self._engine = engine = Engine(
                (self._chips, self._subs),
                memory,
                children.doorbell,
                children.wait_set,
                respawn=self._respawn,
                hello=hello,
                restart=self._restart,
            )
            for lane in lanes:
                self._check_answer(lane, engine.ask(lane, hello, START_S, hello=True))
        except BaseException:
            self._engine = None
            self._finalizer()
            raise
        return engine

    def _fork(self, endpoint: MailboxTransport) -> None:
        memory, entries, mailbox = self._shared(), self._registry.entries, endpoint.mailbox

        def start_chip() -> child.Executor:
            threads = max(1, len(os.sched_getaffinity(0)) // len(self.device_ids))
            chip = ChipWorker(
                platform=self.platform,
                runtime=self.runtime,
                device_id=self.device_ids[endpoint.index],
                threads=threads,
            )
            chip.init()
            return child.ChipExecutor(entries, chip, endpoint.name)

        def start_sub() -> child.Executor:
            return child.PythonExecutor(entries, memory, endpoint.name)

        start = start_chip if endpoint.kind == CHIP else start_sub
        self._children.fork(endpoint, lambda: child.serve(mailbox.server(), start, memory))

    def _respawn(self, lane: Lane[Slot]) -> None:
        """Put a new child in the place of a dead one."""
        endpoint = lane.transport
        assert isinstance(endpoint, MailboxTransport)
        self._children.unwatch(endpoint)
        endpoint.open()
        self._fork(endpoint)
        self._children.watch(endpoint)

    def _pool(self, entry: Entry) -> Pool[Slot]:
        return self._chips if entry.kind in self._chips.accepts else self._subs

    def _install(self, entry: Entry) -> None:
        """Send a callable to the running children that can execute it; to all or to none."""
        lanes = self._pool(entry).lanes
        if not lanes:
            return
        if entry.content is None:
            raise RegistrationFailed(
                f"{entry.name} cannot be pickled, so it cannot be sent to children that run already: register it "
                "before the worker starts"
            )
        assert self._engine is not None
        self._engine.revive()
        memory = self._shared()
        address = memory.arena.alloc(len(entry.content))
        if address is None:
            raise memory.arena.full(len(entry.content), f"callable {entry.name}")
        installed: list[Lane[Slot]] = []
        control = Control("register", entry.digest, entry.kind.name, entry.name, address, len(entry.content))
        try:
            memory.write(address, entry.content)
            for lane in lanes:
                self._ask(lane, control)
                installed.append(lane)
        except BaseException:
            self._forget(entry, installed)
            raise
        finally:
            memory.arena.release(address)

    def _forget(self, entry: Entry, lanes: Sequence[Lane[Slot]]) -> None:
        """Have children forget a callable that is not in the registry any more."""
        for lane in lanes:
            if lane.death is None:
                self._ask(lane, Control("unregister", entry.digest, entry.kind.name, entry.name))

    def _ask(self, lane: Lane[Slot], control: Control) -> None:
        """Send a control message, wait for the answer behind all that was sent before, raise what it says.

        A child that dies meanwhile has nothing to be told any more, and the one in its place knows from the registry.
        """
        assert self._engine is not None
        try:
            answer = self._engine.ask(lane, dumps(control))
        except KeyboardInterrupt:
            self._engine.abandon(GRACE_S)
            raise
        except WorkerStateError:
            if self._engine.cancelled:
                raise
            return
        self._check_answer(lane, answer)

    @staticmethod
    def _check_answer(lane: Lane[Slot], answer: Answer) -> None:
        if answer.code != OK:
            error, text = unpack_failure(answer.payload)
            error.add_note(f"raised in {lane.name}:\n{text.rstrip()}")
            raise error
