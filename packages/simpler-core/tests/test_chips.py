"""Chip callables on chip children, beside SubWorkers."""

from __future__ import annotations

import numpy as np
import pytest
import simpler
import simpler_runtime
import torch
from simpler import TaskArgs
from simpler.tasks.callables import MAX_CHIP_CALLABLES

PLATFORMS = sorted(simpler_runtime.platforms())


def check(args: simpler.SubTaskArgs) -> None:
    found, expected = args.array(0), args.scalar_float(0)
    assert (found == expected).all(), f"expected {expected}, got {found.flat[0]}"


def total(args: simpler.SubTaskArgs) -> None:
    args.array(2)[...] = args.array(0) + args.array(1)


@pytest.mark.parametrize("platform", PLATFORMS)
def test_chips_and_sub_workers_work_on_one_graph(make_worker, chip_callable, platform):
    """Two independent chip tasks and a SubWorker that adds up, as in a data-parallel program."""
    worker = make_worker(platform=platform, device_ids=[3, 7], num_sub_workers=1)
    add, scale = worker.register(chip_callable("add")), worker.register(chip_callable("scale"))
    reduce, verify = worker.register(total), worker.register(check)
    a, b = np.full((16, 16), 2, np.float32), np.full((16, 16), 3, np.float32)
    result = np.zeros((16, 16), np.float32)

    def orchestration(orch, args, config):
        parts = [orch.alloc((16, 16), "float32") for _ in range(2)]
        for index, part in enumerate(parts):
            orch.submit_next_level(add, TaskArgs().inp(a).inp(b).out(part), worker=index)
        orch.submit_next_level(scale, TaskArgs().inout(parts[1]).add_scalar(10), worker=1)
        orch.submit_sub(reduce, TaskArgs().inp(parts[0]).inp(parts[1]).out(result))
        orch.submit_sub(verify, TaskArgs().inp(result).add_scalar(55.0))

    for _ in range(3):
        worker.run(orchestration)
        assert (result == 55).all()
        result.fill(0)


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize(
    "make",
    [lambda: np.full((5, 7), 2, np.float32), lambda: torch.full((5, 7), 2.0), lambda: np.full((7, 5), 2.0, "f4").T],
)
def test_a_chip_writes_any_array(make_worker, chip_callable, platform, make):
    worker = make_worker(platform=platform, device_ids=[0])
    scale = worker.register(chip_callable("scale"))
    values = make()
    worker.run(lambda orch, *_: orch.submit_next_level(scale, TaskArgs().inout(values).add_scalar(3)))
    assert (np.asarray(values) == 6).all()


def test_shared_arrays_are_used_in_place(make_worker, chip_callable):
    worker = make_worker(device_ids=[0], heap_ring_size=4096)
    add = worker.register(chip_callable("add"))
    a, b, c = worker.array(np.ones(10_000, np.float32)), worker.zeros(10_000), worker.empty(10_000)
    b += 2
    worker.run(lambda orch, *_: orch.submit_next_level(add, TaskArgs().inp(a).inp(b).out(c)))
    assert (c == 3).all()


def test_a_chip_callable_can_be_registered_after_the_start(make_worker, chip_callable):
    worker = make_worker(device_ids=[0, 1])
    worker.init()
    scale = worker.register(chip_callable("scale"))
    values = [np.ones(4, np.float32) for _ in range(2)]

    def orchestration(orch, args, config):
        for index in range(2):
            orch.submit_next_level(scale, TaskArgs().inout(values[index]).add_scalar(5), worker=index)

    worker.run(orchestration)
    assert (np.array(values) == 5).all()


def test_a_slot_is_free_again_after_unregister(make_worker, chip_callable):
    worker = make_worker(device_ids=[0])
    worker.init()
    nothing = chip_callable("nothing")
    handles = [worker.register(chip_callable("nothing", name=f"number {i}")) for i in range(MAX_CHIP_CALLABLES)]
    with pytest.raises(simpler.RegistrationFailed, match=r"a chip holds 64 callables; unregister one first"):
        worker.register(nothing)
    again = worker.register(chip_callable("nothing", name="number 7"))  # the same content takes no slot
    worker.unregister(handles[3])
    handle = worker.register(nothing)
    worker.run(lambda orch, *_: [orch.submit_next_level(h) for h in (*handles[:3], *handles[4:], again, handle)])


