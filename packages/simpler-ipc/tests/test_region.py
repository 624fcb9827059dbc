"""Region: size, views, sharing, closing."""

from __future__ import annotations

import fcntl
import os
import pathlib
import pickle
import socket
from collections.abc import Callable

import numpy as np
import pytest
from simpler_ipc import (
    Doorbell,
    FrameTooLarge,
    HeapRingFull,
    IpcError,
    Mailbox,
    Peer,
    PeerDied,
    Region,
    WaitTimeout,
)

Fork = Callable[..., Peer]


def test_a_fresh_region_is_zero_and_of_its_size() -> None:
    region = Region(5000)
    assert (region.nbytes, len(region)) == (5000, 5000)
    assert bytes(region) == bytes(5000)


def test_writes_show_in_every_view() -> None:
    region = Region(4096)
    memoryview(region)[10:15] = b"hello"
    assert region.numpy()[10:15].tobytes() == b"hello"


def test_numpy_views_have_dtype_shape_and_offset() -> None:
    region = Region(4096)
    region.numpy("float32", (4, 8), offset=64)[1, 2] = 1.5
    flat = region.numpy(np.float32)
    assert (flat.shape, flat[16 + 8 + 2]) == ((1024,), 1.5)
    assert region.numpy("int64", 3).shape == (3,)
    assert region.numpy(offset=96).shape == (4000,)


@pytest.mark.parametrize(
    ("dtype", "shape", "offset"), [("float32", 1025, 0), ("uint8", 1, 4096), ("uint8", (-1,), 0), ("uint8", 1, 9999)]
)
def test_a_view_that_does_not_fit_is_refused(dtype: str, shape: int | tuple[int, ...], offset: int) -> None:
    with pytest.raises(ValueError, match=r"."):
        Region(4096).numpy(dtype, shape, offset)


def test_a_numpy_view_keeps_the_memory_when_the_region_object_is_gone() -> None:
    array = Region(4096).numpy()
    array[:] = 7
    assert array.sum() == 7 * 4096


def test_close_waits_for_no_view() -> None:
    region = Region(4096)
    array = region.numpy()
    view = memoryview(region)
    with pytest.raises(BufferError, match="2 views"):
        region.close()
    view.release()
    with pytest.raises(BufferError, match="1 view"):
        region.close()
    del array
    region.close()
    region.close()


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(lambda view: np.ndarray(8, "uint8", buffer=view), id="array that releases the buffer"),
        pytest.param(lambda view: np.ndarray(8, "uint8", buffer=view[8:]), id="array of a slice"),
        pytest.param(lambda view: view.obj, id="owner"),
    ],
)
def test_close_waits_for_no_view_that_only_refers_to_the_memory(made: Callable[[memoryview], object]) -> None:
    region = Region(4096)
    view = memoryview(region)
    left = made(view)
    view.release()
    with pytest.raises(BufferError, match="1 view"):
        region.close()
    del left
    region.close()


def test_an_array_that_keeps_nothing_but_the_region_object_keeps_the_memory_after_close() -> None:
    region = Region(4096, label="kept-by-its-object")
    array = np.ndarray(8, "uint8", buffer=region)
    array[:] = 7
    region.close()
    with pytest.raises(ValueError, match="closed"):
        memoryview(region)
    region.close()
    del region
    array += 1
    assert array.tolist() == [8] * 8
    del array
    with open("/proc/self/maps") as maps:
        assert "memfd:kept-by-its-object" not in maps.read()


def test_a_closed_region_says_so() -> None:
    with Region(4096) as region:
        pass
    for use in (lambda: region.nbytes, lambda: memoryview(region), lambda: region.numpy(), lambda: Mailbox(region)):
        with pytest.raises(ValueError, match="closed"):
            use()
    assert repr(region) == "Region(closed)"


def test_closing_gives_memory_and_descriptor_back() -> None:
    region = Region(4096, label="to-be-closed")
    assert region.contains(region.address, 4096)
    assert "memfd:to-be-closed" in os.readlink(f"/proc/self/fd/{region.fd}")
    with open("/proc/self/maps") as maps:
        assert "memfd:to-be-closed" in maps.read()
    region.close()
    with open("/proc/self/maps") as maps:
        assert "memfd:to-be-closed" not in maps.read()


def test_what_lies_in_a_closed_region_still_works() -> None:
    region = Region(Doorbell.NBYTES)
    doorbell = Doorbell(region)
    region.close()
    doorbell.ring()
    assert doorbell.value == 1


def test_a_region_travels_through_a_socket() -> None:
    region = Region(4096)
    here, there = socket.socketpair()
    with here, there:
        socket.send_fds(here, [b"region"], [region.fd])
        _, fds, _, _ = socket.recv_fds(there, 100, 1)
    other = Region.from_fd(fds[0])
    os.close(fds[0])
    assert other.address != region.address
    other.numpy()[5] = 9
    assert region.numpy()[5] == 9


