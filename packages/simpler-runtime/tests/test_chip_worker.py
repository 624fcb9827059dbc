"""Prepared callables on every platform, through Python."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

import numpy as np
import psutil
import pytest
import simpler_runtime
from simpler_runtime import (
    IN,
    INOUT,
    OUT,
    CallableError,
    CallConfig,
    CallConfigError,
    ChipCallable,
    ChipError,
    ChipWorker,
    ContinuousTensor,
    CoreType,
    DataType,
    DeviceMemoryError,
    Kernel,
    KernelError,
    PlatformError,
    RingFull,
    TaskArgs,
    platforms,
    runtimes,
)

Make = Callable[..., ChipCallable]
Describe = Callable[..., TaskArgs]


@pytest.mark.parametrize("runtime", runtimes())
@pytest.mark.parametrize("platform", sorted(platforms()))
def test_a_prepared_callable_runs_again_and_again(
    platform: str, runtime: str, make_callable: Make, arguments: Describe
) -> None:
    a, b, c = np.arange(100, dtype=np.float32), np.ones(100, np.float32), np.zeros(100, np.float32)
    on_host = runtime == "host_build_graph"
    with ChipWorker(platform=platform, runtime=runtime) as chip:
        assert (chip.platform, chip.runtime) == (platform, runtime)
        chip.prepare_callable(callable_id=63, callable=make_callable())
        for i in range(20):
            b[:] = i
            chip.run_prepared(callable_id=63, args=arguments(a, b, c), config=CallConfig(clusters=1))
            np.testing.assert_array_equal(c, a + i)
        assert (chip.aicpu_dlopen_count, chip.host_dlopen_count) == ((0, 1) if on_host else (1, 0))
        assert (chip.graph_build_count, chip.graph_replay_count) == ((1, 19) if on_host else (20, 0))


def test_a_blob_runs_without_becoming_python(worker: ChipWorker, make_callable: Make, arguments: Describe) -> None:
    worker.prepare_callable(callable_id=0, callable=make_callable("multiply"))
    a, c = np.arange(8, dtype=np.float32), np.zeros(8, np.float32)
    buffer = np.zeros(100, np.uint64)
    args = arguments(a, a, c)
    args.write_blob(buffer)
    worker.run_prepared_from_blob(callable_id=0, ptr=buffer.ctypes.data, capacity=buffer.nbytes)
    np.testing.assert_array_equal(c, a * a)
    with pytest.raises(CallableError, match=r"blob .20 bytes. is damaged"):
        worker.run_prepared_from_blob(callable_id=0, ptr=buffer.ctypes.data, capacity=20)


def test_a_callable_travels_as_bytes(worker: ChipWorker, make_callable: Make, arguments: Describe) -> None:
    built = make_callable()
    again = ChipCallable.from_bytes(built.to_bytes())
    assert (again.name, again.signature, again.scalar_count, again.kernels) == (
        "add_callable",
        [IN, IN, OUT],
        0,
        ["add"],
    )
    assert (again.nbytes, again.content_hash) == (len(built.to_bytes()), built.content_hash)
    assert 0 < again.header_nbytes < again.nbytes
    worker.prepare_callable(callable_id=0, callable=again)
    a, c = np.ones(3, np.float32), np.zeros(3, np.float32)
    worker.run_prepared(callable_id=0, args=arguments(a, a, c))
    assert c.tolist() == [2, 2, 2]


def test_damaged_bytes_are_no_callable(make_callable: Make) -> None:
    good = make_callable().to_bytes()
    for bad in (b"", good[:-1], good + b"x", good[:300] + b"?" + good[301:]):
        with pytest.raises(CallableError, match="no ChipCallable"):
            ChipCallable.from_bytes(bad)


def test_a_func_id_belongs_to_one_kernel(compiled: Callable[[str], bytes]) -> None:
    kernels = [Kernel(4, name, CoreType.AIC, compiled("add")) for name in ("one", "two")]
    with pytest.raises(CallableError, match="func_id 4 is used twice"):
        ChipCallable.build(name="x", orchestration=compiled("one_task"), signature=[], kernels=kernels)


@pytest.mark.parametrize("slot", [-1, 64, 2**31 - 1])
def test_other_slots_than_64_are_refused(worker: ChipWorker, make_callable: Make, slot: int) -> None:
    assert ChipWorker.MAX_CALLABLES == 64
    with pytest.raises(CallableError, match=f"{slot} is no slot: there are slots 0 to 63"):
        worker.prepare_callable(callable_id=slot, callable=make_callable())
    with pytest.raises(CallableError, match="no slot"):
        worker.run_prepared(callable_id=slot, args=TaskArgs())
    with pytest.raises(CallableError, match="no slot"):
        worker.unregister_callable(callable_id=slot)


def test_a_slot_is_prepared_once(worker: ChipWorker, make_callable: Make) -> None:
    worker.prepare_callable(callable_id=1, callable=make_callable())
    with pytest.raises(CallableError, match="slot 1 already holds callable 'add_callable'"):
        worker.prepare_callable(callable_id=1, callable=make_callable("multiply"))
    worker.unregister_callable(callable_id=1)
    with pytest.raises(CallableError, match="no callable is prepared in slot 1"):
        worker.run_prepared(callable_id=1, args=TaskArgs())


def test_a_blob_at_no_address_is_refused(worker: ChipWorker, make_callable: Make) -> None:
    worker.prepare_callable(callable_id=0, callable=make_callable())
    with pytest.raises(CallableError, match=r"blob .* is damaged: it has a null pointer"):
        worker.run_prepared_from_blob(callable_id=0, ptr=0, capacity=128)


def test_wrong_argument_counts_are_named(worker: ChipWorker, make_callable: Make, arguments: Describe) -> None:
    worker.prepare_callable(callable_id=0, callable=make_callable(scalar_count=2))
    a = np.zeros(2, np.float32)
    with pytest.raises(CallableError, match="'add_callable' takes 3 tensors, got 1"):
        worker.run_prepared(callable_id=0, args=arguments(a))
    with pytest.raises(CallableError, match="'add_callable' takes 2 scalars, got 1"):
        worker.run_prepared(callable_id=0, args=arguments(a, a, a).add_scalar(1))


def test_a_config_beyond_the_platform_is_refused(worker: ChipWorker, make_callable: Make, arguments: Describe) -> None:
    worker.prepare_callable(callable_id=0, callable=make_callable())
    a = np.zeros(2, np.float32)
    with pytest.raises(CallConfigError, match="clusters is 25, but platform 'a2a3sim' has 24 clusters"):
        worker.run_prepared(callable_id=0, args=arguments(a, a, a), config=CallConfig(clusters=25))
    with pytest.raises(ValueError, match="aicpu_thread_num is 5, but platform 'a2a3sim' has 1 to 4"):
        worker.run_prepared(callable_id=0, args=arguments(a, a, a), config=CallConfig(aicpu_thread_num=5))


def test_a_failing_kernel_says_where_and_harms_nothing(
    worker: ChipWorker, make_callable: Make, arguments: Describe
) -> None:
    worker.prepare_callable(callable_id=0, callable=make_callable("fail"))
    worker.prepare_callable(callable_id=1, callable=make_callable("add"))
    a, c = np.ones(4, np.float32), np.zeros(4, np.float32)
    with pytest.raises(KernelError) as caught:
        worker.run_prepared(callable_id=0, args=arguments(a, a, c))
    error = caught.value
    assert (error.callable, error.task, error.kernel, error.message) == (
        "fail_callable",
        0,
        "fail",
        "model.py:12: row 3 is bad",
    )
    assert 24 <= error.core < 72
    assert (
        str(error) == f"kernel 'fail' (task 0 of callable 'fail_callable', core {error.core}) failed: {error.message}"
    )
    assert not c.any()
    worker.run_prepared(callable_id=1, args=arguments(a, a, c))
    assert c.tolist() == [2, 2, 2, 2]


def test_a_failing_orchestration_says_where(worker: ChipWorker, make_callable: Make) -> None:
    worker.prepare_callable(callable_id=0, callable=make_callable("nothing", "refuses", signature=()))
    with pytest.raises(
        KernelError, match=r"orchestration 'orchestrate' of callable 'nothing_callable'.*no shape fits"
    ) as e:
        worker.run_prepared(callable_id=0, args=TaskArgs())
    assert (e.value.task, e.value.core) == (-1, -1)


def test_errors_survive_pickling(worker: ChipWorker) -> None:
    errors = [
        KernelError("c", 1, "k", 2, "m"),
        RingFull("ring", "full", "scope"),
        CallableError("x"),
        PlatformError("y"),
    ]
    for error in errors:
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
        assert isinstance(again, ChipError)


def test_a_full_heap_ring_is_named(worker: ChipWorker, make_callable: Make) -> None:
    worker.prepare_callable(callable_id=0, callable=make_callable("nothing", "too_much_memory", signature=()))
    with pytest.raises(RingFull, match=r"heap ring 0 is full.*4096 bytes.*of 8192.*heap_ring_nbytes") as caught:
        worker.run_prepared(callable_id=0, args=TaskArgs())
    assert (caught.value.ring, caught.value.scope) == ("heap ring 0", "the whole run")


def test_device_memory_is_bounds_checked(worker: ChipWorker, make_callable: Make, arguments: Describe) -> None:
    worker.prepare_callable(callable_id=0, callable=make_callable())
    a, c = np.arange(4, dtype=np.float32), np.zeros(4, np.float32)
    device = worker.malloc(a.nbytes)
    worker.copy_to(device, a)
    back = np.zeros_like(a)
    worker.copy_from(back, device)
    np.testing.assert_array_equal(back, a)

    def on_chip(address: int) -> TaskArgs:
        args = TaskArgs().add_tensor(ContinuousTensor.make(address, a.shape, DataType.FLOAT32, child_memory=True))
        for array in (a, c):
            args.add_tensor(ContinuousTensor.make(array.ctypes.data, array.shape, DataType.FLOAT32))
        return args

    worker.run_prepared(callable_id=0, args=on_chip(device))
    np.testing.assert_array_equal(c, a + a)
    with pytest.raises(DeviceMemoryError, match=f"16 bytes at {device + 4:#x} are not inside one live allocation"):
        worker.run_prepared(callable_id=0, args=on_chip(device + 4))
    with pytest.raises(DeviceMemoryError, match="20 bytes"):
        worker.copy_to(device, bytes(20))
    worker.free(device)
    with pytest.raises(MemoryError, match="no live block"):
        worker.free(device)


def test_arrays_that_overlap_stay_one_array(worker: ChipWorker, make_callable: Make, arguments: Describe) -> None:
    worker.prepare_callable(callable_id=0, callable=make_callable(signature=(IN, IN, INOUT)))
    base = np.arange(10, dtype=np.float32)
    expected = base.copy()
    expected[4:8] = expected[0:4] + expected[2:6]
    worker.run_prepared(callable_id=0, args=arguments(base[0:4], base[2:6], base[4:8]))
    assert base[8:].tolist() == [8, 9]
    # The kernel goes forward, as numpy does not: element by element over memory that it has just written.
    serial = np.arange(10, dtype=np.float32)
    for i in range(4):
        serial[4 + i] = serial[i] + serial[2 + i]
    np.testing.assert_array_equal(base, serial)


def test_platforms_are_described_as_data() -> None:
    known = platforms()
    a2a3, a5, cpu = known["a2a3sim"], known["a5sim"], known["cpu"]
    assert (a2a3.clusters, a2a3.aic_cores, a2a3.aiv_cores, a2a3.aicpu_threads, a2a3.dies) == (24, 24, 48, 4, 1)
    assert (a5.clusters, a5.aic_cores, a5.aiv_cores, a5.aicpu_threads, a5.dies) == (36, 36, 72, 7, 2)
    assert (a2a3.aiv_memory_bytes, a2a3.aic_memory_bytes, a2a3.core_memory_bytes) == (196608, 524288, 196608)
    assert (cpu.aic_cores, cpu.core_memory_bytes, cpu.separate_memory) == (len(os.sched_getaffinity(0)), 0, False)
    assert a5.separate_memory


def test_unknown_platforms_and_runtimes_name_those_that_work() -> None:
    with pytest.raises(PlatformError, match="unknown platform 'a4'; known platforms: a2a3sim, a5sim, cpu"):
        ChipWorker(platform="a4")
    with pytest.raises(PlatformError, match=r"'a5' is hardware, and there is no implementation.*'a5sim'"):
        ChipWorker(platform="a5")
    with pytest.raises(PlatformError, match=r"unknown runtime 'ring'; known .*: host_build_graph, tensormap_and_ring"):
        ChipWorker(runtime="ring")


def test_a_chip_must_be_opened_first() -> None:
    chip = ChipWorker()
    with pytest.raises(ChipError, match=r"call init\(\) first"):
        chip.malloc(1)
    chip.finalize()
    chip.init()
    chip.init()
    chip.free(chip.malloc(1))
    chip.finalize()
    with pytest.raises(ChipError, match="init"):
        chip.malloc(1)


def test_nothing_stays_behind_a_closed_chip(make_callable: Make, arguments: Describe) -> None:
    process = psutil.Process()
    add, fan = make_callable("add"), make_callable("nothing", "fan", signature=())  # compiled before counting
    threads, files = process.num_threads(), process.num_fds()
    for _ in range(3):
        chip = ChipWorker(platform="a2a3sim", threads=3)
        chip.init()
        chip.prepare_callable(callable_id=0, callable=add)
        chip.prepare_callable(callable_id=1, callable=fan)
        a, c = np.ones(4, np.float32), np.zeros(4, np.float32)
        chip.run_prepared(callable_id=0, args=arguments(a, a, c))
        assert process.num_threads() == threads + 1, "one task needs nobody but the thread that watches"
        chip.run_prepared(callable_id=1, args=TaskArgs())
        assert threads < process.num_threads() <= threads + 2
        del chip  # forgotten, not even finalized
        assert (process.num_threads(), process.num_fds()) == (threads, files)


def test_importing_starts_no_thread() -> None:
    code = "import simpler_runtime, os; print(len(os.listdir('/proc/self/task')))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "1"


def test_each_forked_process_opens_its_own_chip(make_callable: Make, arguments: Describe) -> None:
    built = make_callable()
    context = multiprocessing.get_context("fork")

    def child(results: multiprocessing.Queue[list[float]], n: int) -> None:
        a, c = np.full(2, n, np.float32), np.zeros(2, np.float32)
        with ChipWorker(platform="a2a3sim") as chip:
            chip.prepare_callable(callable_id=0, callable=built)
            chip.run_prepared(callable_id=0, args=arguments(a, a, c))
        results.put(c.tolist())

    results = context.Queue()
    processes = [context.Process(target=child, args=(results, n)) for n in (1, 2)]
    for process in processes:
        process.start()
    assert sorted(results.get(timeout=60) for _ in processes) == [[2, 2], [4, 4]]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0


def test_other_python_threads_and_signal_handlers_run_meanwhile(worker: ChipWorker, make_callable: Make) -> None:
    worker.prepare_callable(callable_id=0, callable=make_callable("tell", "forever", signature=(), scalar_count=1))
    reader, writer = os.pipe()
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        os.read(reader, 1)  # until the chip runs
        signal.pthread_kill(main, signal.SIGUSR1)

    class Stop(Exception):
        pass

    def stop(*_: object) -> None:
        raise Stop

    before = signal.signal(signal.SIGUSR1, stop)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(Stop):
            worker.run_prepared(callable_id=0, args=TaskArgs().add_scalar(writer))
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, before)
        os.close(reader)
        os.close(writer)


def test_ctrl_c_ends_a_run(make_callable: Make) -> None:
    code = """
