"""Payloads as arrays, in their frames; and those that are larger than a frame."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

import numpy as np
import pytest
from simpler_ipc import (
    SHUTDOWN,
    TASK,
    Corrupted,
    HeapRing,
    HeapRingFull,
    Mailbox,
    Peer,
    PeerDied,
    Region,
    WaitTimeout,
)

Fork = Callable[..., Peer]


def mailbox(depth: int = 2, frame_bytes: int = 64) -> Mailbox:
    return Mailbox(Region(Mailbox.required_bytes(depth, frame_bytes)), depth=depth, frame_bytes=frame_bytes)


def heap(nbytes: int = 1 << 20) -> HeapRing:
    return HeapRing(Region(HeapRing.required_bytes(nbytes)), nbytes=nbytes)


def test_a_frame_is_filled_and_read_as_an_array_in_place() -> None:
    box = mailbox()
    client, server = box.client(), box.server()
    with client.request() as frame:
        frame.numpy("float32", (2, 3), offset=8)[:] = [[1, 2, 3], [4, 5, 6]]
        frame.nbytes = 32
    request = server.recv(0)
    array = request.numpy("float32", (2, 3), offset=8)
    assert array.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert array.ctypes.data == request.address + 8
    assert request.numpy().shape == (32,)
    assert np.from_dlpack(array).sum() == 21
    for dtype, shape in (("float64", 5), ("uint8", 33)):
        with pytest.raises(ValueError, match="buffer"):
            request.numpy(dtype, shape)


def test_a_payload_larger_than_a_frame_goes_through_a_ring_and_is_released_after_the_reply(fork: Fork) -> None:
    box, ring = mailbox(), heap()

    def serve() -> None:
        def total(request: object) -> bytes:
            received = ring.received(request)  # type: ignore[arg-type]
            assert received.nbytes == len(received.payload)
            return received.numpy("int64").sum().tobytes()

        box.server().serve(total)

    client = box.client()
    client.watch(fork(serve))
    for count in (1, 1000, 100_000):
        reply = client.call_large(ring, TASK, np.arange(count))
        assert np.frombuffer(reply.result(), "int64")[0] == count * (count - 1) // 2
        assert ring.live == 0
    with pytest.raises(HeapRingFull):
        client.call_large(ring, TASK, bytes(ring.nbytes + 1))


def test_a_block_stays_until_the_server_is_done_with_it_though_its_caller_gave_up() -> None:
    box, ring = mailbox(), heap()
    client, server = box.client(), box.server()
    with pytest.raises(WaitTimeout):
        client.call_large(ring, TASK, b"x" * 5000, timeout=0)
    assert ring.live == 1
    with pytest.raises(WaitTimeout):
        server.recv(0)  # it was taken back in time
    assert client.poll() is None
    assert ring.live == 0


def test_a_call_that_waits_for_space_takes_the_late_replies_that_give_it_back(fork: Fork) -> None:
    box, ring = mailbox(depth=4), heap(8192)
    client, server = box.client(), box.server()
    for _ in range(2):
        child = fork(signal.pause)
        client.watch(child)

        def end_the_call(child: Peer = child) -> None:
            server.recv()
            child.kill()

        ending = threading.Thread(target=end_the_call)
        ending.start()
        with pytest.raises(PeerDied):
            client.call_large(ring, TASK, b"x" * 4096)
        ending.join()
        client.forget(child)
    assert ring.live == 2
    with pytest.raises(HeapRingFull):
        client.call_large(ring, TASK, b"x" * 8192, timeout=0.05)

    def answer() -> None:
        server.reply()
        server.reply()
        server.serve(lambda request: bytes(ring.received(request).payload[:1]))

    serving = threading.Thread(target=answer)
    serving.start()
    assert client.call_large(ring, TASK, b"y" * 8192).payload == b"y"
    client.send(SHUTDOWN, b"")
    serving.join()


def test_a_request_that_is_no_reference_to_a_live_block_is_refused(fork: Fork) -> None:
    box, ring, other = mailbox(), heap(), heap(4096)
    client, server = box.client(), box.server()
    client.send(TASK, b"just bytes")
    with pytest.raises(ValueError, match="request 0 holds no reference to a block"):
        ring.received(server.recv(0))
    server.reply()
    client.poll()
    # Of another ring; and of this one, but released since.
    child = fork(signal.pause)
    client.watch(child)
    references: list[bytes] = []

    def end_the_call() -> None:
        request = server.recv()
        references.append(bytes(request.payload))
        with pytest.raises(ValueError, match="holds no reference to a block of heap ring"):
            other.received(request)
        assert ring.received(request).nbytes == 8192
        child.kill()

    ending = threading.Thread(target=end_the_call)
    ending.start()
    with pytest.raises(PeerDied):
        client.call_large(ring, TASK, b"?" * 8192)
    ending.join()
    client.forget(child)
    server.reply()
    assert client.poll() is None
    assert ring.live == 0
    client.send(TASK, references[0])
    with pytest.raises(Corrupted, match="no live block has them"):
        ring.received(server.recv(0))
