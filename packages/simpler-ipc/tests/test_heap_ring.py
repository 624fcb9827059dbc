"""HeapRing: blocks, order of reclamation, limits, other processes; against a model by hypothesis."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from simpler_ipc import TASK, HeapRing, HeapRingFull, IpcError, Mailbox, Peer, Region

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


@pytest.mark.parametrize("alignment", [0, 32, 100, 8192])
def test_an_impossible_alignment_is_refused(alignment: int) -> None:
    with pytest.raises(ValueError, match="alignment"):
        HeapRing(Region(1 << 20), nbytes=4096, alignment=alignment)


def test_a_ring_that_does_not_fit_its_region_is_refused() -> None:
    with pytest.raises(ValueError, match="do not lie"):
        HeapRing(Region(4096), nbytes=4096)


class AgainstAModel(RuleBasedStateMachine):
    """Every block keeps its bytes while it lives; no space is lost; what is live is counted."""

    @initialize(granules=st.integers(1, 40))
    def start(self, granules: int) -> None:
        self.region, self.ring = ring_of(granules * 1024)
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


AgainstAModel.TestCase.settings = settings(max_examples=100, stateful_step_count=50, deadline=None)
TestAgainstAModel = AgainstAModel.TestCase
