"""Mailbox: round trips between processes, depth, order, limits, lifetimes."""

from __future__ import annotations

import gc
import importlib.util
import os
import pathlib
import pickle
import shutil
import subprocess
import sys
import threading
from array import array
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from simpler_ipc import (
    CONTROL,
    SHUTDOWN,
    TASK,
    Corrupted,
    Doorbell,
    FrameTooLarge,
    IpcError,
    Mailbox,
    MailboxServer,
    Misused,
    Peer,
    Region,
    WaitTimeout,
    _native,
)

Fork = Callable[..., Peer]


def mailbox(depth: int = 1, frame_bytes: int = 1000) -> Mailbox:
    return Mailbox(Region(Mailbox.required_bytes(depth, frame_bytes)), depth=depth, frame_bytes=frame_bytes)


def echo(server: MailboxServer) -> None:
    """Replies with the ticket as code and the bytes reversed, until shut down."""
    while True:
        request = server.recv()
        server.reply(request.ticket, bytes(request.payload)[::-1])
        if request.kind == SHUTDOWN:
            return


def test_a_call_to_a_forked_child_and_back(fork: Fork) -> None:
    box = mailbox()
    client = box.client()
    child = fork(lambda: echo(box.server()))
    client.watch(child)
    for number in range(2000):
        reply = client.call(TASK, b"%d" % number)
        assert (reply.ticket, reply.code, reply.payload[::-1]) == (number, number, b"%d" % number)
    assert client.call(SHUTDOWN, b"").kind == SHUTDOWN
    assert child.wait().exit_status == 0


def test_a_deep_lane_is_kept_full_and_answers_in_order(fork: Fork) -> None:
    box = mailbox(depth=8)
    client = box.client()
    client.watch(fork(lambda: echo(box.server())))
    sent = taken = 0
    while taken < 3000:
        while sent < 3000 and client.send(TASK, sent.to_bytes(4, "little")) is not None:
            sent += 1
        client.wait()
        while (reply := client.poll()) is not None:
            assert (reply.ticket, reply.payload[::-1]) == (taken, taken.to_bytes(4, "little"))
            taken += 1
    assert (client.in_flight, client.free) == (0, 8)


def test_a_request_is_written_and_read_in_place(fork: Fork) -> None:
    box = mailbox(frame_bytes=4096)
    client = box.client()

    def double() -> None:
        server = box.server()
        request = server.recv()
        numbers = np.frombuffer(request.payload, "float32")
        assert (request.nbytes, request.address) == (400, numbers.ctypes.data)
        numbers *= 2
        server.reply(0, request.payload)

    frame = client.reserve()
    assert frame is not None
    assert (len(frame), frame.readonly) == (4096, False)
    np.frombuffer(frame, "float32")[:100] = np.arange(100)
    client.post(TASK, 400)
    client.watch(fork(double))
    client.wait()
    reply = client.poll()
    assert reply is not None
    assert np.array_equal(np.frombuffer(reply.payload, "float32"), 2 * np.arange(100))


def test_kinds_travel_on_one_lane() -> None:
    box = mailbox(depth=3)
    client, server = box.client(), box.server()
    for kind in (TASK, CONTROL, SHUTDOWN):
        client.send(kind, b"")
    assert [server.recv(0).kind for _ in range(3)] == [TASK, CONTROL, SHUTDOWN]
    with pytest.raises(ValueError, match="frame kind"):
        client.send(4, b"")


def test_a_full_lane_refuses_until_a_reply_is_taken() -> None:
    box = mailbox(depth=2)
    client, server = box.client(), box.server()
    assert [client.send(TASK, b""), client.send(TASK, b""), client.send(TASK, b"")] == [0, 1, None]
    assert client.reserve() is None
    server.recv(0)
    server.reply()
    assert client.send(TASK, b"") is None
    assert client.poll() is not None
    assert client.send(TASK, b"") == 2


def test_payloads_may_be_anything_with_contiguous_bytes() -> None:
    box = mailbox()
    client, server = box.client(), box.server()
    for payload in (b"abcd", bytearray(b"abcd"), memoryview(b"abcd"), array("i", [1]), np.ones((2, 2), "uint8")):
        client.send(TASK, payload)
        assert server.recv(0).nbytes == 4
        server.reply(0, payload)
        reply = client.poll()
        assert reply is not None
        assert reply.payload == bytes(payload)
    with pytest.raises(ValueError, match="contiguous"):
        client.send(TASK, np.ones((4, 4))[:, ::2])
    with pytest.raises(TypeError):
        client.send(TASK, "text")  # type: ignore[arg-type]


