"""HeapRing: blocks, order of reclamation, limits, other processes; against a model by hypothesis."""

from __future__ import annotations

import copy
import dataclasses
import os
import pathlib
import pickle
import random
import re
import subprocess
import sys
import threading
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from simpler_ipc import TASK, HeapRing, HeapRingFull, IpcError, Mailbox, Peer, PeerDied, Region

Fork = Callable[..., Peer]


def ring_of(nbytes: int, **options: object) -> tuple[Region, HeapRing]:
    region = Region(HeapRing.required_bytes(nbytes))
    return region, HeapRing(region, nbytes=nbytes, **options)  # type: ignore[arg-type]


def block_of(region: Region, address: int, nbytes: int) -> np.ndarray:
    return region.numpy("uint8", nbytes, offset=address - region.address)


def test_blocks_are_aligned_and_apart() -> None:
    region, ring = ring_of(1 << 20, name="scratch")
    first, second = ring.alloc(1), ring.alloc(1025)
    assert (first % 1024, second - first) == (0, 1024)
    assert region.contains(second, 2048)
    assert (ring.name, ring.nbytes, ring.alignment, ring.live, ring.used) == ("scratch", 1 << 20, 1024, 2, 3072)


def test_a_ring_of_a_gibibyte_costs_what_is_used_of_it() -> None:
    region, ring = ring_of(1 << 30)
    address = ring.alloc(1 << 29)
    block_of(region, address, 1)[0] = 1
    assert os.fstat(region.fd).st_blocks * 512 < 8 << 20


def test_space_comes_back_first_in_first_out() -> None:
    _, ring = ring_of(4096)
    first, second, _third, _fourth = (ring.alloc(1024) for _ in range(4))
    ring.release(second)
    with pytest.raises(HeapRingFull):
        ring.alloc(1024)
    ring.release(first)
    assert ring.alloc(2048) == first


def test_full_names_the_ring_and_what_is_live() -> None:
    _, ring = ring_of(8192, name="scope 2")
    ring.alloc(5000)
    with pytest.raises(HeapRingFull, match=r"'scope 2' of 8192 bytes.*4000 bytes requested, 1 live blocks hold 5120"):
        ring.alloc(4000)
    with pytest.raises(MemoryError):
        ring.alloc(4000, timeout=0.001)


def test_full_carries_what_it_says_through_a_pickle() -> None:
    _, ring = ring_of(8192, name="scope 2")
    oldest = ring.alloc(3000)
    ring.alloc(2048)
    with pytest.raises(HeapRingFull) as caught:
        ring.alloc(4000)
    for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        assert (error.ring, error.nbytes, error.requested) == ("scope 2", 8192, 4000)
        assert (error.live_blocks, error.live_bytes) == (2, 5120)
        assert (error.oldest, error.oldest_nbytes) == (oldest, 3072)
        assert f"first of all the oldest ({oldest:#x}, 3072 bytes)" in str(error)


def test_full_says_that_what_is_too_large_never_fits() -> None:
    _, ring = ring_of(4096)
    with pytest.raises(HeapRingFull, match="make the ring with 5000 bytes at least") as caught:
        ring.alloc(5000)
    assert (caught.value.oldest, caught.value.oldest_nbytes) == (None, 0)


def test_what_can_never_fit_is_refused_without_waiting() -> None:
    _, ring = ring_of(4096)
    with pytest.raises(HeapRingFull, match="5000 bytes requested"):
        ring.alloc(5000, timeout=None)


def test_a_wrong_address_is_named() -> None:
    _, ring = ring_of(4096)
    address = ring.alloc(2048)
    for wrong in (address + 1, address + 1024, 0):
        with pytest.raises(ValueError, match=f"{wrong:#x} is not a live block of heap ring 'heap'"):
            ring.release(wrong)
    ring.release(address)
    with pytest.raises(ValueError, match="released already"):
        ring.release(address)


