"""What a type checker knows about nodes. Checked by mypy, never run: wrong uses are the ignored lines."""

from __future__ import annotations

from typing import assert_type

from chia.base.ChiaFunction import ChiaCallRemote, ChiaFunction, get
from ray import ObjectRef


@ChiaFunction
def add(a: int, b: int = 1) -> int:
    return a + b


@ChiaFunction(num_cpus=2, resources={"fpga": 1})
def text(n: int, *, separator: str = ",") -> str:
    return separator * n


class Build:
    @ChiaFunction(max_retries=0)
    def run(self, flags: str) -> bytes:
        return flags.encode()

    @staticmethod
    @ChiaFunction
    def half(value: int) -> float:
        return value / 2


def uses(build: Build) -> None:
    assert_type(add(1), int)
    assert_type(add.chia_remote(1), ObjectRef[int])
    assert_type(get(add.chia_remote(1, b=2)), int)
    assert_type(get([add.chia_remote(1)]), list[int])
    assert_type(get(text.chia_remote(add.chia_remote(1), separator=";")), str)
    assert_type(text.options(num_cpus=1).chia_remote_blocking(add.chia_remote(1)), str)

    assert_type(build.run("-j2"), bytes)
    assert_type(build.run.chia_remote("-j2"), ObjectRef[bytes])
    assert_type(build.run.chia_remote(build, "-j2"), ObjectRef[bytes])
    assert_type(build.run.chia_remote(build, text.chia_remote(1)), ObjectRef[bytes])
    assert_type(build.run.options(num_cpus=1).chia_remote(build, flags=""), ObjectRef[bytes])
    assert_type(Build.run.chia_remote_blocking(build, "-j2"), bytes)
    assert_type(Build.half(3), float)
    assert_type(Build.half.chia_remote(3), ObjectRef[float])

    assert_type(ChiaCallRemote(add, 1, b=2), ObjectRef[int])
    assert_type(ChiaCallRemote(text, add.chia_remote(1)), ObjectRef[str])
    assert_type(ChiaCallRemote(build.run, build, "-j2"), ObjectRef[bytes])


def wrong_uses(build: Build) -> None:
    add("one")  # type: ignore[arg-type]
    add.chia_remote(1) + 1  # type: ignore[operator]
    build.run(3)  # type: ignore[arg-type]
    get(3)  # type: ignore[call-overload]
