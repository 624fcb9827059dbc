"""What an orchestration function is given: it builds the graph of a run, one ``submit_*`` at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import get_ident
from typing import Any

import numpy as np
from simpler_runtime import CallConfig
from simpler_runtime import TaskArgs as PlainTaskArgs

from simpler.arguments.arrays import ArrayInfo, checked_shape, data_type, make_tensor
from simpler.arguments.task_args import TaskArgs, Tensor
from simpler.errors import TensorError, WorkerStateError, WrongKind
from simpler.graph.engine import Engine
from simpler.memory.regions import SharedMemory
from simpler.memory.staging import Copy, Staging, runs_of
from simpler.protocol import FRAME_NBYTES, HEADER_NBYTES
from simpler.tasks.callables import CallableHandle, CallableKind, Entry, Registry
from simpler.tasks.pool import Pool
from simpler.tasks.run import Run
from simpler.tasks.scope import Scope
from simpler.tasks.slot import Slot

NO_ARGS = TaskArgs()
DEFAULT_CONFIG = CallConfig()

# Fewer tensors and scalars than this always fit a frame: 40 and 8 bytes each, and about 1.2 KB for the rest.
_SURELY_FITS = 1024


class Orchestrator:
    """Submits tasks to the worker's children; given to the function that ``Worker.run`` runs.

    Tasks start as soon as what they need is there; which tasks that are follows from the tags of their arguments:
    a task waits for the last tasks that wrote a byte it reads or writes, and for those that still read a byte it
    writes. Valid until that function returns, on the thread it runs on.
    """

    def __init__(
        self,
        engine: Engine,
        run: Run[Slot],
        registry: Registry,
        memory: SharedMemory,
        chips: Pool[Slot],
        subs: Pool[Slot],
    ) -> None:
        self._engine = engine
        self._run = run
        self._staging = run.staging = Staging(
            memory,
            lambda depth, nbytes, what: engine.allocate(run, depth, nbytes, what),
            engine.wait_until,
            engine.drain,
        )
        self._registry = registry
        self._memory = memory
        self._pools = (chips, subs)
        self._chips = chips
        self._subs = subs
        self._thread = get_ident()
        self._root = self._scope = Scope(self._free)  # its blocks go when the run ends
        self._last_config = DEFAULT_CONFIG
        self._open = True

    def submit_next_level(
        self,
        handle: CallableHandle,
        args: TaskArgs | None = None,
        config: CallConfig | None = None,
        *,
        worker: int = -1,
    ) -> None:
        """Run a chip callable on chip ``worker`` (an index into ``device_ids``; -1: on any).

        Raises:
            NoSuchWorker: there is no such chip.
            UnknownCallable: the handle is another worker's, or was unregistered.
            WrongKind: it is a Python function; submit that with ``submit_sub``.
            TensorError: an array cannot be used with its tag, or the arguments do not fit a message.
            SharedMemoryFull: an array outside shared memory, or an OUT tensor to allocate, does not fit the HeapRing.
        """
        self._submit(self._chips, handle, args, config, worker)

    def submit_sub(self, handle: CallableHandle, args: TaskArgs | None = None, *, worker: int = -1) -> None:
        """Run a Python function in SubWorker ``worker`` (-1: in any). Raises what ``submit_next_level`` raises."""
        self._submit(self._subs, handle, args, None, worker)

    def submit_next_level_group(
        self,
        handle: CallableHandle,
        args_list: Sequence[TaskArgs],
        config: CallConfig | None = None,
        *,
        workers: Sequence[int] | None = None,
    ) -> None:
        """Run a chip callable on as many chips as there are ``args_list``, launched together, as one task.

        ``workers`` names the chip of each (all different); None takes the least busy ones. The task has ended when all
        have; it failed if one did. Raises what ``submit_next_level`` raises.
        """
        self._submit_group(self._chips, handle, args_list, config, workers)

    def submit_sub_group(
        self, handle: CallableHandle, args_list: Sequence[TaskArgs], *, workers: Sequence[int] | None = None
    ) -> None:
        """Run a Python function in as many SubWorkers as there are ``args_list``, launched together, as one task."""
        self._submit_group(self._subs, handle, args_list, None, workers)

    def alloc(self, shape: Any, dtype: Any) -> np.ndarray[Any, Any]:
        """An array in the HeapRing, of undefined content, seen by all children without a copy.

        Valid until the scope it is allocated in ends (at the latest, the run), and the tasks submitted in it.

        Raises:
            TensorError: no such dtype, or a shape tensors cannot have.
            SharedMemoryFull: it does not fit the HeapRing and no running task will make room.
        """
        self._check()
        dims, element = checked_shape(shape), data_type(dtype)
        nbytes = element.itemsize * math.prod(dims)
        address = self._alloc(nbytes, f"an array of shape {list(dims)}")
        return self._memory.array(address, dims, element)

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Brackets intermediates: what is allocated inside is released when the tasks submitted inside have ended."""
        self._check()
        outer = self._scope
        inner = self._scope = Scope(self._free, outer)
        try:
            yield
        finally:
            self._scope = outer
            inner.close()

    def close(self) -> None:
        """The orchestration function has returned: no more submits."""
        self._open = False

    def _alloc(self, nbytes: int, what: str) -> int:
        """The address of a HeapRing block that goes with the scope."""
        address = self._engine.allocate(self._run, self._scope.depth, nbytes, what)
        self._scope.blocks[address] = nbytes
        return address

    def _free(self, scope: Scope) -> None:
        for address, nbytes in scope.blocks.items():
            self._engine.free(self._run, address, nbytes)

    # -- how a task is submitted --------------------------------------------------------------------------------------

    def _check(self) -> None:
        if not self._open:
            raise WorkerStateError("the run of this orchestrator is over; use the one given to the function that runs")
        if get_ident() != self._thread:
            raise WorkerStateError("submit from the thread the orchestration function runs on")

    def _resolve(self, pool: Pool[Slot], handle: CallableHandle) -> Entry:
        entry = self._registry.resolve(handle)
        if entry.kind not in pool.accepts:
            fitting = next((other.submit for other in self._pools if entry.kind in other.accepts), None)
            raise WrongKind(f"{handle.name} is a {entry.kind.value}: submit it with {fitting}")
        return entry

    def _submit(
        self, pool: Pool[Slot], handle: CallableHandle, args: TaskArgs | None, config: CallConfig | None, worker: int
    ) -> None:
        if not self._open or get_ident() != self._thread:
            self._check()
        entry = handle._entry if type(handle) is CallableHandle and handle._registry is self._registry else None
        if entry is None or entry.kind not in pool.accepts:
            entry = self._resolve(pool, handle)
        if worker != -1 or not pool.lanes:
            pool.check(worker)
        if args is None:
            args = NO_ARGS
        if len(args._tensors) + args._plain.scalar_count > _SURELY_FITS:
            self._check_size(args._plain)
        slot = Slot(self._run, entry, args._plain, None, self._copied(config), pool, worker)
        needs: list[Slot] = []
        follows: list[Slot] = []
        if args._tensors:
            copies: list[Copy] = []
            slot.plain, slot.keep = self._bind(args, copies)
            if copies:
                slot.copies = copies
            chip = worker
            if any(tensor.info.device for tensor in slot.keep):
                chip = self._chip_of(pool, slot, worker)
            self._order(slot, slot.keep, chip, needs, follows)
        args._submitted = True
        if self._scope is not self._root:
            slot.scope = self._scope
            self._scope.live += 1
        self._engine.add(slot, needs, follows)

    def _copied(self, config: CallConfig | None) -> CallConfig:
        """A config that the caller cannot change any more."""
        if config is None:
            return DEFAULT_CONFIG
        if config != self._last_config:
            fields = (name for name in dir(CallConfig) if not name.startswith("_"))
            self._last_config = CallConfig(**{name: getattr(config, name) for name in fields})
        return self._last_config

    def _submit_group(
        self,
        pool: Pool[Slot],
        handle: CallableHandle,
        args_list: Sequence[TaskArgs],
        config: CallConfig | None,
        workers: Sequence[int] | None,
    ) -> None:
        self._check()
        entry = self._resolve(pool, handle)
        pool.check(-1)
        args_list = list(args_list)
        targets = None if workers is None else list(workers)
        for worker in targets or ():
            pool.check(worker if worker != -1 else len(pool.lanes))  # each member has a worker of its own
        if targets is not None and (len(set(targets)) != len(args_list) or len(targets) != len(args_list)):
            raise TensorError(f"a group of {len(args_list)} needs that many different workers, not {targets}")
        if not 0 < len(args_list) <= len(pool.lanes):
            raise TensorError(
                f"a group of {len(args_list)} needs a {pool.noun} for each member, and this worker has "
                f"{len(pool.lanes)}"
            )
        slot = Slot(self._run, entry, None, None, self._copied(config), pool, -1)
        copies: list[Copy] = []
        members: list[PlainTaskArgs] = []
        bound: list[list[Tensor]] = []
        try:
            for args in args_list:
                self._check_size(args._plain)
                plain, tensors = self._bind(args, copies)
                args._submitted = True
                members.append(plain)
                bound.append(tensors)
            if any(tensor.info.device for tensors in bound for tensor in tensors):
                first = self._chip_of(pool, slot, -1 if targets is None else targets[0])
                targets = targets or [first]
        except BaseException:
            self._staging.release(copies)
            raise
        slot.members = members
        slot.keep = [tensor for tensors in bound for tensor in tensors]
        slot.copies = copies or None
        slot.targets = targets
        slot.awaited = len(args_list)
        needs: list[Slot] = []
        follows: list[Slot] = []
        for number, tensors in enumerate(bound):
            self._order(slot, tensors, -1 if targets is None else targets[number], needs, follows)
        if self._scope is not self._root:
            slot.scope = self._scope
            self._scope.live += 1
        self._engine.add(slot, needs, follows)

    @staticmethod
    def _chip_of(pool: Pool[Slot], slot: Slot, worker: int) -> int:
        """The chip whose memory a task for ``worker`` means. TensorError if there is none, or it could be any."""
        if CallableKind.CHIP_CALLABLE not in pool.accepts:
            raise TensorError(f"an argument of {slot.entry.name} is in a chip's memory, which a {pool.noun} cannot see")
        if worker < 0 and len(pool.lanes) > 1:
            raise TensorError(
                f"an argument of {slot.entry.name} is in a chip's memory, and this worker has {len(pool.lanes)} "
                f"{pool.plural}: say which one with worker= (of a group, workers=)"
            )
        return max(worker, 0)

    def _bind(self, args: TaskArgs, copies: list[Copy]) -> tuple[PlainTaskArgs, list[Tensor]]:
        """The arguments with addresses that children understand, and the tensors that must stay alive."""
        tensors = args._tensors
        if args._deferred:
            tensors = args._tensors = [tensor if not tensor.deferred else self._allocated(tensor) for tensor in tensors]
        memory = self._memory
        low, high = memory.start, memory.end
        in_place = not self._staging.of_shared and not args._deferred
        for tensor in tensors:
            info = tensor.info
            if not (low <= info.start and info.end <= high) or info.strided is not None:
                in_place = False
            if tensor.writes and tensor.ordered and not info.writable:
                raise TensorError(
                    f"an array of shape {list(info.shape)} is tagged {tensor.tag.name} but is read-only: pass a "
                    "writable array, or tag it IN"
                )
        if in_place:
            return args._plain, tensors
        held: list[Copy] = []
        try:
            addresses = self._staging.place(tensors, held)
        except BaseException:
            self._staging.release(held)
            raise
        copies.extend(held)
        plain = PlainTaskArgs()
        for tensor, address in zip(tensors, addresses, strict=True):
            info = tensor.info
            same = address == info.start
            plain.add_tensor(info.tensor if same else make_tensor(address, info.shape, info.dtype), tensor.tag)
        for index in range(args.scalar_count):
            plain.add_scalar(args._plain.scalar(index))
        return plain, tensors

    def _allocated(self, tensor: Tensor) -> Tensor:
        shape, dtype = tensor.info.shape, tensor.info.dtype
        nbytes = dtype.itemsize * math.prod(shape)
        address = self._alloc(nbytes, f"an OUT tensor of shape {list(shape)}")
        array = self._memory.array(address, shape, dtype)
        there = make_tensor(address, shape, dtype)
        info = ArrayInfo(array, address, address + nbytes, shape, dtype, True, None, there, False)
        return Tensor(info, tensor.tag, True, True, deferred=True)

    def _order(self, slot: Slot, tensors: list[Tensor], chip: int, needs: list[Slot], follows: list[Slot]) -> None:
        """Which tasks come before this one. Ranges are those of the caller's arrays, wherever the copies are.

        ``chip`` is the one that executes them: its memory is what device addresses mean.
        """
        access = self._engine.tensor_map.access
        for tensor in tensors:
            if not tensor.ordered:
                continue
            info = tensor.info
            if info.strided is not None:
                for start, end in runs_of(info):
                    access(slot, start, end, tensor.writes, needs, follows)
            elif info.device:  # addresses of a chip's memory mean nothing to the host: keep them apart
                at = (chip + 1) << 64
                access(slot, at + info.start, at + info.end, tensor.writes, needs, follows)
            else:
                access(slot, info.start, info.end, tensor.writes, needs, follows)

    @staticmethod
    def _check_size(plain: PlainTaskArgs) -> None:
        room = FRAME_NBYTES - HEADER_NBYTES - _OVERHEAD
        if plain.blob_nbytes > room:
            raise TensorError(
                f"{plain.tensor_count} tensors and {plain.scalar_count} scalars take {plain.blob_nbytes} bytes, but a "
                f"message holds {room}: pass fewer, larger arrays"
            )


def _overhead() -> int:
    """What a task frame holds besides the argument blob."""
    from simpler_runtime import write_task

    return write_task(bytearray(FRAME_NBYTES), bytes(32), DEFAULT_CONFIG, PlainTaskArgs()) - PlainTaskArgs().blob_nbytes


_OVERHEAD = _overhead()
