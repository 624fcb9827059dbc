"""Arrays that children cannot see: a run leaves them as if its tasks had worked on them directly."""

from __future__ import annotations

import array as stdlib_array
from itertools import pairwise

import numpy as np
import pytest
import simpler
import torch
from hypothesis import given
from hypothesis import strategies as st
from simpler import TaskArgs
from simpler.arguments.arrays import describe
from simpler.memory.staging import overlap, runs_of


def add_one(args: simpler.SubTaskArgs) -> None:
    for values in args.arrays():
        values += 1


def copy(args: simpler.SubTaskArgs) -> None:
    args.array(1)[...] = args.array(0)


def total(args: simpler.SubTaskArgs) -> None:
    args.array(1)[...] = args.array(0).sum()


def submit(worker, function, *tasks):
    handle = worker.register(function)

    def orchestration(orch, args, config):
        for task in tasks:
            orch.submit_sub(handle, task)

    worker.run(orchestration)


@pytest.fixture
def worker(make_worker):
    return make_worker(num_sub_workers=2, heap_ring_size=1 << 20)


@pytest.mark.parametrize(
    "make",
    [
        lambda: np.zeros((3, 4), np.float32),
        lambda: torch.zeros(3, 4),
        lambda: torch.zeros(3, 4, dtype=torch.bfloat16).view(torch.int16),
        lambda: bytearray(12),
        lambda: stdlib_array.array("i", [0] * 6),
        lambda: np.zeros((5, 6), np.int16)[1:4, ::2],
        lambda: np.zeros((4, 3), np.int32).T,
        lambda: np.zeros(6, np.int64)[::-1],
        lambda: torch.zeros(4, 6).t()[::2],
        lambda: np.array(0, np.int8),
        lambda: np.zeros((0, 3), np.float32),
    ],
)
def test_any_array_is_written_in_place_as_far_as_the_caller_can_see(worker, make):
    values = make()
    submit(worker, add_one, TaskArgs().inout(values), TaskArgs().inout(values))
    assert (np.asarray(values) == 2).all()


def test_bytes_around_a_view_with_gaps_are_left_alone(worker):
    base = np.zeros((6, 8), np.int32)
    submit(worker, add_one, TaskArgs().inout(base[1:5, 2:6]))
    expected = np.zeros((6, 8), np.int32)
    expected[1:5, 2:6] = 1
    np.testing.assert_array_equal(base, expected)


def test_a_read_only_array_can_be_read(worker):
    values = np.arange(4, dtype=np.int64)
    values.flags.writeable = False
    found = np.zeros(1, np.int64)
    submit(worker, total, TaskArgs().inp(values).out(found))
    submit(worker, total, TaskArgs().inp(memoryview(values.tobytes()).cast("q")).out(found))
    submit(worker, total, TaskArgs().add_tensor(values, simpler.NO_DEP).out(found))
    assert found[0] == 6


@pytest.mark.parametrize("tag", [simpler.OUT, simpler.INOUT, simpler.OUTPUT_EXISTING])
def test_writing_a_read_only_array_is_refused_at_submit(worker, tag):
    values = np.zeros((2, 3), np.float32)
    values.flags.writeable = False
    with pytest.raises(simpler.TensorError, match=rf"shape \[2, 3\] is tagged {tag.name} but is read-only"):
        submit(worker, add_one, TaskArgs().add_tensor(values, tag))


def test_two_views_of_one_buffer_stay_coherent(worker):
    base = np.zeros(10, np.int32)
    tasks = [TaskArgs().inout(base), TaskArgs().inout(base[2:6]), TaskArgs().inout(base[4:8]), TaskArgs().inout(base)]
    submit(worker, add_one, *tasks)
    assert base.tolist() == [2, 2, 3, 3, 4, 4, 3, 3, 2, 2]


def test_a_larger_view_after_smaller_ones_sees_what_they_wrote(worker):
    base = np.zeros(10, np.int32)
    tasks = [
        TaskArgs().inout(base[:5]),
        TaskArgs().inout(base[5:]),
        TaskArgs().inout(base[3:7]),
        TaskArgs().inout(base),
    ]
    submit(worker, add_one, *tasks)
    assert base.tolist() == [2, 2, 2, 3, 3, 3, 3, 2, 2, 2]


