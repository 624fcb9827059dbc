"""What goes wrong on a worker arrives as what it was; what does not come back can be given up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
from chia.base.ChiaFunction import ChiaFunction, get

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.usefixtures("cluster")]


class SynthesisError(Exception):
    def __init__(self, design: str, slack: float) -> None:
        super().__init__(f"{design}: slack {slack}")
        self.design = design
        self.slack = slack


@ChiaFunction
def synthesize(design: str) -> str:
    raise SynthesisError(design, -0.5)


@ChiaFunction
def measure(bitstream: str) -> int:
    return len(bitstream)


@ChiaFunction
def lookup(key: str) -> int:
    return {"present": 1}[key]


@ChiaFunction(resources={"unicorn": 1})
def impossible() -> None: ...


def test_an_exception_keeps_type_message_fields_and_remote_traceback() -> None:
    ref = synthesize.chia_remote("cpu")
    with pytest.raises(SynthesisError, match=r"cpu: slack -0\.5") as caught:
        get(ref)
    assert isinstance(caught.value, ray.exceptions.RayTaskError)
    assert isinstance(caught.value.cause, SynthesisError)
    assert (caught.value.design, caught.value.slack) == ("cpu", -0.5)
    assert "test_failures.py" in str(caught.value)
    assert "in synthesize" in str(caught.value)


def test_a_blocking_call_raises_what_the_function_raised() -> None:
    with pytest.raises(KeyError, match="absent"):
        lookup.chia_remote_blocking("absent")
    assert lookup.chia_remote_blocking("present") == 1


def test_what_depends_on_a_failed_task_fails_with_its_error() -> None:
    ref = measure.chia_remote(bitstream=synthesize.chia_remote("gpu"))
    with pytest.raises(SynthesisError, match="gpu"):
        get(ref)


def test_one_failure_among_many_is_raised_and_the_others_stay_available() -> None:
    refs = [measure.chia_remote("a"), measure.chia_remote(synthesize.chia_remote("x")), measure.chia_remote("abc")]
    with pytest.raises(SynthesisError):
        get(refs)
    assert get([refs[0], refs[2]]) == [1, 3]


class FileError(OSError):
    def __init__(self, path: str) -> None:
        super().__init__(2, "no such design", path)
        self.path = path


class HoldsALock(RuntimeError):
    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.lock = threading.Lock()
        self.code = 7


class HoldsAnother(RuntimeError):
    def __init__(self, *, inner: Exception) -> None:
        super().__init__("outer")
        self.inner = inner
        self.text = str(inner)


class MadeByKeyword(ValueError):
    def __new__(cls, *, code: int) -> MadeByKeyword:
        return super().__new__(cls, f"code {code}")

    def __init__(self, *, code: int) -> None:
        self.code = code


@pytest.mark.parametrize(
    ("make", "text", "attribute"),
    [
        (lambda: FileError("cpu.v"), "no such design", ("path", "cpu.v")),
        (lambda: HoldsALock("busy"), "busy", ("code", 7)),
        (lambda: HoldsAnother(inner=SynthesisError("x", 1.0)), "outer", ("text", "x: slack 1.0")),
        (lambda: MadeByKeyword(code=3), "code 3", ("code", 3)),
        (lambda: UnicodeDecodeError("utf-8", b"ab", 0, 1, "bad byte"), "bad byte", ("start", 0)),
        (lambda: json.JSONDecodeError("no value", "{", 1), "no value", ("pos", 1)),
        (lambda: subprocess.CalledProcessError(2, ["make"]), "exit status 2", ("returncode", 2)),
    ],
)
def test_exceptions_that_pickle_badly_arrive_as_themselves(make: Any, text: str, attribute: tuple[str, Any]) -> None:
    @ChiaFunction
    def failing() -> None:
        raise make()

    with pytest.raises(type(make()), match=text) as caught:
        failing.chia_remote_blocking()
    name, value = attribute
    assert getattr(caught.value, name) == value
    assert "in failing" in str(caught.value.__cause__ or caught.value)


def test_an_exception_passes_through_a_node_that_got_it_from_another() -> None:
    @ChiaFunction
    def outer() -> str:
        return synthesize.chia_remote_blocking("inner")

    with pytest.raises(SynthesisError, match="inner") as caught:
        outer.chia_remote_blocking()
    assert caught.value.slack == -0.5


def test_a_generator_that_fails_raises_what_it_raised() -> None:
    @ChiaFunction
    def some() -> Iterator[int]:
        yield 1
        raise SynthesisError("late", 1.0)

    values = some.chia_remote_blocking()
    assert next(values) == 1
    with pytest.raises(SynthesisError, match="late"):
        next(values)


def test_a_group_of_exceptions_arrives_as_a_group() -> None:
    @ChiaFunction
    def both() -> None:
        raise ExceptionGroup("both", [ValueError("left"), SynthesisError("right", 2.0)])

    with pytest.raises(ExceptionGroup) as caught:
        both.chia_remote_blocking()
    left, right = caught.value.exceptions
    assert isinstance(left, ValueError)
    assert isinstance(right, SynthesisError)
    assert right.slack == 2.0


def test_resources_that_nobody_offers_end_in_a_timeout() -> None:
    ref = impossible.chia_remote()
    with pytest.raises(ray.exceptions.GetTimeoutError):
        get(ref, timeout=0.1)
    with pytest.raises(TimeoutError):
        get([ref], timeout=0)
    ray.cancel(ref)
    with pytest.raises(ray.exceptions.TaskCancelledError):
        get(ref, timeout=60)


def held_task(gate: Any) -> Any:
    reached, opened = gate.reached_path, gate.open_path

    @ChiaFunction(max_retries=0)
    def held() -> str:
        with open(reached, "w"):
            pass
        with open(opened) as pipe:
            return pipe.read()

    return held


def cancellable_task(gate: Any, cancelled: str) -> Any:
    reached = gate.reached_path

    @ChiaFunction(max_retries=0)
    def held() -> None:
        signalled, wakeup = os.pipe()
        os.set_blocking(wakeup, False)
        signal.set_wakeup_fd(wakeup)
        with open(reached, "w"):
            pass
        try:
            os.read(signalled, 1)  # Ray cancels by a simulated signal, which interrupts no system call
        except KeyboardInterrupt:
            with open(cancelled, "w"):
                pass
            raise
        finally:
            signal.set_wakeup_fd(-1)

    return held


def press_ctrl_c_at(gate: Any) -> threading.Thread:
    def press() -> None:
        gate.wait_until_reached()
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=press)
    thread.start()
    return thread


def test_ctrl_c_ends_get_and_the_task_goes_on(gate: Any) -> None:
    ref = held_task(gate).chia_remote()
    thread = press_ctrl_c_at(gate)
    with pytest.raises(KeyboardInterrupt):
        get(ref)
    thread.join()
    gate.open()
    assert get(ref, timeout=60) == "go"


def test_ctrl_c_in_a_blocking_call_cancels_the_task(gate: Any, tmp_path: Path) -> None:
    cancelled = tmp_path / "cancelled"
    os.mkfifo(cancelled)
    held = cancellable_task(gate, str(cancelled))
    thread = press_ctrl_c_at(gate)
    with pytest.raises(KeyboardInterrupt):
        held.chia_remote_blocking()
    thread.join()
    assert cancelled.read_text() == ""  # returns when the task has opened it
