"""Nothing outlives a worker: no process, memory, file or thread; and an idle one costs nothing."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest
import simpler
from simpler import TaskArgs


def add_one(args: simpler.SubTaskArgs) -> None:
    for values in args.arrays():
        values += 1


def held() -> dict[str, object]:
    """What this process holds of the kinds a worker uses."""
    gc.collect()
    descriptors = []
    for entry in Path("/proc/self/fd").iterdir():
        try:
            descriptors.append(os.readlink(entry))
        except FileNotFoundError:  # the one that listed the folder
            continue
    maps = Path("/proc/self/maps").read_text()
    return {
        "children": sorted(child.pid for child in psutil.Process().children()),
        "descriptors": sorted(re.sub(r"\d+", "N", name) for name in descriptors if re.search("simpler|pidfd", name)),
        "mappings": maps.count("/memfd:simpler"),
        "threads": threading.active_count(),
        "native threads": len(list(Path("/proc/self/task").iterdir())),
    }


def use(worker: simpler.Worker) -> None:
    handle = worker.register(add_one)
    values = np.zeros(3, np.int32)
    worker.run(lambda orch, *_: orch.submit_sub(handle, TaskArgs().inout(values)))
    assert values.tolist() == [1, 1, 1]


def worker(**options: object) -> simpler.Worker:
    return simpler.Worker(device_ids=[], num_sub_workers=2, **options)


def closed_twice() -> None:
    made = worker()
    use(made)
    made.close()
    made.close()


def left_by_an_exception() -> None:
    def fail() -> None:
        with worker() as made:
            use(made)
            raise KeyError

    with pytest.raises(KeyError):
        fail()


def never_started() -> None:
    worker().close()


def only_memory() -> None:
    made = worker()
    made.zeros(100)
    made.close()


def garbage() -> None:
    use(worker())


def with_a_dead_child() -> None:
    with worker() as made:
        use(made)
        made._children.endpoints[0].peer.kill()


def with_a_replaced_child() -> None:
    with worker(restart=True) as made:
        for _ in range(3):
            made._children.endpoints[0].peer.kill()
            made._children.endpoints[0].peer.wait(10)
            use(made)


def with_a_stopped_child() -> None:
    """A child that does not even react to SIGTERM."""
    with worker() as made:
        use(made)
        os.kill(made._children.endpoints[0].peer.pid, signal.SIGSTOP)


def after_a_failed_run() -> None:
    with worker() as made:
        handle = made.register(lambda args: 1 / 0)
        with pytest.raises(simpler.TaskFailed):
            made.run(lambda orch, *_: orch.submit_sub(handle, TaskArgs().inout(np.zeros(3, np.int32))))


@pytest.mark.parametrize(
    "life",
    [
        closed_twice,
        left_by_an_exception,
        never_started,
        only_memory,
        garbage,
        with_a_dead_child,
        with_a_replaced_child,
        with_a_stopped_child,
        after_a_failed_run,
    ],
)
def test_nothing_is_left_of_a_worker(life):
    closed_twice()  # what the first worker of a process brings about once
    before = held()
    life()
    assert held() == before


def test_shared_arrays_outlive_their_worker_and_then_go():
    closed_twice()
    before = held()
    made = worker()
    values = made.zeros(1000)
    use(made)
    made.close()
    values += 1
    assert values.sum() == 1000
    assert held()["mappings"] == before["mappings"] + 1
    del values, made
    assert held() == before


def test_a_closed_worker_refuses_to_work():
    made = worker()
    made.close()
    for act in (
        made.init,
        lambda: made.run(lambda *_: None),
        lambda: made.register(add_one),
        lambda: made.empty(3),
    ):
        with pytest.raises(simpler.WorkerStateError, match="this worker is closed"):
            act()


def test_close_inside_a_run_is_refused():
    with worker() as made, pytest.raises(simpler.WorkerStateError, match="close after the run"):
        made.run(lambda *_: made.close())


def test_a_forked_process_cannot_use_its_parents_worker_and_ends_nothing_of_it():
    with worker() as made:
        use(made)
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                for act in (lambda: made.run(lambda *_: None), lambda: made.empty(3), lambda: made.register(add_one)):
                    try:
                        act()
                    except simpler.WorkerStateError as error:
                        os.write(write, b"refused " if "belongs to process" in str(error) else b"odd ")
                made.close()
                made._finalizer()
                del made
                gc.collect()
                os.write(write, b"done")
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        assert os.read(read, 1000) == b"refused refused refused done"
        os.close(read)
        os.close(write)
        use(made)


def script(text: str, **options: object) -> subprocess.Popen[str]:
    head = """
    import os, signal, sys, threading, time
    import numpy as np, psutil, simpler
    from simpler import TaskArgs
    def pids(worker): return " ".join(str(endpoint.peer.pid) for endpoint in worker._children.endpoints)
    """
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(head) + textwrap.dedent(text)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def processes_of(line: str) -> list[psutil.Process]:
    found = []
    for pid in map(int, line.split()):
        with contextlib.suppress(psutil.NoSuchProcess):  # it is gone already
            found.append(psutil.Process(pid))
    return found


def assert_gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


@pytest.mark.parametrize("busy", ["idle", "in a task"])
def test_children_go_when_their_parent_is_killed(busy):
    process = script(
        f"""
        worker = simpler.Worker(device_ids=[], num_sub_workers=2)
        def spin(args):
            print("spinning", flush=True)
            while True: pass
        handle = worker.register(spin)
        worker.init()
        print(pids(worker), flush=True)
        if {busy == "in a task"}:
            worker.run(lambda orch, *_: orch.submit_sub(handle))
        sys.stdin.read()
        """,
        stdin=subprocess.PIPE,
    )
    children = processes_of(process.stdout.readline())
    if busy == "in a task":
        assert process.stdout.readline() == "spinning\n"
    process.kill()
    process.wait()
    assert_gone(children)
    process.communicate()


@pytest.mark.parametrize("end", ["sys.exit(0)", "raise KeyError('end')", "threading.Thread(target=print).start()"])
def test_children_go_when_python_ends_without_close(end):
    process = script(
        f"""
        worker = simpler.Worker(device_ids=[], num_sub_workers=2)
        worker.init()
        print(pids(worker), flush=True)
        {end}
        """
    )
    children = processes_of(process.stdout.readline())
    process.communicate(timeout=30)
    assert_gone(children)


def test_ctrl_c_in_the_terminal_ends_a_run_with_stuck_tasks_and_only_the_parent_hears_it():
    """SIGINT to the whole process group, as a terminal sends it."""
    process = script(
        """
        worker = simpler.Worker(device_ids=[], num_sub_workers=2, restart=True)
        def stuck(args):
            print("stuck", flush=True)
            try:
                while True: time.sleep(1000)
            finally:
                print("the child was interrupted", flush=True)
        handle = worker.register(stuck)
        fine = worker.register(lambda args: args.array(0).fill(7))
        values = np.zeros(3, np.int32)
        with worker:
            print(pids(worker), flush=True)
            def orchestration(orch, args, config):
                orch.submit_sub(fine, TaskArgs().out(values), worker=1)
                orch.submit_sub(stuck_handle, worker=0)
            stuck_handle = handle
            try:
                worker.run(orchestration)
            except KeyboardInterrupt:
                print("interrupted", values.tolist(), flush=True)
            worker.run(lambda orch, *_: orch.submit_sub(fine, TaskArgs().out(values), worker=0))
            print("usable", flush=True)
        """,
        start_new_session=True,
    )
    children = processes_of(process.stdout.readline())
    assert process.stdout.readline() == "stuck\n"
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert out == "interrupted [7, 7, 7]\nusable\n"
    assert err == ""
    assert process.returncode == 0
    assert_gone(children)


def test_ctrl_c_between_submits_ends_the_run():
    process = script(
        """
        worker = simpler.Worker(device_ids=[], num_sub_workers=1)
        handle = worker.register(lambda args: None)
        with worker:
            print("up", flush=True)
            while True:
                worker.run(lambda orch, *_: [orch.submit_sub(handle) for _ in range(1000)])
        """
    )
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT
    assert err.rstrip().endswith("KeyboardInterrupt")


def test_idle_children_use_no_cpu(make_worker):
    made = make_worker(num_sub_workers=2)
    use(made)
    children = [psutil.Process(endpoint.peer.pid) for endpoint in made._children.endpoints]

    def used() -> float:
        return sum(sum(child.cpu_times()[:2]) for child in children)

    before = used()
    threading.Event().wait(1.0)  # idleness is what is measured here
    assert used() - before <= 0.01


def test_children_have_their_own_random_numbers_and_none_of_the_parents_signal_handlers(make_worker):
    made = make_worker(num_sub_workers=2)

    def look(args):
        import random

        args.array(0)[...] = [
            random.getrandbits(60),
            np.random.randint(2**60),
            signal.getsignal(signal.SIGINT) is signal.SIG_IGN,
            signal.getsignal(signal.SIGTERM) is signal.SIG_DFL,
            signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL,
            os.readlink("/proc/self/fd/0") == "/dev/null",
        ]

    handle = made.register(look)
    seen = [made.zeros(6, "int64") for _ in range(2)]
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        made.init()
    finally:
        signal.signal(signal.SIGUSR1, before)

    def orchestration(orch, args, config):
        for index in range(2):
            orch.submit_sub(handle, TaskArgs().out(seen[index]), worker=index)

    made.run(orchestration)
    assert [values[2:].tolist() for values in seen] == [[1, 1, 1, 1]] * 2
    assert set(seen[0][:2].tolist()).isdisjoint(seen[1][:2].tolist())


def test_what_a_task_prints_is_printed_once_and_at_once():
    process = script(
        """
        print("before the fork")
        worker = simpler.Worker(device_ids=[], num_sub_workers=1)
        handle = worker.register(lambda args: print("in the task"))
        with worker:
            worker.run(lambda orch, *_: orch.submit_sub(handle))
            print("after the run", flush=True)
        """
    )
    out, err = process.communicate(timeout=30)
    assert out == "before the fork\nin the task\nafter the run\n"
    assert err == ""


def test_torch_works_in_children_of_a_parent_that_uses_it():
    process = script(
        """
        import torch
        torch.rand(512, 512) @ torch.rand(512, 512)
        def multiply(args):
            values = torch.from_numpy(args.array(0))
            values.copy_(torch.ones(512, 512) @ torch.ones(512, 512))
        worker = simpler.Worker(device_ids=[], num_sub_workers=2)
        handle = worker.register(multiply)
        values = torch.zeros(512, 512)
        with worker:
            worker.run(lambda orch, *_: orch.submit_sub(handle, TaskArgs().out(values)))
        print(values.sum().item())
        """
    )
    out, err = process.communicate(timeout=60)
    assert (out, err) == (f"{512.0**3}\n", "")


def test_workers_do_not_disturb_each_other():
    with worker() as first, worker() as second:
        use(first)
        use(second)
        first.close()
        use(second)
        with worker() as third:
            use(third)
            use(second)


def test_a_worker_with_many_children_starts_and_ends():
    with simpler.Worker(device_ids=[], num_sub_workers=24) as made:
        handle = made.register(add_one)
        counts = made.zeros(240, "int32")

        def orchestration(orch, args, config):
            for index in range(240):
                orch.submit_sub(handle, TaskArgs().inout(counts[index : index + 1]), worker=index % 24)

        made.run(orchestration)
        assert (counts == 1).all()


def test_closing_a_worker_ends_a_run_on_another_thread(gate):
    made = worker()
    handle = made.register(lambda args: gate.wait())
    raised: list[BaseException] = []

    def run() -> None:
        try:
            made.run(lambda orch, *_: orch.submit_sub(handle))
        except simpler.WorkerStateError as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    gate.arrived()
    made.close()
    thread.join()
    assert "closed by another thread" in str(raised[0])


def test_pages_of_a_large_run_are_given_back(monkeypatch):
    monkeypatch.setattr("simpler.memory.arena.KEEP", 1 << 20)
    with worker() as made:
        handle = made.register(add_one)
        values = np.zeros(32 << 20, np.int8)
        made.run(lambda orch, *_: orch.submit_sub(handle, TaskArgs().inout(values)))
        assert (values == 1).all()
        blocks = os.fstat(made._memory.region.fd).st_blocks * 512
        assert blocks < 4 << 20


def test_scopes_of_an_interrupted_run_are_released(gate):
    with worker(timeout=0.2, restart=True, heap_ring_size=1 << 20) as made:
        handle = made.register(lambda args: gate.wait())

        def orchestration(orch, args, config):
            with orch.scope(), orch.scope():
                orch.submit_sub(handle, TaskArgs().out(orch.alloc(1 << 19, "int8")))

        for _ in range(3):
            with pytest.raises(simpler.RunTimeout):
                made.run(orchestration)
        assert [ring.live for ring in made._memory.rings] == [0, 0, 0, 0]


def test_interrupts_at_any_moment_leave_a_usable_worker():
    """A timer interrupts runs somewhere between two bytecodes; whatever was half done, the next run is right."""
    process = script(
        """
        import random
        def interrupt(*_):
            if armed: raise KeyboardInterrupt
        signal.signal(signal.SIGALRM, interrupt)
        def add_one(args):
            for values in args.arrays(): values += 1
        with simpler.Worker(device_ids=[], num_sub_workers=2, restart=True, heap_ring_size=1 << 20) as worker:
            handle = worker.register(add_one)
            shared = worker.zeros(10, "int32")
            def orchestration(orch, args, config):
                with orch.scope():
                    intermediate = orch.alloc(1000, "int32")
                    for index in range(args):
                        orch.submit_sub(handle, TaskArgs().inout(shared).inout(private))
                        orch.submit_sub(handle, TaskArgs().inout(intermediate).inout(gapped[::2]))
            interrupted = 0
            for _ in range(150):
                private, gapped = np.zeros(100, np.int32), np.zeros((8, 8), np.int32)
                try:
                    armed = True
                    signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-4, 4e-3))
                    for _ in range(20):
                        worker.run(orchestration, 30)
                    armed = False
                except KeyboardInterrupt:
                    interrupted += 1
                    armed = False
                signal.setitimer(signal.ITIMER_REAL, 0)
                shared[...], private[...], gapped[...] = 0, 0, 0
                worker.run(orchestration, 5)
                assert (shared == 5).all() and (private == 5).all(), (shared, private)
                assert (gapped[::2] == 5).all() and (gapped[1::2] == 0).all(), gapped
                assert [ring.live for ring in worker._memory.rings] == [0, 0, 0, 0]
        print("interrupted" if interrupted > 50 else interrupted)
        """,
        # Where coverage is measured, not of this one: an interrupt inside a lock of coverage's would leave it locked.
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")},
    )
    out, err = process.communicate(timeout=200)
    assert err == ""
    assert out == "interrupted\n"
