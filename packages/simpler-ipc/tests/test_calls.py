"""Ways to ask: in place, many at once, from several threads, from an event loop; and to take a request back."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from simpler_ipc import (
    CANCELLED,
    CONTROL,
    FAILED,
    OK,
    SHUTDOWN,
    TASK,
    Doorbell,
    FrameTooLarge,
    IpcError,
    Mailbox,
    MailboxClient,
    Peer,
    PeerDied,
    Region,
    Reply,
    Request,
    RequestCancelled,
    RequestFailed,
    WaitTimeout,
)

Fork = Callable[..., Peer]


def mailbox(depth: int = 4, frame_bytes: int = 1000) -> Mailbox:
    return Mailbox(Region(Mailbox.required_bytes(depth, frame_bytes)), depth=depth, frame_bytes=frame_bytes)


def reverse(request: Request) -> bytes:
    if request.nbytes == 0:
        raise LookupError("nothing to reverse")
    return bytes(request.payload)[::-1]


@pytest.fixture
def client(fork: Fork) -> MailboxClient:
    """Of a child that reverses bytes, in a mailbox of four frames."""
    box = mailbox()
    client = box.client()
    client.watch(fork(lambda: box.server().serve(reverse)))
    return client


# --- serve


def test_a_handlers_bytes_come_back_and_shutdown_ends_the_loop(fork: Fork) -> None:
    box = mailbox()
    child = fork(lambda: box.server().serve(reverse))
    client = box.client()
    client.watch(child)
    reply = client.call(TASK, b"abc")
    assert (reply.status, reply.code, reply.result(), reply.message) == (OK, 0, b"cba", "")
    assert client.call(CONTROL, b"xy").result() == b"yx"
    assert client.call(SHUTDOWN, b"").result() == b""
    assert child.wait().exit_status == 0


def test_what_a_handler_raises_is_a_failed_reply_and_the_server_goes_on(client: MailboxClient) -> None:
    reply = client.call(TASK, b"")
    assert (reply.status, reply.code, reply.message) == (FAILED, 1, "LookupError: nothing to reverse")
    with pytest.raises(RequestFailed, match=r"request 0 failed with code 1: LookupError: nothing") as caught:
        reply.result()
    assert (caught.value.ticket, caught.value.code) == (0, 1)
    assert client.call(TASK, b"ab").result() == b"ba"


def test_a_reply_too_large_for_a_frame_is_a_failed_reply_naming_both_sizes() -> None:
    box = mailbox(frame_bytes=100)
    client, server = box.client(), box.server()
    client.send(TASK, b"?")
    client.send(SHUTDOWN, b"")
    server.serve(lambda request: bytes(101))
    reply = client.poll()
    assert reply is not None
    assert reply.status == FAILED
    assert "101 bytes does not fit into a frame of 100 bytes" in reply.message


def test_a_handler_may_return_nothing_and_leave_by_an_interrupt() -> None:
    box = mailbox()
    client, server = box.client(), box.server()
    client.send(TASK, b"")
    client.send(TASK, b"stop")

    def handler(request: Request) -> None:
        if request.nbytes:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        server.serve(handler)
    first = client.poll()
    assert first is not None
    assert first.result() == b""
    server.fail("stopped")  # what it was about is the server's still
    second = client.poll()
    assert second is not None
    assert second.message == "stopped"
    with pytest.raises(WaitTimeout):
        server.serve(handler, timeout=0)


def test_an_exception_that_cannot_be_told_is_a_failed_reply_too() -> None:
    class UntellableError(Exception):
        def __str__(self) -> str:
            raise LookupError("no text")

    box = mailbox()
    client, server = box.client(), box.server()
    client.send(TASK, b"")
    client.send(SHUTDOWN, b"")

    def handler(request: Request) -> None:
        raise UntellableError

    server.serve(handler)
    reply = client.poll()
    assert reply is not None
    assert reply.status == FAILED
    assert reply.message.endswith("UntellableError: no text, its __str__ raised LookupError")


def test_a_message_is_cut_to_the_frame() -> None:
    box = mailbox(frame_bytes=10)
    client, server = box.client(), box.server()
    client.send(TASK, b"")
    server.recv(0)
    server.fail("ä" * 10, code=-7)
    reply = client.poll()
    assert reply is not None
    assert (reply.code, reply.message) == (-7, "ä" * 5)


# --- in place


def test_a_request_is_filled_in_its_frame_and_posted_at_the_end_of_the_block(client: MailboxClient) -> None:
    with client.request() as frame:
        assert (frame.nbytes, frame.ticket) == (1000, None)
        np.frombuffer(frame, "uint8")[:3] = [1, 2, 3]
        frame.nbytes = 3
    assert frame.ticket == 0
    client.wait()
    reply = client.poll()
    assert reply is not None
    assert reply.payload == b"\x03\x02\x01"


def test_a_frame_too_large_is_refused_where_it_is_set(client: MailboxClient) -> None:
    with client.request() as frame:
        with pytest.raises(FrameTooLarge, match=r"1001 bytes .* frame of 1000"):
            frame.nbytes = 1001
        frame.payload[:2] = b"ab"
        frame.nbytes = 2
    client.wait()
    assert [reply.payload for reply in client.poll_many()] == [b"ba"]


def test_an_exception_in_the_block_sends_nothing(client: MailboxClient) -> None:
    frame = client.request()
    with pytest.raises(ZeroDivisionError), frame:
        frame.payload[0] = 1 // 0
    assert frame.ticket is None
    assert client.call(TASK, b"after").result() == b"retfa"
    assert (client.in_flight, client.poll()) == (0, None)


def test_a_frame_is_only_the_clients_inside_the_block(client: MailboxClient) -> None:
    frame = client.request()
    with pytest.raises(ValueError, match="inside the `with` block"):
        memoryview(frame)
    with frame:
        pass
    with pytest.raises(ValueError, match="inside the `with` block"):
        _ = frame.payload
    with pytest.raises(RuntimeError, match="entered once"), frame:
        pass


def test_a_view_of_a_frame_is_dead_after_the_block(client: MailboxClient) -> None:
    with client.request() as frame:
        view = frame.payload
        view[:2] = b"ab"
        frame.nbytes = 2
    with pytest.raises(ValueError, match="released memoryview"):
        view[0] = 0
    client.wait()
    assert [reply.payload for reply in client.poll_many()] == [b"ba"]


def test_a_frame_with_an_array_of_it_left_is_not_sent_and_comes_back_with_the_array(client: MailboxClient) -> None:
    free = client.free
    with pytest.raises(BufferError, match="nothing was sent: views of the frame exist"), client.request() as frame:
        array = np.frombuffer(frame, "uint8")
    assert frame.ticket is None
    array[:] = 1  # harms nobody: the frame is not in use
    with contextlib.suppress(ZeroDivisionError), client.request() as frame:
        other = np.frombuffer(frame, "uint8")
        other[0] = 1 // 0
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(client.call, TASK, b"behind them")
        del array, other
        assert waiting.result().result() == b"meht dniheb"
    assert (client.in_flight, client.poll(), client.free) == (0, None, free)


def test_an_array_that_releases_the_buffer_keeps_a_frame_from_being_sent(client: MailboxClient) -> None:
    with pytest.raises(BufferError, match="nothing was sent: views of the frame exist"), client.request() as frame:
        array = np.ndarray(8, "uint8", buffer=frame.payload)
    array[:] = 1
    with client.request() as frame:
        with pytest.raises(BufferError, match=r"take frame\.numpy"):
            np.ndarray(8, "uint8", buffer=frame)  # type: ignore[call-overload]
        frame.payload[:2] = b"ab"
        frame.nbytes = 2
    del array
    replies: list[Reply] = []
    while not replies:  # the frame that was given back comes first, and has no reply
        client.wait()
        replies = client.poll_many()
    assert [reply.payload for reply in replies] == [b"ba"]


def test_others_call_while_a_frame_is_being_filled_and_get_their_answer_after_it(client: MailboxClient) -> None:
    with ThreadPoolExecutor(1) as pool:
        with client.request() as frame:
            other = pool.submit(client.call, TASK, b"other")
            frame.payload[:4] = b"mine"
            frame.nbytes = 4
        assert other.result().result() == b"rehto"
    replies = client.poll_many()
    assert [(reply.ticket, reply.payload) for reply in replies] == [(frame.ticket, b"enim")]


def test_a_request_waits_for_a_free_frame_no_longer_than_told() -> None:
    box = mailbox(depth=1)
    client = box.client()
    client.send(TASK, b"")
    with pytest.raises(WaitTimeout), client.request(timeout=0):
        pytest.fail("there was no frame")
    server = box.server()
    server.recv(0)
    server.reply()
    with client.request(CONTROL, timeout=0) as frame:  # the reply before is kept for poll
        frame.nbytes = 0
    assert server.recv(0).kind == CONTROL
    assert [reply.ticket for reply in client.poll_many()] == [0]


# --- many at once


def test_batches_travel_in_order_and_stop_where_the_lane_is_full() -> None:
    box = mailbox(depth=8)
    client, server = box.client(), box.server()
    assert client.send_many(TASK, [b"%d" % number for number in range(12)]) == 8
    assert [bytes(request.payload) for request in server.recv_many(limit=3)] == [b"0", b"1", b"2"]
    assert len(server.recv_many()) == 5
    server.reply_many([b"a", memoryview(b"b"), bytearray(b"c")])
    assert [reply.payload for reply in client.poll_many(limit=2)] == [b"a", b"b"]
    assert [reply.ticket for reply in client.poll_many()] == [2]
    server.reply_many([b""] * 5)
    with pytest.raises(IpcError, match="reply"):
        server.reply_many([b""])
    with pytest.raises(WaitTimeout):
        server.recv_many(timeout=0)
    with pytest.raises(ValueError, match="not 0"):
        server.recv_many(limit=0)


def test_a_batch_with_a_payload_too_large_sends_what_comes_before_it() -> None:
    box = mailbox(frame_bytes=10)
    client, server = box.client(), box.server()
    with pytest.raises(FrameTooLarge):
        client.send_many(TASK, [b"a", b"b", bytes(11), b"c"])
    assert [bytes(request.payload) for request in server.recv_many()] == [b"a", b"b"]


# --- taking back


def test_a_request_is_cancelled_until_the_server_takes_it() -> None:
    box = mailbox()
    client, server = box.client(), box.server()
    client.send_many(TASK, [b"a", b"b", b"c"])
    server.recv(0)
    assert [client.cancel(ticket) for ticket in (0, 1)] == [False, True]
    assert bytes(server.recv(0).payload) == b"c"
    server.reply_many([b"A", b"C"])
    replies = client.poll_many()
    assert [(reply.ticket, reply.status) for reply in replies] == [(0, OK), (1, CANCELLED), (2, OK)]
    with pytest.raises(RequestCancelled, match="request 1 was cancelled"):
        replies[1].result()
    with pytest.raises(IpcError, match="ticket 1"):
        client.cancel(1)


def test_a_call_out_of_time_is_taken_back() -> None:
    box = mailbox()
    client, server = box.client(), box.server()
    with pytest.raises(WaitTimeout):
        client.call(TASK, b"late", timeout=0)
    client.send(TASK, b"next")
    assert bytes(server.recv(0).payload) == b"next"
    server.reply(0, b"!")
    assert [reply.payload for reply in client.poll_many()] == [b"!"]


# --- threads


def test_threads_call_through_one_client_and_each_gets_its_own_reply(client: MailboxClient) -> None:
    def ask(number: int) -> None:
        payload = b"%d" % number
        assert client.call(TASK, payload).result() == payload[::-1]

    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(ask, number) for number in range(2000)]:
            done.result()
    assert (client.in_flight, client.free) == (0, 4)


def test_every_calling_thread_is_told_of_the_servers_death(fork: Fork) -> None:
    box = mailbox(depth=8)
    client = box.client()
    received = threading.Barrier(1)
    server = fork(lambda: [box.server().recv_many(), received.wait(), threading.Event().wait()])
    client.watch(server)
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(client.call, TASK, b"?") for _ in range(4)]
        server.kill(signal.SIGKILL)
        for call in calls:
            with pytest.raises(PeerDied) as caught:
                call.result()
            assert (caught.value.pid, caught.value.signal) == (server.pid, signal.SIGKILL)


def test_calls_are_taken_in_any_order() -> None:
    box = mailbox(depth=100)
    client, server = box.client(), box.server()
    tickets = [client.begin(TASK, b"%d" % number) for number in range(100)]
    for request in server.recv_many():
        server.reply(0, request.payload)
    for ticket in reversed(tickets):
        assert ticket is not None
        reply = client.take(ticket)
        assert reply is not None
        assert (reply.ticket, reply.payload) == (ticket, b"%d" % ticket)


def wait_elsewhere(box: Mailbox) -> None:
    """Has a server, gone again, wait at a doorbell that is not to be had here: it cannot be woken."""
    box.server(Doorbell(Region(Doorbell.NBYTES)))


def test_a_server_that_died_where_it_could_not_be_woken_ends_a_call(
    fork: Fork, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    box = mailbox()
    client = box.client()
    server = fork(lambda: threading.Event().wait())
    client.watch(server)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.call, TASK, b"?")
        eventually(lambda: client.in_flight == 1)
        wait_elsewhere(box)
        server.kill()
        with pytest.raises(PeerDied):
            call.result()


# --- event loops


def test_calls_are_awaited_more_of_them_than_there_are_frames(client: MailboxClient) -> None:
    async def ask(number: int) -> None:
        payload = b"%d" % number
        reply = await client.acall(TASK, payload)
        assert reply.result() == payload[::-1]

    async def main() -> None:
        await asyncio.gather(*(ask(number) for number in range(300)))

    for _ in range(2):  # in one loop after another
        asyncio.run(main())
    assert client.in_flight == 0
    assert client.call(TASK, b"ab").result() == b"ba"


def test_an_awaited_call_makes_room_where_nobody_polls(client: MailboxClient) -> None:
    assert client.send_many(TASK, [b"ab"] * 4) == 4
    client.wait()

    async def main() -> None:
        assert (await client.acall(TASK, b"cd", timeout=60)).result() == b"dc"

    asyncio.run(main())
    replies = client.poll_many()
    assert [(reply.ticket, reply.payload) for reply in replies] == [(ticket, b"ba") for ticket in range(4)]


def test_an_awaited_call_leaves_the_loop_free_for_others(fork: Fork) -> None:
    box, go_on = mailbox(), mailbox()

    def slow() -> None:
        server, gate = box.server(), go_on.server()
        server.recv()
        gate.recv()
        server.reply(0, b"at last")

    client, gate = box.client(), go_on.client()
    client.watch(fork(slow))

    async def main() -> None:
        call = asyncio.create_task(client.acall(TASK, b"?"))
        await asyncio.sleep(0)
        gate.send(TASK, b"")
        assert (await call).result() == b"at last"

    asyncio.run(main())


def test_an_awaited_call_ends_with_its_timeout_its_task_and_its_peer(fork: Fork) -> None:
    box = mailbox(depth=2)
    client = box.client()
    server = fork(lambda: threading.Event().wait())
    client.watch(server)

    async def main() -> None:
        with pytest.raises(WaitTimeout):
            await client.acall(TASK, b"?", timeout=0)
        task = asyncio.create_task(client.acall(TASK, b"?"))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(FrameTooLarge):
            await client.acall(TASK, bytes(1001))
        with pytest.raises(ValueError, match="not negative"):
            await client.acall(TASK, b"", timeout=-1)
        calls = [asyncio.create_task(client.acall(TASK, b"?")) for _ in range(4)]
        await asyncio.sleep(0)
        server.kill(signal.SIGKILL)
        for call in calls:
            with pytest.raises(PeerDied) as caught:
                await call
            assert caught.value.signal == signal.SIGKILL

    asyncio.run(main())


def test_a_server_that_died_where_it_could_not_be_woken_ends_an_awaited_call(fork: Fork) -> None:
    box = mailbox(depth=1)
    client = box.client()
    server = fork(lambda: threading.Event().wait())
    client.watch(server)

    async def main() -> None:
        calls = [asyncio.create_task(client.acall(TASK, b"?")) for _ in range(3)]
        await asyncio.sleep(0)
        wait_elsewhere(box)
        for call in (calls[0], calls[2]):
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        server.kill()
        with pytest.raises(PeerDied):
            await calls[1]

    asyncio.run(main())


def test_awaited_calls_that_wait_for_a_frame_end_each_for_itself() -> None:
    box = Mailbox(Region(Mailbox.required_bytes(4, 64)), depth=4, frame_bytes=64)
    client, server = box.client(), box.server()
    serving = threading.Thread(target=server.serve, args=(lambda request: bytes(request.payload)[::-1],))
    gone = memoryview(bytearray(b"gone"))

    async def main() -> None:
        calls = [asyncio.create_task(client.acall(TASK, b"%02d" % number)) for number in range(40)]
        bad = asyncio.create_task(client.acall(TASK, gone))
        last = asyncio.create_task(client.acall(TASK, b"last"))
        await asyncio.sleep(0)
        gone.release()
        for call in calls[1::2]:
            call.cancel()
        serving.start()  # not before: all but the first wait for a frame
        replies = await asyncio.gather(*calls, return_exceptions=True)
        assert [reply.payload for reply in replies if isinstance(reply, Reply)] == [
            (b"%02d" % number)[::-1] for number in range(0, 40, 2)
        ]
        with pytest.raises(ValueError, match="released memoryview"):
            await bad
        assert (await last).result() == b"tsal"

    asyncio.run(main())
    assert client.free == 4
    client.send(SHUTDOWN, b"")
    serving.join()


def test_nothing_is_left_of_a_notifier(client: MailboxClient, threads: Callable[[], int], open_fds: Callable) -> None:
    gc.collect()  # what earlier tests left in cycles
    before = threads(), open_fds()
    notifier = client.notifier()
    assert threads() == before[0] + 1
    client.send(TASK, b"ab")
    notifier.arm()
    asyncio.run(readable(notifier.fileno()))
    notifier.clear()
    assert [reply.payload for reply in client.poll_many()] == [b"ba"]
    client.send(TASK, b"")
    client.wait()
    client.poll()
    notifier.arm()  # and dropped while it looks
    del notifier
    gc.collect()
    assert (threads(), open_fds()) == before


async def readable(fd: int) -> None:
    event = asyncio.Event()
    asyncio.get_running_loop().add_reader(fd, event.set)
    await event.wait()
