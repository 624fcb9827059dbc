"""Children that exit or are killed."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
import simpler
from hypothesis import given, settings
from hypothesis import strategies as st
from simpler import TaskArgs


def die(args: simpler.SubTaskArgs) -> None:
    os.kill(os.getpid(), args.scalar(0))


def leave(args: simpler.SubTaskArgs) -> None:
    os._exit(args.scalar(0))


def add_one(args: simpler.SubTaskArgs) -> None:
    for values in args.arrays():
        values += 1


def test_a_killed_child_is_named_with_its_task_and_signal(make_worker):
    worker = make_worker(num_sub_workers=2)
    handle = worker.register(die)
    with pytest.raises(simpler.WorkerDied) as caught:
        worker.run(lambda orch, *_: orch.submit_sub(handle, TaskArgs().add_scalar(int(signal.SIGKILL)), worker=1))
    error = caught.value
    assert (error.function, error.task, error.worker) == ("die", 0, "sub worker 1")
    assert (error.signal, error.exit_status) == (signal.SIGKILL, None)
    assert error.pid > 0
    what = f"did not finish: its process (pid {error.pid}) was killed by SIGKILL (9)"
    assert f"task 0 (die) on sub worker 1 {what}" in str(error)


def test_a_child_that_exits_is_named_with_its_status(make_worker):
    worker = make_worker(num_sub_workers=1)
    handle = worker.register(leave)
    with pytest.raises(simpler.WorkerDied, match="exited with status 3") as caught:
        worker.run(lambda orch, *_: orch.submit_sub(handle, TaskArgs().add_scalar(3)))
    assert (caught.value.signal, caught.value.exit_status) == (None, 3)


def test_without_restart_later_runs_say_that_a_child_is_gone_and_close_works(make_worker):
    worker = make_worker(num_sub_workers=2)
    handle, fine = worker.register(leave), worker.register(add_one)
    with pytest.raises(simpler.WorkerDied):
        worker.run(lambda orch, *_: orch.submit_sub(handle, TaskArgs().add_scalar(1), worker=0))
    for _ in range(2):
        with pytest.raises(simpler.WorkerStateError, match=r"sub worker 0 is gone: .* status 1; .*restart=True"):
            worker.run(lambda orch, *_: orch.submit_sub(fine))
    worker.close()


def test_with_restart_a_dead_child_is_replaced(make_worker):
    worker = make_worker(num_sub_workers=1, restart=True)
    handle, fine = worker.register(leave), worker.register(add_one)
    values = np.zeros(2, np.int32)
    for round_number in range(3):
        with pytest.raises(simpler.WorkerDied):
            worker.run(lambda orch, *_: orch.submit_sub(handle, TaskArgs().add_scalar(1)))
        worker.run(lambda orch, *_: orch.submit_sub(fine, TaskArgs().inout(values)))
        assert values[0] == round_number + 1


def test_a_child_that_died_between_runs_is_noticed(make_worker, children):
    worker = make_worker(num_sub_workers=1)
    again = make_worker(num_sub_workers=1, restart=True)
    values = np.zeros(1, np.int32)
    handle = again.register(add_one)
    worker.init()
    again.init()
    for endpoint in worker._children.endpoints + again._children.endpoints:
        os.kill(endpoint.peer.pid, signal.SIGTERM)
        endpoint.peer.wait(10)
    with pytest.raises(simpler.WorkerStateError, match=r"was killed by SIGTERM \(15\)"):
        worker.run(lambda orch, *_: None)
    again.run(lambda orch, *_: orch.submit_sub(handle, TaskArgs().inout(values)))
    assert values[0] == 1


@pytest.mark.parametrize("restart", [False, True])
def test_when_a_child_dies_what_does_not_need_its_task_goes_on(make_worker, restart):
    worker = make_worker(num_sub_workers=2, restart=restart)
    broken, fine = worker.zeros(1, "int32"), worker.zeros(200, "int32")
    handle, kill = worker.register(add_one), worker.register(die)

    def orchestration(orch, args, config):
        for index in range(200):
            if index == 20:
                orch.submit_sub(kill, TaskArgs().add_scalar(9).inout(broken))
            orch.submit_sub(handle, TaskArgs().inout(fine[index : index + 1]))
            orch.submit_sub(handle, TaskArgs().inout(broken))

    with pytest.raises(simpler.WorkerDied) as caught:
        worker.run(orchestration)
    assert caught.value.function == "die"
    assert (fine == 1).all()
    assert broken[0] == 20
    assert caught.value.others == ()
    assert len(caught.value.skipped) == 180


def test_tasks_that_can_only_run_on_a_dead_child_fail(make_worker):
    worker = make_worker(num_sub_workers=2)
    handle, kill = worker.register(add_one), worker.register(die)
    values = worker.zeros(2, "int32")

    def orchestration(orch, args, config):
        orch.submit_sub(kill, TaskArgs().add_scalar(9), worker=0)
        for _ in range(100):
            for index in range(2):
                orch.submit_sub(handle, TaskArgs().inout(values[index : index + 1]), worker=index)

    with pytest.raises(simpler.WorkerDied) as caught:
        worker.run(orchestration)
    assert values.tolist() == [0, 100]
    first = caught.value
    assert first.function == "die"
    assert len(first.others) + len(first.skipped) == 100
    assert all("was not started" in str(other) for other in first.others)


def test_a_long_chain_that_can_only_run_on_a_dead_child_ends(make_worker):
    """Each task only has to wait for the one before: none is poisoned, all of them cannot be run."""
    worker = make_worker(num_sub_workers=2)
    handle, kill = worker.register(add_one), worker.register(die)
    values = worker.zeros(2001, "int32")

    def orchestration(orch, args, config):
        orch.submit_sub(kill, TaskArgs().inp(values[2000:]).add_scalar(9), worker=0)
        for index in range(2000, 0, -1):
            task = TaskArgs().inp(values[index - 1 : index]).out(values[index : index + 1])
            orch.submit_sub(handle, task, worker=0)

    with pytest.raises(simpler.WorkerDied) as caught:
        worker.run(orchestration)
    assert caught.value.function == "die"
    assert len(caught.value.others) == 2000


def test_all_children_killed_while_idle_are_replaced(make_worker):
    worker = make_worker(num_sub_workers=3, restart=True)
    handle = worker.register(add_one)
    values = worker.zeros(3, "int32")

    def orchestration(orch, args, config):
        for index in range(3):
            orch.submit_sub(handle, TaskArgs().inout(values[index : index + 1]), worker=index)

    for _ in range(3):
        worker.run(orchestration)
        for endpoint in worker._children.endpoints:
            endpoint.peer.kill()
        for endpoint in worker._children.endpoints:
            endpoint.peer.wait(10)
    worker.run(orchestration)
    assert values.tolist() == [4, 4, 4]


def test_the_last_child_dying_ends_the_run(make_worker):
    worker = make_worker(num_sub_workers=1)
    handle, kill = worker.register(add_one), worker.register(die)
    values = worker.zeros(100, "int32")

    def orchestration(orch, args, config):
        orch.submit_sub(kill, TaskArgs().add_scalar(9))
        for index in range(100):
            orch.submit_sub(handle, TaskArgs().inout(values[index : index + 1]))

    with pytest.raises(simpler.WorkerDied, match="die"):
        worker.run(orchestration)
    assert (values == 0).all()


def test_a_group_that_loses_a_member_fails(make_worker):
    worker = make_worker(num_sub_workers=2, restart=True)
    handle, kill = worker.register(add_one), worker.register(die)
    values = worker.zeros(1, "int32")

    def orchestration(orch, args, config):
        orch.submit_sub_group(kill, [TaskArgs().add_scalar(9), TaskArgs().add_scalar(0)])
        orch.submit_sub_group(handle, [TaskArgs(), TaskArgs().inout(values)])

    with pytest.raises(simpler.WorkerDied, match="die"):
        worker.run(orchestration)
    assert values[0] == 1


@pytest.fixture(scope="module")
def mortals():
    with simpler.Worker(device_ids=[], num_sub_workers=2, restart=True) as worker:
        yield worker, worker.register(add_one), worker.register(die), worker.register(failing)


def failing(args: simpler.SubTaskArgs) -> None:
    raise ValueError("asked to")


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(st.sampled_from(["add"] * 12 + ["raise", "die"]), st.integers(0, 3), st.integers(-1, 1)), max_size=120
    )
)
def test_whatever_dies_or_raises_every_submitted_task_ends(mortals, program):
    """Each cell is a chain: all its tasks before the first that raises or dies are run, none after it."""
    worker, add, kill, fail = mortals
    cells = [worker.zeros(1, "int32") for _ in range(4)]
    functions = {"add": add, "die": kill, "raise": fail}

    def orchestration(orch, args, config):
        for what, cell, pin in program:
            orch.submit_sub(functions[what], TaskArgs().inout(cells[cell]).add_scalar(9), worker=pin)

    expected, ended, failures, skipped = [0] * 4, [False] * 4, 0, 0
    for what, cell, _ in program:
        if ended[cell]:
            skipped += 1
        elif what == "add":
            expected[cell] += 1
        else:
            ended[cell] = True
            failures += 1
    if failures:
        with pytest.raises(simpler.TaskFailed) as caught:
            worker.run(orchestration)
        assert 1 + len(caught.value.others) == failures
        assert len(caught.value.skipped) == skipped
    else:
        worker.run(orchestration)
    assert [int(cell[0]) for cell in cells] == expected


def test_a_function_registered_while_a_child_is_dead_is_known_to_its_replacement(make_worker):
    worker = make_worker(num_sub_workers=2, restart=True)
    worker.init()
    values = np.zeros(2, np.int32)
    for _ in range(5):
        worker._children.endpoints[0].peer.kill()
        handle = worker.register(add_one)
        worker.run(lambda orch, *_, h=handle: orch.submit_sub(h, TaskArgs().inout(values), worker=0))
        worker.unregister(handle)
    assert values.tolist() == [5, 5]


@pytest.mark.parametrize("restart", [True, False])
@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-1, 1), st.integers(0, 40)), max_size=200))
def test_children_killed_at_any_moment_leave_every_task_accounted_for(restart, program):
    """A third number of 0 or 1 kills that child between two submits, whatever it is doing."""
    with simpler.Worker(device_ids=[], num_sub_workers=2, restart=restart) as worker:
        handle = worker.register(add_one)
        cells = [worker.zeros(1, "int32") for _ in range(4)]

        def orchestration(orch, args, config):
            for cell, pin, victim in program:
                orch.submit_sub(handle, TaskArgs().inout(cells[cell]), worker=pin)
                if victim < 2:
                    killed.append(worker._children.endpoints[victim].peer)
                    killed[-1].kill()

        killed = []
        failures = skipped = 0
        try:
            worker.run(orchestration)
        except simpler.WorkerDied as error:
            failures, skipped = 1 + len(error.others), len(error.skipped)
        completed = len(program) - failures - skipped
        # A task that lost its child may have done its work already.
        assert completed <= sum(int(cell[0]) for cell in cells) <= completed + failures
        if restart:
            for peer in killed:
                peer.wait(10)
            worker.run(lambda orch, *_: orch.submit_sub(handle, TaskArgs().inout(cells[0])))


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("when", ["before", "during", "after"])
@pytest.mark.parametrize("call", ["submit", "register", "unregister", "alloc", "scope", "close"])
def test_a_death_around_any_call_leaves_every_task_accounted_for(make_worker, call, when, restart, count):
    """Killed before the run, while tasks are on their way, or after the call; never an error of the engine's own."""
    worker = make_worker(num_sub_workers=count, restart=restart)
    handle, other = worker.register(add_one), worker.register(leave)
    cells = [worker.zeros(1, "int32") for _ in range(4)]
    worker.init()

    def kill() -> None:
        worker._children.endpoints[-1].peer.kill()

    def orchestration(orch, args, config):
        for index in range(40):
            orch.submit_sub(handle, TaskArgs().inout(cells[index % 4]), worker=index % count)
        if when == "during":
            kill()
        if call == "register":
            worker.register(die)
        elif call == "unregister":
            worker.unregister(other)
        elif call == "alloc":
            orch.submit_sub(handle, TaskArgs().inout(orch.alloc(100, "float64")))
        elif call == "scope":
            with orch.scope():
                orch.submit_sub(handle, TaskArgs().inout(orch.alloc(100, "float64")))
        if when == "after":
            kill()
        for index in range(40):
            orch.submit_sub(handle, TaskArgs().inout(cells[index % 4]))

    if when == "before":
        kill()
    errors = []
    try:
        worker.run(orchestration)
    except (simpler.WorkerDied, simpler.WorkerStateError) as error:
        errors.append(error)
    if call == "close":
        worker.close()
    elif restart:
        worker.run(lambda orch, *_: orch.submit_sub(handle, TaskArgs().inout(cells[0]), worker=count - 1))
    assert all(int(cell[0]) <= 21 for cell in cells)
    if not errors:
        assert sum(int(cell[0]) for cell in cells) == 80 + (restart and call != "close")


def test_a_child_that_was_ended_by_the_timeout_is_replaced_also_without_restart(make_worker, gate):
    worker = make_worker(num_sub_workers=2, timeout=0.3)
    stuck, fine = worker.register(lambda args: gate.wait()), worker.register(add_one)
    values = worker.zeros(1, "int32")
    for number in range(2):
        with pytest.raises(simpler.RunTimeout):
            worker.run(lambda orch, *_: orch.submit_sub(stuck, worker=0))
        worker.run(lambda orch, *_: orch.submit_sub(fine, TaskArgs().inout(values), worker=0))
        assert values[0] == number + 1
