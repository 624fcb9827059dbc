"""Peer, WaitSet, exit_with: death is noticed at once, and nothing stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

import pytest
from simpler_ipc import (
    TASK,
    Doorbell,
    HeapRing,
    Mailbox,
    Peer,
    PeerDied,
    Region,
    WaitSet,
    WaitTimeout,
    exit_with,
)

Fork = Callable[..., Peer]


def forever() -> None:
    threading.Event().wait()


def leave(status: int) -> None:
    os._exit(status)


def test_a_killed_child_is_reported_with_pid_and_signal(fork: Fork) -> None:
    child = fork(forever)
    assert child.alive()
    assert child.died() is None
    with pytest.raises(WaitTimeout, match="exit"):
        child.wait(timeout=0)
    child.kill(signal.SIGTERM)
    died = child.wait()
    assert (died.pid, died.exit_status, died.signal) == (child.pid, None, signal.SIGTERM)
    assert not child.alive()
    assert str(child.died()) == f"process {child.pid} died (exit status None, signal 15)"


def test_a_child_that_exits_is_reported_with_its_status(fork: Fork) -> None:
    child = fork(leave, 3)
    died = child.wait()
    assert (died.exit_status, died.signal) == (3, None)
    assert os.path.exists(f"/proc/{child.pid}") is False, "it is reaped"


def test_a_child_reaped_by_other_code_is_gone_all_the_same(fork: Fork) -> None:
    child = fork(leave, 3)
    os.waitpid(child.pid, 0)
    died = child.wait()
    assert (died.exit_status, died.signal) == (None, None)


def test_a_process_that_is_not_there_has_died(fork: Fork) -> None:
    gone = fork(leave, 0)
    gone.wait()
    with pytest.raises(PeerDied) as caught:
        Peer(gone.pid)
    assert caught.value.pid == gone.pid
    gone.kill()  # nobody else gets it


@pytest.mark.parametrize("pid", [0, -1])
def test_an_impossible_pid_is_refused(pid: int) -> None:
    with pytest.raises(ValueError, match="process id"):
        Peer(pid)


def test_a_call_ends_when_the_server_is_killed_at_work(fork: Fork) -> None:
    box = Mailbox(Region(Mailbox.required_bytes(1, 100)), frame_bytes=100)
    client = box.client()

    def take_and_die() -> None:
        box.server().recv()
        os.kill(os.getpid(), signal.SIGKILL)

    child = fork(take_and_die)
    client.watch(child)
    with pytest.raises(PeerDied) as caught:
        client.call(TASK, b"")
    assert (caught.value.pid, caught.value.signal) == (child.pid, signal.SIGKILL)
    with pytest.raises(PeerDied):
        client.wait()


def test_a_server_notices_that_its_client_is_killed(fork: Fork) -> None:
    box = Mailbox(Region(Mailbox.required_bytes(1, 100)), frame_bytes=100)
    client = fork(forever)
    server = box.server()
    server.watch(client)
    client.kill()
    with pytest.raises(PeerDied):
        server.recv()


def test_a_wait_set_wakes_for_the_death_of_any_peer(fork: Fork) -> None:
    doorbell = Doorbell(Region(Doorbell.NBYTES))
    children = [fork(forever) for _ in range(3)]
    with WaitSet(doorbell) as waits:
        for child in children:
            waits.watch(child)
        with pytest.raises(WaitTimeout):
            waits.wait(doorbell.value, timeout=0)
        for victim in children:
            seen = doorbell.value
            victim.kill()
            while victim.died() is None:
                seen = waits.wait(seen)
        assert [child.alive() for child in children] == [False, False, False]


def test_a_death_before_the_wait_is_told_and_not_for_ever(fork: Fork) -> None:
    doorbell = Doorbell(Region(Doorbell.NBYTES))
    child = fork(forever)
    with WaitSet(doorbell) as waits:
        waits.watch(child)
        child.kill()
        doorbell.wait(0)
        waits.wait(doorbell.value)
        with pytest.raises(WaitTimeout):
            waits.wait(doorbell.value, timeout=0)


def test_a_peer_forgotten_does_not_wake(fork: Fork) -> None:
    doorbell = Doorbell(Region(Doorbell.NBYTES))
    child = fork(forever)
    with WaitSet(doorbell) as waits:
        waits.watch(child)
        waits.forget(child)
        waits.forget(child)
        child.kill()
        child.wait()
        with pytest.raises(WaitTimeout):
            waits.wait(doorbell.value, timeout=0)


def test_a_busy_child_ends_with_its_killed_parent(fork: Fork) -> None:
    pids = Region(4096).numpy("int32")
    doorbell = Doorbell(Region(Doorbell.NBYTES))

    def parent() -> None:
        me = Peer(os.getpid())
        child = os.fork()
        if child == 0:
            exit_with(me)
            doorbell.ring()
            sum(range(1 << 62))  # for ages, in C, with the GIL
        pids[0] = child
        doorbell.ring()
        forever()

    middle = fork(parent)
    while doorbell.value < 2:
        doorbell.wait(doorbell.value)
    grandchild = Peer(int(pids[0]))
    assert grandchild.alive()
    middle.kill()
    middle.wait()
    assert not grandchild.wait().signal


def test_nothing_is_left_open_or_running_after_close(
    fork: Fork, threads: Callable[[], int], open_fds: Callable[[], list[str]]
) -> None:
    def use_everything() -> None:
        child = fork(forever)
        threads_before, fds_before = threads(), open_fds()
        for _ in range(20):
            region = Region(1 << 16)
            doorbell = Doorbell(region, 1 << 15)
            box = Mailbox(region, frame_bytes=100)
            client, server = box.client(doorbell), box.server()
            ring = HeapRing(region, offset=2048, nbytes=8192)
            peer = Peer(child.pid)
            waits = WaitSet(doorbell)
            client.watch(peer)
            waits.watch(peer)
            assert threads() == threads_before + 1
            assert client.send(TASK, b"") == 0
            assert server.recv().nbytes == 0
            ring.release(ring.alloc(1))
            waits.close()
            del client, server, box, waits, doorbell, ring, peer
            region.close()
            assert threads() == threads_before
            assert open_fds() == fds_before

    assert fork(use_everything).wait().exit_status == 0


def test_a_watcher_ends_when_its_peers_are_dead(fork: Fork, threads: Callable[[], int]) -> None:
    def watch_one() -> None:
        before = threads()
        doorbell = Doorbell(Region(Doorbell.NBYTES))
        waits = WaitSet(doorbell)
        peer = fork(forever)
        waits.watch(peer)
        peer.kill()
        waits.wait(0)
        waits.close()
        while threads() != before:  # the thread is on its way out: it has nothing left to wait for
            os.sched_yield()

    assert fork(watch_one).wait().exit_status == 0


def test_a_child_forked_beside_a_watcher_watches_on_its_own(fork: Fork, threads: Callable[[], int]) -> None:
    doorbell = Doorbell(Region(Doorbell.NBYTES))
    box = Mailbox(Region(Mailbox.required_bytes(1, 100)), frame_bytes=100)
    client = box.client()
    victim = fork(forever)
    waits = WaitSet(doorbell)
    waits.watch(victim)
    client.watch(victim)
    client.send(TASK, b"")
    ready, tell = os.pipe()

    def inherit() -> None:
        assert threads() == 2, "this one, and that which ends it with its parent"
        os.write(tell, b"x")
        with pytest.raises(PeerDied) as caught:
            waits.harvest()
        assert (caught.value.pid, caught.value.signal) == (victim.pid, None), "a sibling's signal is not for us to know"
        waits.close()

    child = fork(inherit)
    os.read(ready, 1)
    victim.kill()
    assert child.wait().exit_status == 0
    with pytest.raises(PeerDied) as caught:
        client.wait()
    assert caught.value.signal == signal.SIGKILL
    waits.close()
    os.close(ready)
    os.close(tell)


def test_a_child_may_drop_what_its_parent_watches_with(fork: Fork) -> None:
    doorbell = Doorbell(Region(Doorbell.NBYTES))
    victim = fork(forever)
    waits = WaitSet(doorbell)
    waits.watch(victim)
    assert fork(waits.close).wait().exit_status == 0
    victim.kill()
    assert waits.wait(doorbell.value) > 0 or not victim.alive()
    waits.close()


def test_a_child_that_is_only_observed_is_left_to_who_started_it() -> None:
    started = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    peer = Peer(started.pid, reap=False)
    for _ in range(2):
        died = peer.wait()
        assert (died.exit_status, died.signal) == (3, None)
    assert not peer.alive()
    assert started.wait() == 3