def test_an_alloc_waits_for_another_threads_release() -> None:
    _, ring = ring_of(4096)
    address = ring.alloc(4096)
    releasing = threading.Thread(target=ring.release, args=(address,))
    releasing.start()
    assert ring.alloc(4096, timeout=None) == address
    releasing.join()


def test_blocks_travel_to_a_child_that_releases_them(fork: Fork) -> None:
    region, ring = ring_of(16 * 1024)
    box = Mailbox(Region(Mailbox.required_bytes(4, 100)), depth=4, frame_bytes=100)
    client = box.client()

    def check_and_release() -> None:
        server = box.server()
        while True:
            address, nbytes, stamp = np.frombuffer(server.recv().payload, "int64")
            if address:
                assert (block_of(region, address, nbytes) == stamp).all()
                ring.release(int(address))
            server.reply()

    client.watch(fork(check_and_release))
    for turn in range(1000):
        nbytes = 1 + turn * 37 % 6000
        address = ring.alloc(nbytes, timeout=None)
        block_of(region, address, nbytes)[:] = turn % 251
        message = np.array([address, nbytes, turn % 251], "int64")
        while client.send(TASK, message) is None:
            client.wait()
            client.poll()
    client.call(TASK, np.zeros(3, "int64"))
    assert (ring.live, ring.used) == (0, 0)


def test_only_one_process_allocates(fork: Fork) -> None:
    _, ring = ring_of(4096)
    address = ring.alloc(1024)

    def allocate_too() -> None:
        with pytest.raises(IpcError, match=f"allocated from by process {os.getppid()}"):
            ring.alloc(1024)
        ring.release(address)

    assert fork(allocate_too).wait().exit_status == 0
    assert ring.live == 0
    assert ring.alloc(4096)


def test_stats_are_seen_from_any_process(fork: Fork) -> None:
    _, ring = ring_of(8192)
    first, second = ring.alloc(2000), ring.alloc(1024)
    ring.release(second)

    def look() -> None:
        stats = ring.stats()
        assert (stats.nbytes, stats.live_blocks, stats.live_bytes) == (8192, 1, 2048)
        assert (stats.held_bytes, stats.peak_bytes, stats.allocated) == (3072, 3072, 2)
        assert (stats.wraps, stats.waits, stats.oldest, stats.oldest_nbytes) == (0, 0, first, 2048)
        ring.release(first)

    assert fork(look).wait().exit_status == 0
    stats = ring.stats()
    assert (stats.live_blocks, stats.held_bytes, stats.oldest) == (0, 0, None)
    with pytest.raises(dataclasses.FrozenInstanceError):
        stats.waits = 1  # type: ignore[misc]
    assert pickle.loads(pickle.dumps(stats)) == stats


def test_released_bytes_are_poisoned_whoever_releases(fork: Fork) -> None:
    region, ring = ring_of(8192, poison=True)
    address = ring.alloc(5000)
    block_of(region, address, 5000)[:] = 1
    assert ring.poisons
    assert fork(ring.release, address).wait().exit_status == 0
    assert (block_of(region, address, 5120) == 0xDD).all()


def test_a_write_to_a_released_block_is_found_and_named() -> None:
    region, ring = ring_of(8192, poison=True, name="scratch")
    address = ring.alloc(5000)
    late = block_of(region, address, 5000)
    ring.release(address)
    late[100] = 7
    with pytest.raises(
        IpcError, match=rf"'scratch': the byte at {address + 100:#x} .* it holds 0x07; .* the block at {address:#x}"
    ):
        ring.alloc(1)
    assert ring.alloc(8192) == address


def test_poison_is_chosen_by_who_makes_the_ring() -> None:
    region, _ring = ring_of(4096, poison=True)
    assert HeapRing(region, nbytes=4096).poisons
    region, _ring = ring_of(4096)
    with pytest.raises(ValueError, match="does not poison"):
        HeapRing(region, nbytes=4096, poison=True)