def test_a_reply_may_be_a_part_of_the_request_itself() -> None:
    box = mailbox()
    client, server = box.client(), box.server()
    client.send(TASK, b"0123456789")
    server.reply(0, server.recv(0).payload[2:8])
    reply = client.poll()
    assert reply is not None
    assert reply.payload == b"234567"


def test_what_does_not_fit_changes_nothing() -> None:
    box = mailbox(frame_bytes=10)
    client, server = box.client(), box.server()
    with pytest.raises(FrameTooLarge, match=r"11 bytes.*10 bytes"):
        client.send(TASK, bytes(11))
    assert (client.in_flight, client.free) == (0, 1)
    client.reserve()
    with pytest.raises(FrameTooLarge):
        client.post(TASK, 11)
    client.post(TASK, 10)
    server.recv(0)
    with pytest.raises(FrameTooLarge):
        server.reply(0, bytes(11))
    server.reply(3, b"too large")
    reply = client.poll()
    assert reply is not None
    assert (reply.code, reply.payload) == (3, b"too large")


def test_calls_out_of_turn_are_errors() -> None:
    box = mailbox()
    client, server = box.client(), box.server()
    with pytest.raises(Misused, match="reserve"):
        client.post(TASK, 0)
    with pytest.raises(Misused, match="no request in flight"):
        client.wait()
    with pytest.raises(Misused, match="without a request"):
        server.reply()
    client.send(TASK, b"")
    server.recv()
    with pytest.raises(Misused, match="none is replied to"):
        server.recv()


def test_waits_end_with_their_timeout_and_the_reply_still_comes() -> None:
    box = mailbox()
    client, server = box.client(), box.server()
    with pytest.raises(WaitTimeout, match="a request"):
        server.recv(timeout=0.001)
    client.send(TASK, b"?")
    with pytest.raises(WaitTimeout, match=r"0\.001 s for a reply"):
        client.wait(timeout=0.001)
    assert client.in_flight == 1
    server.recv(0)
    server.reply(0, b"late")
    client.wait(0)
    reply = client.poll()
    assert reply is not None
    assert reply.payload == b"late"


@pytest.mark.parametrize("timeout", [-1, float("nan")])
def test_an_impossible_timeout_is_refused(timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout"):
        mailbox().server().recv(timeout)


def test_a_call_keeps_older_replies_for_poll(fork: Fork) -> None:
    box = mailbox(depth=4)
    client = box.client()
    for _ in range(4):
        client.send(TASK, b"task")
    client.watch(fork(lambda: echo(box.server())))
    assert client.call(CONTROL, b"now").ticket == 4
    assert client.in_flight == 4
    client.wait()
    assert [reply.ticket for reply in iter(client.poll, None)] == [0, 1, 2, 3]


def test_one_doorbell_tells_of_replies_from_many_children(fork: Fork) -> None:
    doorbell = Doorbell(Region(Doorbell.NBYTES))
    boxes = [mailbox() for _ in range(3)]
    clients = [box.client(doorbell) for box in boxes]
    for box, client in zip(boxes, clients, strict=True):
        client.watch(fork(lambda box=box: echo(box.server())))
        client.send(TASK, b"?")
    answered = 0
    while answered < 300:
        seen = doorbell.value
        for client in clients:
            if client.poll() is not None:
                answered += 1
                client.send(TASK, b"?")
        if doorbell.value == seen:
            doorbell.wait(seen)
    assert answered >= 300


def test_views_of_frames_keep_the_memory_when_all_else_is_gone() -> None:
    box = mailbox(depth=2)
    client, server = box.client(), box.server()
    frame = client.reserve()
    assert frame is not None
    frame[:4] = b"kept"
    client.post(TASK, 4)
    payload = server.recv(0).payload
    with client.request(timeout=0) as request:
        view = request.payload
        view[:4] = b"also"
        del box, client, server
        gc.collect()
        assert (bytes(payload), bytes(view[:4])) == (b"kept", b"also")


def test_a_client_let_go_of_with_a_frame_reserved_has_a_successor_once_the_frames_views_are_gone() -> None:
    box = mailbox(depth=2)
    client = box.client()
    view = client.reserve()
    del client
    with pytest.raises(Misused, match="claimed"):
        box.client()
    del view
    assert box.client().free == 2


def test_a_view_of_a_reserved_frame_is_dead_once_it_is_posted() -> None:
    box = mailbox(depth=2)
    client, server = box.client(), box.server()
    first, second = client.reserve(), client.reserve()
    assert first is not None
    assert second is not None
    first[:4] = b"sent"
    client.post(TASK, 4)
    for view in (first, second):
        with pytest.raises(ValueError, match="released memoryview"):
            view[0] = 0
    frame = client.reserve()
    assert frame is not None
    client.send(TASK, b"in its place")
    with pytest.raises(ValueError, match="released memoryview"):
        _ = frame[0]
    assert [bytes(server.recv(0).payload) for _ in range(2)] == [b"sent", b"in its place"]


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(lambda frame: np.frombuffer(frame, "uint8"), id="array"),
        pytest.param(lambda frame: np.ndarray(8, "uint8", buffer=frame), id="array that releases the buffer"),
        pytest.param(lambda frame: np.ndarray(8, "uint8", buffer=frame[2:]), id="array of a slice"),
        pytest.param(lambda frame: frame.obj, id="owner"),
        pytest.param(lambda frame: frame[2:], id="slice"),
        pytest.param(lambda frame: frame.cast("I"), id="cast"),
    ],
)
def test_a_frame_of_which_a_view_is_left_is_not_posted(made: Callable[[memoryview], Any]) -> None:
    box = mailbox()
    client, server = box.client(), box.server()
    frame = client.reserve()
    assert frame is not None
    frame[:4] = b"here"
    view = made(frame)
    for hand_over in (lambda: client.post(TASK, 4), lambda: client.send(TASK, b"else"), lambda: client.call(TASK, b"")):
        with pytest.raises(BufferError, match="nothing was sent: views of the frame exist"):
            hand_over()
    with pytest.raises(WaitTimeout):
        server.recv(0)
    del view
    assert client.post(TASK, 4) == 0
    assert bytes(server.recv(0).payload) == b"here"


