"""A program of one chip and no SubWorkers, where the chip works on host memory: it runs here, on the caller's arrays.

Nothing is copied and no process is started. Tasks of a host orchestrator run one after the other, in the order they are
submitted, so that what depends on what need not be found out.
"""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from pypto.runtime.arguments import Bound
from pypto.runtime.manifest import Manifest
from pypto.runtime.modules import as_torch, load_host_orchestration
from pypto.runtime.output_directory import OutputDirectory
from pypto.runtime.pages import Pages
from pypto.runtime.session import Calls, call_config

if TYPE_CHECKING:
    from simpler import TaskArgs
    from simpler_runtime import CallConfig, ChipCallable, ChipWorker
    from simpler_runtime import TaskArgs as PlainTaskArgs

_KNOWN = 64  # sets of arguments whose description is kept


def runs_here(manifest: Manifest) -> bool:
    """True where a program needs no other process: one chip that works on host memory in place, and no SubWorkers."""
    from simpler_runtime import platforms

    config = manifest.config
    alone = len(config["device_ids"]) == 1 and not config["num_sub_workers"] and not manifest.sub_workers
    return alone and not platforms()[manifest.platform].separate_memory


class _Last(NamedTuple):
    """The numpy arrays of the latest call, and their description."""

    refs: list[weakref.ref[Any]]
    shapes: list[tuple[int, ...]]
    args: PlainTaskArgs


class LocalSession:
    """The chip of a program, in this process.

    Args:
        output: the program's files.
        chips: its chip callables.
    """

    def __init__(self, output: OutputDirectory, chips: Mapping[str, ChipCallable]) -> None:
        self._output = output
        self._callables = dict(chips)
        self._config = call_config(output.manifest.config)
        self._orchestrate: Callable[..., None] | None = None  # loaded when it is first needed
        self._direct = output.direct
        self._known: dict[tuple[Any, ...], PlainTaskArgs] = {}
        self._last: _Last | None = None
        self._pages = Pages()
        self._open()

    def _open(self) -> None:
        from simpler_runtime import ChipWorker

        manifest = self._output.manifest
        config = manifest.config
        self._pid = os.getpid()
        self._chip: ChipWorker = ChipWorker(
            platform=manifest.platform, runtime=config["runtime"], device_id=config["device_ids"][0]
        )
        self._chip.init()
        self._slots = {name: slot for slot, name in enumerate(self._callables)}
        self._names = {name: name for name in self._callables}  # what a host orchestrator submits
        for name, slot in self._slots.items():
            self._chip.prepare_callable(callable_id=slot, callable=self._callables[name])

    def run(self, bound: Bound) -> None:
        """Run the program once. Raises what a chip raised, as ``simpler.TaskFailed``."""
        if os.getpid() != self._pid:  # a forked child: the chip is its parent's
            self._open()
        if self._direct is not None and (args := self._described(bound.values)) is not None:
            self._execute(self._direct, 0, args, self._config)
            return
        if self._orchestrate is None:
            self._orchestrate = load_host_orchestration(self._output)
        self._orchestrate(_Here(self), bound.values, self._config, Calls(self._names, {}, 1))

    def zeros(self, shape: tuple[int, ...], dtype: str, kind: str) -> Any:
        """An array of zeros for a result, in memory that an earlier result has left where there is such."""
        array = self._pages.zeros(shape, dtype)
        return as_torch(array, dtype) if kind == "torch" else array

    def close(self) -> None:
        """Unload the program."""
        self._known.clear()
        self._last = None
        if os.getpid() == self._pid:
            self._chip.finalize()

    def execute(self, name: str, number: int, args: TaskArgs, config: CallConfig) -> None:
        """Run task ``number``, the chip orchestration ``name``, to its end."""
        from simpler.arguments.arrays import describe, tensor_of
        from simpler_runtime import TaskArgs as PlainTaskArgs

        plain = PlainTaskArgs()
        copies: list[tuple[Any, Any]] = []
        for index in range(args.tensor_count):
            info = describe(args.array(index))
            tensor = info.tensor
            if info.strided is not None:  # chips know dense arrays only
                dense = info.strided.copy(order="C")
                tensor = tensor_of(dense.__array_interface__["data"][0], info.shape, info.dtype)
                copies.append((info.strided, dense))
            assert tensor is not None  # arguments of a dtype that chips lack were refused
            plain.add_tensor(tensor, args.tag(index))
        for index in range(args.scalar_count):
            plain.add_scalar(args.scalar(index))
        try:
            self._execute(name, number, plain, config)
        finally:
            for view, dense in copies:
                if view.flags.writeable:
                    view[...] = dense

    def _execute(self, name: str, number: int, args: PlainTaskArgs, config: CallConfig) -> None:
        try:
            self._chip.run_prepared(callable_id=self._slots[name], args=args, config=config)
        except Exception as error:
            from simpler import TaskFailed

            raise TaskFailed(name, number, "chip 0", original=error) from error

    def _described(self, values: tuple[Any, ...]) -> PlainTaskArgs | None:
        """The arguments as a chip takes them; None where one of them is no dense array."""
        last = self._last
        if last is not None and len(last.refs) == len(values):
            for ref, shape, value in zip(last.refs, last.shapes, values, strict=True):
                # The bytes of an array that is referred to, if weakly, can't be moved.
                known = ref()
                if known is None or known is not value or known.shape != shape or not known.flags.c_contiguous:
                    break
            else:
                return last.args
        key: list[Any] = []
        for parameter, value in zip(self._output.manifest.parameters, values, strict=True):
            if parameter.shape is None:
                key.append((type(value), value))
                continue
            interface = getattr(value, "__array_interface__", None)
            if interface is not None:
                if interface["strides"] is not None:
                    return None
                key.append((interface["data"][0], interface["shape"]))
            else:
                from simpler.arguments.arrays import describe

                info = describe(value)
                if info.strided is not None:
                    return None
                key.append((info.start, info.shape))
        known = tuple(key)
        found = self._known.get(known)
        if found is None:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            found = self._known[known] = self._plain(known)
        numpy = sys.modules["numpy"]
        if all(type(value) is numpy.ndarray for value in values):
            self._last = _Last([weakref.ref(value) for value in values], [value.shape for value in values], found)
        return found

    def _plain(self, key: tuple[Any, ...]) -> PlainTaskArgs:
        from simpler_runtime import INOUT, ContinuousTensor, DataType
        from simpler_runtime import TaskArgs as PlainTaskArgs

        plain = PlainTaskArgs()
        for parameter, (where, what) in zip(self._output.manifest.parameters, key, strict=True):
            if parameter.shape is None:
                plain.add_scalar(what)
            else:  # the tag is the callable's to say
                plain.add_tensor(ContinuousTensor.make(where, what, DataType.of(parameter.dtype)), INOUT)
        return plain


class _Here:
    """What a generated host orchestrator submits to: it runs each task at once."""

    def __init__(self, session: LocalSession) -> None:
        self._session = session
        self._count = 0

    def submit_next_level(self, name: str, args: TaskArgs, config: CallConfig, *, worker: int = -1) -> None:
        """Run a chip orchestration."""
        self._session.execute(name, self._count, args, config)
        self._count += 1

    def alloc(self, shape: Any, dtype: Any) -> Any:
        """An array of undefined content."""
        import numpy
        from simpler.arguments.arrays import element_type, numpy_dtype

        return numpy.empty(tuple(shape), numpy_dtype(element_type(dtype)))

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Brackets intermediates, which end by themselves here."""
        yield