def test_contiguous_and_gapped_views_of_one_array_stay_coherent(worker):
    base = np.zeros((4, 4), np.int32)
    views = [base, base[:, :2], base.T, base[::2], base[1], base[:, 3], base]
    submit(worker, add_one, *(TaskArgs().inout(view) for view in views))
    expected = np.zeros((4, 4), np.int32)
    for view in (np.s_[:], np.s_[:, :2], np.s_[:], np.s_[::2], np.s_[1], np.s_[:, 3], np.s_[:]):
        expected[view] += 1
    np.testing.assert_array_equal(base, expected)


def test_gapped_views_of_a_shared_array_and_the_array_itself_stay_coherent(worker):
    base = worker.zeros((4, 4), "int32")
    views = [base, base[:, :2], base, base.T, base[::2], base[1], base]
    submit(worker, add_one, *(TaskArgs().inout(view) for view in views))
    expected = np.zeros((4, 4), np.int32)
    for view in (np.s_[:], np.s_[:, :2], np.s_[:], np.s_[:], np.s_[::2], np.s_[1], np.s_[:]):
        expected[view] += 1
    np.testing.assert_array_equal(base, expected)


def test_overlapping_arguments_of_one_task_share_their_bytes(worker):
    base = np.arange(10, dtype=np.int32)
    submit(worker, copy, TaskArgs().inp(base[0:4]).out(base[2:6]))
    assert base.tolist() == [0, 1, 0, 1, 2, 3, 6, 7, 8, 9]


def test_one_task_cannot_write_an_array_it_also_sees_with_gaps(worker):
    base = np.zeros((4, 4), np.int32)
    for args in (TaskArgs().inp(base).out(base.T), TaskArgs().out(base[:, 1]).inp(base[1])):
        with pytest.raises(simpler.TensorError, match="pass contiguous arrays"):
            submit(worker, copy, args)
    submit(worker, copy, TaskArgs().inp(base[:, 0]).out(base[:, 1]))
    submit(worker, total, TaskArgs().inp(base).out(np.zeros(1, np.int32)).inp(base.T))


def test_column_shards_do_not_wait_for_each_other(make_worker, make_gate):
    worker = make_worker(num_sub_workers=2)
    gates = [make_gate(), make_gate()]
    base = np.zeros((4, 4), np.int32)

    def meet(args):
        args.array(0)[...] = args.scalar(0)
        gates[args.scalar(0)].wait()

    handle = worker.register(meet)

    def orchestration(orch, args, config):
        for index in range(2):
            shard = base[:, 2 * index : 2 * index + 2]
            orch.submit_sub(handle, TaskArgs().out(shard).add_scalar(index), worker=index)
        for one in gates:  # both have come before either is let through
            one.arrived()
        for one in gates:
            one.open()

    worker.run(orchestration)
    np.testing.assert_array_equal(base, [[0, 0, 1, 1]] * 4)


def test_two_tasks_share_the_copy_of_one_array(worker):
    """Two copies of it would not fit the HeapRing."""
    values = np.zeros(700_000, np.int8)
    submit(worker, add_one, *(TaskArgs().inout(values) for _ in range(4)))
    assert (values == 4).all()


def test_temporary_arrays_of_a_run_are_not_confused(worker):
    """A freed array's address is soon another's: the copy must not be taken for that one's."""
    handle = worker.register(total)
    found = np.zeros(200, np.int64)

    def orchestration(orch, args, config):
        for index in range(200):
            orch.submit_sub(handle, TaskArgs().inp(np.full(1000, index, np.int64)).out(found[index : index + 1]))

    worker.run(orchestration)
    np.testing.assert_array_equal(found, np.arange(200) * 1000)


def test_a_run_can_copy_more_than_the_heap_ring_holds(worker):
    handle = worker.register(add_one)
    arrays = [np.zeros(50_000, np.int32) for _ in range(30)]

    def orchestration(orch, args, config):
        for _ in range(2):
            for values in arrays:
                orch.submit_sub(handle, TaskArgs().inout(values))

    worker.run(orchestration)
    assert all((values == 2).all() for values in arrays)


