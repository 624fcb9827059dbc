"""Workers with SubWorkers only: tasks, arguments, registration."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import simpler
from simpler import TaskArgs


def fill(args: simpler.SubTaskArgs) -> None:
    args.array(0).fill(args.scalar_float(0))


def add(args: simpler.SubTaskArgs) -> None:
    first, second, total = args.arrays()
    np.add(first, second, out=total)


def describe(args: simpler.SubTaskArgs) -> None:
    shape = args.array(0).shape
    args.array(1)[...] = [args.tensor_count, args.scalar_count, args.scalar(0), *shape]


def test_a_task_writes_into_the_callers_array(make_worker):
    worker = make_worker(num_sub_workers=1)
    handle = worker.register(fill)
    values = np.zeros((3, 4), np.float32)
    worker.run(lambda orch, args, config: orch.submit_sub(handle, TaskArgs().out(values).add_scalar(2.5)))
    assert (values == 2.5).all()


def test_an_orchestration_is_given_the_arguments_and_the_config_of_the_run(make_worker):
    worker = make_worker(num_sub_workers=1)
    seen = []
    config = simpler.CallConfig(block_dim=7)
    worker.run(lambda orch, args, config: seen.append((args, config)), {"any": "thing"}, config)
    assert seen[0][0] == {"any": "thing"}
    assert seen[0][1].block_dim == 7
    worker.run(lambda orch, args, config: seen.append((args, config)))
    assert seen[1][0] is None
    assert seen[1][1].block_dim == 0


def test_a_sub_worker_function_sees_counts_shapes_and_scalars(make_worker):
    worker = make_worker(num_sub_workers=1)
    handle = worker.register(describe)
    seen = worker.zeros(5, "int64")
    args = TaskArgs().inp(np.zeros((3, 7), np.int8)).out(seen).add_scalar(41).add_scalar(1)
    worker.run(lambda orch, *_: orch.submit_sub(handle, args))
    assert seen.tolist() == [2, 2, 41, 3, 7]


def test_a_task_without_arguments_runs(make_worker, gate):
    worker = make_worker(num_sub_workers=1)
    handle = worker.register(lambda args: gate.wait())
    gate.open()
    worker.run(lambda orch, *_: orch.submit_sub(handle))
    gate.arrived()


def test_many_more_tasks_than_a_mailbox_holds_all_run(make_worker):
    worker = make_worker(num_sub_workers=2)

    def increment(args):
        args.array(0)[args.scalar(0)] += 1

    handle = worker.register(increment)
    counts = worker.zeros(3000, "int32")

    def orchestration(orch, args, config):
        for index in range(3000):
            orch.submit_sub(handle, TaskArgs().add_tensor(counts, simpler.NO_DEP).add_scalar(index))

    for _ in range(2):
        worker.run(orchestration)
    assert (counts == 2).all()


def test_a_chain_longer_than_a_mailbox_runs_in_order(make_worker):
    worker = make_worker(num_sub_workers=2)

    def append(args):
        values = args.array(0)
        values[0] = values[0] * 3 + args.scalar(0)

    handle = worker.register(append)
    values = worker.zeros(1, "uint64")

    def orchestration(orch, args, config):
        for index in range(500):
            orch.submit_sub(handle, TaskArgs().inout(values).add_scalar(index % 7))

    worker.run(orchestration)
    expected = 0
    for index in range(500):
        expected = (expected * 3 + index % 7) % 2**64
    assert int(values[0]) == expected


def test_arguments_can_be_submitted_again_and_changed_in_between(make_worker):
    worker = make_worker(num_sub_workers=1)

    def note(args):
        args.array(0)[args.scalar(0)] = args.scalar_count

    handle = worker.register(note)
    seen = worker.zeros(4, "int32")

    def orchestration(orch, args, config):
        grown = TaskArgs().inout(seen).add_scalar(1)
        orch.submit_sub(handle, grown)
        orch.submit_sub(handle, grown.add_scalar(9))
        once_more = TaskArgs().inout(seen).add_scalar(3)
        orch.submit_sub(handle, once_more)
        orch.submit_sub(handle, once_more)

    worker.run(orchestration)
    assert seen.tolist() == [0, 2, 0, 1]


def test_a_task_can_be_pinned_to_a_sub_worker(make_worker):
    worker = make_worker(num_sub_workers=3)

    def whoami(args):
        import os

        args.array(0)[args.scalar(0)] = os.getpid()

    handle = worker.register(whoami)
    pids = worker.zeros(6, "int64")

    def orchestration(orch, args, config):
        for index in range(6):
            task = TaskArgs().add_tensor(pids, simpler.NO_DEP).add_scalar(index)
            orch.submit_sub(handle, task, worker=index % 3)

    worker.run(orchestration)
    assert pids[:3].tolist() == pids[3:].tolist()
    assert len(set(pids.tolist())) == 3


def test_an_output_to_allocate_can_be_read_by_the_next_task(make_worker):
    worker = make_worker(num_sub_workers=2)
    filled, added = worker.register(fill), worker.register(add)
    total = np.zeros((4, 4), np.float32)

    def orchestration(orch, args, config):
        parts = [TaskArgs().out(shape=(4, 4), dtype="float32").add_scalar(float(value)) for value in (1, 2)]
        for part in parts:
            orch.submit_sub(filled, part)
        orch.submit_sub(added, TaskArgs().inp(parts[0].array(0)).inp(parts[1].array(0)).out(total))

    for _ in range(3):
        worker.run(orchestration)
        assert (total == 3).all()
        total.fill(0)


def test_an_allocated_array_is_seen_by_tasks_and_by_the_orchestration(make_worker):
    worker = make_worker(num_sub_workers=1)
    added = worker.register(add)
    total = np.zeros(5, np.int32)

    def orchestration(orch, args, config):
        ones = orch.alloc(5, "int32")
        ones.fill(1)
        orch.submit_sub(added, TaskArgs().inp(ones).inp(ones).out(total))

    worker.run(orchestration)
    assert (total == 2).all()


def test_scopes_let_a_run_allocate_more_than_the_heap_ring_holds(make_worker):
    worker = make_worker(num_sub_workers=2, heap_ring_size=1 << 20)
    filled, added = worker.register(fill), worker.register(add)
    total = worker.zeros((64, 1024))

    def orchestration(orch, args, config):
        for _ in range(20):
            with orch.scope():
                part = orch.alloc((64, 1024), "float32")
                orch.submit_sub(filled, TaskArgs().out(part).add_scalar(1.0))
                orch.submit_sub(added, TaskArgs().inp(part).inp(total).inout(total))

    worker.run(orchestration)
    assert (total == 20).all()


def test_an_inner_scope_can_use_what_the_outer_one_allocated(make_worker):
    worker = make_worker(num_sub_workers=2, heap_ring_size=1 << 20)
    filled, added = worker.register(fill), worker.register(add)
    total = worker.zeros(1000)

    def orchestration(orch, args, config):
        for _ in range(300):
            with orch.scope():
                outer = orch.alloc(1000, "float32")
                orch.submit_sub(filled, TaskArgs().out(outer).add_scalar(1.0))
                with orch.scope():
                    orch.submit_sub(added, TaskArgs().inp(outer).inp(total).inout(total))

    worker.run(orchestration)
    assert (total == 300).all()


def test_without_scopes_a_heap_ring_that_is_too_small_is_named(make_worker):
    worker = make_worker(num_sub_workers=1, heap_ring_size=1 << 20)

    def orchestration(orch, args, config):
        for _ in range(20):
            orch.alloc((64, 1024), "float32")

    for _ in range(2):  # everything is released when a run fails
        with pytest.raises(
            simpler.SharedMemoryFull, match=r"heap_ring_size, or bracket intermediates with orch\.scope"
        ):
            worker.run(orchestration)


def test_functions_can_be_registered_after_the_start(make_worker):
    worker = make_worker(num_sub_workers=2)
    worker.init()
    factor = 3.0
    handle = worker.register(lambda args: args.array(0).fill(factor))
    values = np.zeros(4, np.float32)
    worker.run(lambda orch, *_: orch.submit_sub(handle, TaskArgs().out(values)))
    assert (values == 3).all()


def test_a_function_can_be_registered_by_the_orchestration(make_worker):
    worker = make_worker(num_sub_workers=1)
    values = np.zeros(4, np.float32)

    def orchestration(orch, args, config):
        handle = worker.register(lambda args: args.array(0).fill(4))
        orch.submit_sub(handle, TaskArgs().out(values))
        worker.unregister(handle)
        with pytest.raises(simpler.UnknownCallable, match="was unregistered"):
            orch.submit_sub(handle, TaskArgs().out(values))

    worker.run(orchestration)
    assert (values == 4).all()


def test_a_function_larger_than_a_message_can_be_registered(make_worker):
    worker = make_worker(num_sub_workers=1)
    worker.init()
    table = np.arange(200_000, dtype=np.int64)
    handle = worker.register(lambda args: args.array(0).fill(int(table.sum())))
    total = np.zeros(1, np.int64)
    worker.run(lambda orch, *_: orch.submit_sub(handle, TaskArgs().out(total)))
    assert total[0] == table.sum()


def test_a_function_that_cannot_be_pickled_can_only_be_registered_before_the_start(make_worker):
    worker = make_worker(num_sub_workers=1)
    lock = threading.Lock()
    early = worker.register(lambda args: lock.acquire(blocking=False))
    worker.run(lambda orch, *_: orch.submit_sub(early))
    with pytest.raises(
        simpler.RegistrationFailed, match=r"<lambda> cannot be pickled.*register it before the worker starts"
    ):
        worker.register(lambda args: lock.release())


def test_a_function_children_cannot_load_is_refused_and_the_worker_stays_usable(make_worker):
    worker = make_worker(num_sub_workers=2)
    fine = worker.register(fill)
    worker.init()

    class Unloadable:
        def __call__(self, args):
            pass

        def __reduce__(self):
            return (int, ("no number",))

    with pytest.raises(simpler.RegistrationFailed, match=r"sub worker 0 cannot load .*Unloadable"):
        worker.register(Unloadable())
    values = np.zeros(1, np.float32)
    worker.run(lambda orch, *_: orch.submit_sub(fine, TaskArgs().out(values).add_scalar(1.0)))
    assert values[0] == 1


def test_children_forget_a_callable_with_its_last_handle(make_worker):
    worker = make_worker(num_sub_workers=1)
    one, other = worker.register(fill), worker.register(fill)
    values = np.zeros(1, np.float32)
    worker.run(lambda orch, *_: orch.submit_sub(one, TaskArgs().out(values).add_scalar(1.0)))
    worker.unregister(one)
    worker.run(lambda orch, *_: orch.submit_sub(other, TaskArgs().out(values).add_scalar(2.0)))
    assert values[0] == 2
    worker.unregister(other)
    for handle in (one, other):
        with pytest.raises(simpler.UnknownCallable):
            worker.run(lambda orch, *_, handle=handle: orch.submit_sub(handle))


def test_a_digest_a_child_does_not_know_is_a_named_error(make_worker):
    worker = make_worker(num_sub_workers=1)
    handle = worker.register(fill)
    worker.init()
    handle._entry.digest = bytes(32)
    with pytest.raises(simpler.TaskFailed, match="sub worker 0 does not know callable 000000000000") as caught:
        worker.run(lambda orch, *_: orch.submit_sub(handle))
    assert type(caught.value.original) is simpler.UnknownCallable


def test_a_worker_that_does_not_exist_is_named(make_worker):
    worker = make_worker(num_sub_workers=2)
    handle = worker.register(fill)
    for index in (2, 99, -2):
        with pytest.raises(simpler.NoSuchWorker, match=rf"no SubWorker {index}: this worker has 2 \(num_sub_workers"):
            worker.run(lambda orch, *_, index=index: orch.submit_sub(handle, worker=index))


def test_a_sub_task_without_sub_workers_says_what_to_pass(make_worker):
    worker = make_worker()
    handle = worker.register(fill)
    with pytest.raises(simpler.NoSuchWorker, match="has no SubWorkers: make it with num_sub_workers"):
        worker.run(lambda orch, *_: orch.submit_sub(handle))


def test_a_python_function_is_not_for_chips(make_worker):
    worker = make_worker(num_sub_workers=1)
    handle = worker.register(fill)
    with pytest.raises(simpler.WrongKind, match="fill is a python function: submit it with submit_sub"):
        worker.run(lambda orch, *_: orch.submit_next_level(handle))


def test_more_arguments_than_a_message_holds_are_refused(make_worker):
    worker = make_worker(num_sub_workers=1)
    handle = worker.register(fill)
    args = TaskArgs()
    for value in range(10_000):
        args.add_scalar(value)
    with pytest.raises(simpler.TensorError, match="10000 scalars take 80008 bytes, but a message holds"):
        worker.run(lambda orch, *_: orch.submit_sub(handle, args))


def test_an_orchestrator_is_of_no_use_after_its_run_or_on_another_thread(make_worker):
    worker = make_worker(num_sub_workers=1)
    handle = worker.register(fill)
    kept = []
    raised = []

    def orchestration(orch, args, config):
        kept.append(orch)

        def elsewhere():
            try:
                orch.submit_sub(handle)
            except simpler.WorkerStateError as error:
                raised.append(str(error))

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()

    worker.run(orchestration)
    assert raised == ["submit from the thread the orchestration function runs on"]
    with pytest.raises(simpler.WorkerStateError, match="the run of this orchestrator is over"):
        kept[0].submit_sub(handle)
    with pytest.raises(simpler.WorkerStateError, match="the run of this orchestrator is over"):
        kept[0].alloc(3, "int8")


def test_runs_do_not_nest_but_wait_for_each_other_across_threads(make_worker):
    worker = make_worker(num_sub_workers=1)
    handle = worker.register(fill)
    values = worker.zeros(2)
    with pytest.raises(simpler.WorkerStateError, match="inside a run of the same worker"):
        worker.run(lambda orch, *_: worker.run(lambda *_: None))

    def run(index):
        part = values[index : index + 1]
        worker.run(lambda orch, *_: orch.submit_sub(handle, TaskArgs().out(part).add_scalar(1.0)))

    threads = [threading.Thread(target=run, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert values.tolist() == [1, 1]


def test_a_group_runs_on_different_workers_at_the_same_time(make_worker):
    """Each member waits for all others: it only ends if they really run together."""
    import multiprocessing

    barrier = multiprocessing.get_context("fork").Barrier(3)
    worker = make_worker(num_sub_workers=3)

    def meet(args):
        barrier.wait(timeout=60)
        args.array(0).fill(args.scalar_float(0))

    handle, added = worker.register(meet), worker.register(add)
    parts = [worker.zeros(4) for _ in range(3)]
    total = worker.zeros(4)

    def orchestration(orch, args, config):
        for workers in (None, [2, 0, 1]):
            members = [TaskArgs().out(part).add_scalar(float(index)) for index, part in enumerate(parts)]
            orch.submit_sub_group(handle, members, workers=workers)
            orch.submit_sub(added, TaskArgs().inp(parts[1]).inp(parts[2]).inout(total))

    worker.run(orchestration)
    assert (total == 3).all()


@pytest.mark.parametrize(
    ("members", "workers", "error"),
    [
        (3, None, simpler.TensorError),
        (0, None, simpler.TensorError),
        (2, [0, 0], simpler.TensorError),
        (2, [0], simpler.TensorError),
        (2, [0, 2], simpler.NoSuchWorker),
        (2, [0, -1], simpler.NoSuchWorker),
    ],
)
def test_a_group_needs_as_many_different_workers_as_members(make_worker, members, workers, error):
    worker = make_worker(num_sub_workers=2)
    handle = worker.register(fill)
    with pytest.raises(error):
        worker.run(lambda orch, *_: orch.submit_sub_group(handle, [TaskArgs()] * members, workers=workers))


def test_bad_options_are_refused_when_the_worker_is_made():
    for options in (
        {"level": 2},
        {"num_sub_workers": -1},
        {"heap_ring_size": 0},
        {"timeout": 0},
        {"shared_memory_size": 0},
    ):
        with pytest.raises(ValueError, match=next(iter(options))):
            simpler.Worker(**options)


def test_a_level_above_the_host_is_a_label(make_worker):
    worker = make_worker(level=6, num_sub_workers=1)
    handle = worker.register(fill)
    values = worker.zeros(1)
    worker.run(lambda orch, *_: orch.submit_sub(handle, TaskArgs().out(values).add_scalar(1.0)))
    assert values[0] == 1
    assert "level 6" in repr(worker)


def test_shared_arrays_can_be_made_before_the_start_and_used_after_the_end():
    worker = simpler.Worker(device_ids=[], num_sub_workers=1)
    values = worker.array(np.arange(5, dtype=np.float32))
    handle = worker.register(fill)
    with worker:
        worker.run(lambda orch, *_: orch.submit_sub(handle, TaskArgs().out(values).add_scalar(6.0)))
    assert values.tolist() == [6] * 5


def test_shared_arrays_take_dtypes_and_sources_of_all_kinds(make_worker):
    import torch

    worker = make_worker()
    assert worker.array([1.0, 2.0], "float32").tolist() == [1, 2]
    assert worker.array(torch.ones(3)).dtype == np.float32
    assert worker.zeros((2, 2), "bfloat16").dtype == np.uint16
    assert worker.empty(4, torch.int8).dtype == np.int8
    assert worker.array([1.0, 2.0]).dtype == np.float64
    assert worker.zeros(3, "M8[s]").dtype == np.dtype("M8[s]")
    assert worker.empty(3, [("a", "i4"), ("b", "f8")])["b"].shape == (3,)


def test_an_allocated_array_is_refused_after_its_scope_and_after_its_run(make_worker):
    import torch

    worker = make_worker(num_sub_workers=1)
    handle = worker.register(fill)
    kept = []

    def orchestration(orch, args, config):
        with orch.scope():
            inner = orch.alloc((4, 4), "float32")
            orch.submit_sub(handle, TaskArgs().out(inner).add_scalar(1.0))
        outer = orch.alloc((4, 4), "float32")
        for array in (inner, inner[1], inner[:, 1], torch.from_numpy(inner)):
            with pytest.raises(simpler.TensorError, match=r"argument 0 of task 1 .* scope or a run that is over"):
                orch.submit_sub(handle, TaskArgs().out(array).add_scalar(1.0))
        orch.submit_sub(handle, TaskArgs().out(outer[1:]).add_scalar(1.0))
        orch.submit_sub(handle, TaskArgs().out(torch.from_numpy(outer)).add_scalar(1.0))
        kept.append(outer)

    worker.run(orchestration)
    with pytest.raises(simpler.TensorError, match="a run that is over"):
        worker.run(lambda orch, *_: orch.submit_sub(handle, TaskArgs().inp(kept[0])))