def test_an_alloc_that_waits_for_a_dead_child_ends(fork: Fork) -> None:
    _, ring = ring_of(4096)
    address = ring.alloc(4096)
    held, never = os.pipe()
    child = fork(os.read, held, 1)
    ring.watch(child)
    waiting = threading.Timer(0, child.kill)
    waiting.start()
    with pytest.raises(PeerDied) as caught:
        ring.alloc(1, timeout=None)
    assert (caught.value.pid, caught.value.signal) == (child.pid, 9)
    waiting.join()
    ring.release(address)
    assert ring.alloc(4096, timeout=None) == address, "what is there is given, whoever died"
    os.close(held)
    os.close(never)


def test_a_death_that_is_forgotten_ends_no_alloc(fork: Fork) -> None:
    _, ring = ring_of(4096)
    ring.alloc(4096)
    child = fork(int)
    ring.watch(child)
    assert child.wait().exit_status == 0
    with pytest.raises(PeerDied):
        ring.alloc(1, timeout=0.001)
    ring.forget(child)
    with pytest.raises(HeapRingFull):
        ring.alloc(1, timeout=0.001)


def test_a_copy_is_the_same_ring_of_the_same_region() -> None:
    region = Region(2 * HeapRing.required_bytes(8192, 64))
    ring = HeapRing(region, offset=128, nbytes=8192, name="scratch", alignment=64, poison=True)
    address = ring.alloc(100)
    other = copy.copy(ring)
    assert (other.name, other.nbytes, other.alignment, other.poisons) == ("scratch", 8192, 64, True)
    other.release(address)
    assert ring.live == 0
    with pytest.raises(IpcError, match="another HeapRing object"):
        other.alloc(1)


SPAWNING = """
import multiprocessing
from simpler_ipc import HeapRing, IpcError, Region


def take_back(ring, region, offset):
    print(region.numpy("uint8", 4, offset).tolist(), ring.name, ring.alignment, ring.poisons)
    ring.release(region.address + offset)
    try:
        ring.alloc(1)
    except IpcError:
        print("the parent allocates")


if __name__ == "__main__":
    region = Region(HeapRing.required_bytes(8192, 64))
    ring = HeapRing(region, nbytes=8192, name="scratch", alignment=64, poison=True)
    first, second = ring.alloc(100), ring.alloc(100)
    offset = second - region.address
    region.numpy("uint8", 4, offset)[:] = [1, 2, 3, 4]
    child = multiprocessing.get_context("spawn").Process(target=take_back, args=(ring, region, offset))
    child.start()
    child.join()
    print(child.exitcode, ring.live, ring.stats().oldest == first)
"""