def test_an_array_larger_than_the_heap_ring_names_the_argument_to_enlarge(worker):
    values = np.zeros(2 << 20, np.int8)
    with pytest.raises(simpler.SharedMemoryFull, match=r"2097152 bytes, but a HeapRing has 1048576: .*heap_ring_size"):
        submit(worker, add_one, TaskArgs().inout(values))
    submit(worker, add_one, TaskArgs().inout(values[: 1 << 19]))
    assert int(values.sum(dtype=np.int64)) == 1 << 19


def test_a_shared_array_larger_than_the_heap_ring_is_used_in_place(worker):
    values = worker.zeros(2 << 20, "int8")
    submit(worker, add_one, TaskArgs().inout(values), TaskArgs().inout(values[::-1][::-1]))
    assert (values == 2).all()


def test_what_tasks_wrote_arrives_also_when_another_failed(worker):
    def add_or_raise(args):
        args.array(0)[...] += 1
        if args.scalar_count:
            raise ValueError("asked to")

    one, other = np.zeros(3, np.int32), np.zeros(3, np.int32)
    with pytest.raises(simpler.TaskFailed, match="asked to"):
        submit(worker, add_or_raise, TaskArgs().inout(one).add_scalar(1), TaskArgs().inout(other))
    assert other.tolist() == [1, 1, 1]
    assert one.tolist() == [1, 1, 1]


def test_copies_are_fresh_in_every_run(worker):
    values = np.zeros(3, np.int32)
    found = np.zeros(1, np.int32)
    for number in range(3):
        values[...] = number
        submit(worker, total, TaskArgs().inp(values).out(found))
        assert found[0] == 3 * number


def test_an_unknown_tensor_address_is_a_chips_only():
    values = np.zeros(4, np.float32)
    info = describe(simpler.ContinuousTensor.make(values.ctypes.data, (4,), simpler.DataType.FLOAT32, True))
    assert info.device


def test_a_continuous_tensor_of_host_memory_is_copied_like_any_array(worker):
    values = np.zeros(4, np.float32)
    tensor = simpler.ContinuousTensor.make(values.ctypes.data, (4,), simpler.DataType.FLOAT32)
    submit(worker, add_one, TaskArgs().inout(tensor))
    assert (values == 1).all()


def test_a_sub_worker_cannot_look_into_a_chips_memory(worker):
    tensor = simpler.ContinuousTensor.make(4096, (4,), simpler.DataType.FLOAT32, True)
    with pytest.raises(simpler.TensorError, match="add_one is in a chip's memory, which a SubWorker cannot see"):
        submit(worker, add_one, TaskArgs().inout(tensor))


slices = st.builds(slice, st.integers(0, 5), st.integers(0, 6), st.sampled_from([1, 2, 3, -1, -2]))


@given(st.tuples(slices, slices), st.booleans())
def test_the_runs_of_a_view_are_exactly_its_bytes(cut, transposed):
    base = np.zeros((6, 5), np.int16)
    view = base.T[cut] if transposed else base[cut]
    if view.size == 0:
        return
    view[...] = 1
    touched = np.flatnonzero(base.view(np.uint8).reshape(-1, 2).any(axis=1))
    runs = runs_of(describe(view))
    covered = {(byte - base.ctypes.data) // 2 for start, end in runs for byte in range(start, end)}  # element numbers
    assert covered == set(touched.tolist())
    assert runs == sorted(runs)
    assert all(end <= start for (_, end), (start, _) in pairwise(runs))


def test_elements_that_share_bytes_count_as_one_run():
    base = np.zeros(8, np.int32)
    windows = np.lib.stride_tricks.sliding_window_view(base, 3)
    assert runs_of(describe(windows)) == [(base.ctypes.data, base.ctypes.data + 32)]


runs = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 5)), max_size=6).map(
    lambda pairs: sorted({start: (start, start + size) for start, size in pairs}.values())
)


@given(runs, runs)
def test_overlap_finds_a_common_byte(one, other):
    def disjoint(ranges):
        kept = []
        for start, end in ranges:
            if not kept or kept[-1][1] <= start:
                kept.append((start, end))
        return kept

    one, other = disjoint(one), disjoint(other)
    bytes_of = [{byte for start, end in ranges for byte in range(start, end)} for ranges in (one, other)]
    assert overlap(one, other) == bool(bytes_of[0] & bytes_of[1])
