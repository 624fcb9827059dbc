"""Waiting: idle costs nothing, Ctrl-C ends it, a ring is never missed."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable

import psutil
import pytest
from simpler_ipc import TASK, Doorbell, Mailbox, Peer, Region, WaitTimeout

SLEEPERS = 4  # where a doorbell counts those who sleep on it

Fork = Callable[..., Peer]


def test_a_ring_from_another_process_wakes_a_waiter(fork: Fork) -> None:
    region = Region(2 * Doorbell.NBYTES)
    there, here = Doorbell(region), Doorbell(region, Doorbell.NBYTES)

    def answer() -> None:
        for seen in range(1000):
            there.wait(seen)
            here.ring()

    child = fork(answer)
    for seen in range(1000):
        there.ring()
        assert here.wait(seen) == seen + 1
    assert child.wait().exit_status == 0


def test_a_wait_for_what_has_happened_returns_at_once() -> None:
    doorbell = Doorbell(Region(Doorbell.NBYTES))
    doorbell.ring()
    assert doorbell.wait(0, timeout=0) == 1
    with pytest.raises(WaitTimeout, match="doorbell"):
        doorbell.wait(1, timeout=0)


def test_other_threads_run_while_one_waits() -> None:
    doorbell = Doorbell(Region(Doorbell.NBYTES))
    values: list[int] = []
    waiting = threading.Thread(target=lambda: values.append(doorbell.wait(0)))
    waiting.start()
    doorbell.ring()
    waiting.join()
    assert values == [1]


def test_an_idle_child_uses_no_cpu(fork: Fork, eventually: Callable[..., None]) -> None:
    region = Region(Mailbox.required_bytes(1, 100))
    box = Mailbox(region, frame_bytes=100)
    sleepers = region.numpy("uint32", 1, offset=128 + SLEEPERS)
    child = fork(lambda: box.server().recv())
    eventually(lambda: sleepers[0] == 1)
    process = psutil.Process(child.pid)
    before = process.cpu_times()
    with pytest.raises(WaitTimeout):
        child.wait(timeout=2)
    after = process.cpu_times()
    assert (after.user + after.system) - (before.user + before.system) <= 0.01  # one tick of the kernel's clock
    box.client().send(TASK, b"")
    assert child.wait().exit_status == 0


WAITS = {
    "doorbell": "Doorbell(region).wait(0)",
    "server": "Mailbox(region, frame_bytes=100).server(Doorbell(region, 2048)).recv()",
    "client": """
client = Mailbox(region, frame_bytes=100).client(Doorbell(region, 2048))
client.call(TASK, b'')""",
    "wait set": """
waits = WaitSet(Doorbell(region, 2048))
waits.watch(Peer(os.getppid()))
waits.wait(0)""",
    "heap ring": """
ring = HeapRing(Region.from_fd(big), nbytes=1024)
ring.alloc(1024)
ring.alloc(1024, timeout=None)""",
    "peer": "Peer(os.getppid()).wait()",
}


@pytest.mark.parametrize("wait", WAITS)
def test_ctrl_c_ends_a_sleeping_wait(wait: str, eventually: Callable[..., None]) -> None:
    region, big = Region(4096), Region(1 << 16)
    script = f"""
import os
from simpler_ipc import *
region, big = Region.from_fd({region.fd}), {big.fd}
print("ready", flush=True)
try:
{chr(10).join("    " + line for line in WAITS[wait].strip().splitlines())}
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, pass_fds=(region.fd, big.fd)
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            kernel = psutil.Process(process.pid)
            eventually(lambda: kernel.status() == psutil.STATUS_SLEEPING)
            process.send_signal(signal.SIGINT)
            assert process.stdout.read() == "interrupted\n"
            assert process.wait() == 0
        finally:
            process.kill()


def test_an_exception_from_any_signal_handler_ends_a_wait() -> None:
    class Alarm(Exception):
        pass

    def ring_alarm(number: int, frame: object) -> None:
        raise Alarm

    doorbell = Doorbell(Region(Doorbell.NBYTES))
    before = signal.signal(signal.SIGALRM, ring_alarm)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        with pytest.raises(Alarm):
            doorbell.wait(0)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_handler_that_returns_lets_the_wait_go_on() -> None:
    doorbell = Doorbell(Region(Doorbell.NBYTES))
    before = signal.signal(signal.SIGALRM, lambda number, frame: doorbell.ring())
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        assert doorbell.wait(0) == 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_a_doorbell_that_does_not_fit_is_refused() -> None:
    region = Region(4096)
    for offset in (4096, 4090, 2):
        with pytest.raises(ValueError, match="offset"):
            Doorbell(region, offset)