def test_a_kernel_that_fails_names_callable_kernel_task_and_chip(make_worker, chip_callable):
    worker = make_worker(device_ids=[0, 5])
    fail, nothing = worker.register(chip_callable("fail", "nothing")), worker.register(chip_callable("nothing"))
    with pytest.raises(simpler.TaskFailed, match="row 3 is bad") as caught:
        worker.run(lambda orch, *_: orch.submit_next_level(fail, worker=1))
    error = caught.value
    assert (error.function, error.worker) == ("fail", "chip 1")
    assert type(error.original) is simpler_runtime.KernelError
    assert (error.original.kernel, error.original.callable) == ("fail", "fail")
    assert "model.py:12" in str(error)
    worker.run(lambda orch, *_: orch.submit_next_level(nothing, worker=1))


@pytest.mark.parametrize("restart", [False, True])
def test_a_kernel_that_crashes_takes_only_its_chip_with_it(make_worker, chip_callable, restart):
    worker = make_worker(device_ids=[0, 1], num_sub_workers=1, restart=restart)
    crash, nothing = worker.register(chip_callable("crash", "nothing")), worker.register(chip_callable("nothing"))
    with pytest.raises(simpler.WorkerDied, match="killed by SIGKILL") as caught:
        worker.run(lambda orch, *_: orch.submit_next_level(crash, worker=1))
    assert caught.value.worker == "chip 1"
    if restart:
        worker.run(lambda orch, *_: orch.submit_next_level(nothing, worker=1))
    else:
        with pytest.raises(simpler.WorkerStateError, match="chip 1 is gone"):
            worker.run(lambda orch, *_: orch.submit_next_level(nothing, worker=0))


def test_a_kernel_that_never_ends_is_ended_by_the_timeout(make_worker, chip_callable):
    worker = make_worker(device_ids=[0], timeout=0.3, restart=True)
    forever, nothing = worker.register(chip_callable("forever", "nothing")), worker.register(chip_callable("nothing"))
    with pytest.raises(simpler.RunTimeout):
        worker.run(lambda orch, *_: orch.submit_next_level(forever))
    worker.run(lambda orch, *_: orch.submit_next_level(nothing))


def test_wrong_arguments_of_a_chip_callable_are_a_task_failure(make_worker, chip_callable):
    worker = make_worker(device_ids=[0])
    add = worker.register(chip_callable("add"))
    with pytest.raises(simpler.TaskFailed, match="add") as caught:
        worker.run(lambda orch, *_: orch.submit_next_level(add, TaskArgs().inp(np.zeros(3, np.float32))))
    assert type(caught.value.original) is simpler_runtime.CallableError


def test_more_shards_than_chips_names_the_chip_and_the_device_ids(make_worker, chip_callable):
    worker = make_worker(device_ids=[7, 8])
    nothing = worker.register(chip_callable("nothing"))
    with pytest.raises(simpler.NoSuchWorker, match=r"no chip 2: this worker has 2 \(device_ids decides\)"):
        worker.run(lambda orch, *_: orch.submit_next_level(nothing, worker=2))


def test_a_chip_task_without_chips_says_what_to_pass(make_worker, chip_callable):
    worker = make_worker(num_sub_workers=1)
    nothing = worker.register(chip_callable("nothing"))
    with pytest.raises(simpler.NoSuchWorker, match="has no chips: make it with device_ids"):
        worker.run(lambda orch, *_: orch.submit_next_level(nothing))


def test_a_chip_callable_is_not_for_sub_workers(make_worker, chip_callable):
    worker = make_worker(device_ids=[0], num_sub_workers=1)
    nothing = worker.register(chip_callable("nothing"))
    with pytest.raises(simpler.WrongKind, match="nothing is a chip callable: submit it with submit_next_level"):
        worker.run(lambda orch, *_: orch.submit_sub(nothing))


