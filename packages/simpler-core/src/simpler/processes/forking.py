"""Children: how they come to be, what they leave behind of their parent, and how they end."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import simpler_ipc
from simpler_ipc import Peer, WaitTimeout

from simpler.errors import SimplerError

ASKED_S = 2.0  # a child may take this long to end after it was asked to, before SIGTERM
TERMINATED_S = 1.0  # after SIGTERM, before SIGKILL
KILLED_S = 10.0  # after SIGKILL: more only when the kernel is stuck


def fork(main: Callable[[], None], parent: Peer, title: str) -> Peer:
    """Run ``main`` in a child that ends when it returns, or as soon as ``parent`` does."""
    if not hasattr(simpler_ipc, "exit_with") or not hasattr(os, "fork"):
        raise SimplerError(f"workers need fork and pidfd, which {sys.platform} lacks; use Linux")
    for stream in (sys.stdout, sys.stderr):  # else the child would print what is buffered once more
        if stream is not None:
            stream.flush()
    # Ctrl-C between fork and SIG_IGN would raise KeyboardInterrupt in the child.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with warnings.catch_warnings():
            # Python warns of forking with threads around: a lock one of them holds stays locked in the child. Ours (the
            # watcher) holds none, and what children run is set up below.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
        if pid == 0:
            _run_child(main, parent, title, before)
        return Peer(pid)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _run_child(main: Callable[[], None], parent: Peer, title: str, sigmask: Iterable[int]) -> None:
    status = 1
    try:
        os.setpgid(0, 0)  # what its tasks start belongs to it, and can be ended with it
        simpler_ipc.exit_with(parent)
        _settle_in(title)
        signal.pthread_sigmask(signal.SIG_SETMASK, set(sigmask) - {signal.SIGINT})
        main()
        status = 0
    except BaseException:  # the child's last words: nobody above could hear them
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # a closed pipe must not keep the child alive
                stream.flush()
        os._exit(status)


def _settle_in(title: str) -> None:
    """Undo in a fresh child what it inherited and must not share."""
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):  # Python handlers belong to the parent's program
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, who ends its children
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    gc.freeze()  # the parent's objects: collecting them would only copy their pages
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)  # the terminal's input is the parent's
    os.close(nothing)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)  # what a task prints is seen when it prints it
    random.seed()
    np.random.seed()
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)  # OpenMP's threads did not survive the fork, waiting for them would not end
        torch.seed()
    with contextlib.suppress(OSError):  # a name for ps and top, nothing depends on it
        Path("/proc/self/comm").write_text(title[:15])


def end_group(leader: int) -> None:
    """End whatever tasks of a child that has ended have left running: its process group, and nothing outside of it."""
    with contextlib.suppress(ProcessLookupError):  # nothing is left
        os.killpg(leader, signal.SIGKILL)


def reap(peers: Iterable[Peer], asked: float = ASKED_S) -> None:
    """Wait for children that were asked to end: first patiently, then with SIGTERM, then with SIGKILL."""
    left = _wait_all(list(peers), asked)
    for limit, number in ((TERMINATED_S, signal.SIGTERM), (KILLED_S, signal.SIGKILL)):
        for peer in left:
            peer.kill(number)
        left = _wait_all(left, limit)
    if left:
        raise SimplerError(f"children did not end {KILLED_S} s after SIGKILL: {[peer.pid for peer in left]}")


def _wait_all(peers: list[Peer], limit: float) -> list[Peer]:
    """Those that still live after ``limit`` seconds."""
    deadline = time.monotonic() + limit
    left = []
    for peer in peers:
        try:
            peer.wait(max(0.0, deadline - time.monotonic()))
        except WaitTimeout:
            left.append(peer)
    return left
