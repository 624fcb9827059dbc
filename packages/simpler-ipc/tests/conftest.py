"""Forked children that end with their test, and looking at the kernel's view of a process."""

from __future__ import annotations

import gc
import os
import select
import sys
import time
import traceback
from collections.abc import Callable, Iterator

import pytest
from simpler_ipc import Peer, exit_with

Fork = Callable[..., Peer]


@pytest.fixture
def fork() -> Iterator[Fork]:
    """`fork(body, *args)` runs `body` in a forked child, which may fork too: exit status 0, or 70 if it raises."""
    children: list[Peer] = []

    def start(body: Callable[..., object], *args: object) -> Peer:
        parent = Peer(os.getpid())
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            status = 70
            try:
                exit_with(parent)
                body(*args)
                status = 0
            except BaseException:
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(status)
        children.append(Peer(pid))
        return children[-1]

    yield start
    for child in children:
        child.kill()
        child.wait()


def _eventually(condition: Callable[[], bool]) -> None:
    """Look until it holds: for states of other processes of which no event tells. Gives up loudly after a minute."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it never came to hold"
        select.select([], [], [], 0.001)


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


def _open_fds() -> list[str]:
    """What this process has open, without what earlier tests left in cycles."""
    gc.collect()
    links = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            links.append(os.readlink(f"/proc/self/fd/{fd}"))
        except FileNotFoundError:
            continue  # the descriptor that listed the directory
    return sorted(links)


@pytest.fixture
def eventually() -> Callable[[Callable[[], bool]], None]:
    """`eventually(condition)` returns when the condition holds."""
    return _eventually


@pytest.fixture
def threads() -> Callable[[], int]:
    """`threads()` counts this process's threads, Python's and others."""
    return _threads


@pytest.fixture
def open_fds() -> Callable[[], list[str]]:
    """`open_fds()` gives what this process has open."""
    return _open_fds
