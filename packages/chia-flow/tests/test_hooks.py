"""_chia_setup and _chia_cleanup: around the function, on its worker."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chia.base.ChiaFunction import ChiaFunction, get
from chia.base.hooks import Hooks
from chia.errors import HookError

pytestmark = pytest.mark.xdist_group("ray")


def note(path: str, text: str) -> None:
    with open(path, "a") as log:
        log.write(f"{text} ")


def fail(text: str) -> None:
    raise OSError(text)


@ChiaFunction
def work(path: str, text: str = "work") -> int:
    note(path, text)
    return os.getpid()


@ChiaFunction
def broken(path: str) -> None:
    note(path, "broken")
    raise ValueError("from the function")


@ChiaFunction
def steps(path: str) -> Iterator[int]:
    for number in range(2):
        note(path, str(number))
        yield number


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.mark.usefixtures("cluster")
class TestOnAWorker:
    def test_setup_function_and_cleanup_run_in_this_order(self, log: Path) -> None:
        ref = work.chia_remote(
            str(log),
            text="task",
            _chia_setup=note,
            _chia_setup_args=(str(log), "setup"),
            _chia_cleanup=note,
            _chia_cleanup_args=(str(log), "cleanup"),
        )
        assert get(ref) != os.getpid()
        assert log.read_text().split() == ["setup", "task", "cleanup"]

    def test_cleanup_runs_when_the_function_raises(self, log: Path) -> None:
        with pytest.raises(ValueError, match="from the function"):
            broken.chia_remote_blocking(str(log), _chia_cleanup=note, _chia_cleanup_args=(str(log), "cleanup"))
        assert log.read_text().split() == ["broken", "cleanup"]

    def test_a_failing_setup_skips_function_and_cleanup(self, log: Path) -> None:
        with pytest.raises(OSError, match="no scratch"):
            work.chia_remote_blocking(
                str(log),
                _chia_setup=fail,
                _chia_setup_args=("no scratch",),
                _chia_cleanup=note,
                _chia_cleanup_args=(str(log), "cleanup"),
            )
        assert not log.exists()

    def test_a_failing_cleanup_masks_neither_result_nor_error(self, log: Path) -> None:
        hook: dict[str, Any] = {"_chia_cleanup": fail, "_chia_cleanup_args": ("busy",)}
        assert work.chia_remote_blocking(str(log), **hook) != os.getpid()
        with pytest.raises(ValueError, match="from the function"):
            broken.chia_remote_blocking(str(log), **hook)

    def test_hooks_go_with_options_and_with_references(self, log: Path) -> None:
        @ChiaFunction
        def name() -> str:
            return "named"

        dispatch = work.options(num_cpus=1)
        dispatch.chia_remote_blocking(
            str(log), name.chia_remote(), _chia_cleanup=note, _chia_cleanup_args=(str(log), "cleanup")
        )
        assert log.read_text().split() == ["named", "cleanup"]

    def test_the_cleanup_of_a_generator_waits_for_its_last_value(self, log: Path) -> None:
        values = steps.chia_remote_blocking(str(log), _chia_cleanup=note, _chia_cleanup_args=(str(log), "cleanup"))
        assert list(values) == [0, 1]
        assert log.read_text().split() == ["0", "1", "cleanup"]

    def test_references_among_the_arguments_of_hooks_arrive_as_values(self, log: Path) -> None:
        @ChiaFunction
        def name(text: str) -> str:
            return text

        work.chia_remote_blocking(
            str(log),
            _chia_setup=note,
            _chia_setup_args=(str(log), name.chia_remote("before")),
            _chia_cleanup=note,
            _chia_cleanup_args=(str(log), name.chia_remote("after")),
        )
        assert log.read_text().split() == ["before", "work", "after"]

    def test_arguments_that_do_not_fit_are_refused_at_the_call(self) -> None:
        with pytest.raises(TypeError, match="missing a required argument: 'path'"):
            work.chia_remote(_chia_cleanup=print)


@pytest.mark.parametrize(
    ("hooks", "message"),
    [
        ({"setup": 3}, "_chia_setup must be a callable"),
        ({"cleanup": print, "cleanup_args": "ab"}, "_chia_cleanup_args must be a tuple"),
        ({"setup_args": (1,)}, "_chia_setup_args is given without _chia_setup"),
    ],
)
def test_wrong_hooks_are_refused(hooks: dict[str, Any], message: str) -> None:
    with pytest.raises(HookError, match=message):
        Hooks(**hooks)


@pytest.mark.usefixtures("cluster")
def test_an_unknown_reserved_keyword_is_refused() -> None:
    for call in (work, work.chia_remote):
        with pytest.raises(HookError, match=r"_chia_tear_down is no keyword.*_chia_cleanup_args"):
            call("log", _chia_tear_down=print)
        with pytest.raises(HookError, match="_chia_tag must be a string, not 3"):
            call("log", _chia_tag=3)


def test_the_keywords_do_the_same_in_a_direct_call(log: Path) -> None:
    hooks: dict[str, Any] = {
        "_chia_setup": note,
        "_chia_setup_args": (str(log), "setup"),
        "_chia_cleanup": note,
        "_chia_cleanup_args": (str(log), "cleanup"),
        "_chia_tag": "here",
    }
    assert work(str(log), **hooks) == os.getpid()
    assert list(steps(str(log), **hooks)) == [0, 1]
    with pytest.raises(ValueError, match="from the function"):
        broken(str(log), **hooks)
    assert log.read_text().split() == [
        *("setup", "work", "cleanup"),
        *("setup", "0", "1", "cleanup"),
        *("setup", "broken", "cleanup"),
    ]


def test_async_nodes_have_hooks_around_them_here_too(log: Path) -> None:
    @ChiaFunction
    async def wait() -> None:
        note(str(log), "wait")

    async def main() -> None:
        await wait(_chia_cleanup=note, _chia_cleanup_args=(str(log), "cleanup"))  # type: ignore[call-arg]

    asyncio.run(main())
    assert log.read_text().split() == ["wait", "cleanup"]