def test_a_group_of_chips_runs_as_one_task(make_worker, chip_callable):
    worker = make_worker(device_ids=[0, 1])
    scale, add = worker.register(chip_callable("scale")), worker.register(chip_callable("add"))
    halves = [worker.zeros(4) + 1, worker.zeros(4) + 1]
    result = np.zeros(4, np.float32)

    def orchestration(orch, args, config):
        members = [TaskArgs().inout(half).add_scalar(index + 2) for index, half in enumerate(halves)]
        orch.submit_next_level_group(scale, members)
        orch.submit_next_level(add, TaskArgs().inp(halves[0]).inp(halves[1]).out(result))

    worker.run(orchestration)
    assert (result == 5).all()


@pytest.mark.parametrize("platform", ["a2a3", "a5", "b4"])
def test_an_unknown_platform_is_refused_when_the_worker_is_made(platform):
    with pytest.raises(simpler_runtime.PlatformError, match=f"{platform}.*cpu"):
        simpler.Worker(platform=platform)


def test_a_chip_that_cannot_start_says_why_and_leaves_nothing(children):
    worker = simpler.Worker(runtime="no such runtime", num_sub_workers=1)
    with pytest.raises(simpler_runtime.PlatformError, match="no such runtime") as caught:
        worker.init()
    assert "raised in chip 0" in caught.value.__notes__[0]
    assert children() == []
    with pytest.raises(simpler.WorkerStateError, match="closed"):
        worker.init()


def test_the_config_reaches_the_chip(make_worker, chip_callable):
    worker = make_worker(platform="a2a3sim", device_ids=[0])
    nothing = worker.register(chip_callable("nothing"))
    config = simpler.CallConfig(block_dim=3, aicpu_thread_num=4)
    worker.run(lambda orch, args, config: orch.submit_next_level(nothing, config=config), config=config)
    with pytest.raises(simpler.TaskFailed, match="aicpu_thread_num"):
        worker.run(lambda orch, *_: orch.submit_next_level(nothing, config=simpler.CallConfig(aicpu_thread_num=99)))


def test_a_config_is_copied_when_a_task_is_submitted(make_worker, chip_callable, gate):
    worker = make_worker(device_ids=[0], num_sub_workers=1)
    scale, waits = worker.register(chip_callable("scale")), worker.register(lambda args: gate.wait())
    values = worker.zeros(3)
    config = simpler.CallConfig(block_dim=1)

    def orchestration(orch, args, _):
        orch.submit_sub(waits, TaskArgs().inout(values))
        orch.submit_next_level(scale, TaskArgs().inout(values).add_scalar(1), config)  # has to wait
        config.aicpu_thread_num = 99  # more than there are
        gate.open()

    worker.run(orchestration)
    assert config.aicpu_thread_num == 99


def test_a_handle_says_that_it_names_a_chip_callable(make_worker, chip_callable):
    handle = make_worker(device_ids=[0]).register(chip_callable("nothing"))
    assert handle.kind is simpler.CallableKind.CHIP_CALLABLE
    assert handle.namespace is simpler.TargetNamespace.LOCAL_CHIP
    assert handle.name == "nothing"
    assert len(handle.digest) == 32


def device_tensor(address: int = 4096) -> simpler.ContinuousTensor:
    return simpler.ContinuousTensor.make(address, (4,), simpler.DataType.FLOAT32, True)


def dependencies(worker, *submits):
    """Which of the tasks so submitted wait for which: pairs of numbers. None of them is run."""
    engine = worker._start()
    added: list = []
    pairs: list = []

    def add(slot, needs, follows):
        pairs.extend((added.index(task), len(added)) for task in {*needs, *follows})
        added.append(slot)
        slot.state = simpler.TaskState.RUNNING

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "add", add)
        worker.run(lambda orch, *_: [submit(orch) for submit in submits])
    return sorted(pairs)