import sys
from simpler_runtime import ChipCallable, ChipWorker, TaskArgs
built = ChipCallable.from_bytes(sys.stdin.buffer.read())
with ChipWorker(platform="a2a3sim") as chip:
    chip.prepare_callable(callable_id=0, callable=built)
    try:
        chip.run_prepared(callable_id=0, args=TaskArgs().add_scalar(1))
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""
    built = make_callable("tell", "forever", signature=(), scalar_count=1)
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(built.to_bytes())
        process.stdin.close()
        assert process.stdout.read(1) == b"."  # from the kernel
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == b"interrupted\n"
        assert process.wait(60) == 0


def test_headers_for_kernels_are_where_include_dir_says() -> None:
    names = {path.name for path in (simpler_runtime.include_dir() / "simpler").glob("*.h")}
    assert {"tensor.h", "task_args.h", "kernel.h", "orchestration.h", "chip_callable.h", "platform.h"} <= names


def test_every_host_address_keeps_its_alignment(worker: ChipWorker, make_callable: Make, arguments: Describe) -> None:
    worker.prepare_callable(callable_id=0, callable=make_callable())
    raw = np.zeros(400, np.uint8)
    for offset in (0, 4, 8, 60):
        arrays = [np.frombuffer(raw, np.float32, 8, offset + i * 128) for i in range(3)]
        arrays[0][:] = arrays[1][:] = offset
        worker.run_prepared(callable_id=0, args=arguments(*arrays))
        assert arrays[2].tolist() == [2.0 * offset] * 8
