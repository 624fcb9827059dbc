"""What ``ir.compile`` returns: a program that can be called."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pypto.driver.config import DistributedConfig

if TYPE_CHECKING:
    from simpler_runtime import ChipCallable

    from pypto.runtime.local import LocalSession
    from pypto.runtime.manifest import Manifest
    from pypto.runtime.output_directory import OutputDirectory
    from pypto.runtime.progress import ProgressCallback
    from pypto.runtime.session import Session


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
    ``with``, or the end of this process. After a call that failed the program can be called again. On the platform
    ``cpu``, a program of one chip without SubWorkers needs none: it runs in this process, on the arrays it is given.

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
        self._session: LocalSession | Session | None = None
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

    from_dir = load

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

    def _started(self) -> LocalSession | Session:
        if self._session is None:
            from pypto.runtime.local import LocalSession, runs_here
            from pypto.runtime.progress import Progress, current
            from pypto.runtime.session import Session

            progress = self._progress or current()
            config = self.manifest.config
            what = f"chips: {len(config['device_ids'])}, SubWorkers: {config['num_sub_workers']}"
            began = time.perf_counter()
            progress(Progress("start", 0, 1, what))
            kind = LocalSession if runs_here(self.manifest) else Session
            session: LocalSession | Session = kind(self._output, self._chips)
            # Also at the end of this process, and when the program is forgotten without close().
            self._finalizer = weakref.finalize(self, session.close)
            self._session = session
            progress(Progress("start", 1, 1, what))
            self.timings.start = time.perf_counter() - began
        return self._session
