"""Processes for a benchmark: placed, asleep outside their turns, and gone with whoever started them."""

from __future__ import annotations

import contextlib
import ctypes
import enum
import gc
import json
import mmap
import os
import shlex
import shutil
import signal
import struct
import subprocess
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Set
from pathlib import Path
from types import FrameType, TracebackType
from typing import NoReturn, Self

import simpler_ipc as ipc

CRATES = Path(__file__).resolve().parents[4] / "crates"
Turn = Callable[[int], object]


class Placement(enum.Enum):
    """Where the two sides of a measurement run.

    Left free, a scheduler that sees two processes of which one sleeps at a time may keep both on one CPU: what sleeps
    gets quicker by that, what spins slower, and it may look different in the next minute.
    """

    APART = enum.auto()
    """Each on a CPU of its own."""
    TOGETHER = enum.auto()
    """On one CPU."""
    FREE = enum.auto()
    """On any of the two CPUs, as the scheduler likes."""


class Unavailable(Exception):
    """Something a measurement needs is not there; the text says what."""


def cpus() -> tuple[int, int]:
    """The two CPUs a benchmark uses: the first that this process may use and that are not one core's two threads."""
    first, *others = sorted(os.sched_getaffinity(0))
    siblings = Path(f"/sys/devices/system/cpu/cpu{first}/topology/thread_siblings_list")
    shared = siblings.read_text().strip().replace("-", ",").split(",") if siblings.exists() else []
    apart = [cpu for cpu in others if str(cpu) not in shared]
    if not apart:
        raise Unavailable("a second CPU")
    return first, apart[0]


@contextlib.contextmanager
def pinned(chosen: Set[int]) -> Iterator[None]:
    """Keep this thread, and what it starts meanwhile, on those CPUs."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, chosen)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def unasked() -> Iterator[None]:
    """Ctrl-C and a polite kill mean nothing meanwhile; to a process started meanwhile, they never do."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Stage:
    """Everything a benchmark starts, on two CPUs: `here`, where this process measures, and `there`.

    Leaving it ends all of it. A process that ends before is missed at once: whoever waits for it would wait for ever.
    """

    def __init__(self, here: int, there: int) -> None:
        self.here = here
        self.there = there
        self.both = {here, there}
        self._processes: list[Process] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(pinned(self.both))
        before = signal.signal(signal.SIGCHLD, self._child_changed)
        self._stack.callback(signal.signal, signal.SIGCHLD, before)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with unasked():
            self._end()

    def _end(self) -> None:
        ending, self._processes = self._processes, []
        for process in ending:
            process.ask_to_end()
        patience = time.monotonic() + 0.3
        for process in ending:
            # One in the middle of its turn waits for messages that will not come.
            with contextlib.suppress(ipc.WaitTimeout):
                process.peer.wait(max(0.0, patience - time.monotonic()))
            process.close()
        self._stack.close()

    def callback(self, body: Callable[[], object]) -> None:
        """To be done when all processes have ended."""
        self._stack.callback(body)

    def _child_changed(self, _signal: int, _frame: FrameType | None) -> None:
        for process in self._processes:
            if (died := process.peer.died()) is not None:
                raise RuntimeError(f"{process.name} ended in the middle of the benchmark") from died

    def place(self, placement: Placement) -> None:
        """Put this process and the other side of every measurement there."""
        here, there = {
            Placement.APART: ({self.here}, {self.there}),
            Placement.TOGETHER: ({self.here}, {self.here}),
            Placement.FREE: (self.both, self.both),
        }[placement]
        if placement is Placement.FREE:
            self.place(Placement.APART)  # where they go from there is theirs to say
        os.sched_setaffinity(0, here)
        for process in self._processes:
            if process.placed:
                process.move(here if process.asks else there)

    def waited(self) -> float:
        """Seconds that all of them, and this process, ever waited for a CPU that another process had."""
        pids = [os.getpid(), *(process.peer.pid for process in self._processes)]
        return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) for pid in pids) * 1e-9

    def fork(self, name: str, prepare: Callable[[], Turn], on: int | None = None) -> Child:
        """A forked process, pinned to a CPU for ever or placed with the others. Returns once it is prepared."""
        child = Child(name, prepare)
        self._processes.append(child)
        child.ready()
        if on is not None:
            child.placed = False
            child.move({on})
        return child

    def rust(self, role: str, region: ipc.Region, *numbers: int) -> RustProcess:
        """The Rust program of the crate's benches, on the mailbox in that region."""
        process = RustProcess(role, region, numbers)
        self._processes.append(process)
        return process


class Process:
    """A process that lives as long as the stage."""

    asks = False
    """Whether it is the side that measures."""
    placed = True
    """Whether it goes where the stage says."""

    def __init__(self, name: str, pid: int) -> None:
        self.name = name
        self.peer = ipc.Peer(pid)

    def move(self, on: Set[int]) -> None:
        """Keep all of its threads on those CPUs."""
        for thread in os.listdir(f"/proc/{self.peer.pid}/task"):
            with contextlib.suppress(ProcessLookupError):  # it ended meanwhile
                os.sched_setaffinity(int(thread), on)

    def ask_to_end(self) -> None:
        """Tell it that there is no turn any more."""

    def close(self) -> None:
        """End it, if it has not ended."""
        self.peer.kill()
        self.peer.wait()


