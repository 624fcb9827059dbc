"""Arrays that children cannot see: a run leaves them as if its tasks had worked on them directly."""

from __future__ import annotations

import array as stdlib_array

import numpy as np
import pytest
import simpler
import torch
from hypothesis import given
from hypothesis import strategies as st
from simpler import TaskArgs


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
    with pytest.raises(
        simpler.TensorError,
        match=rf"of shape \[2, 3\], is tagged {tag.name} but is read-only",
    ):
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


def test_one_task_may_write_an_array_it_also_sees_with_gaps(worker):
    base = np.arange(16, dtype=np.int32).reshape(4, 4)
    expected = base.T.copy()
    submit(worker, copy, TaskArgs().inp(base).out(base.T))
    np.testing.assert_array_equal(base.T, expected.T)


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


def test_an_array_larger_than_a_heap_ring_is_copied_like_any(worker):
    values = np.zeros(3 << 20, np.int8)
    submit(worker, add_one, TaskArgs().inout(values), TaskArgs().inout(values[: 1 << 19]))
    assert int(values.sum(dtype=np.int64)) == (3 << 20) + (1 << 19)


def test_a_small_array_that_stays_in_use_does_not_keep_space_from_large_ones(make_worker):
    """Weights that every task reads, and batches that come and go."""
    worker = make_worker(num_sub_workers=1, heap_ring_size=1 << 20, shared_memory_size=1 << 20)
    weights, found = np.ones(512), np.zeros(40)
    handle = worker.register(lambda args: args.array(2).fill(args.array(0).sum() + args.array(1)[0]))

    def orchestration(orch, args, config):
        for index in range(40):
            batch = np.full(700_000, index, np.uint8)
            orch.submit_sub(handle, TaskArgs().inp(weights).inp(batch).out(found[index : index + 1]))

    worker.run(orchestration)
    assert found.tolist() == [512 + index for index in range(40)]


def test_arrays_that_do_not_fit_together_name_the_argument_to_enlarge(make_worker):
    worker = make_worker(num_sub_workers=1, shared_memory_size=1 << 20)
    one, other = np.zeros(600_000, np.int8), np.zeros(600_000, np.int8)
    with pytest.raises(simpler.SharedMemoryFull, match=r"the copy of an array of 600000 bytes .* shared_memory_size"):
        submit(worker, add_one, TaskArgs().inout(one).inout(other))
    submit(worker, add_one, TaskArgs().inout(one), TaskArgs().inout(other))
    assert one[0] == other[0] == 1


@pytest.mark.parametrize("dtype", ["f8", ">f4", "c16", "M8[s]", [("a", "i4"), ("b", ">f8", (2,))], "U3"], ids=str)
@pytest.mark.parametrize("way", ["copied", "shared", "gapped"])
def test_python_tasks_take_every_dtype(worker, dtype, way):
    source: np.ndarray = np.array(["ä", "bc"] * 6)
    if dtype != "U3":
        source = np.resize(np.arange(97, dtype="u1"), 12 * np.dtype(dtype).itemsize).view(dtype)
    source, target = source.astype(dtype), np.zeros(12, dtype)
    if way == "shared":
        source, target = worker.array(source), worker.array(target)
    elif way == "gapped":
        source, target = np.repeat(source, 2)[::2], np.repeat(target, 3)[::3]
    submit(worker, copy, TaskArgs().inp(source).out(target))
    assert target.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(target, source)


@pytest.mark.parametrize("ndim", [6, 20])
def test_python_tasks_take_any_number_of_dimensions(worker, ndim):
    values = np.zeros((2,) * ndim)
    submit(worker, add_one, TaskArgs().inout(values), TaskArgs().inout(worker.array(values)))
    assert (values == 1).all()


def test_an_input_is_read_only(worker):
    for values in (np.zeros(3), worker.zeros(3), worker.zeros(6)[::2]):
        with pytest.raises(simpler.TaskFailed, match="read-only") as caught:
            submit(worker, add_one, TaskArgs().inp(values))
        assert type(caught.value.original) is ValueError
        assert (values == 0).all()


