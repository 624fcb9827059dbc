"""Named regions, as processes of one user meet at them; and regions in pickles."""

from __future__ import annotations

import copy
import itertools
import os
import pathlib
import pickle
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from simpler_ipc import (
    IpcError,
    Mailbox,
    NamedRegion,
    Peer,
    Region,
    RegionExists,
    RegionNotFound,
    UnsupportedPlatform,
    clean_names,
    named_regions,
)

Fork = Callable[..., Peer]
_count = itertools.count()


def path_of(name: str) -> pathlib.Path:
    return pathlib.Path(f"/dev/shm/simpler-ipc.{os.geteuid()}.{name}")


@pytest.fixture
def name() -> Iterator[str]:
    """A name of the test's own, which it leaves free."""
    name = f"pytest-{os.getpid()}-{next(_count)}"
    yield name
    path_of(name).unlink(missing_ok=True)


def listed(name: str) -> NamedRegion | None:
    return next((region for region in named_regions() if region.name == name), None)


def python(program: str, *arguments: str) -> subprocess.Popen[str]:
    """Another Python, not forked from this one."""
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


OWNER = """
import sys
from simpler_ipc import Region
region = Region.create(sys.argv[1], 1 << 36)
region.numpy()[:5] = list(b"hello")
array = region.numpy()  # outlives what Python tidies up at its end
print("created", flush=True)
sys.stdin.readline()
"""


def owner_of(name: str) -> subprocess.Popen[str]:
    process = python(OWNER, name)
    assert process.stdout is not None
    assert process.stdout.readline() == "created\n"
    return process


def test_another_process_attaches_by_name(name: str) -> None:
    owner = owner_of(name)
    with Region.attach(name) as region:
        assert (region.name, region.nbytes) == (name, 1 << 36)
        assert bytes(memoryview(region)[:5]) == b"hello"
        with pytest.raises(RegionExists, match=f"process {owner.pid} owns it") as exists:
            Region.create(name, 4096)
        assert (exists.value.name, exists.value.pid) == (name, owner.pid)
    assert owner.communicate("\n") == ("", "")
    assert owner.returncode == 0
    assert not path_of(name).exists(), "Python takes its names away when it exits"


def test_after_a_kill_the_name_is_free_and_what_was_attached_stays(name: str) -> None:
    owner = owner_of(name)
    attached = Region.attach(name)
    owner.kill()
    owner.communicate()
    with pytest.raises(RegionNotFound, match=f"process {owner.pid}, has ended; create it anew") as missing:
        Region.attach(name)
    assert missing.value.name == name
    stale = listed(name)
    assert stale is not None
    assert (stale.alive, stale.pid, stale.nbytes, stale.resident) == (False, owner.pid, 1 << 36, None)
    with Region.create(name, 4096) as region:
        assert bytes(memoryview(region)[:5]) == bytes(5)
        assert bytes(memoryview(attached)[:5]) == b"hello"


def test_an_owner_that_has_become_another_program_holds_nothing(name: str) -> None:
    become_another = "import os; os.execv(sys.executable, [sys.executable, '-c', 'print(1, flush=True); input()'])"
    owner = python(f"{OWNER}\n{become_another}", name)
    assert owner.stdin is not None
    assert owner.stdout is not None
    with owner:
        assert owner.stdout.readline() == "created\n"
        owner.stdin.write("\n")
        owner.stdin.flush()
        assert owner.stdout.readline() == "1\n"
        with pytest.raises(RegionNotFound, match=f"process {owner.pid}, does not hold it any more"):
            Region.attach(name)
        Region.create(name, 4096).close()
        owner.kill()


def test_an_owner_whose_first_thread_has_ended_still_owns(name: str) -> None:
    program = """
import ctypes, sys, threading
from simpler_ipc import Region
region = Region.create(sys.argv[1], 4096)

def stay():
    while open("/proc/self/stat").read().rsplit(")", 1)[1].split()[0] != "Z":
        pass
    print("alone", flush=True)
    sys.stdin.readline()

threading.Thread(target=stay).start()
ctypes.CDLL(None).pthread_exit(None)
"""
    owner = python(program, name)
    assert owner.stdout is not None
    assert owner.stdout.readline() == "alone\n"
    assert Region.attach(name).nbytes == 4096
    with pytest.raises(RegionExists):
        Region.create(name, 4096)
    owner.kill()
    owner.communicate()


def test_names_go_with_close_with_and_collection(name: str) -> None:
    region = Region.create(name, 4096)
    assert stat.S_IMODE(path_of(name).stat().st_mode) == 0o600
    region.close()
    assert not path_of(name).exists()
    with Region.create(name, 4096):
        assert path_of(name).exists()
    assert not path_of(name).exists()
    region = Region.create(name, 4096)
    del region
    assert not path_of(name).exists()


def test_close_takes_the_name_away_though_a_mailbox_keeps_the_memory(name: str) -> None:
    region = Region.create(name, Mailbox.required_bytes(1, 64))
    mailbox = Mailbox(region, frame_bytes=64)
    region.close()
    assert not path_of(name).exists()
    assert mailbox.client().send(1, b"still there") == 0


def test_close_refused_for_a_view_leaves_the_name(name: str) -> None:
    with Region.create(name, 4096) as region:
        view = memoryview(region)
        with pytest.raises(BufferError):
            region.close()
        assert path_of(name).exists()
        view.release()


def test_a_forked_child_takes_no_name_away(name: str, fork: Fork) -> None:
    region = Region.create(name, 4096)

    def child() -> None:
        assert region.name == name
        region.close()

    assert fork(child).wait().exit_status == 0
    assert Region.attach(name).nbytes == 4096
    region.close()


