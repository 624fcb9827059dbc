"""100 bytes to another Python process and back, through us and through what others use; each as its users would best.

Each function starts the other side and returns what makes `n` round trips: seconds for one. Of what sleeps, the median
of the trips: one that waits for a foreign process does not count against it.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import simpler_ipc as ipc

from support.machine import Stage, Turn, Unavailable

NBYTES = 100
PAYLOAD = bytes(NBYTES)
PATIENCE_MS = 10_000
Ask = Callable[[int], float]


def region_for(depth: int, frame_bytes: int) -> ipc.Region:
    return ipc.Region(ipc.Mailbox.required_bytes(depth, frame_bytes))


def median_trip(trip: Callable[[], object], trips: int) -> float:
    taken = []
    for _ in range(trips):
        start = time.perf_counter()
        trip()
        taken.append(time.perf_counter() - start)
    return median(taken)


def ours(stage: Stage) -> Ask:
    """`call`, answered by `recv` and `reply`: the plainest use."""
    mailbox = ipc.Mailbox(region_for(1, 256), frame_bytes=256)

    def serve() -> Turn:
        server = mailbox.server()

        def turn(messages: int) -> None:
            recv, reply = server.recv, server.reply
            for _ in range(messages):
                reply(0, recv().payload)

        return turn

    child = stage.fork("our server", serve)
    client = mailbox.client()
    client.watch(child.peer)

    def ask(messages: int) -> float:
        child.start(messages)
        call = client.call
        start = time.perf_counter()
        for _ in range(messages):
            call(ipc.TASK, PAYLOAD)
        return (time.perf_counter() - start) / messages

    return ask


def pipe(stage: Stage) -> Ask:
    """Bytes, not pickles."""
    here, there = multiprocessing.Pipe()

    def serve() -> Turn:
        def turn(messages: int) -> None:
            for _ in range(messages):
                there.send_bytes(there.recv_bytes())

        return turn

    child = stage.fork("multiprocessing.Pipe", serve)

    def trip() -> None:
        here.send_bytes(PAYLOAD)
        here.recv_bytes()

    def ask(messages: int) -> float:
        child.start(messages)
        return median_trip(trip, messages)

    return ask


def queue(stage: Stage) -> Ask:
    """Two of them, one each way."""
    context = multiprocessing.get_context("fork")
    requests: multiprocessing.Queue[bytes] = context.Queue()
    replies: multiprocessing.Queue[bytes] = context.Queue()

    def serve() -> Turn:
        def turn(messages: int) -> None:
            for _ in range(messages):
                replies.put(requests.get())

        return turn

    child = stage.fork("multiprocessing.Queue", serve)

    def trip() -> None:
        requests.put(PAYLOAD)
        replies.get()

    def ask(messages: int) -> float:
        child.start(messages)
        return median_trip(trip, messages)

    return ask


def zeromq(stage: Stage) -> Ask:
    """A PAIR over ipc://, the socket kind with the least between the two sides; `copy=True`, better for few bytes."""
    try:
        import zmq
    except ImportError:
        raise Unavailable("pyzmq") from None
    folder = tempfile.mkdtemp()
    stage.callback(lambda: shutil.rmtree(folder))
    address = f"ipc://{folder}/socket"

    def serve() -> Turn:
        socket = zmq.Context().socket(zmq.PAIR)
        socket.bind(address)

        def turn(messages: int) -> None:
            recv, send = socket.recv, socket.send
            for _ in range(messages):
                send(recv())

        return turn

    child = stage.fork("ZeroMQ", serve)
    context = zmq.Context()
    socket = context.socket(zmq.PAIR)
    socket.setsockopt(zmq.RCVTIMEO, PATIENCE_MS)
    socket.setsockopt(zmq.LINGER, 0)
    socket.connect(address)
    stage.callback(context.destroy)

    def trip() -> None:
        socket.send(PAYLOAD)
        socket.recv()

    def ask(messages: int) -> float:
        child.start(messages)
        return median_trip(trip, messages)

    return ask


def iceoryx2(stage: Stage, sleeping: bool = False) -> Ask:
    """Request and response, both sides polling without a pause: the quickest it has (two topics are slower).

    `sleeping`: each side sleeps at a listener that the other notifies, as whoever cannot give a CPU away uses it.
    """
    try:
        import iceoryx2 as iox2
    except ImportError:
        raise Unavailable("iceoryx2") from None

    class Payload(ctypes.Structure):
        _fields_ = (("bytes", ctypes.c_uint8 * NBYTES),)

    iox2.set_log_level(iox2.LogLevel.Error)
    folder, prefix = tempfile.mkdtemp(), f"bench_{os.getpid()}_{sleeping:d}_"

    def tidy() -> None:
        shutil.rmtree(folder)
        for left in Path("/dev/shm").glob(f"{prefix}*"):
            with contextlib.suppress(FileNotFoundError):
                left.unlink()

    stage.callback(tidy)
    config = iox2.config.default()
    config.global_cfg.prefix = iox2.FileName.new(prefix)
    config.global_cfg.root_path = iox2.Path.new(folder)
    patience = iox2.Duration.from_millis(PATIENCE_MS)

    class Side:
        """A node, and the four ports a process needs."""

        def __init__(self, mine: str, others: str) -> None:
            self.node = iox2.NodeBuilder.new().config(config).create(iox2.ServiceType.Ipc)
            echo = self.node.service_builder(iox2.ServiceName.new("echo"))
            self.service = echo.request_response(Payload, Payload).open_or_create()
            self.listener = self.event(mine).listener_builder().create()
            self.notifier = self.event(others).notifier_builder().create()

        def event(self, name: str) -> iox2.PortFactoryEvent:
            return self.node.service_builder(iox2.ServiceName.new(name)).event().open_or_create()

    payload = Payload()

    def serve() -> Turn:
        side = Side("requests", "replies")
        server = side.service.server_builder().create()
        receive, wait, notify = server.receive, side.listener.timed_wait, side.notifier.notify

        def turn(messages: int) -> None:
            for _ in range(messages):
                while (request := receive()) is None:
                    if sleeping:
                        wait(patience)
                request.send_copy(payload)
                if sleeping:
                    notify()

        return turn

    child = stage.fork("iceoryx2", serve)
    side = Side("replies", "requests")
    client = side.service.client_builder().create()
    send, wait, notify = client.send_copy, side.listener.timed_wait, side.notifier.notify

    def trip() -> None:
        pending = send(payload)
        if sleeping:
            notify()
        while pending.receive() is None:
            if sleeping:
                wait(patience)

    def ask(messages: int) -> float:
        child.start(messages)
        if sleeping:
            return median_trip(trip, messages)
        start = time.perf_counter()
        for _ in range(messages):
            pending = send(payload)
            while pending.receive() is None:
                pass
        return (time.perf_counter() - start) / messages

    return ask


def iceoryx2_sleeping(stage: Stage) -> Ask:
    """See `iceoryx2`."""
    return iceoryx2(stage, sleeping=True)


POLLING = "iceoryx2, polling"
PEERS = {
    "multiprocessing.Pipe": (pipe, 20),
    "multiprocessing.Queue": (queue, 40),
    "ZeroMQ ipc": (zeromq, 40),
    POLLING: (iceoryx2, 8),
    "iceoryx2, sleeping": (iceoryx2_sleeping, 40),
}
"""By name; and how many times fewer messages make a turn not too long beside one of ours."""
