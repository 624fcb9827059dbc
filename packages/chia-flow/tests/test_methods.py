"""Methods as nodes: bound, here and on a worker; or with the instance named."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import pytest
import ray
from chia.base.ChiaFunction import ChiaCallRemote, ChiaFunction, get
from chia.errors import InstanceAmbiguous, InstanceMissing

pytestmark = [pytest.mark.xdist_group("ray"), pytest.mark.usefixtures("cluster")]


class Build:
    def __init__(self, target: str) -> None:
        self.target = target

    @ChiaFunction(resources={"fpga": 1})
    def run(self, flags: str = "") -> tuple[str, int]:
        return self._command() + flags, os.getpid()

    @ChiaFunction
    def label(self) -> str:
        return "build"

    @staticmethod
    @ChiaFunction(num_cpus=1)
    def double(value: int) -> int:
        return 2 * value

    @classmethod
    @ChiaFunction
    def kind(cls) -> str:
        return cls.__name__

    def _command(self) -> str:
        return f"make {self.target}"


class Release(Build):
    @ChiaFunction
    def label(self) -> str:
        return "release " + super().label()


@dataclass(slots=True)
class Size:
    value: int

    @ChiaFunction
    def doubled(self) -> int:
        return 2 * self.value


def test_a_method_runs_on_a_worker_with_the_instance_it_was_given() -> None:
    build = Build("verilator")
    text, pid = build.run.chia_remote_blocking(build, " -j2")
    assert (text, build.run(" -j2")[0]) == ("make verilator -j2", "make verilator -j2")
    assert pid != os.getpid() == build.run()[1]


def test_every_way_of_dispatching_a_method_is_the_same_call() -> None:
    build = Build("vcs")
    refs = [
        build.run.chia_remote(),
        build.run.chia_remote(build),
        Build.run.chia_remote(build),
        Build.run.chia_remote(build, flags=""),
        ChiaCallRemote(build.run),
        ChiaCallRemote(build.run, build),
        build.run.options(resources={}).chia_remote(flags=""),
        build.run.options(resources={}).chia_remote(build, flags=""),
    ]
    assert {text for text, _ in get(refs)} == {"make vcs"}


@dataclass
class Part:
    name: str

    @ChiaFunction
    def joined(self, other: Any = None, *, by: str = "+") -> str:
        return self.name if other is None else f"{self.name}{by}{other.name}"

    @ChiaFunction
    def named(self, name: str | None = None) -> str:
        return name or self.name

    @ChiaFunction
    def with_one(self, other: Any) -> str:
        return self.name + other.name


def test_a_call_runs_on_the_instance_before_the_dot_and_on_no_other() -> None:
    here, there = Part("here"), Part("there")
    assert here.joined.chia_remote_blocking(there) == "here+there"
    assert here.with_one.chia_remote_blocking(there) == "herethere"
    assert here.with_one.chia_remote_blocking(here) == "herehere", "only one reading fits"
    assert here.with_one.chia_remote_blocking(here, there) == "herethere"
    assert here.named.chia_remote_blocking(here) == "here", "it is no string, nor None"
    with pytest.raises(InstanceMissing, match=r"Build.run was looked up on one instance and given another"):
        Build("here").run.chia_remote(Build("there"), "-j2")


def test_a_call_that_could_be_read_in_two_ways_is_refused_with_both_spellings() -> None:
    part = Part("a")
    for dispatch in (part.joined, part.joined.options(num_cpus=1)):
        with pytest.raises(InstanceAmbiguous, match=r"Part.joined.chia_remote\(node, …\) or .*\(node, node, …\)"):
            dispatch.chia_remote(part)
        with pytest.raises(InstanceAmbiguous):
            dispatch.chia_remote_blocking(part, by="-", _chia_tag="t")
    assert Part.joined.chia_remote_blocking(part) == "a"
    assert Part.joined.chia_remote_blocking(part, part) == "a+a"


def test_methods_are_bound_on_workers_too() -> None:
    @ChiaFunction(num_cpus=0.5)
    def inside(one: Part, other: Part) -> list[str]:
        dispatches = (one.joined.options(num_cpus=0.5), one.with_one.options(num_cpus=0.5))
        return [dispatch.chia_remote_blocking(other) for dispatch in dispatches]

    assert inside.chia_remote_blocking(Part("a"), Part("b")) == ["a+b", "ab"]


def test_a_bound_method_travels_as_an_argument() -> None:
    @ChiaFunction
    def call(method: Any) -> str:
        return method()

    assert call.chia_remote_blocking(Part("x").joined) == "x"


def test_the_instance_can_be_a_reference() -> None:
    text, _ = Build.run.chia_remote_blocking(ray.put(Build("stored")))
    assert text == "make stored"


def test_inherited_and_overridden_methods_and_super_work_remotely() -> None:
    release = Release("all")
    assert release.run.chia_remote_blocking(release)[0] == "make all"
    assert release.label.chia_remote_blocking(release) == "release build"
    assert super(Release, release).label.chia_remote_blocking(release) == "build"
    assert Build.label.chia_remote_blocking(release) == "build"


def test_static_and_class_methods_are_dispatched() -> None:
    assert Build.double.chia_remote_blocking(4) == 8
    assert Build("x").double.chia_remote_blocking(4) == 8
    assert Release.kind.chia_remote_blocking(Release) == "Release"


def test_a_dataclass_with_slots_is_its_own_kind_of_instance() -> None:
    size = Size(4)
    assert size.doubled.chia_remote_blocking(size) == 8


def test_a_method_borrowed_by_another_class_takes_instances_of_both() -> None:
    class Other:
        target = "borrowed"
        run = Build.run
        _command = Build._command

    other, build = Other(), Build("own")
    assert other.run.chia_remote_blocking(other)[0] == "make borrowed"
    assert build.run.chia_remote_blocking(build)[0] == "make own"


def test_references_flow_between_methods() -> None:
    build = Build("first")
    first = build.label.chia_remote(build)
    assert build.run.chia_remote_blocking(build, first)[0] == "make firstbuild"


def test_a_function_listed_in_a_class_stays_a_function() -> None:
    @ChiaFunction
    def add(a: int, b: int) -> int:
        return a + b

    class Toolbox:
        add_numbers = add

    assert Toolbox.add_numbers.chia_remote_blocking(1, 2) == add.chia_remote_blocking(1, 2) == 3
