"""`doctor`: what this machine lacks, one line a check, with what it means and what to do.

Each check tries the thing itself, as the library would use it, and asks no version number where it can do without.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import platform
import resource
import select
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

from simpler_ipc import Doorbell, Region, WaitTimeout
from simpler_ipc.tools import text

OK, DEGRADED, MISSING = "ok", "degraded", "missing"
KERNEL = (5, 4)
MADV_POPULATE_WRITE = 23
FEW_FILES = 1024
LITTLE_MEMORY = 1 << 20


@dataclass(frozen=True)
class Finding:
    """What a check found. Where it is not ok, `advice` tells what that means and what to do."""

    check: str
    state: str
    detail: str
    advice: str = ""


@dataclass(frozen=True)
class Check:
    """Something to try: `trial` says what it saw, or raises. `lacking` is the state if it raises."""

    name: str
    trial: Callable[[], str]
    lacking: str
    advice: str

    def find(self) -> Finding:
        try:
            return Finding(self.name, OK, self.trial())
        except _Lacking as lacking:
            return Finding(self.name, lacking.state or self.lacking, str(lacking), self.advice)
        except (OSError, AttributeError, NotImplementedError) as error:
            return Finding(self.name, self.lacking, text.printable(str(error)), self.advice)


class _Lacking(Exception):
    """A trial's answer that something is not as it should be, if need be in another state than the check's own."""

    def __init__(self, detail: str, state: str | None = None) -> None:
        super().__init__(detail)
        self.state = state


def add_to(commands: Any) -> None:
    doctor = commands.add_parser("doctor", help="tell what this machine lacks", description=command.__doc__)
    doctor.add_argument("--json", action="store_true", help="for programs")
    doctor.set_defaults(run=command)


def command(options: argparse.Namespace) -> int:
    """Tell what this machine lacks, what that means and what to do. Exit status 1 if something essential is missing."""
    findings = [check.find() for check in CHECKS]
    missing = any(finding.state == MISSING for finding in findings)
    if options.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
        return int(missing)
    rows = [(finding.state, finding.check, explain(finding)) for finding in findings]
    print(text.columns(rows))
    worse = sum(finding.state == DEGRADED for finding in findings)
    if missing:
        print("\nsomething essential is missing: simpler_ipc does not work here")
    elif worse:
        print(f"\nsimpler_ipc works here, with {worse} limitation{'s' if worse > 1 else ''}")
    else:
        print("\nnothing is missing")
    return int(missing)


def explain(finding: Finding) -> str:
    return finding.detail if finding.state == OK else f"{finding.detail}: {finding.advice}"


@contextmanager
def child() -> Iterator[int]:
    """A forked child that stays until the block ends; its process id."""
    stay, leave = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(leave)
        os.read(stay, 1)
        os._exit(0)
    os.close(stay)
    try:
        yield pid
    finally:
        os.close(leave)
        os.waitpid(pid, 0)


def kernel() -> str:
    name, release = platform.system(), platform.release()
    if name != "Linux":
        raise _Lacking(f"{name} {release}")
    numbers = release.split("-")[0].split(".")
    version = tuple(int(number) for number in numbers[:2] if number.isdigit())
    if version < KERNEL:
        raise _Lacking(f"Linux {release} is older than {KERNEL[0]}.{KERNEL[1]}", DEGRADED)
    return f"Linux {release}"


def memory() -> str:
    with Region(4096) as region:
        try:
            os.ftruncate(region.fd, 0)
        except PermissionError:
            return "sealed against shrinking"
    raise _Lacking("a sealed memfd can be shrunk")


def futex() -> str:
    with Region(Doorbell.NBYTES) as region:
        try:
            Doorbell(region).wait(0, timeout=0.002)
        except WaitTimeout:
            return "sleeps and wakes on time"
    raise _Lacking("it woke without being rung")


def pidfd() -> str:
    os.close(os.pidfd_open(os.getpid()))
    return "works"


def pidfd_poll() -> str:
    with child() as pid:
        fd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        if not poll.poll(0):
            raise _Lacking("the end of a process does not show")
    finally:
        os.close(fd)
    return "shows the end of a process"


def descriptors_of_a_child() -> str:
    with Region(4096) as region, child() as pid:
        fd = os.open(f"/proc/{pid}/fd/{region.fd}", os.O_RDWR | os.O_CLOEXEC)
        try:
            Region.from_fd(fd).close()
        finally:
            os.close(fd)
    return "can be opened"


def shared_directory() -> str:
    path = f"/dev/shm/simpler-ipc-doctor.{os.getpid()}"
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
    try:
        room = os.fstatvfs(descriptor)
    finally:
        os.close(descriptor)
        os.unlink(path)
    free, whole = room.f_bavail * room.f_frsize, room.f_blocks * room.f_frsize
    if free < LITTLE_MEMORY:
        raise _Lacking(f"only {text.size(free)} of {text.size(whole)} free")
    return f"writable, {text.size(free)} of {text.size(whole)} free"


def populate() -> str:
    with mmap.mmap(-1, mmap.PAGESIZE) as pages:
        pages.madvise(MADV_POPULATE_WRITE)
    return "works"


def hole_punching() -> str:
    nbytes = 1 << 20
    with Region(nbytes) as region:
        region.prefault()
        region.punch(0, nbytes)
        if os.fstat(region.fd).st_blocks:
            raise _Lacking("pages are not given back")
    return "gives pages back"


def processors() -> str:
    usable = len(os.sched_getaffinity(0))
    if usable == 1:
        raise _Lacking("1 usable")
    return f"{usable} usable"


def open_files() -> str:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = "no limit" if soft == resource.RLIM_INFINITY else str(soft)
    if soft != resource.RLIM_INFINITY and soft < FEW_FILES:
        raise _Lacking(f"{limit}, may be raised to {hard}")
    return limit


def eventfd() -> str:
    os.close(os.eventfd(0, os.EFD_CLOEXEC))
    return "works"


CHECKS = (
    Check("kernel", kernel, MISSING, "run it on Linux 5.4 or later, in a virtual machine for example"),
    Check(
        "memfd", memory, MISSING, "no region can be made; a sandbox (seccomp, gVisor) may forbid it: allow memfd_create"
    ),
    Check("futex", futex, MISSING, "nobody can sleep on shared memory; allow futex in this sandbox"),
    Check("pidfd", pidfd, MISSING, "processes cannot be watched; use Linux 5.3 or later, and allow pidfd_open"),
    Check("pidfd in poll", pidfd_poll, MISSING, "the death of a process goes unnoticed; use Linux 5.3 or later"),
    Check(
        "eventfd", eventfd, MISSING, "nothing can be watched, and asyncio cannot wait; allow eventfd2 in this sandbox"
    ),
    Check(
        "/proc/PID/fd",
        descriptors_of_a_child,
        DEGRADED,
        "nobody can attach by name: mount /proc without hidepid, or hand descriptors over sockets",
    ),
    Check(
        "/dev/shm",
        shared_directory,
        DEGRADED,
        "regions cannot be named: mount a writable tmpfs there (memory itself does not count against its size)",
    ),
    Check("MADV_POPULATE_WRITE", populate, DEGRADED, "prefault touches page by page instead; Linux 5.14 has it"),
    Check("hole punching", hole_punching, DEGRADED, "punch keeps memory: use a kernel with tmpfs"),
    Check(
        "CPUs",
        processors,
        DEGRADED,
        "nothing spins, every round trip is two switches between processes: give this process a second CPU (taskset)",
    ),
    Check(
        "open files",
        open_files,
        DEGRADED,
        "each region takes one and each watched process another: raise it (ulimit -n)",
    ),
)
