"""`python -m simpler_ipc`: what each tool says, in which state it leaves things, and how it ends."""

from __future__ import annotations

import itertools
import json
import os
import pathlib
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from simpler_ipc import Peer, Region, __main__
from simpler_ipc.tools import command_line, doctor, text

Fork = Callable[..., Peer]
_count = itertools.count()


def tool(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "simpler_ipc", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def path_of(name: str) -> pathlib.Path:
    return pathlib.Path(f"/dev/shm/simpler-ipc.{os.geteuid()}.{name}")


@pytest.fixture
def name() -> Iterator[str]:
    name = f"tools-{os.getpid()}-{next(_count)}"
    yield name
    path_of(name).unlink(missing_ok=True)


@pytest.fixture
def stale(fork: Fork) -> Iterator[str]:
    """A name whose owner is dead."""
    name = f"tools-{os.getpid()}-{next(_count)}"

    def die() -> None:
        region = Region.create(name, 1 << 20)
        os.kill(os.getpid(), signal.SIGKILL)
        region.close()

    assert fork(die).wait().signal == signal.SIGKILL
    yield name
    path_of(name).unlink(missing_ok=True)


def line_of(name: str, printed: str) -> str:
    (line,) = (line for line in printed.splitlines() if line.startswith(f"{name} "))
    return line


def test_ls_tells_size_owner_and_state(name: str, stale: str) -> None:
    with Region.create(name, 1 << 36) as region:
        region.prefault(0, 8 << 20)
        printed = tool("ls").stdout
    assert printed.split()[:7] == ["NAME", "SIZE", "RESIDENT", "OWNER", "AGE", "STATE", "COMMAND"]
    assert re.search(rf" 64 GiB +8 MiB +{os.getpid()} +\d+ s +alive +python", line_of(name, printed))
    assert re.search(r" 1 MiB +- +\d+ +\d+ s +stale +\(its owner, process \d+, has ended\)", line_of(stale, printed))


def test_ls_for_programs(name: str, stale: str) -> None:
    with Region.create(name, 4096):
        listed = {region["name"]: region for region in json.loads(tool("ls", "--json").stdout)}
    mine, dead = listed[name], listed[stale]
    assert (mine["nbytes"], mine["resident"], mine["pid"], mine["alive"]) == (4096, 0, os.getpid(), True)
    assert "python" in mine["command"]
    assert mine["age"] >= 0
    assert (dead["alive"], dead["command"], dead["resident"]) == (False, None, None)


def test_ls_shows_what_it_cannot_judge(name: str) -> None:
    path_of(name).touch(0o600)
    path_of(name).write_bytes(b"\x1b[31m not a record")
    assert "unknown  (what is there is no record of a region)" in line_of(name, tool("ls").stdout)


def test_clean_removes_the_stale_and_says_which(name: str, stale: str) -> None:
    with Region.create(name, 4096):
        dry = tool("clean", "--dry-run", stale)
        assert (dry.returncode, dry.stderr) == (0, "")
        assert re.fullmatch(rf"would remove {stale}: its owner, process \d+, has ended\n", dry.stdout)
        assert path_of(stale).exists()
        done = tool("clean", stale, name, "no-such-name")
        assert done.returncode == 1
        assert re.fullmatch(rf"removed {stale}: its owner, process \d+, has ended\n", done.stdout)
        assert f"{name} stays: process {os.getpid()} owns it and is alive\n" in done.stderr
        assert "no-such-name stays: there is no region of that name\n" in done.stderr
        assert path_of(name).exists()
    assert not path_of(stale).exists()


def test_clean_without_names_leaves_the_living(name: str) -> None:
    with Region.create(name, 4096):
        assert tool("clean", "--dry-run").returncode == 0
        assert path_of(name).exists()


def test_doctor_finds_what_the_tests_stand_on() -> None:
    ran = tool("doctor")
    assert ran.returncode == 0, ran.stdout
    assert "missing  " not in ran.stdout
    for check in doctor.CHECKS:
        assert re.search(rf"^(ok|degraded) +{re.escape(check.name)} ", ran.stdout, re.MULTILINE)
    findings = json.loads(tool("doctor", "--json").stdout)
    assert {finding["check"]: finding["state"] for finding in findings}["memfd"] == "ok"


def refuse(*_: Any) -> Any:
    raise OSError(38, "Function not implemented")


@pytest.mark.parametrize(
    ("module", "lacks", "answer", "line", "status"),
    [
        ("os", "pidfd_open", refuse, r"missing +pidfd .*not implemented: processes cannot be watched; use Linux", 1),
        ("os", "eventfd", refuse, r"missing +eventfd ", 1),
        ("platform", "system", lambda: "Darwin", r"missing +kernel +Darwin .*: run it on Linux", 1),
        (
            "platform",
            "release",
            lambda: "4.19.0-5-amd64",
            r"degraded +kernel +Linux 4.19.0-5-amd64 is older than 5.4",
            0,
        ),
        ("os", "sched_getaffinity", lambda _: {3}, r"degraded +CPUs +1 usable: nothing spins", 0),
        ("resource", "getrlimit", lambda _: (256, 4096), r"degraded +open files +256, may be raised to 4096: ", 0),
        ("resource", "getrlimit", lambda _: (resource.RLIM_INFINITY, -1), r"ok +open files +no limit", 0),
        ("os", "unlink", refuse, r"degraded +/dev/shm .*: regions cannot be named", 0),
        ("mmap", "mmap", refuse, r"degraded +MADV_POPULATE_WRITE .*page by page", 0),
    ],
)
def test_doctor_says_what_a_lack_means(
    module: str,
    lacks: str,
    answer: Callable[..., Any],
    line: str,
    status: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(getattr(doctor, module), lacks, answer)
        assert command_line.run(["doctor"]) == status
    pathlib.Path(f"/dev/shm/simpler-ipc-doctor.{os.getpid()}").unlink(missing_ok=True)
    printed = capsys.readouterr().out
    assert re.search(f"^{line}", printed, re.MULTILINE), printed
    assert ("something essential is missing" in printed) == bool(status)


def test_doctor_leaves_nothing(open_fds: Callable[[], list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    before = open_fds()
    assert command_line.run(["doctor", "--json"]) == 0
    assert open_fds() == before
    assert not list(pathlib.Path("/dev/shm").glob(f"simpler-ipc-doctor.{os.getpid()}"))
    capsys.readouterr()


def test_bench_prints_both_and_their_ratio() -> None:
    ran = tool("bench", "--messages", "50")
    assert (ran.returncode, ran.stderr) == (0, "")
    for line in (
        r"\d+ CPUs usable, load [\d.]+; Python to Python, 100 bytes",
        r"round trip, Mailbox( +[\d.]+ [nµm]s){3} +[\d.]+ ×",
        r"round trip, Pipe( +[\d.]+ [nµm]s){3}",
        r"round trip after idling, Mailbox( +[\d.]+ [nµm]s){3} +[\d.]+ ×",
        r"pipelined, Mailbox of 64 frames, with replies +[\d.]+ M/s +[\d.]+ ×",
        r"HeapRing alloc and release of 4 KiB +\d+ ns",
        r"probe \(a fixed amount of work\): [\d.]+ ms before, [\d.]+ ms after",
    ):
        assert re.search(f"^{line}", ran.stdout, re.MULTILINE), ran.stdout
    assert tool("bench", "--messages", "0").returncode == 2


def test_ctrl_c_ends_the_benchmark_with_one_word_and_its_children() -> None:
    command = [sys.executable, "-m", "simpler_ipc", "bench", "--messages", "1000000000"]
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0
    )  # its children get the signal as well, as from a terminal
    assert running.stdout is not None
    assert "CPUs usable" in running.stdout.readline()
    os.killpg(running.pid, signal.SIGINT)
    _, errors = running.communicate()  # until its children have closed their ends, too
    assert (running.returncode, errors) == (130, "interrupted\n")


@pytest.mark.parametrize("command", ["ls", "clean", "doctor"])
def test_ctrl_c_ends_every_tool_with_one_word(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(_: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "run", interrupted)
    monkeypatch.setattr(sys, "argv", ["simpler_ipc", command])
    assert __main__.main() == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_reader_that_leaves_ends_a_tool_quietly() -> None:
    left, right = os.pipe()
    os.close(left)
    command = [sys.executable, "-m", "simpler_ipc", "doctor"]
    ran = subprocess.run(command, stdout=right, stderr=subprocess.PIPE, text=True, check=False)
    os.close(right)
    assert (ran.returncode, ran.stderr) == (141, "")


def test_a_failure_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("simpler_ipc.tools.names.named_regions", refuse)
    assert command_line.run(["ls"]) == 1
    assert capsys.readouterr().err == "python -m simpler_ipc: [Errno 38] Function not implemented\n"


def test_sizes_and_ages_read_well() -> None:
    sizes = {0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1 << 36: "64 GiB", 1536 << 10: "1.5 MiB", 1 << 50: "1 PiB"}
    assert {nbytes: text.size(nbytes) for nbytes in sizes} == sizes
    assert text.size(None) == "?"
    ages = {0: "0 s", 119: "119 s", 120: "2 min", 7200: "2 h", 200_000: "2 d", -1: "0 s"}
    assert {seconds: text.age(seconds) for seconds in ages} == ages
    assert text.printable("a\x1b[31m\nb") == "a?[31m?b"
    assert text.columns([("a", "1"), ("long", "22")], right=(1,)) == "a      1\nlong  22"
