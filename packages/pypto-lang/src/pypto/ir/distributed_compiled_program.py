"""What ``ir.compile`` returns: a program that can be called, and the configuration it was compiled for."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pypto.errors import ConfigError

if TYPE_CHECKING:
    from simpler_runtime import ChipCallable

    from pypto.runtime.manifest import Manifest
    from pypto.runtime.output_directory import OutputDirectory
    from pypto.runtime.progress import ProgressCallback
    from pypto.runtime.session import Session


@dataclass(frozen=True, slots=True)
class DistributedConfig:
    """What a program runs on.

    Attributes:
        device_ids: the chips; ``device=`` of a call in a host orchestrator is an index into this list.
        num_sub_workers: processes for SubWorkers.
        runtime: how a chip builds its graph.
        block_dim: blocks of an SPMD launch that names no number.
        aicpu_thread_num: AICPU threads of a chip.

    Raises ConfigError for a value of the wrong type or out of range.
    """

    device_ids: list[int] = field(default_factory=lambda: [0])
    num_sub_workers: int = 0
    runtime: str = "tensormap_and_ringbuffer"
    block_dim: int = 1
    aicpu_thread_num: int = 1

    def __post_init__(self) -> None:
        ids = self.device_ids
        if not isinstance(ids, (list, tuple)) or not ids:
            raise ConfigError(f"device_ids: expected a list of at least one device id, got {ids!r}")
        for device in ids:
            if not _is_int(device) or device < 0:
                raise ConfigError(f"device_ids: expected ids of 0 or more, got {device!r} in {ids!r}")
        if len(set(ids)) != len(ids):
            raise ConfigError(f"device_ids: every chip can be named once only, got {ids!r}")
        object.__setattr__(self, "device_ids", list(ids))
        for name, least in (("num_sub_workers", 0), ("block_dim", 1), ("aicpu_thread_num", 1)):
            value = getattr(self, name)
            if not _is_int(value) or value < least:
                raise ConfigError(f"{name}: expected an int of {least} or more, got {value!r}")
        if not isinstance(self.runtime, str):
            raise ConfigError(f"runtime: expected a name, got {self.runtime!r}")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


@dataclass(slots=True)
class Timings:
    """Seconds that the steps of a program took; None for one that has not happened.

    Attributes:
        compile: from the program to loadable code.
        start: starting chips and SubWorkers.
        first_run: the first call, with ``start`` in it unless ``prepare`` was called before.
        last_run: the latest call.
    """

    compile: float
    start: float | None = None
    first_run: float | None = None
    last_run: float | None = None


class DistributedCompiledProgram:
    """A compiled program. ``ir.compile`` and ``load`` make it.

    Call it with all arguments to write the outputs in place (it returns None), or without the ``Out`` arguments to get
    them: one array, or a tuple in the order the host orchestrator returns them. They are torch tensors if any argument
    is one, else numpy arrays. Arguments can be given by name.

        compiled(a, b, f)
        f = compiled(a, b)

    The first call starts the processes the program runs in; they stay for later calls until ``close``, the end of a
    ``with``, or the end of this process. After a call that failed the program can be called again.

    Calls raise:
        SignatureError: wrong number or names of arguments.
        TypeMismatch: an argument with another dtype or shape than the signature says.
        simpler.TaskFailed: a kernel, chip orchestration or SubWorker failed; its ``original`` is the exception.
        simpler.WorkerDied: a process of the program ended while it ran a task.

    Attributes:
        timings: see Timings.
    """

    def __init__(
        self,
        output: OutputDirectory,
        chips: Mapping[str, ChipCallable],
        *,
        compile_seconds: float,
        progress: ProgressCallback | None = None,
    ) -> None:
        self.timings = Timings(compile_seconds)
        self._output = output
        self._chips = chips
        self._progress = progress
        self._lock = threading.RLock()
        self._session: Session | None = None
        self._finalizer: weakref.finalize[..., DistributedCompiledProgram] | None = None

    @staticmethod
    def load(
        output_dir: str | os.PathLike[str], *, progress: ProgressCallback | None = None
    ) -> DistributedCompiledProgram:
        """The program whose files are in ``output_dir``, for the platform and configuration it was compiled for.

        Raises OutputDirectoryError where there is none, and what the C++ compiler raises, as ``ir.compile`` does.
        """
        from pypto.runtime import chips
        from pypto.runtime.output_directory import OutputDirectory
        from pypto.runtime.progress import current

        began = time.perf_counter()
        output = OutputDirectory.load(Path(output_dir).absolute())
        callables = chips.build(output, progress or current())
        seconds = time.perf_counter() - began
        return DistributedCompiledProgram(output, callables, compile_seconds=seconds, progress=progress)

    @property
    def output_dir(self) -> Path:
        """The directory with the generated files, absolute."""
        return self._output.path

    @property
    def manifest(self) -> Manifest:
        """What ``program.json`` says: signature, platform, configuration."""
        return self._output.manifest

    @property
    def name(self) -> str:
        """Name of the program."""
        return self.manifest.name

    @property
    def platform(self) -> str:
        """Name of the platform it was compiled for."""
        return self.manifest.platform

    @property
    def config(self) -> DistributedConfig:
        """What it runs on."""
        return DistributedConfig(**self.manifest.config)

    @property
    def signature(self) -> str:
        """The host orchestrator's parameters, for people."""
        from pypto.runtime.arguments import signature

        return signature(self.manifest)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        from pypto.runtime.arguments import bind

        began = time.perf_counter()
        with self._lock:
            bound = bind(self.manifest, args, kwargs, lambda *what: self._started().zeros(*what))
            self._started().run(bound)
            self.timings.last_run = time.perf_counter() - began
            if self.timings.first_run is None:
                self.timings.first_run = self.timings.last_run
        return bound.results

    def prepare(self) -> DistributedCompiledProgram:
        """Start the processes now, so that the first call need not. Gives the program itself."""
        with self._lock:
            self._started()
        return self

    def close(self) -> None:
        """End the processes. The program can be called again, which starts new ones."""
        with self._lock:
            finalizer, self._finalizer, self._session = self._finalizer, None, None
            if finalizer is not None:
                finalizer()

    def __enter__(self) -> DistributedCompiledProgram:
        return self.prepare()

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "running" if self._session else "not running"
        return f"<DistributedCompiledProgram {self.signature} on {self.platform}, {state}, {self.output_dir}>"

    def _started(self) -> Session:
        if self._session is None:
            from pypto.runtime.progress import Progress, current
            from pypto.runtime.session import Session

            progress = self._progress or current()
            config = self.manifest.config
            what = f"chips: {len(config['device_ids'])}, SubWorkers: {config['num_sub_workers']}"
            began = time.perf_counter()
            progress(Progress("start", 0, 1, what))
            session = Session(self._output, self._chips)
            # Also at the end of this process, and when the program is forgotten without close().
            self._finalizer = weakref.finalize(self, session.close)
            self._session = session
            progress(Progress("start", 1, 1, what))
            self.timings.start = time.perf_counter() - began
        return self._session


def config_fields(config: DistributedConfig) -> dict[str, Any]:
    """The fields of a configuration as plain data."""
    return asdict(config)
