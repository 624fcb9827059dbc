"""What a task may do to its process, and what callers may get wrong."""

from __future__ import annotations

import os
import pickle
import signal

import numpy as np
import psutil
import pytest
import simpler
import simpler_runtime
from simpler import TaskArgs


def add_one(args: simpler.SubTaskArgs) -> None:
    args.array(0)[...] += 1


def still_works(worker: simpler.Worker) -> None:
    handle, values = worker.register(add_one), np.zeros(3)
    worker.run(lambda orch, *_: orch.submit_sub(handle, TaskArgs().inout(values)))
    assert values.tolist() == [1, 1, 1]


def fork_and_return(args):
    pid = os.fork()
    args.array(0)[int(pid == 0)] = os.getpid()


def fork_and_raise(args):
    pid = os.fork()
    args.array(0)[int(pid == 0)] = os.getpid()
    if pid == 0:
        raise ValueError("in the copy")


@pytest.mark.parametrize("task", [fork_and_return, fork_and_raise])
def test_a_copy_that_a_task_forks_ends_with_the_task(make_worker, task):
    worker = make_worker(num_sub_workers=1)
    handle, pids = worker.register(task), worker.zeros(2, "int64")
    reap = worker.register(lambda args: args.array(0).__setitem__(0, os.waitpid(int(args.scalar(0)), 0)[1]))
    worker.run(lambda orch, *_: orch.submit_sub(handle, TaskArgs().inout(pids)))
    status = worker.zeros(1, "int64")
    for _ in range(1000):  # the copy may not have come to say who it is
        if pids[1]:
            break
        still_works(worker)
    worker.run(lambda orch, *_: orch.submit_sub(reap, TaskArgs().out(status).add_scalar(int(pids[1]))))
    assert os.waitstatus_to_exitcode(int(status[0])) == (task is fork_and_raise)


class Hostile(Exception):
    """Raises whatever is asked of it."""

    def __str__(self):
        raise SystemExit(3)

    __repr__ = __str__


class UnpickledBadly(Hostile):
    def __reduce__(self):
        return _explode, ()


class Unpickleable(Hostile):
    def __reduce__(self):
        raise SystemExit(4)


def _explode():
    raise SystemExit(5)


@pytest.mark.parametrize("error", [Hostile, UnpickledBadly, Unpickleable])
def test_an_exception_that_raises_whatever_is_asked_of_it_is_a_failure_like_any(make_worker, error):
    worker = make_worker(num_sub_workers=1)

    def fail(args):
        raise error("x")

    handle = worker.register(fail)
    with pytest.raises(simpler.TaskFailed, match="fail"):
        worker.run(lambda orch, *_: orch.submit_sub(handle))
    still_works(worker)


def test_signal_handlers_of_a_task_do_not_keep_its_process_alive(make_worker, children):
    worker = make_worker(num_sub_workers=1)

    def replace(args):
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(number, lambda *_: None)

    handle = worker.register(replace)
    worker.run(lambda orch, *_: orch.submit_sub(handle))
    still_works(worker)
    worker.close()
    assert children() == []


def test_a_function_without_parameters_is_called_without_arguments(make_worker):
    worker = make_worker(num_sub_workers=1)
    seen = worker.zeros(2, "int32")

    def note() -> None:
        seen[0] += 1

    def note_later() -> None:
        seen[1] += 1

    before = worker.register(note)
    worker.init()
    after = worker.register(note_later)
    worker.run(lambda orch, *_: [orch.submit_sub(handle, TaskArgs().inout(seen)) for handle in (before, after)])
    assert seen.tolist() == [1, 1]


@pytest.mark.parametrize("started", [False, True])
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_a_closure_over_a_shared_array_sees_the_same_memory(make_worker, started, kind):
    import torch

    worker = make_worker(num_sub_workers=1)
    shared = worker.zeros((4, 4))
    seen = shared[:, 1] if kind == "numpy" else torch.from_numpy(shared)[:, 1]
    if started:
        worker.init()

    def write(args):
        seen[:] = args.scalar(0)

    handle = worker.register(write)
    worker.run(lambda orch, *_: orch.submit_sub(handle, TaskArgs().add_scalar(5)))
    np.testing.assert_array_equal(shared, [[0, 5, 0, 0]] * 4)


def test_a_shared_array_pickled_for_somebody_else_is_a_copy(make_worker):
    shared = make_worker().array([1.0, 2.0])
    assert pickle.loads(pickle.dumps(shared)).tolist() == [1, 2]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"num_sub_workers": "2"}, TypeError, "num_sub_workers is '2'; it is an integer"),
        ({"num_sub_workers": 2.5}, TypeError, "num_sub_workers is 2.5; it is an integer"),
        ({"num_sub_workers": True}, TypeError, "num_sub_workers is True; it is an integer"),
        ({"device_ids": 2}, TypeError, "device_ids is 2; it is a list"),
        ({"num_subworkers": 2}, TypeError, "no argument 'num_subworkers'; did you mean 'num_sub_workers'"),
        ({"platform": "a2a3sym"}, simpler_runtime.PlatformError, "'a2a3sym'.*did you mean 'a2a3sim'"),
    ],
)
def test_a_wrong_option_is_refused_with_the_nearest_valid_one(options, error, message):
    with pytest.raises(error, match=message):
        simpler.Worker(**options)


@pytest.mark.parametrize("number", [None, True, 2.5, "0", 7, -2])
def test_what_is_no_number_of_a_worker_is_refused(make_worker, number):
    worker = make_worker(num_sub_workers=2)
    handle = worker.register(add_one)
    with pytest.raises(simpler.NoSuchWorker, match=r"worker is|there is no SubWorker"):
        worker.run(lambda orch, *_: orch.submit_sub(handle, worker=number))


def test_a_callable_larger_than_a_heap_ring_can_be_registered(make_worker):
    worker = make_worker(num_sub_workers=1, heap_ring_size=1 << 12)
    worker.init()
    large = bytes(1 << 20)
    handle = worker.register(lambda args: args.array(0).fill(len(large)))
    found = np.zeros(1)
    worker.run(lambda orch, *_: orch.submit_sub(handle, TaskArgs().out(found)))
    assert found[0] == 1 << 20


@pytest.mark.parametrize("end", ["close", "death"])
def test_what_a_task_starts_ends_with_its_process(make_worker, end):
    """Grandchildren too: a shell that starts another process and waits for it."""
    worker = make_worker(num_sub_workers=1, restart=True)

    def start(args):
        import subprocess

        shell = subprocess.Popen(["sh", "-c", "sleep 1000 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
        args.array(0)[:] = shell.pid, int(shell.stdout.readline())

    pids = worker.zeros(2, "int64")
    handle, kill = worker.register(start), worker.register(lambda args: os._exit(1))
    worker.run(lambda orch, *_: orch.submit_sub(handle, TaskArgs().out(pids)))
    started = [psutil.Process(int(pid)) for pid in pids]
    if end == "close":
        worker.close()
    else:
        with pytest.raises(simpler.WorkerDied):
            worker.run(lambda orch, *_: orch.submit_sub(kill))
    _, alive = psutil.wait_procs(started, timeout=10)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
    if end == "death":
        still_works(worker)