def test_a_forked_child_of_multiprocessing_takes_its_own_away(name: str) -> None:
    program = """
import multiprocessing, sys
from simpler_ipc import Region

def child():
    global kept
    kept = Region.create(sys.argv[1] + "-child", 4096)

if __name__ == "__main__":
    region = Region.create(sys.argv[1], 4096)
    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    print(process.exitcode, Region.attach(sys.argv[1]).nbytes)
"""
    said, errors = python(program, name).communicate()
    assert (said, errors) == ("0 4096\n", "")
    assert not path_of(name).exists()
    assert not path_of(f"{name}-child").exists()


@pytest.mark.parametrize("wrong", ["", ".x", "a/b", "a b", "ä", "x" * 201])
def test_what_is_no_name_is_refused(wrong: str) -> None:
    for use in (lambda: Region.create(wrong, 4096), lambda: Region.attach(wrong)):
        with pytest.raises(ValueError, match="no name for a region"):
            use()


def test_a_name_that_may_not_be_used_says_why_and_stays(name: str) -> None:
    path_of(name).write_bytes(b"someone else's")
    path_of(name).chmod(0o600)
    for use in (lambda: Region.create(name, 4096), lambda: Region.attach(name)):
        with pytest.raises(IpcError, match="no record of a region"):
            use()
    assert clean_names([name]) == []
    unknown = listed(name)
    assert unknown is not None
    assert (unknown.alive, unknown.note) == (None, "what is there is no record of a region")
    assert path_of(name).read_bytes() == b"someone else's"


def test_a_signal_ends_the_wait_for_a_names_lock(name: str) -> None:
    fcntl = pytest.importorskip("fcntl")
    with Region.create(name, 4096), path_of(name).open() as holder:
        fcntl.flock(holder, fcntl.LOCK_EX)
        before = signal.signal(signal.SIGALRM, signal.default_int_handler)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        try:
            with pytest.raises(KeyboardInterrupt):
                Region.create(name, 4096)
        finally:
            signal.signal(signal.SIGALRM, before)


def test_cleaning_takes_what_the_dead_left_and_nothing_else(name: str) -> None:
    dead = owner_of(f"{name}-dead")
    dead.kill()
    dead.communicate()
    with Region.create(name, 4096):
        assert [region.name for region in clean_names([name, f"{name}-dead"])] == [f"{name}-dead"]
        alive = listed(name)
        assert alive is not None
        assert (alive.alive, alive.pid, repr(alive)) == (True, os.getpid(), f'NamedRegion("{name}", alive)')
    assert listed(f"{name}-dead") is None


def test_errors_of_names_have_the_bases_that_callers_catch_and_pickle(name: str) -> None:
    for cls, base in (
        (RegionExists, FileExistsError),
        (RegionNotFound, FileNotFoundError),
        (UnsupportedPlatform, NotImplementedError),
    ):
        assert issubclass(cls, IpcError)
        assert issubclass(cls, base)
    with pytest.raises(RegionNotFound) as missing:
        Region.attach(name)
    again = pickle.loads(pickle.dumps(missing.value))
    assert (type(again), str(again), again.name, again.errno) == (RegionNotFound, str(missing.value), name, 2)
    with Region.create(name, 4096), pytest.raises(RegionExists) as exists:
        Region.create(name, 4096)
    copied = copy.copy(exists.value)
    assert (str(copied), copied.name, copied.pid, copied.errno) == (str(exists.value), name, os.getpid(), 17)
    assert str(pickle.loads(pickle.dumps(UnsupportedPlatform("it needs Linux")))) == "it needs Linux"


PICKLING = """
import multiprocessing, pickle, sys
from concurrent.futures import ProcessPoolExecutor
from simpler_ipc import Region


def write(first, again, second, named, queue):
    assert first.address == again.address, "one mapping of one memory"
    first.numpy()[0], second.numpy()[0], named.numpy()[0] = 1, 2, 3
    from_queue = queue.get()
    from_queue.numpy()[0] = 4
    assert from_queue.name is None and named.name == sys.argv[2]


def add(region, amount):
    region.numpy()[1] += amount
    return region.nbytes


if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    first, second, third = Region(1 << 36), Region(4096), Region(4096)
    named = Region.create(sys.argv[2], 4096)
    again = pickle.loads(pickle.dumps(first))  # another object, the same descriptor
    queue = context.Queue()
    child = context.Process(target=write, args=(first, again, second, named, queue))
    child.start()
    queue.put(third)
    child.join()
    assert child.exitcode == 0, child.exitcode
    print(first.numpy()[0], second.numpy()[0], named.numpy()[0], third.numpy()[0])
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        print(*pool.map(add, [first, second], [6, 7]), first.numpy()[1], second.numpy()[1])
"""


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_a_region_pickles_to_children_through_arguments_queues_and_pools(
    method: str, name: str, tmp_path: pathlib.Path
) -> None:
    program = tmp_path / "program.py"
    program.write_text(PICKLING)
    ran = subprocess.run([sys.executable, program, method, name], capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr, ran.returncode) == (f"1 2 3 4\n{1 << 36} 4096 6 7\n", "", 0)


def test_a_pickled_region_comes_back_as_the_same_memory_and_leaves_no_descriptor(
    open_fds: Callable[[], list[str]], eventually: Callable[[Callable[[], bool]], None]
) -> None:
    region = Region(4096, label="to-be-pickled")
    again = pickle.loads(pickle.dumps(region))
    again.numpy()[7] = 9
    assert region.numpy()[7] == 9
    assert again.address == region.address
    again.close()
    # A thread of multiprocessing closes what it has served.
    eventually(lambda: open_fds().count("/memfd:to-be-pickled (deleted)") == 1)
    region.close()
    with pytest.raises(ValueError, match="closed"):
        pickle.dumps(region)
