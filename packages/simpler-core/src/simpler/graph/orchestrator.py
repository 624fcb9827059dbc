"""What an orchestration function is given: it builds the graph of a run, one ``submit_*`` at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import get_ident
from typing import Any

import numpy as np
from simpler_runtime import CallConfig, write_task
from simpler_runtime import TaskArgs as PlainTaskArgs

from simpler.arguments.arrays import (
    ArrayInfo,
    Element,
    checked_shape,
    describe,
    element_type,
    refused_by_chips,
    stand_in,
    tensor_of,
)
from simpler.arguments.bound import Bound, bind, with_scalars
from simpler.arguments.task_args import TaskArgs, Tensor
from simpler.errors import TensorError, WorkerStateError, WrongKind
from simpler.graph.engine import Engine
from simpler.memory.regions import SharedMemory, lease_of
from simpler.memory.staging import Placed, Staging, Use
from simpler.protocol import FRAME_NBYTES, HEADER_NBYTES
from simpler.tasks.callables import CallableHandle, CallableKind, Entry, Registry
from simpler.tasks.pool import Pool
from simpler.tasks.run import Run
from simpler.tasks.scope import Scope
from simpler.tasks.slot import Slot

NO_BOUND = Bound(PlainTaskArgs())
DEFAULT_CONFIG = CallConfig()

# Fewer tensors and scalars than this always fit a frame: 40 and 8 bytes each, and about 1.2 KB for the rest.
_SURELY_FITS = 1024


class Orchestrator:
    """Submits tasks to the worker's children; given to the function that ``Worker.run`` runs.

    Tasks start as soon as what they need is there; which tasks that are follows from the tags of their arguments:
    a task waits for the last tasks that wrote a byte it reads or writes, and for those that still read a byte it
    writes; a failure reaches those that read what was not written.

    Valid until that function returns, on the thread it runs on.
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
            memory.rings[0].nbytes,
            engine.step,
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
            SharedMemoryFull: the copy of an array outside shared memory does not fit there, or an OUT tensor that is to
                be allocated not the HeapRing.
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

        Valid until the scope it is allocated in ends (at the latest, the run), and the tasks submitted in it; a submit
        after that refuses it.

        Raises:
            TensorError: no such dtype, one of Python objects, or no shape.
            SharedMemoryFull: it does not fit the HeapRing and no running task will make room.
        """
        self._check()
        dims, element = checked_shape(shape), element_type(dtype)
        return self._alloc(dims, element, "an array")

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

    def _alloc(self, shape: tuple[int, ...], dtype: Element, what: str) -> np.ndarray[Any, Any]:
        """An array over a HeapRing block that goes with the scope."""
        nbytes = dtype.itemsize * math.prod(shape)
        lease = self._engine.allocate(self._run, self._scope.depth, nbytes, f"{what} of shape {list(shape)}")
        self._scope.leases.append(lease)
        return self._memory.array(lease, shape, dtype)

    def _free(self, scope: Scope) -> None:
        for lease in scope.leases:
            self._engine.free(self._run, lease)

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
        if worker != -1 or type(worker) is not int or not pool.lanes:
            pool.check(worker)
        slot = Slot(self._run, entry, NO_BOUND, None, self._copied(config), pool, worker)
        needs: list[Slot] = []
        follows: list[Slot] = []
        if args is not None:
            if len(args._tensors) + args._plain.scalar_count > _SURELY_FITS:
                self._check_size(args._plain, b"")
            if args._tensors:
                held: list[Use] = []
                ((slot.bound, slot.keep),) = self._bind([args], pool, entry, worker >= 0, held)
                slot.copies = held or None
                self._order(slot, slot.keep, worker, needs, follows)
            else:
                slot.bound = args._in_place()
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
        held: list[Use] = []
        for args in args_list:
            self._check_size(args._plain, b"")
        bound = self._bind(args_list, pool, entry, targets is not None, held)
        slot.copies = held or None
        slot.members = [one for one, _ in bound]
        slot.keep = [tensor for _, tensors in bound for tensor in tensors]
        slot.awaited = len(args_list)
        if targets is None and any(tensor.info.device for tensor in slot.keep):
            targets = [0]  # the only one, as binding has found
        slot.targets = targets
        needs: list[Slot] = []
        follows: list[Slot] = []
        for number, (_, tensors) in enumerate(bound):
            self._order(slot, tensors, -1 if targets is None else targets[number], needs, follows)
        for args in args_list:
            args._submitted = True
        if self._scope is not self._root:
            slot.scope = self._scope
            self._scope.live += 1
        self._engine.add(slot, needs, follows)

    # -- arguments ----------------------------------------------------------------------------------------------------

    def _bind(
        self, args_list: Sequence[TaskArgs], pool: Pool[Slot], entry: Entry, pinned: bool, held: list[Use]
    ) -> list[tuple[Bound, list[Tensor]]]:
        """Of each: the arguments with addresses that children understand, and the tensors that must stay alive.

        Copies of arrays that the task then holds are appended to ``held``.
        """
        staging, memory = self._staging, self._memory
        low, high = memory.start, memory.end
        on_chips = CallableKind.CHIP_CALLABLE in pool.accepts
        in_place = not staging.of_shared
        for args in args_list:
            for index, tensor in enumerate(args._tensors):
                info = tensor.info
                if not (low <= info.start and info.end <= high):
                    in_place = False
                elif memory.in_rings(info.start):
                    self._check_lease(info, index, entry)
                if info.strided is not None and on_chips:
                    in_place = False
                if info.tensor is None and on_chips:
                    raise TensorError(f"{self._named(index, entry)} {refused_by_chips(info)}")
                if info.device and (not on_chips or (not pinned and len(pool.lanes) > 1)):
                    raise TensorError(f"{self._named(index, entry)} is in a chip's memory, {_which_chip(pool)}")
                if tensor.writes and tensor.ordered and not info.writable:
                    raise TensorError(
                        f"{self._named(index, entry)}, of shape {list(info.shape)}, is tagged {tensor.tag.name} but is "
                        "read-only: pass a writable array, or tag it IN"
                    )
            if args._deferred:
                in_place = False
        if in_place:
            return [(args._in_place(), args._tensors) for args in args_list]
        for args in args_list:
            if args._deferred:
                args._tensors = [tensor if not tensor.deferred else self._allocated(tensor) for tensor in args._tensors]
        try:
            placed = staging.place([tensor for args in args_list for tensor in args._tensors], not on_chips, held)
            bound = []
            for args in args_list:
                here, placed = placed[: len(args._tensors)], placed[len(args._tensors) :]
                bound.append((self._moved(args, here), args._tensors))
        except BaseException:
            staging.release(held)
            raise
        return bound

    def _moved(self, args: TaskArgs, placed: Sequence[Placed]) -> Bound:
        """Arguments whose arrays are somewhere else for the task."""
        plain = PlainTaskArgs()
        for tensor, (address, info) in zip(args._tensors, placed, strict=True):
            there = info.tensor if address == info.start else tensor_of(address, info.shape, info.dtype)
            plain.add_tensor(there or stand_in(address), tensor.tag)
        readonly = [not tensor.writes or not tensor.info.writable for tensor in args._tensors]
        bound = bind(with_scalars(plain, args._plain), [info for _, info in placed], readonly)
        if bound.notes:
            self._check_size(bound.plain, bound.notes)
        return bound

    def _allocated(self, tensor: Tensor) -> Tensor:
        """A tensor that is to be allocated, with an array of its own."""
        shape, dtype = tensor.info.shape, tensor.info.dtype
        info = describe(self._alloc(shape, dtype, "an OUT tensor"))
        if dtype is not info.dtype:  # bfloat16, which numpy shows as bits
            info = info._replace(dtype=dtype, tensor=tensor_of(info.start, shape, dtype))
        return Tensor(info, tensor.tag, tensor.reads, tensor.writes, tensor.ordered, deferred=True)

    def _check_lease(self, info: ArrayInfo, index: int, entry: Entry) -> None:
        """TensorError if an array of ``alloc`` is used after its scope, or after its run."""
        lease = lease_of(info.array)
        if lease is None:  # something else than a numpy array: only its address is known
            leases = (found for _, found in self._run.leases.values())
            live = any(
                found.live and found.address <= info.start and info.end <= found.address + found.nbytes
                for found in leases
            )
        else:
            live = lease.live
        if not live:
            raise TensorError(
                f"{self._named(index, entry)}, of shape {list(info.shape)}, was allocated in a scope or a run that is "
                "over: allocate it in a scope around all tasks that use it, or take an array from worker.empty"
            )

    def _named(self, index: int, entry: Entry) -> str:
        return f"argument {index} of task {self._run.count} ({entry.name})"

    def _order(self, slot: Slot, tensors: list[Tensor], chip: int, needs: list[Slot], follows: list[Slot]) -> None:
        """Which tasks come before this one. Places are those of the caller's arrays, wherever the copies are.

        ``chip`` is the one that executes them: its memory is what device addresses mean; -1 where there is only one.
        """
        tensor_map = self._engine.tensor_map
        for tensor in tensors:
            if not tensor.ordered:
                continue
            info = tensor.info
            reads, writes = tensor.reads, tensor.writes
            if info.strided is not None:
                tensor_map.access_view(slot, info.strided, info.start, info.end, reads, writes, needs, follows)
            elif info.device:  # addresses of a chip's memory mean nothing to the host: keep them apart
                at = (max(chip, 0) + 1) << 64
                tensor_map.access(slot, at + info.start, at + info.end, reads, writes, needs, follows)
            else:
                tensor_map.access(slot, info.start, info.end, reads, writes, needs, follows)

    @staticmethod
    def _check_size(plain: PlainTaskArgs, notes: bytes) -> None:
        room = FRAME_NBYTES - HEADER_NBYTES - _OVERHEAD
        nbytes = plain.blob_nbytes + len(notes)
        if nbytes > room:
            raise TensorError(
                f"{plain.tensor_count} tensors and {plain.scalar_count} scalars take {nbytes} bytes, but a message "
                f"holds {room}: pass fewer, larger arrays"
            )


def _which_chip(pool: Pool[Slot]) -> str:
    if CallableKind.CHIP_CALLABLE not in pool.accepts:
        return f"which a {pool.noun} cannot see"
    return f"and this worker has {len(pool.lanes)} {pool.plural}: say which one with worker= (of a group, workers=)"


def _overhead() -> int:
    """What a task frame holds besides the argument blob."""
    return write_task(bytearray(FRAME_NBYTES), bytes(32), DEFAULT_CONFIG, PlainTaskArgs()) - PlainTaskArgs().blob_nbytes


_OVERHEAD = _overhead()
