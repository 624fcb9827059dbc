"""Many small requests in flight, and how much of that is left when a foreign process keeps a CPU busy.

Requests and replies of 32 bytes, 32 frames. Each side on a CPU of its own; with the foreign process, all three on the
same two CPUs, where the scheduler likes.

    python benchmarks/pipelined.py [--rounds 20] [--messages 20000] [--only WORD] [--json FILE]
"""

from __future__ import annotations

import contextlib
import functools
import signal
import sys
import time
from collections.abc import Callable, Iterator

import simpler_ipc as ipc
from support import peers
from support.machine import Child, Placement, Stage, Turn
from support.measure import Study, options, study

NBYTES = 32
DEPTH = 32
PAYLOAD = bytes(NBYTES)
PAYLOADS = [PAYLOAD] * DEPTH
FOR_EVER = 2**62
SLICES = 0.15
"""Seconds of a turn beside a foreign process: many of a scheduler's time slices."""

TO_RUST, TO_PYTHON, IN_RUST = "Python parent, Rust child", "Python parent, Python child", "Rust parent, Rust child"


def serve(mailbox: ipc.Mailbox) -> Turn:
    server = mailbox.server()

    def turn(messages: int) -> None:
        recv_many, reply_many = server.recv_many, server.reply_many
        while messages > 0:
            requests = recv_many()
            reply_many(requests)  # their bytes, from where they are
            messages -= len(requests)

    return turn


def ask_pipelined(client: ipc.MailboxClient, messages: int) -> None:
    """As many in flight as there are frames, until all are answered."""
    send_many, poll_many, wait = client.send_many, client.poll_many, client.wait
    left = messages - send_many(ipc.TASK, PAYLOADS[:messages])
    while True:
        if (taken := len(poll_many())) > 0:
            left -= send_many(ipc.TASK, PAYLOADS[: min(taken, left)])
        elif left > 0 or client.in_flight > 0:
            wait()
        else:
            return


def ask_one_by_one(client: ipc.MailboxClient, messages: int) -> None:
    call = client.call
    for _ in range(messages):
        call(ipc.TASK, PAYLOAD)


def to_rust(stage: Stage) -> ipc.MailboxClient:
    region = peers.region_for(DEPTH, NBYTES)
    mailbox = ipc.Mailbox(region, depth=DEPTH, frame_bytes=NBYTES)
    child = stage.rust("serve_raw", region, DEPTH, NBYTES)
    client = mailbox.client()
    client.watch(child.peer)
    return client


def to_python(stage: Stage) -> ipc.MailboxClient:
    mailbox = ipc.Mailbox(peers.region_for(DEPTH, NBYTES), depth=DEPTH, frame_bytes=NBYTES)
    child = stage.fork("our server", lambda: serve(mailbox))
    child.start(FOR_EVER)
    client = mailbox.client()
    client.watch(child.peer)
    return client


def foreign(stage: Stage) -> Child:
    """A process that computes and knows nothing of us, stopped at first."""

    def prepare() -> Turn:
        def turn(_messages: int) -> None:
            while True:
                pass

        return turn

    child = stage.fork("the foreign process", prepare)
    child.start(FOR_EVER)
    child.peer.kill(signal.SIGSTOP)
    return child


@contextlib.contextmanager
def running(child: Child) -> Iterator[None]:
    child.peer.kill(signal.SIGCONT)
    try:
        yield
    finally:
        child.peer.kill(signal.SIGSTOP)


def compare(it: Study) -> None:
    stage, messages = it.stage, it.options.messages

    def each(start: Callable[[], ipc.MailboxClient]) -> Callable[[], float]:
        client = start()

        def turn() -> float:
            ask_pipelined(client, max(1, messages // 10))
            start = time.perf_counter()
            ask_pipelined(client, messages)
            return (time.perf_counter() - start) / messages

        return turn

    def in_rust() -> Callable[[], float]:
        region = peers.region_for(DEPTH, NBYTES)
        stage.rust("serve_raw", region, DEPTH, NBYTES)
        client = stage.rust("ask", region, DEPTH, NBYTES)

        many = 2 * messages

        def turn() -> float:
            client.measure("pipelined", max(1, many // 10), NBYTES)
            return client.measure("pipelined", many, NBYTES)[0] / many

        return turn

    def over_time(
        start: Callable[[], ipc.MailboxClient], ask: Callable[[ipc.MailboxClient, int], None], child: Child | None
    ) -> Callable[[], float]:
        client = start()
        few = max(1, messages // 100)

        def turn() -> float:
            done = 0
            ask(client, few)
            with running(child) if child is not None else contextlib.nullcontext():
                start = time.perf_counter()
                while (now := time.perf_counter()) < start + SLICES:
                    ask(client, few)
                    done += few
            return (now - start) / done

        return turn

    rust, python = functools.cache(lambda: to_rust(stage)), functools.cache(lambda: to_python(stage))
    it.add(TO_RUST, lambda: each(rust))
    it.add(TO_PYTHON, lambda: each(python))
    it.add(IN_RUST, in_rust)
    hog = foreign(stage)
    for name, ask in (("many in flight", ask_pipelined), ("one at a time", ask_one_by_one)):
        it.add(f"{name}, quiet", functools.partial(over_time, python, ask, None), Placement.FREE, alone=True)
        it.add(f"{name}, foreign process", functools.partial(over_time, python, ask, hog), Placement.FREE)
    it.run()

    def millions(seconds: float) -> float:
        return 1e-6 / seconds

    it.goal_near(TO_RUST, TO_RUST, 4, "M/s", millions, at_least=True)
    it.goal_near(TO_PYTHON, TO_PYTHON, 3.5, "M/s", millions, at_least=True)
    for name in ("many in flight", "one at a time"):
        left = [100 * ratio for ratio in it.ratios(f"{name}, quiet", f"{name}, foreign process")]
        it.goal(f"left beside a foreign process, {name}", 40, "%", left, at_least=True)
    it.report()


if __name__ == "__main__":
    sys.exit(study(f"{DEPTH} requests in flight", options(__doc__, rounds=20, messages=20000), compare))
