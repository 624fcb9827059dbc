"""Tasks and orchestrations that raise."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import simpler
from simpler import TaskArgs


def check(args: simpler.SubTaskArgs) -> None:
    expected = args.scalar_float(0)
    found = args.array(0)
    if not (found == expected).all():
        raise ValueError(f"expected {expected}, got {found[0]}")


def work(args: simpler.SubTaskArgs) -> None:
    """Adds one to every tensor; raises before if the first scalar is 1, after if it is 2."""
    mode = args.scalar(0) if args.scalar_count else 0
    if mode == 1:
        raise ValueError("before")
    for values in args.arrays():
        values += 1
    if mode == 2:
        raise ValueError("after")


def test_a_failure_names_function_task_worker_message_and_remote_traceback(make_worker):
    worker = make_worker(num_sub_workers=2)
    handle = worker.register(check)
    values = np.full(4, 4, np.float32)

    def orchestration(orch, args, config):
        orch.submit_sub(handle, TaskArgs().inp(values).add_scalar(4.0), worker=0)
        orch.submit_sub(handle, TaskArgs().inp(values).add_scalar(5.0), worker=1)

    with pytest.raises(simpler.TaskFailed) as caught:
        worker.run(orchestration)
    error = caught.value
    assert (error.function, error.task, error.worker) == ("check", 1, "sub worker 1")
    assert type(error.original) is ValueError
    assert error.__cause__ is error.original
    assert str(error.original) == "expected 5.0, got 4.0"
    assert 'raise ValueError(f"expected {expected}, got {found[0]}")' in error.remote_traceback
    what = "ValueError: expected 5.0, got 4.0"
    for part in ("task 1", "check", "sub worker 1", what, error.remote_traceback.strip()):
        assert part in str(error)


def test_a_worker_is_usable_after_a_failure(make_worker):
    worker = make_worker(num_sub_workers=1)
    handle = worker.register(check)
    values = np.full(4, 4, np.float32)
    for _ in range(3):
        with pytest.raises(simpler.TaskFailed):
            worker.run(lambda orch, *_: orch.submit_sub(handle, TaskArgs().inp(values).add_scalar(5.0)))
        worker.run(lambda orch, *_: orch.submit_sub(handle, TaskArgs().inp(values).add_scalar(4.0)))


@pytest.mark.parametrize("workers", [1, 2])
def test_what_needs_a_failed_task_is_not_run_and_the_rest_is(make_worker, workers):
    worker = make_worker(num_sub_workers=workers)
    handle = worker.register(work)
    broken, fine = worker.zeros(2, "int32"), worker.zeros(2, "int32")

    def orchestration(orch, args, config):
        orch.submit_sub(handle, TaskArgs().inout(broken).add_scalar(1))
        for _ in range(100):
            orch.submit_sub(handle, TaskArgs().inout(broken))
            orch.submit_sub(handle, TaskArgs().inout(fine))

    with pytest.raises(simpler.TaskFailed, match="before") as caught:
        worker.run(orchestration)
    assert broken.tolist() == [0, 0]
    assert fine.tolist() == [100, 100]
    assert len(caught.value.skipped) == 100
    assert caught.value.others == ()
    assert "100 tasks that needed its results were not run: work" in caught.value.__notes__


def test_poison_spreads_to_what_needs_the_poisoned(make_worker):
    worker = make_worker(num_sub_workers=2)
    handle = worker.register(work)
    arrays = [worker.zeros(1, "int32") for _ in range(5)]

    def orchestration(orch, args, config):
        orch.submit_sub(handle, TaskArgs().inout(arrays[0]).add_scalar(1))
        for first, second in pairwise(arrays):
            orch.submit_sub(handle, TaskArgs().inp(first).inout(second))

    with pytest.raises(simpler.TaskFailed):
        worker.run(orchestration)
    assert [int(values[0]) for values in arrays] == [0] * 5


def test_a_task_submitted_after_the_failure_is_poisoned_too(make_worker, gate):
    worker = make_worker(num_sub_workers=2)
    handle, waits = worker.register(work), worker.register(lambda args: gate.wait())
    values = worker.zeros(1, "int32")

    def orchestration(orch, args, config):
        orch.submit_sub(handle, TaskArgs().inout(values).add_scalar(1), worker=0)
        orch.submit_sub(waits, TaskArgs().inp(worker.zeros(1)), worker=0)
        gate.arrived()  # the first task is over
        gate.open()
        for _ in range(20):
            orch.submit_sub(handle, TaskArgs().inout(values))

    with pytest.raises(simpler.TaskFailed) as caught:
        worker.run(orchestration)
    assert values[0] == 0
    assert len(caught.value.skipped) == 20


def test_a_failed_reader_does_not_poison_the_next_writer(make_worker):
    """It only had to wait for the reader; it needs nothing the reader made."""
    worker = make_worker(num_sub_workers=2)
    handle, checked = worker.register(work), worker.register(check)
    values = worker.zeros(2)

    def orchestration(orch, args, config):
        for _ in range(10):
            orch.submit_sub(checked, TaskArgs().inp(values).add_scalar(99.0))
            orch.submit_sub(handle, TaskArgs().inout(values))

    with pytest.raises(simpler.TaskFailed, match=r"expected 99\.0") as caught:
        worker.run(orchestration)
    assert values.tolist() == [10, 10]
    assert len(caught.value.others) == 9
    assert caught.value.skipped == ()


def test_several_failures_are_one_error_that_lists_the_others(make_worker):
    worker = make_worker(num_sub_workers=1)
    handle = worker.register(work)

    def orchestration(orch, args, config):
        for _ in range(15):
            orch.submit_sub(handle, TaskArgs().inout(worker.zeros(1, "int32")).add_scalar(1))

    with pytest.raises(simpler.TaskFailed) as caught:
        worker.run(orchestration)
    assert caught.value.task == 0
    assert [other.task for other in caught.value.others] == list(range(1, 15))
    assert "also failed: task 1 (work) on sub worker 0: raised ValueError: before" in caught.value.__notes__
    assert "and 4 more failures, see .others" in caught.value.__notes__


def test_a_task_that_raises_systemexit_fails_and_its_child_lives(make_worker):
    worker = make_worker(num_sub_workers=1)

    def leave(args):
        raise SystemExit(3)

    handle = worker.register(leave)
    for _ in range(2):
        with pytest.raises(simpler.TaskFailed) as caught:
            worker.run(lambda orch, *_: orch.submit_sub(handle))
        assert type(caught.value) is simpler.TaskFailed
        assert type(caught.value.original) is SystemExit


def test_an_exception_that_cannot_be_pickled_arrives_as_remote_exception(make_worker):
    worker = make_worker(num_sub_workers=1)

    def fail(args):
        raise ValueError(lambda: None, __import__("threading").Lock())

    handle = worker.register(fail)
    with pytest.raises(simpler.TaskFailed, match="RemoteError: ValueError") as caught:
        worker.run(lambda orch, *_: orch.submit_sub(handle))
    assert type(caught.value.original) is simpler.RemoteError


def test_an_orchestration_that_raises_lets_its_tasks_end_first(make_worker, gate):
    worker = make_worker(num_sub_workers=1)
    values = np.zeros(1, np.int32)

    def slow(args):
        gate.wait()
        args.array(0)[...] = 1

    handle = worker.register(slow)
    gate.open()

    def orchestration(orch, args, config):
        orch.submit_sub(handle, TaskArgs().out(values))
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        worker.run(orchestration)
    assert values[0] == 1


def test_an_orchestration_that_raises_tells_of_failed_tasks_too(make_worker):
    worker = make_worker(num_sub_workers=1)
    handle = worker.register(work)

    def orchestration(orch, args, config):
        orch.submit_sub(handle, TaskArgs().add_scalar(1))
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine") as caught:
        worker.run(orchestration)
    assert "task 0 (work) on sub worker 0 raised ValueError: before" in caught.value.__notes__[0]


def test_an_orchestration_can_go_on_after_a_bad_submit(make_worker):
    worker = make_worker(num_sub_workers=1)
    handle = worker.register(work)
    values = np.zeros(2, np.int32)
    locked = np.zeros(2, np.int32)
    locked.flags.writeable = False

    def orchestration(orch, args, config):
        orch.submit_sub(handle, TaskArgs().inout(values))
        with pytest.raises(simpler.TensorError):
            orch.submit_sub(handle, TaskArgs().inout(values).inout(locked))
        with pytest.raises(simpler.NoSuchWorker):
            orch.submit_sub(handle, TaskArgs().inout(values), worker=5)
        orch.submit_sub(handle, TaskArgs().inout(values))

    worker.run(orchestration)
    assert values.tolist() == [2, 2]


def test_a_failed_member_fails_its_group(make_worker):
    worker = make_worker(num_sub_workers=2)
    handle = worker.register(work)
    values = worker.zeros(1, "int32")

    def orchestration(orch, args, config):
        orch.submit_sub_group(handle, [TaskArgs().inout(values).add_scalar(1), TaskArgs().add_scalar(0)])
        orch.submit_sub(handle, TaskArgs().inout(values))

    with pytest.raises(simpler.TaskFailed, match="before"):
        worker.run(orchestration)
    assert values[0] == 0


def test_a_run_that_takes_too_long_is_ended(make_worker, gate):
    worker = make_worker(num_sub_workers=2, timeout=0.3, restart=True)
    stuck, fine = worker.register(lambda args: gate.wait()), worker.register(work)
    values = np.zeros(1, np.int32)

    def orchestration(orch, args, config):
        orch.submit_sub(fine, TaskArgs().inout(values), worker=1)
        orch.submit_sub(stuck, worker=0)

    with pytest.raises(simpler.RunTimeout, match="1 tasks had not ended"):
        worker.run(orchestration)
    assert values[0] == 1
    worker.run(lambda orch, *_: orch.submit_sub(fine, TaskArgs().inout(values), worker=0))
    assert values[0] == 2