def test_a_child_shares_memory_made_before_the_fork_at_the_same_address(fork: Fork) -> None:
    region = Region(4096)
    array = region.numpy("uint64")

    def child() -> None:
        array[0] = region.address

    assert fork(child).wait().exit_status == 0
    assert array[0] == region.address


def test_a_descriptor_that_is_no_region_is_refused(tmp_path: pathlib.Path) -> None:
    with (tmp_path / "file").open("w+b") as file, pytest.raises(ValueError, match=r"no region: .*"):
        Region.from_fd(file.fileno())
    directory, (reading, writing) = os.open(tmp_path, os.O_RDONLY), os.pipe()
    for fd, kind in ((directory, "a directory"), (reading, "a pipe")):
        with pytest.raises(ValueError, match=f"the file descriptor is no region: it is {kind}, not shared memory"):
            Region.from_fd(fd)
    for fd in (directory, reading, writing):
        os.close(fd)
    unsealed = os.memfd_create("unsealed", os.MFD_ALLOW_SEALING)
    os.ftruncate(unsealed, 4096)
    with pytest.raises(ValueError, match="shrink"):
        Region.from_fd(unsealed)
    os.close(unsealed)
    with pytest.raises(OSError, match="descriptor"):
        Region.from_fd(unsealed)
    with pytest.raises(ValueError, match="-1"):
        Region.from_fd(-1)
    with pytest.raises(OSError, match="-1"):
        Region._join(-1, None)


def test_memory_that_cannot_be_written_is_refused() -> None:
    with Region(4096) as region:
        reading = os.open(f"/proc/self/fd/{region.fd}", os.O_RDONLY)
        with pytest.raises(ValueError, match="no region: it is not open for reading and writing"):
            Region.from_fd(reading)
        os.close(reading)
    read_only = os.memfd_create("read-only", os.MFD_ALLOW_SEALING)
    os.ftruncate(read_only, 4096)
    fcntl.fcntl(read_only, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_WRITE)
    with pytest.raises(ValueError, match="no region: it is sealed against writing"):
        Region.from_fd(read_only)
    os.close(read_only)


def test_punched_memory_reads_as_zero_and_is_given_back() -> None:
    half = 4 << 20  # of whole pages, whatever size the kernel chose for them
    region = Region(2 * half)
    array = region.numpy()
    array[:] = 1
    blocks = os.fstat(region.fd).st_blocks
    region.punch(0, half)
    assert os.fstat(region.fd).st_blocks == blocks // 2
    assert array[:half].sum() == 0  # reading makes pages again
    assert array[half:].sum() == half
    with pytest.raises(ValueError, match="do not lie"):
        region.punch(0, 2 * half + 1)


def test_a_large_region_costs_nothing_until_it_is_touched() -> None:
    region = Region(1 << 40)
    assert os.fstat(region.fd).st_blocks == 0
    region.numpy()[-1] = 1
    assert 0 < os.fstat(region.fd).st_blocks * 512 <= 2 << 20


def test_prefaulted_pages_are_there_and_keep_their_bytes() -> None:
    region = Region(1 << 36)
    assert os.fstat(region.fd).st_blocks == 0, "64 GiB cost nothing"
    region.numpy()[5] = 7
    region.prefault(4096, 128 << 20)
    resident = os.fstat(region.fd).st_blocks * 512
    assert resident >= 128 << 20
    assert region.numpy()[5] == 7
    region.prefault(region.nbytes)
    assert os.fstat(region.fd).st_blocks * 512 == resident
    small = Region(10_000)
    small.prefault()
    assert os.fstat(small.fd).st_blocks * 512 >= 10_000
    for offset, nbytes in ((0, (1 << 36) + 1), (1 << 36, 1), ((1 << 36) + 1, None)):
        with pytest.raises(ValueError, match="do not lie"):
            region.prefault(offset, nbytes)


@pytest.mark.parametrize("nbytes", [0, 1 << 63])
def test_impossible_sizes_are_refused(nbytes: int) -> None:
    with pytest.raises(ValueError, match="region"):
        Region(nbytes)


def test_errors_have_the_bases_that_callers_catch() -> None:
    assert issubclass(HeapRingFull, IpcError)
    assert issubclass(HeapRingFull, MemoryError)
    assert issubclass(WaitTimeout, IpcError)
    assert issubclass(WaitTimeout, TimeoutError)
    assert issubclass(FrameTooLarge, IpcError)
    assert issubclass(FrameTooLarge, ValueError)


def test_peer_died_pickles_with_all_it_knows() -> None:
    error = pickle.loads(pickle.dumps(PeerDied(12, None, 9)))
    assert (error.pid, error.exit_status, error.signal) == (12, None, 9)
    assert str(error) == "process 12 died (exit status None, signal 9)"