def test_a_view_that_was_in_use_when_its_frame_was_to_be_sent_is_in_no_later_sends_way() -> None:
    box = mailbox()
    client, server = box.client(), box.server()
    frame = client.reserve()
    assert frame is not None
    frame[:4] = b"here"
    with pytest.raises(BufferError, match="nothing was sent"):
        client.send(TASK, frame)
    assert bytes(frame[:4]) == b"here"
    assert client.send(TASK, b"else") == 0
    with pytest.raises(ValueError, match="released memoryview"):
        _ = frame[0]
    assert bytes(server.recv(0).payload) == b"else"


def test_a_frame_looked_at_many_times_costs_no_memory() -> None:
    client, other = mailbox().client(), mailbox().client()
    with client.request() as request:
        kept = [other.reserve() for _ in range(100)]
        before = sys.getallocatedblocks()
        for _ in range(10_000):
            other.reserve()
            _ = request.payload
        assert sys.getallocatedblocks() - before < 2000
    other.post(TASK, 0)
    for view in kept:
        assert view is not None
        with pytest.raises(ValueError, match="released memoryview"):
            view.tobytes()


def test_a_view_released_by_its_user_is_made_anew() -> None:
    client = mailbox().client()
    for _ in range(2):
        frame = client.reserve()
        assert frame is not None
        with frame:
            frame[0] = 1


def test_another_process_finds_the_mailbox_through_a_descriptor(fork: Fork) -> None:
    region = Region(Mailbox.required_bytes(2, 100))
    client = Mailbox(region, depth=2, frame_bytes=100).client()

    def serve() -> None:
        other = Region.from_fd(region.fd)
        assert other.address != region.address
        echo(Mailbox(other, depth=2, frame_bytes=100).server())

    client.watch(fork(serve))
    assert client.call(TASK, b"abc").payload == b"cba"


def test_a_successor_serves_what_a_killed_server_left(fork: Fork) -> None:
    box = mailbox(depth=2)
    client = box.client()
    client.send(TASK, b"ab")
    received, done = os.pipe()

    def serve_nothing() -> None:
        server = box.server()
        server.recv()
        os.write(done, b"x")
        server.recv()

    first = fork(serve_nothing)
    os.read(received, 1)
    first.kill()
    first.wait()
    client.watch(fork(lambda: echo(box.server())))
    client.wait()
    reply = client.poll()
    assert reply is not None
    assert reply.payload == b"ba"
    os.close(received)
    os.close(done)


def test_spoilt_memory_is_an_error_not_a_crash() -> None:
    region = Region(Mailbox.required_bytes(1, 100))
    box = Mailbox(region, frame_bytes=100)
    client, server = box.client(), box.server()
    client.send(TASK, b"?")
    region.numpy("uint32", 1, offset=640 + 8)[0] = 1 << 30
    with pytest.raises(Corrupted, match=r"corrupted.*payload bytes") as caught:
        server.recv(0)
    assert isinstance(caught.value, IpcError)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (type(again), str(again)) == (Corrupted, str(caught.value))


