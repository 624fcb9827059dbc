"""Children killed by SIGKILL at random moments: whoever is left is told, and goes on with a successor.

The Rust tests kill ten thousand times, both sides and in every state; here it is what Python adds: the GIL, payloads
filled in place, one client object that outlives many servers.
"""

from __future__ import annotations

import os
import random
import signal
import struct
import time
from collections.abc import Callable

import pytest
from simpler_ipc import CONTROL, TASK, Mailbox, MailboxClient, Peer, PeerDied, Region, exit_with

Fork = Callable[..., Peer]
Kill = Callable[[Peer], None]
KILLS = 100


@pytest.fixture
def dice() -> random.Random:
    seed = int(os.environ.get("SIMPLER_IPC_SEED", time.time_ns()))
    print(f"SIMPLER_IPC_SEED={seed}")  # shown when the test fails
    return random.Random(seed)


@pytest.fixture
def kill_soon(fork: Fork, dice: random.Random) -> Kill:
    """`kill_soon(peer)` returns at once; another process kills the peer some hundred microseconds later."""
    box = Mailbox(Region(Mailbox.required_bytes(1, 16)), frame_bytes=16)

    def killer() -> None:
        server = box.server()
        while True:
            pid, ns = struct.unpack("qq", server.recv())
            server.reply()
            end = time.monotonic_ns() + ns
            while time.monotonic_ns() < end:
                pass
            os.kill(pid, signal.SIGKILL)  # not reaped before it is dead, so the number is its own

    client = box.client()
    client.watch(fork(killer))

    def kill(victim: Peer) -> None:
        client.call(TASK, struct.pack("qq", victim.pid, dice.randrange(dice.choice([30_000, 300_000, 1_000_000]))))

    return kill


def test_a_client_outlives_servers_killed_at_any_moment(fork: Fork, kill_soon: Kill, dice: random.Random) -> None:
    depth, frame_bytes = 4, 1000
    box = Mailbox(Region(Mailbox.required_bytes(depth, frame_bytes)), depth=depth, frame_bytes=frame_bytes)
    log = Region(8 << 20).numpy("uint8")  # what a reply says is done is written here before it is given

    def serve() -> None:
        def work(request: object) -> bytes:
            message = bytes(request)  # type: ignore[call-overload]
            (serial,) = struct.unpack_from("q", message)
            assert message == struct.pack("q", serial) * (len(message) // 8), "a request is whole"
            log[serial] = 1
            return message[::-1]

        box.server().serve(work)

    client = box.client()
    server = fork(serve)
    client.watch(server)
    serial = answered = 0
    sizes: list[int] = []

    def take() -> None:
        nonlocal answered
        for reply in client.poll_many():
            assert reply.ticket == answered, "in order, none twice, none left out"
            assert reply.result()[::-1] == struct.pack("q", answered) * sizes[answered], "a reply is whole"
            assert log[answered] == 1, "what is answered is done"
            answered += 1

    def ask_on() -> None:
        nonlocal serial
        while True:
            if client.free:
                sizes.append(dice.randrange(1, 100))
                message = struct.pack("q", serial) * sizes[serial]
                if dice.random() < 0.5:
                    assert client.send(CONTROL, message) == serial
                else:
                    with client.request() as frame:
                        memoryview(frame)[: len(message)] = message
                        frame.nbytes = len(message)
                    assert frame.ticket == serial
                serial += 1
            else:
                client.wait()
            take()

    for _ in range(KILLS):
        kill_soon(server)
        with pytest.raises(PeerDied) as caught:
            ask_on()
        assert (caught.value.pid, caught.value.signal) == (server.pid, signal.SIGKILL)
        client.forget(server)
        server = fork(serve)
        client.watch(server)
    while answered < serial:
        client.wait()
        take()
    assert client.in_flight == 0


def test_a_server_outlives_clients_killed_at_any_moment(fork: Fork, kill_soon: Kill) -> None:
    box = Mailbox(Region(Mailbox.required_bytes(3, 100)), depth=3, frame_bytes=100)

    def ask() -> None:
        client: MailboxClient = box.client()
        while True:
            while client.free:
                client.send(TASK, b"request " * 10)
            client.wait()
            for reply in client.poll_many():
                assert reply.result() == b"reply " * 10

    server = box.server()
    received = 0

    def answer_on() -> None:
        nonlocal received
        while True:
            request = server.recv()
            assert (request.ticket, bytes(request)) == (received, b"request " * 10), "in order, none left out"
            received += 1
            server.reply(0, b"reply " * 10)

    for _ in range(KILLS):
        client = fork(ask)
        server.watch(client)
        kill_soon(client)
        with pytest.raises(PeerDied) as caught:
            answer_on()
        assert (caught.value.pid, caught.value.signal) == (client.pid, signal.SIGKILL)
        server.forget(client)


def test_a_child_whose_parent_died_before_it_was_armed_ends_too(fork: Fork) -> None:
    pids = Region(4096).numpy("int32")
    to_parent, from_parent = os.pipe()

    def parent() -> None:
        me = Peer(os.getpid())
        child = os.fork()
        if child == 0:
            me.wait()
            pids[0] = os.getpid()
            os.write(from_parent, b"x")
            exit_with(me)
            signal.pause()
        os.kill(os.getpid(), signal.SIGKILL)

    fork(parent).wait()
    os.read(to_parent, 1)
    try:
        orphan = Peer(int(pids[0]))
    except PeerDied:
        return  # it was faster
    orphan.wait(timeout=60)


def test_a_zombie_that_another_process_has_not_reaped_is_dead(fork: Fork) -> None:
    box = Mailbox(Region(Mailbox.required_bytes(1, 8)), frame_bytes=8)
    pids = Region(4096).numpy("int32")

    def negligent() -> None:
        child = os.fork()
        if child == 0:
            signal.pause()
        pids[0] = child
        box.server().recv()
        signal.pause()

    parent = fork(negligent)
    client = box.client()
    client.watch(parent)
    client.send(TASK, b"")
    while not pids[0]:
        os.sched_yield()
    zombie = Peer(int(pids[0]))
    other = Mailbox(Region(Mailbox.required_bytes(1, 8)), frame_bytes=8).client()
    other.watch(zombie)
    other.send(TASK, b"")
    zombie.kill()
    with pytest.raises(PeerDied) as caught:
        other.wait()
    assert (caught.value.pid, caught.value.signal) == (zombie.pid, None), "how it ended is its parent's to know"
    with open(f"/proc/{zombie.pid}/stat") as stat:
        assert stat.read().rsplit(")", 1)[1].split()[0] == "Z"
    assert parent.alive()