class Child(Process):
    """A forked process that takes turns: asleep until `start(n)`, then does what `prepare` made, for `n` messages."""

    def __init__(self, name: str, prepare: Callable[[], Turn]) -> None:
        wake, self._start = os.pipe()
        self._ready, say_ready = os.pipe()
        me = ipc.Peer(os.getpid())
        with unasked():
            pid = os.fork()
            if pid == 0:
                self._live(me, prepare, wake, say_ready)
        os.close(wake)
        os.close(say_ready)
        super().__init__(name, pid)

    @staticmethod
    def _live(parent: ipc.Peer, prepare: Callable[[], Turn], wake: int, say_ready: int) -> NoReturn:
        try:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            ipc.exit_with(parent)
            turn: Turn | None = prepare()
            os.write(say_ready, b"!")
            while (messages := struct.unpack("q", os.read(wake, 8))[0]) > 0:
                turn(messages)
            turn = None  # what it holds is closed
            gc.collect()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(1)

    def ready(self) -> None:
        """Sleep until it is prepared."""
        if os.read(self._ready, 1) != b"!":
            raise RuntimeError(f"{self.name} could not be prepared")

    def start(self, messages: int) -> None:
        """Let it take its turn; it runs while this process goes on."""
        os.write(self._start, struct.pack("q", messages))

    def ask_to_end(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self._start, struct.pack("q", 0))

    def close(self) -> None:
        super().close()
        os.close(self._start)
        os.close(self._ready)


class RustProcess(Process):
    """`crates/simpler-ipc/benches/processes.rs`: see there what it can be asked."""

    def __init__(self, role: str, region: ipc.Region, numbers: tuple[int, ...]) -> None:
        command = [str(rust_program()), role, *map(str, (region.fd, *numbers, os.getpid()))]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with unasked():
            self._process = subprocess.Popen(command, pass_fds=[region.fd], text=True, **pipes)
        super().__init__(f"the Rust process '{role}'", self._process.pid)
        self.asks = role == "ask"

    def measure(self, what: str, *numbers: int) -> list[float]:
        """Have it measure something: seconds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{what} {' '.join(map(str, numbers))}\n")
        self._process.stdin.flush()
        return [int(nanoseconds) * 1e-9 for nanoseconds in self._process.stdout.readline().split()]

    def ask_to_end(self) -> None:
        super().close()  # it has nothing to tidy up

    def close(self) -> None:
        super().close()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


_built: list[Path] = []


def rust_program() -> Path:
    """The Rust side, built in release mode; built once a run."""
    if not _built:
        cargo = shutil.which("cargo")
        if cargo is None or not CRATES.is_dir():
            raise Unavailable("cargo with the crate's sources")
        command = [cargo, "build", "--quiet", "--release", "--package", "simpler-ipc", "--bench", "processes"]
        command += ["--manifest-path", str(CRATES / "Cargo.toml"), "--message-format", "json-render-diagnostics"]
        print("building the Rust side", flush=True)
        lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
        messages = map(json.loads, lines)
        _built.extend(Path(message["executable"]) for message in messages if message.get("executable"))
    return _built[-1]


class Floor:
    """floor.c, compiled with this machine's compiler: what a round trip takes with nothing built on it."""

    def __init__(self, stage: Stage) -> None:
        compiler = shlex.split(os.environ.get("CC", "")) or next(
            ([path] for name in ("cc", "gcc", "clang") if (path := shutil.which(name))), None
        )
        if compiler is None:
            raise Unavailable("a C compiler, for the ping-pong that everything is measured by,")
        with tempfile.TemporaryDirectory() as folder:
            library = Path(folder) / "floor.so"
            source = Path(__file__).with_name("floor.c")
            subprocess.run([*compiler, "-O3", "-shared", "-fPIC", str(source), "-o", str(library)], check=True)
            self._c = ctypes.CDLL(str(library))
        self._c.spin_ping.restype = ctypes.c_uint64
        self._here = stage.here
        # The lines stay mapped as long as the arrays made of them, here and in the children.
        self._spinning, self._sleeping, self._together = (
            (ctypes.c_char * 256).from_buffer(mmap.mmap(-1, 4096)) for _ in range(3)
        )

        def answer(name: str, pong: Callable[..., int], lines: object, cpu: int) -> Child:
            def turn(trips: int) -> None:
                if pong(lines, trips) != 0:
                    raise RuntimeError("nobody asks")

            return stage.fork(f"the C ping-pong ({name})", lambda: turn, cpu)

        self._spin = answer("spinning", self._c.spin_pong, self._spinning, stage.there)
        self._sleep = answer("futex", self._c.futex_pong, self._sleeping, stage.there)
        self._same = answer("futex on one CPU", self._c.futex_pong, self._together, stage.here)

    def spin(self, trips: int) -> float:
        """Seconds a round trip, both sides spinning on CPUs of their own."""
        awake = trips // 4
        with pinned({self._here}):
            self._spin.start(awake + trips)
            self._c.spin_ping(self._spinning, awake)
            taken: int = self._c.spin_ping(self._spinning, trips)
        if taken == 0:
            raise RuntimeError("the C ping-pong got no answer")
        return taken * 1e-9 / trips

    def futex(self, trips: int, gap: int) -> list[float]:
        """Seconds of each round trip between two CPUs, both sides asleep for `gap` nanoseconds before."""
        return self._through_futex(self._sleep, self._sleeping, trips, gap)

    def futex_on_one_cpu(self, trips: int) -> list[float]:
        """Seconds of each round trip, both sides on one CPU."""
        return self._through_futex(self._same, self._together, trips, 0)

    def _through_futex(self, child: Child, lines: object, trips: int, gap: int) -> list[float]:
        taken = (ctypes.c_uint64 * trips)()
        with pinned({self._here}):
            child.start(trips)
            if self._c.futex_ping(lines, trips, gap, taken) != 0:
                raise RuntimeError("the futex ping-pong got no answer")
        return [nanoseconds * 1e-9 for nanoseconds in taken]
