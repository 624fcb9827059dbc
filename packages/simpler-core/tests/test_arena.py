from __future__ import annotations

import gc
import os
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simpler import SharedMemoryFull
from simpler.memory.arena import Arena
from simpler.memory.free_list import FreeList
from simpler_ipc import Region


@given(st.lists(st.one_of(st.integers(1, 40), st.integers(-20, -1)), max_size=80))
def test_blocks_never_overlap_and_no_byte_is_lost(program):
    free = FreeList(200)
    live: dict[int, int] = {}
    for step in program:
        if step > 0:
            start = free.alloc(step)
            if start is None:
                assert free.largest < step
            else:
                assert all(start + step <= other or other + size <= start for other, size in live.items())
                assert 0 <= start <= 200 - step
                live[start] = step
        elif live:
            start = sorted(live)[-step % len(live)]
            free.release(start, live.pop(start))
        assert free.free == 200 - sum(live.values())
    for start, size in live.items():
        free.release(start, size)
    assert free.largest == 200


def arena(nbytes: int = 1 << 20) -> Arena:
    return Arena(Region(nbytes), nbytes)


def resident(arena: Arena) -> int:
    return os.fstat(arena.region.fd).st_blocks * 512


def test_an_array_is_freed_when_it_and_its_views_are_gone():
    shared = arena()
    array = shared.empty((100,), np.dtype("float32"))
    view = array[10:20]
    del array
    gc.collect()
    assert shared.used == 448
    view[...] = 1
    del view
    gc.collect()
    assert shared.used == 0


def test_freed_pages_go_back_to_the_system():
    shared = arena(64 << 20)
    array = shared.empty((8 << 20,), np.dtype("uint8"))
    array.fill(1)
    assert resident(shared) >= 8 << 20
    del array
    gc.collect()
    assert resident(shared) == 0


def test_a_page_goes_back_when_the_last_small_array_in_it_is_freed():
    shared = arena()
    arrays = [shared.empty((16,), np.dtype("float64")) for _ in range(64)]
    for array in arrays:
        array.fill(1)
    assert resident(shared) > 0
    del arrays, array
    gc.collect()
    assert shared.used == 0
    assert resident(shared) == 0


def test_an_array_that_does_not_fit_names_the_argument_to_enlarge():
    shared = arena()
    with pytest.raises(SharedMemoryFull, match="shared_memory_size"):
        shared.empty((1 << 20,), np.dtype("float32"))


def test_zero_size_and_zero_dimensional_arrays_can_be_shared():
    shared = arena()
    assert shared.empty((0, 3), np.dtype("int8")).shape == (0, 3)
    scalar = shared.empty((), np.dtype("int64"))
    scalar[...] = 7
    assert scalar.shape == ()
    assert int(scalar) == 7


def test_a_forked_copy_of_an_array_frees_nothing_of_its_parent():
    shared = arena()
    array = shared.empty((1 << 18,), np.dtype("uint8"))
    array.fill(5)
    pid = os.fork()
    if pid == 0:
        del array
        gc.collect()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert (array == 5).all()
    assert shared.used == 1 << 18


def test_no_python_code_runs_when_an_array_is_collected():
    """Whatever Python code raises there is lost, Ctrl-C too."""
    shared = arena(64 << 20)
    array = shared.empty((8 << 20,), np.dtype("uint8"))
    small = shared.empty((4,), np.dtype("uint8"))
    array.fill(1)
    called: list[str] = []
    sys.setprofile(lambda frame, event, arg: called.append(event))
    try:
        del array, small
    finally:
        sys.setprofile(None)
    assert "call" not in called
    assert resident(shared) == 0
    assert shared.used == 0


def test_pages_are_given_back_before_they_can_be_allocated_again():
    """Given back later, they would be zeroed under the next array there."""
    order: list[str] = []

    class Recording:
        def __init__(self, region: Region) -> None:
            self.address, self._region = region.address, region

        def __buffer__(self, flags: int) -> memoryview:
            return memoryview(self._region)

        def punch(self, offset: int, nbytes: int) -> None:
            order.append(f"punched, {len(shared._gone)} told")

    region = Region(1 << 20)
    shared = Arena(region, 1 << 20)
    shared.region = Recording(region)
    array = shared.empty((1 << 16,), np.dtype("uint8"))
    del array
    assert order == ["punched, 0 told"]
    assert len(shared._gone) == 1


def test_a_released_block_keeps_its_pages_for_the_next_of_its_size():
    shared = arena(64 << 20)
    address = shared.alloc(8 << 20)
    assert shared.alloc(100) != address
    shared.release(address)
    assert shared.alloc(8 << 20) == address
    assert shared.used == (8 << 20) + 128


def test_kept_blocks_make_room_for_an_array():
    shared = arena(1 << 20)
    shared.release(shared.alloc(1 << 20))
    assert shared.empty((1 << 20,), np.dtype("uint8")).nbytes == 1 << 20


def test_what_an_interrupt_left_half_done_is_free_again():
    shared = arena()
    array = shared.empty((1 << 18,), np.dtype("uint8"))
    shared.alloc(1 << 19)
    shared._free.alloc(1000)  # as if Ctrl-C had come before it was noted
    shared.recover()
    assert shared.used == 1 << 18
    assert shared._free.free == (1 << 20) - (1 << 18)
    array.fill(1)


def test_no_search_gets_longer_with_the_number_of_holes():
    free = FreeList(1 << 30)
    blocks = [free.alloc(64) for _ in range(20_000)]
    for block in blocks[::2]:
        free.release(block, 64)
    looked = 0

    class Ends(dict):
        def __getitem__(self, start):
            nonlocal looked
            looked += 1
            return super().__getitem__(start)

    free._ends = Ends(free._ends)
    assert free.alloc(100) is not None
    assert looked < 20