def test_device_memory_is_told_apart_by_chip_also_in_groups(make_worker, chip_callable):
    worker = make_worker(device_ids=[0, 1])
    nothing = worker.register(chip_callable("nothing"))

    def on(chip):
        return lambda orch: orch.submit_next_level(nothing, TaskArgs().inout(device_tensor()), worker=chip)

    def group(*chips):
        members = [TaskArgs().inout(device_tensor()) for _ in chips]
        return lambda orch: orch.submit_next_level_group(nothing, members, workers=chips)

    assert dependencies(worker, on(0), on(1), on(0)) == [(0, 2)]
    assert dependencies(worker, group(1), on(0), on(1)) == [(0, 2)]
    assert dependencies(worker, on(0), on(1), group(1, 0)) == [(0, 2), (1, 2)]


def test_the_memory_of_an_only_chip_is_meant_also_by_unpinned_tasks(make_worker, chip_callable):
    worker = make_worker(device_ids=[3])
    nothing = worker.register(chip_callable("nothing"))
    submits = [
        lambda orch: orch.submit_next_level(nothing, TaskArgs().inout(device_tensor()), worker=0),
        lambda orch: orch.submit_next_level(nothing, TaskArgs().inout(device_tensor())),
        lambda orch: orch.submit_next_level_group(nothing, [TaskArgs().inout(device_tensor())]),
    ]
    assert dependencies(worker, *submits) == [(0, 1), (1, 2)]


def test_a_task_for_any_of_several_chips_cannot_mean_the_memory_of_one(make_worker, chip_callable):
    worker = make_worker(device_ids=[0, 1])
    nothing = worker.register(chip_callable("nothing"))
    with pytest.raises(simpler.TensorError, match=r"is in a chip's memory, .* 2 chips: say which one"):
        worker.run(lambda orch, *_: orch.submit_next_level(nothing, TaskArgs().inout(device_tensor())))
    with pytest.raises(simpler.TensorError, match="say which one"):
        worker.run(lambda orch, *_: orch.submit_next_level_group(nothing, [TaskArgs().inout(device_tensor())]))


def test_a_chip_refuses_what_it_lacks_at_submit_and_the_run_goes_on(make_worker, chip_callable):
    worker = make_worker(device_ids=[0], num_sub_workers=1)
    scale = worker.register(chip_callable("scale"))
    values, doubles = np.ones(4, np.float32), np.ones(4)

    def orchestration(orch, args, config):
        orch.submit_next_level(scale, TaskArgs().inout(values).add_scalar(2))
        message = r"argument 0 of task 1 \(scale\) is float64, which no chip knows .* convert it with"
        with pytest.raises(simpler.TensorError, match=message):
            orch.submit_next_level(scale, TaskArgs().inout(doubles).add_scalar(2))
        with pytest.raises(simpler.TensorError, match="at most 5 dimensions"):
            orch.submit_next_level(scale, TaskArgs().inout(np.ones((1,) * 6, np.float32)).add_scalar(2))

    worker.run(orchestration)
    assert (values == 2).all()


def test_one_chip_task_cannot_write_an_array_it_also_sees_with_gaps(make_worker, chip_callable):
    worker = make_worker(device_ids=[0])
    add = worker.register(chip_callable("add"))
    result = np.zeros((4, 4), np.float32)
    for base in (np.ones((4, 4), np.float32), worker.zeros((4, 4)) + 1):
        for args in (
            TaskArgs().inp(base).inp(base).out(base.T),
            TaskArgs().inp(base[:, 1:3]).inp(base[2:]).out(base[:2]),
        ):
            with pytest.raises(simpler.TensorError, match="pass contiguous arrays"):
                worker.run(lambda orch, *_, args=args: orch.submit_next_level(add, args))
        base[1] = 5
        for _ in range(2):
            worker.run(lambda orch, *_, b=base: orch.submit_next_level(add, TaskArgs().inp(b).inp(b.T).out(result)))
        np.testing.assert_array_equal(result, base + base.T)