def test_inputs_are_read_only_however_many_there_are(worker):
    def look(args):
        args.array(70)[...] = [values.flags.writeable for values in args.arrays()]

    flags, one = np.zeros(71, bool), worker.zeros(1)
    args = TaskArgs()
    for _ in range(70):
        args.inp(one)
    submit(worker, look, args.out(flags))
    assert flags.tolist() == [False] * 70 + [True]


def test_an_output_is_not_read_before_it_is_written(worker):
    """Its bytes may be anything when the task begins, and are the caller's old ones if the task fails."""

    def fail(args):
        raise ValueError("before it wrote")

    values = np.full(1000, 7, np.int32)
    with pytest.raises(simpler.TaskFailed, match="before it wrote"):
        submit(worker, fail, TaskArgs().out(values))
    assert (values == 7).all()


def test_what_is_written_whole_does_not_suffer_from_an_earlier_failure(worker):
    def work(args):
        if args.scalar(0) == 0:
            raise ValueError("the first one")
        args.array(0)[...] = args.scalar(0)

    values, shared, gapped = np.full(8, 7), worker.zeros(8, "int64"), np.full((4, 4), 7)
    views = [values, shared, gapped[:, 1]]
    with pytest.raises(simpler.TaskFailed, match="the first one") as caught:
        submit(worker, work, *(TaskArgs().out(view).add_scalar(number) for view in views for number in range(3)))
    assert caught.value.skipped == ()
    assert len(caught.value.others) == 2
    assert (values == 2).all()
    assert (shared == 2).all()
    np.testing.assert_array_equal(gapped, [[7, 2, 7, 7]] * 4)


def test_part_of_an_output_that_failed_can_be_written(worker):
    def work(args):
        if args.scalar(0) == 0:
            raise ValueError("the whole one")
        args.array(0)[...] = args.scalar(0)

    values = np.full(8, 7)
    with pytest.raises(simpler.TaskFailed, match="the whole one"):
        submit(worker, work, TaskArgs().out(values).add_scalar(0), TaskArgs().out(values[2:4]).add_scalar(5))
    assert values.tolist() == [7, 7, 5, 5, 7, 7, 7, 7]


CELLS = 60
cuts = st.tuples(st.integers(0, CELLS - 1), st.integers(1, CELLS), st.sampled_from([1, 1, 1, 2, 3, -1, -2])).map(
    lambda one: slice(one[0], min(CELLS, one[0] + one[1]), one[2]) if one[2] > 0 else slice(one[0], None, one[2])
)


def mix(arrays, writes: int, number: int) -> None:
    """Order matters to every element it writes."""
    seen = sum(int(values.sum()) for values in arrays)
    for values in arrays[:writes]:
        values *= 31
        values += (seen + number) % 1009


@pytest.fixture(scope="module")
def small():
    """A worker whose shared memory holds less than two copies of everything."""
    with simpler.Worker(device_ids=[], num_sub_workers=2, shared_memory_size=1 << 13, heap_ring_size=1 << 12) as worker:
        yield worker, worker.register(lambda args: mix(args.arrays(), args.scalar(0), args.scalar(1)))


@given(st.lists(st.tuples(st.lists(cuts, min_size=1, max_size=5), st.integers(0, 5), st.integers(0, 1)), max_size=12))
def test_overlapping_views_of_one_task_end_like_serial_execution(small, program):
    worker, handle = small
    bases = [np.arange(CELLS * 8, dtype=np.uint64).reshape(CELLS, 8) for _ in range(2)]
    expected = [base.copy() for base in bases]

    def orchestration(orch, args, config):
        for number, (views, writes, which) in enumerate(program):
            task = TaskArgs()
            for index, cut in enumerate(views):
                (task.inout if index < writes else task.inp)(bases[which][cut])
            orch.submit_sub(handle, task.add_scalar(writes).add_scalar(number))

    worker.run(orchestration)
    for number, (views, writes, which) in enumerate(program):
        mix([expected[which][cut] for cut in views], writes, number)
    for base, wanted in zip(bases, expected, strict=True):
        np.testing.assert_array_equal(base, wanted)