def test_a_spawned_child_joins_a_pickled_ring_and_releases_by_offset(tmp_path: pathlib.Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(SPAWNING)
    ran = subprocess.run([sys.executable, program], capture_output=True, text=True, check=False)
    assert ran.stdout.splitlines() == ["[1, 2, 3, 4] scratch 64 True", "the parent allocates", "0 1 True"], ran.stderr


def test_a_fork_while_a_thread_waits_for_space_takes_nothing_from_either(fork: Fork) -> None:
    _, ring = ring_of(4096)
    address = ring.alloc(4096)
    got: list[int] = []
    waiting = threading.Thread(target=lambda: got.append(ring.alloc(4096, timeout=None)))
    waiting.start()

    def release_and_try() -> None:
        with pytest.raises(IpcError, match="allocated from by process"):
            ring.alloc(1)
        ring.release(address)

    for _ in range(20):  # at some moments of its looks, sleeps, and looks again
        child = fork(release_and_try)
        assert child.wait().exit_status == 0
        waiting.join()
        assert got == [address]
        waiting = threading.Thread(target=lambda: got.append(ring.alloc(4096, timeout=None)))
        got.clear()
        waiting.start()
    ring.release(address)
    waiting.join()


def test_the_example_of_its_page_runs() -> None:
    page = pathlib.Path(__file__).parents[3] / "docs" / "ipc" / "heap_ring.md"
    (example,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    printed = subprocess.run([sys.executable, "-c", example], check=True, capture_output=True, text=True)
    assert printed.stdout == "1500.0\n"


@pytest.mark.parametrize("poison", [False, True])
def test_a_ring_goes_on_after_a_process_was_killed_at_it(
    poison: bool, fork: Fork, eventually: Callable[[Callable[[], bool]], None]
) -> None:
    region = Region(HeapRing.required_bytes(64 * 1024))
    turns = random.Random(1)

    def work() -> None:
        ring = HeapRing(region, nbytes=64 * 1024, poison=poison)
        while True:  # most of the time, in a ring that poisons, goes into releasing the large one
            small, large = ring.alloc(1, timeout=None), ring.alloc(60 * 1024, timeout=None)
            ring.release(large)
            ring.release(small)

    ring = HeapRing(region, nbytes=64 * 1024, poison=poison)
    for _ in range(50):
        enough = ring.stats().allocated + turns.randrange(1, 500)
        child = fork(work)
        eventually(lambda child=child, enough=enough: ring.stats().allocated > enough or not child.alive())
        child.kill()
        assert child.wait().signal == 9
        assert ring.stats().live_blocks <= 2
        while (oldest := ring.stats().oldest) is not None:
            ring.release(oldest)
        follower = HeapRing(region, nbytes=64 * 1024)
        follower.release(follower.alloc(64 * 1024))
        del follower  # the next child's turn


@pytest.mark.parametrize("alignment", [0, 32, 100, 8192])
def test_an_impossible_alignment_is_refused(alignment: int) -> None:
    with pytest.raises(ValueError, match="alignment"):
        HeapRing(Region(1 << 20), nbytes=4096, alignment=alignment)


def test_a_ring_that_does_not_fit_its_region_is_refused() -> None:
    with pytest.raises(ValueError, match="do not lie"):
        HeapRing(Region(4096), nbytes=4096)


class AgainstAModel(RuleBasedStateMachine):
    """Every block keeps its bytes while it lives; no space is lost; what is live is counted."""

    @initialize(granules=st.integers(1, 40), poison=st.booleans())
    def start(self, granules: int, poison: bool) -> None:
        self.region, self.ring = ring_of(granules * 1024, poison=poison)
        self.blocks: dict[int, tuple[int, int]] = {}  # address: (nbytes, stamp), in the order of allocation
        self.stamp = 0

    @rule(nbytes=st.integers(1, 24 * 1024))
    def alloc(self, nbytes: int) -> None:
        try:
            address = self.ring.alloc(nbytes)
        except HeapRingFull:
            assert self.blocks or nbytes > self.ring.nbytes, "an empty ring has room for all that fits"
            return
        self.stamp = self.stamp % 255 + 1
        assert address % 1024 == 0
        block_of(self.region, address, nbytes)[:] = self.stamp
        self.blocks[address] = (nbytes, self.stamp)

    @precondition(lambda self: self.blocks)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        address = data.draw(st.sampled_from(sorted(self.blocks)))
        nbytes, stamp = self.blocks.pop(address)
        assert (block_of(self.region, address, nbytes) == stamp).all()
        self.ring.release(address)
        with pytest.raises(ValueError, match="released already"):
            self.ring.release(address)

    @precondition(lambda self: self.blocks)
    @rule()
    def release_all_and_take_everything(self) -> None:
        for address in self.blocks:
            self.ring.release(address)
        self.blocks.clear()
        self.ring.release(self.ring.alloc(self.ring.nbytes))

    @invariant()
    def counts_agree(self) -> None:
        if hasattr(self, "ring"):
            assert self.ring.live == len(self.blocks)
            assert self.ring.used == sum(-(-nbytes // 1024) * 1024 for nbytes, _ in self.blocks.values())
            stats = self.ring.stats()
            assert (stats.live_blocks, stats.live_bytes) == (self.ring.live, self.ring.used)
            assert stats.oldest == next(iter(self.blocks), None)
            assert stats.live_bytes <= stats.held_bytes <= stats.peak_bytes <= stats.nbytes


AgainstAModel.TestCase.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestAgainstAModel = AgainstAModel.TestCase
