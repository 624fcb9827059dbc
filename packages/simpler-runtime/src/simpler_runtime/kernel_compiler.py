"""Compiles kernels and orchestrations: in parallel, once for each content, with the compiler's own words on failure."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from simpler_runtime import include_dir
from simpler_runtime.cxx import Compiler, find_compiler
from simpler_runtime.errors import CompileFailed
from simpler_runtime.kernel_cache import KernelCache, default_directory

COMPILE_TIMEOUT = 600.0  # seconds for one unit; ziglang takes over a minute the first time it links

OnDone = Callable[[str, bool, float], object]

# Flags that bring files whose content the cache's key does not cover.
_OTHER_FILES = (
    "-I",
    "-include",
    "-imacros",
    "-isystem",
    "-iquote",
    "-idirafter",
    "-B",
    "--sysroot",
    "-l",
    "-L",
    "-Wl,",
)


@dataclass(frozen=True)
class CompileUnit:
    """A C++ source that becomes one shared object.

    Attributes:
        name: what messages call it; a path is fine, and need not exist.
        source: C++20. It can include the headers under ``include_dir()``.
        flags: compiler flags beside the compiler's usual ones.
    """

    name: str
    source: str
    flags: tuple[str, ...] = ()


class KernelCompiler:
    """Turns C++ sources into shared objects.

    Args:
        cxx: the compiler, perhaps with arguments. None: ``$CXX``, c++, g++, clang++ or the ``ziglang`` package.
        cache_dir: where objects are kept. None: ``$SIMPLER_CACHE_DIR``, or "simpler" in the user's cache directory.

    Objects are kept under a key made of source, flags, compiler, CPU and all simpler headers, so a changed one of these
    compiles again and nothing else does. Units with flags that bring files of their own (``-I``, ``-include``, ``-l``…)
    are compiled every time. A cache that can't be used costs a warning, not the compilation.
    """

    def __init__(self, cxx: str | None = None, cache_dir: Path | None = None) -> None:
        self._cxx = cxx
        self._cache_dir = cache_dir

    def compile(self, units: Sequence[CompileUnit], on_done: OnDone | None = None) -> list[bytes]:
        """The shared object of each unit, in their order; as many at a time as this process has CPUs.

        Args:
            units: what to compile. Units with equal source and flags are compiled once.
            on_done: called in this thread as ``on_done(name, cached, seconds)`` when a unit is there.

        Raises:
            CompilerNotFound: there is no C++ compiler.
            CompileFailed: a unit does not compile. The other compilations are ended.

        However it is left, also by Ctrl-C, no compiler process and no temporary file stays behind.
        """
        done = on_done or (lambda name, cached, seconds: None)
        objects: dict[str, bytes] = {}
        waiting: dict[str, list[CompileUnit]] = {}
        with KernelCache(self._cache_dir or default_directory()) as cache:
            compiler = find_compiler(self._cxx, partial(_remember, cache))
            include = include_dir()
            common = _hash([compiler.identity, _headers_hash(include)])
            # Where the headers lie is no part of the object.
            keys = [_hash([common, *_words(compiler, unit.flags), unit.source]) for unit in units]
            for key, unit in zip(keys, units, strict=True):
                start = time.perf_counter()
                found = objects.get(key)
                if found is None and key not in waiting and _is_covered(unit):
                    found = cache.get(key)
                if found is None:
                    waiting.setdefault(key, []).append(unit)
                else:
                    objects[key] = found
                    done(unit.name, True, time.perf_counter() - start)
            if waiting:
                jobs = {key: equal[0] for key, equal in waiting.items()}
                with contextlib.closing(_compile_all(compiler, include, jobs)) as finished:
                    for key, content, seconds in finished:
                        objects[key] = content
                        if _is_covered(jobs[key]):
                            cache.put(key, content)
                        for unit in waiting[key]:
                            done(unit.name, False, seconds)
        return [objects[key] for key in keys]


def _hash(parts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        text = part.encode()
        digest.update(len(text).to_bytes(8, "little") + text)
    return digest.hexdigest()


def _words(compiler: Compiler, flags: tuple[str, ...]) -> Iterable[str]:
    """The command lines of a unit, without what differs from one build to the next."""
    return (word for command in compiler.build_commands(Path(), flags, Path("object.so")) for word in command)


def _headers_hash(include: Path) -> str:
    """Of the names and contents of all headers that a source may include."""
    paths = sorted(include.rglob("*.h"))
    return _hash(part for path in paths for part in (path.relative_to(include).as_posix(), path.read_text("utf-8")))


def _remember(cache: KernelCache, question: str, ask: Callable[[], str]) -> str:
    """The answer that is kept beside the objects; asks when there is none."""
    key = _hash(["answer", question])
    kept = cache.get(key)
    if kept is not None:
        return kept.decode()
    answer = ask()
    cache.put(key, answer.encode())
    return answer


def _is_covered(unit: CompileUnit) -> bool:
    """Whether the key says all that the object is made of."""
    return all(flag.startswith("-") and not flag.startswith(_OTHER_FILES) for flag in unit.flags)


def _compile_all(
    compiler: Compiler, include: Path, jobs: dict[str, CompileUnit]
) -> Generator[tuple[str, bytes, float], None, None]:
    """Key, shared object and seconds of each job, as they come."""
    workers = min(len(jobs), len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    processes = _Processes()
    with tempfile.TemporaryDirectory(prefix="simpler-") as folder:
        pool = ThreadPoolExecutor(workers, thread_name_prefix="simpler-compile")
        try:
            futures = {}
            for number, (key, unit) in enumerate(jobs.items()):
                output = Path(folder) / f"{number}.so"
                futures[pool.submit(_compile_one, compiler, include, unit, output, processes)] = key
            for future in as_completed(futures):
                content, seconds = future.result()
                yield futures[future], content, seconds
        finally:
            processes.stop()
            pool.shutdown(cancel_futures=True)


def _compile_one(
    compiler: Compiler, include: Path, unit: CompileUnit, output: Path, processes: _Processes
) -> tuple[bytes, float]:
    start = time.perf_counter()
    # Whatever the compiler writes on its way goes where it is removed, even if the compiler is killed.
    environment = {**os.environ, "TMPDIR": str(output.parent)}
    text = unit.source.encode()
    for command in compiler.build_commands(include, unit.flags, output):
        status, words = processes.run(command, text, environment)
        if status != 0:
            ending = f"exit status {status}" if status > 0 else f"signal {-status}"
            raise _error(unit, command, words if words.strip() else f"the compiler ended with {ending}")
        text = b""
    try:
        return output.read_bytes(), time.perf_counter() - start
    except OSError as error:
        raise _error(unit, command, f"{words}\nthe compiler left no output: {error}") from error


def _error(unit: CompileUnit, command: list[str], words: str) -> CompileFailed:
    shown = f"{shlex.join(command)} < {shlex.quote(unit.name)}"
    return CompileFailed(unit.name, shown, words.replace("<stdin>", unit.name), unit.source)


class _Processes:
    """The compiler processes of one compilation; none outlives stop()."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def run(self, command: list[str], text: bytes, environment: dict[str, str]) -> tuple[int, str]:
        """Exit status (negative: a signal's number) and output of a command that reads ``text``."""
        with self._lock:
            if self._stopped:
                return -signal.SIGKILL, "not started"
            # A process group of its own: the compiler's own children can be ended with it.
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=environment,
                process_group=0,
            )
            self._running.add(process)
        try:
            output, _ = process.communicate(text, timeout=COMPILE_TIMEOUT)
            return process.returncode, output.decode(errors="replace")
        except subprocess.TimeoutExpired:
            return -signal.SIGKILL, f"the compiler did not finish within {COMPILE_TIMEOUT:.0f} s and was ended"
        finally:
            with self._lock:
                self._running.discard(process)
            _kill(process)
            process.wait()

    def stop(self) -> None:
        """Kills those that run, which makes run() return; no other starts."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kills the process, if it has not ended by itself, and its children."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):  # it has ended, and another thread knows already
            os.killpg(process.pid, signal.SIGKILL)
