"""`bench`: a quick picture of latencies on this machine, beside multiprocessing.Pipe, in a few seconds.

Ours and theirs take turns, so that both meet the same machine; a probe before and after tells whether it stayed the
same. For figures to publish, use the benchmarks of the repository.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from typing import Any

from simpler_ipc import TASK, HeapRing, Mailbox, MailboxClient, MailboxServer, Peer, Region, exit_with
from simpler_ipc.tools import text

PAYLOAD = bytes(100)
DEPTH = 64
TURNS = 5
PIPE_SHARE = 8  # a pipe is that much slower or more: fewer of its messages tell enough
IDLE_SECONDS = 0.01
IDLE_CALLS = 30
CHANGED = 1.25


def add_to(commands: Any) -> None:
    bench = commands.add_parser("bench", help="a quick picture of latencies here", description=command.__doc__)
    bench.add_argument(
        "--messages", type=positive, default=20_000, help="round trips in each of 5 turns (default: 20000)"
    )
    bench.set_defaults(run=command)


def positive(argument: str) -> int:
    number = int(argument)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is no number of messages")
    return number


def command(options: argparse.Namespace) -> int:
    """Measure round trips, throughput, wake-ups and allocation here, beside multiprocessing.Pipe, in a few seconds."""
    before = probe()
    cpus, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    print(f"{cpus} CPUs usable, load {load:.2f}; Python to Python, {len(PAYLOAD)} bytes", flush=True)
    rows = [("", "p50", "p90", "p99", "Pipe / ours"), *round_trips(options.messages), *wake_ups()]
    print(text.columns(rows, right=(1, 2, 3, 4)))
    rates = [("", "", ""), *throughput(options.messages), allocation(options.messages)]
    print(text.columns(rates, right=(1, 2)))
    after = probe()
    print(f"\nprobe (a fixed amount of work): {before:.2f} ms before, {after:.2f} ms after")
    if max(before, after) > CHANGED * min(before, after):
        print("the machine did not stay the same: something else runs here, run it again")
    return 0


def probe() -> float:
    """Milliseconds for work that is always the same: the fastest of several, as noise only adds."""

    def work() -> float:
        start = time.perf_counter()
        sum(number * number for number in range(50_000))
        return (time.perf_counter() - start) * 1e3

    return min(work() for _ in range(7))


@contextmanager
def child(body: Callable[[], None]) -> Iterator[Peer]:
    """A forked child that runs `body` until the block ends."""
    me = Peer(os.getpid())
    pid = os.fork()
    if pid == 0:
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's
            exit_with(me)
            body()
        finally:
            os._exit(0)
    peer = Peer(pid)
    try:
        yield peer
    finally:
        peer.kill()
        peer.wait()


@contextmanager
def mailbox(depth: int, answer: Callable[[MailboxServer], None]) -> Iterator[MailboxClient]:
    """The client of a mailbox; another process answers as its server."""
    frame_bytes = 256
    box = Mailbox(Region(Mailbox.required_bytes(depth, frame_bytes)), depth=depth, frame_bytes=frame_bytes)

    def serve() -> None:
        server = box.server()
        while True:
            answer(server)

    with child(serve) as peer:
        client = box.client()
        client.watch(peer)
        yield client


def return_one(server: MailboxServer) -> None:
    server.reply(0, server.recv().payload)


def return_all(server: MailboxServer) -> None:
    server.reply_many([request.payload for request in server.recv_many()])


@contextmanager
def pipe(answer: Callable[[Connection], None]) -> Iterator[Connection]:
    """One end of a pipe; another process answers at the other."""
    here, there = multiprocessing.Pipe()

    def serve() -> None:
        while True:
            answer(there)

    with here, there, child(serve):
        yield here


def return_bytes(connection: Connection) -> None:
    connection.send_bytes(connection.recv_bytes())


def times(action: Callable[[], object], count: int, pause: float = 0.0) -> list[float]:
    """Microseconds of each."""
    clock = time.perf_counter_ns
    taken = []
    for _ in range(count):
        if pause:
            time.sleep(pause)
        start = clock()
        action()
        taken.append((clock() - start) / 1e3)
    return taken


Pair = tuple[Callable[[], object], Callable[[], object]]


@contextmanager
def both_round_trips() -> Iterator[Pair]:
    with ExitStack() as stack:
        client = stack.enter_context(mailbox(1, return_one))
        connection = stack.enter_context(pipe(return_bytes))

        def through_pipe() -> None:
            connection.send_bytes(PAYLOAD)
            connection.recv_bytes()

        yield lambda: client.call(TASK, PAYLOAD), through_pipe


def compare(what: str, ours: list[float], theirs: list[float]) -> Iterator[tuple[str, ...]]:
    ratio = statistics.median(theirs) / statistics.median(ours)
    yield f"{what}, Mailbox", *percentiles(ours), f"{ratio:.1f} ×"
    yield f"{what}, Pipe", *percentiles(theirs), ""


def percentiles(taken: list[float]) -> tuple[str, ...]:
    ordered = sorted(taken)
    return tuple(
        text.duration(ordered[min(len(ordered) * percent // 100, len(ordered) - 1)]) for percent in (50, 90, 99)
    )


def round_trips(messages: int) -> Iterator[tuple[str, ...]]:
    ours: list[float] = []
    theirs: list[float] = []
    with both_round_trips() as (through_mailbox, through_pipe):
        for _ in range(TURNS):
            ours += times(through_mailbox, messages)
            theirs += times(through_pipe, max(messages // PIPE_SHARE, 1))
    yield from compare("round trip", ours, theirs)


def wake_ups() -> Iterator[tuple[str, ...]]:
    """Round trips to a process that has fallen asleep."""
    with both_round_trips() as (through_mailbox, through_pipe):
        ours = times(through_mailbox, IDLE_CALLS, IDLE_SECONDS)
        theirs = times(through_pipe, IDLE_CALLS, IDLE_SECONDS)
    yield from compare("round trip after idling", ours, theirs)


def throughput(messages: int) -> Iterator[tuple[str, ...]]:
    """Messages a second where nobody waits for a reply before the next is sent."""
    theirs_messages = max(messages // PIPE_SHARE, 1)
    batch = [PAYLOAD] * DEPTH

    def swallow(connection: Connection) -> None:
        for _ in range(theirs_messages):
            connection.recv_bytes()
        connection.send_bytes(b"all")

    def through_mailbox() -> None:
        sent = received = 0
        while received < messages:
            sent += client.send_many(TASK, batch[: messages - sent])
            client.wait()
            received += len(client.poll_many())

    def through_pipe() -> None:
        for _ in range(theirs_messages):
            connection.send_bytes(PAYLOAD)
        connection.recv_bytes()

    ours, theirs = [], []
    with mailbox(DEPTH, return_all) as client, pipe(swallow) as connection:
        for _ in range(TURNS):
            ours.append(messages / times(through_mailbox, 1)[0])
            theirs.append(theirs_messages / times(through_pipe, 1)[0])
    mine, other = statistics.median(ours), statistics.median(theirs)
    yield f"pipelined, Mailbox of {DEPTH} frames, with replies", f"{mine:.2f} M/s", f"{mine / other:.1f} ×"
    yield "pipelined, Pipe, without replies", f"{other:.2f} M/s", ""


def allocation(count: int) -> tuple[str, ...]:
    nbytes = 1 << 20
    ring = HeapRing(Region(HeapRing.required_bytes(nbytes)), nbytes=nbytes)
    alloc, release = ring.alloc, ring.release

    def turn() -> None:
        for _ in range(count):
            release(alloc(4096))

    nanoseconds = statistics.median(times(turn, TURNS)) / count * 1e3
    return "HeapRing alloc and release of 4 KiB", f"{nanoseconds:.0f} ns", ""
