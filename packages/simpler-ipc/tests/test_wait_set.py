"""WaitSet: one wait and one harvest for many mailboxes, fair to all, and told of deaths."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Callable

import pytest
from simpler_ipc import (
    SHUTDOWN,
    TASK,
    Doorbell,
    Mailbox,
    MailboxClient,
    MailboxServer,
    Peer,
    PeerDied,
    Region,
    WaitSet,
    WaitTimeout,
)

Fork = Callable[..., Peer]


def lanes(number: int, depth: int = 4) -> tuple[WaitSet, list[Mailbox], list[MailboxClient]]:
    """A wait set and that many mailboxes whose clients wait there."""
    doorbell = Doorbell(Region(Doorbell.NBYTES))
    boxes = [Mailbox(Region(Mailbox.required_bytes(depth, 64)), depth=depth, frame_bytes=64) for _ in range(number)]
    clients = [box.client(doorbell) for box in boxes]
    wait_set = WaitSet(doorbell)
    for client in clients:
        wait_set.add(client)
    return wait_set, boxes, clients


def answer_all(server: MailboxServer) -> None:
    server.reply_many([bytes(request.payload) for request in server.recv_many(timeout=0)])


def test_a_hundred_children_are_harvested_with_one_wait(fork: Fork) -> None:
    wait_set, boxes, clients = lanes(100)

    def serve_all() -> None:  # ten children, ten mailboxes each
        for first in range(0, 100, 10):
            fork(serve, boxes[first : first + 10])

    def serve(boxes: list[Mailbox]) -> None:
        threads = [threading.Thread(target=box.server().serve, args=(bytes,)) for box in boxes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    serve_all()
    for number, client in enumerate(clients):
        client.send_many(TASK, [b"%d" % number] * 3)
    taken: Counter[tuple[int, bytes]] = Counter()
    while taken.total() < 300:
        taken.update((clients.index(client), reply.result()) for client, reply in wait_set.harvest())
    assert taken == {(number, b"%d" % number): 3 for number in range(100)}
    for client in clients:
        client.send(SHUTDOWN, b"")


def test_a_harvest_asks_everyone_in_turn_and_goes_on_behind_the_last() -> None:
    wait_set, boxes, clients = lanes(3)
    for client, box in zip(clients, boxes, strict=True):
        client.send_many(TASK, [b"a", b"b", b"c"])
        answer_all(box.server())
    order = [(clients.index(client), reply.payload) for client, reply in wait_set.harvest(limit=4)]
    assert order == [(0, b"a"), (1, b"a"), (2, b"a"), (0, b"b")]
    order = [(clients.index(client), reply.payload) for client, reply in wait_set.harvest()]
    assert order == [(1, b"b"), (2, b"b"), (0, b"c"), (1, b"c"), (2, b"c")]
    with pytest.raises(WaitTimeout):
        wait_set.harvest(timeout=0)
    with pytest.raises(ValueError, match="not 0"):
        wait_set.harvest(limit=0)


def test_a_busy_client_does_not_starve_the_others() -> None:
    wait_set, boxes, clients = lanes(2)
    busy, quiet = boxes[0].server(), boxes[1].server()
    clients[1].send(TASK, b"quiet")
    answer_all(quiet)
    for _ in range(50):
        clients[0].send(TASK, b"busy")
        answer_all(busy)
        if wait_set.harvest(limit=1)[0][0] is clients[1]:
            break
    else:
        pytest.fail("the quiet one never had its turn")


def test_a_death_is_told_once_and_after_the_last_reply(fork: Fork) -> None:
    wait_set, boxes, clients = lanes(2)

    def answer_one() -> None:
        server = boxes[0].server()
        server.recv()
        server.reply(0, b"last words")
        threading.Event().wait()

    child = fork(answer_one)
    wait_set.watch(child)
    clients[0].send_many(TASK, [b"1", b"2"])
    clients[0].wait()
    child.kill(signal.SIGKILL)
    child.wait()
    ((client, reply),) = wait_set.harvest()
    assert (client is clients[0], reply.payload) == (True, b"last words")
    with pytest.raises(PeerDied) as caught:
        wait_set.harvest()
    assert (caught.value.pid, caught.value.signal) == (child.pid, signal.SIGKILL)
    clients[1].send(TASK, b"still here")
    answer_all(boxes[1].server())
    assert [reply.payload for _, reply in wait_set.harvest()] == [b"still here"]


def test_a_removed_client_keeps_its_replies() -> None:
    wait_set, boxes, clients = lanes(2)
    for client, box in zip(clients, boxes, strict=True):
        client.send(TASK, b"?")
        answer_all(box.server())
    wait_set.remove(clients[0])
    assert [client is clients[1] for client, _ in wait_set.harvest()] == [True]
    assert clients[0].poll() is not None


def test_a_client_that_waits_elsewhere_is_refused() -> None:
    wait_set, _, _ = lanes(1)
    _, _, clients = lanes(1)
    with pytest.raises(ValueError, match="waits elsewhere"):
        wait_set.add(clients[0])