def test_a_second_client_or_server_is_refused_by_name_while_the_first_lives(fork: Fork) -> None:
    box = mailbox()
    client = box.client()
    ready, tell = os.pipe()

    def stay() -> None:
        server = box.server()
        with pytest.raises(Misused, match=f"process {os.getppid()} is the client of this mailbox and lives"):
            box.client()
        os.write(tell, b"x")
        threading.Event().wait()
        server.recv()

    first = fork(stay)
    assert os.read(ready, 1) == b"x"
    with pytest.raises(Misused, match=f"process {first.pid} is the server of this mailbox and lives"):
        box.server()
    with pytest.raises(Misused, match=rf"this process \({os.getpid()}\) has a client of this mailbox already"):
        box.client()
    first.kill()
    first.wait()
    client.watch(fork(lambda: echo(box.server())))
    assert client.call(TASK, b"abc").payload == b"cba"
    client.send(SHUTDOWN, b"")
    del client
    assert box.client().in_flight <= 1
    os.close(ready)
    os.close(tell)


def test_a_second_client_by_another_copy_of_the_library_in_this_process_is_refused(tmp_path: pathlib.Path) -> None:
    # Another file is another copy, with memory of its own, as that in an extension of a user's would be.
    copied = shutil.copy(_native.__file__, tmp_path)
    spec = importlib.util.spec_from_file_location("copied._native", copied)
    assert spec is not None
    assert spec.loader is not None
    other = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(other)
    region = Region(Mailbox.required_bytes(2, 64))
    box = Mailbox(region, depth=2, frame_bytes=64)
    theirs = other.Mailbox(other.Region.from_fd(region.fd), depth=2, frame_bytes=64)
    client = theirs.client()
    with pytest.raises(Misused, match=f"process {os.getpid()} is the client of this mailbox and lives"):
        box.client()
    del client
    box.client()


def test_a_forked_child_may_not_use_its_parents_client_and_the_parent_goes_on(fork: Fork) -> None:
    box = mailbox(depth=2)
    client, server = box.client(), box.server()
    client.send(TASK, b"abc")
    notifier = client.notifier()
    idle = mailbox().client()
    other = mailbox(depth=2)
    keeping, answering = other.client(), other.server()
    keeping.send(TASK, b"")
    ticket = keeping.begin(TASK, b"")
    assert ticket is not None
    for _ in range(2):
        answering.recv(0)
        answering.reply()
    keeping.take(ticket)
    assert keeping.in_flight == 1, "a reply is kept for poll"

    def child() -> None:
        for use in (
            lambda: idle.wait(timeout=5),
            lambda: keeping.wait(timeout=5),
            lambda: client.send(TASK, b""),
            client.poll,
            client.reserve,
            lambda: client.cancel(0),
            lambda: client.call(TASK, b"", timeout=5),
            lambda: client.wait(timeout=5),
            lambda: server.recv(timeout=5),
            server.reply,
            notifier.arm,
            notifier.clear,
            client.notifier,
        ):
            with pytest.raises(Misused, match=f"belongs to process {os.getppid()}"):
                use()

    assert fork(child).wait().exit_status == 0
    assert bytes(server.recv(timeout=5)) == b"abc"
    server.reply(0, b"cba")
    assert [reply.payload for reply in client.poll_many()] == [b"cba"]


def test_two_shapes_cannot_share_a_place() -> None:
    region = Region(1 << 16)
    Mailbox(region, depth=2, frame_bytes=100)
    with pytest.raises(ValueError, match="2 frames of 100 bytes"):
        Mailbox(region, depth=3, frame_bytes=100)
    with pytest.raises(ValueError, match="do not lie"):
        Mailbox(region, offset=1 << 16, depth=2, frame_bytes=100)


SPAWNING = """
import multiprocessing, sys
from simpler_ipc import SHUTDOWN, TASK, Doorbell, Mailbox, Peer, Region


def serve_and_ring(box, doorbell):
    doorbell.ring()
    box.server().serve(lambda request: bytes(request.payload)[::-1])


if __name__ == "__main__":
    region = Region(Doorbell.NBYTES + Mailbox.required_bytes(2, 50))
    doorbell = Doorbell(region)
    box = Mailbox(region, offset=Doorbell.NBYTES, depth=2, frame_bytes=50)
    child = multiprocessing.get_context(sys.argv[1]).Process(target=serve_and_ring, args=(box, doorbell))
    child.start()
    client = box.client()
    client.watch(Peer(child.pid, reap=False))
    print(client.call(TASK, b"abc").result(), doorbell.value)
    client.send(SHUTDOWN, b"")
    child.join()
    print(child.exitcode)
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_mailbox_and_a_doorbell_reach_a_child_that_inherits_nothing(method: str, tmp_path: pathlib.Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(SPAWNING)
    ran = subprocess.run([sys.executable, program, method], capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == ("b'cba' 1\n0\n", "")
