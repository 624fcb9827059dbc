from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
import simpler
import simpler_runtime
from hypothesis import HealthCheck, settings

# Children are forked by many examples; how long that takes says nothing.
settings.register_profile(
    "core", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
settings.load_profile("core")


@pytest.fixture
def make_worker() -> Iterator[Callable[..., simpler.Worker]]:
    """Makes workers that are closed when the test ends; without chips unless asked for."""
    made: list[simpler.Worker] = []

    def make(**options: Any) -> simpler.Worker:
        options.setdefault("device_ids", [])
        worker = simpler.Worker(**options)
        made.append(worker)
        return worker

    yield make
    for worker in made:
        worker.close()


class Gate:
    """Lets a task in a child say that it has come somewhere, and keeps it there until it is let through."""

    def __init__(self) -> None:
        self._arrived = os.pipe()
        self._passed = os.pipe()

    def wait(self) -> None:
        """In the child: say so, and wait."""
        os.write(self._arrived[1], b"x")
        os.read(self._passed[0], 1)

    def arrived(self) -> None:
        """In the parent: return once a task has come to the gate."""
        os.read(self._arrived[0], 1)

    def open(self, count: int = 1) -> None:
        """In the parent: let that many tasks through, now or whenever they come."""
        os.write(self._passed[1], b"x" * count)

    def close(self) -> None:
        for descriptor in (*self._arrived, *self._passed):
            os.close(descriptor)


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.close()


@pytest.fixture
def make_gate() -> Iterator[Callable[[], Gate]]:
    made: list[Gate] = []

    def make() -> Gate:
        made.append(Gate())
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def children() -> Callable[[], list[psutil.Process]]:
    """The processes this one has forked that run or wait to be reaped, by title."""

    def find() -> list[psutil.Process]:
        return [child for child in psutil.Process().children() if child.name().startswith("simpler-")]

    return find


KERNEL = """
#include "simpler/kernel.h"
using namespace simpler;
extern "C" void kernel([[maybe_unused]] Core &core, [[maybe_unused]] TaskArgsView args) { %s }
"""
ORCHESTRATION = """
#include "simpler/orchestration.h"
using namespace simpler;
extern "C" void orchestrate([[maybe_unused]] Graph &graph, [[maybe_unused]] TaskArgsView args) { %s }
"""
ELEMENTS = "for (uint64_t i = 0; i < element_count(args.tensors[0]); ++i)"
SOURCES = {
    "add": KERNEL
    % f"""const auto *a = args.tensors[0].as<float>(), *b = args.tensors[1].as<float>();
          auto *c = args.tensors[2].as<float>(); {ELEMENTS} c[i] = a[i] + b[i];""",
    "scale": KERNEL % f"auto *a = args.tensors[0].as<float>(); {ELEMENTS} a[i] *= float(args.scalars[0]);",
    "fail": KERNEL % 'core.fail("model.py:12", "row %d is bad", 3);',
    "crash": "#include <csignal>" + KERNEL % "raise(SIGKILL);",  # silent, unlike a segmentation fault
    "nothing": KERNEL % "",
    "forever": KERNEL % "for (volatile int i = 0;; i = i + 1) {}",
    "orchestrate add": ORCHESTRATION
    % "graph.submit(Task(0).in(args.tensors[0]).in(args.tensors[1]).out(args.tensors[2]));",
    "orchestrate scale": ORCHESTRATION % "graph.submit(Task(0).inout(args.tensors[0]).scalar(args.scalars[0]));",
    "orchestrate nothing": ORCHESTRATION % "graph.submit(Task(0));",
}
SIGNATURES = {
    "add": ([simpler.IN, simpler.IN, simpler.OUT], 0),
    "scale": ([simpler.INOUT], 1),
    "nothing": ([], 0),
}


@functools.cache
def _compiled(name: str) -> bytes:
    unit = simpler_runtime.CompileUnit(name, SOURCES[name])
    return simpler_runtime.KernelCompiler().compile([unit])[0]


@pytest.fixture(scope="session")
def chip_callable() -> Callable[..., simpler.ChipCallable]:
    """Builds a callable of one kernel, given its name and the one of the orchestration, both in SOURCES."""

    def build(kernel: str, orchestration: str | None = None, *, name: str | None = None) -> simpler.ChipCallable:
        orchestration = orchestration or kernel
        signature, scalar_count = SIGNATURES[orchestration]
        return simpler.ChipCallable.build(
            name=name or kernel,
            orchestration=_compiled(f"orchestrate {orchestration}"),
            signature=signature,
            scalar_count=scalar_count,
            kernels=[simpler_runtime.Kernel(0, kernel, simpler_runtime.CoreType.AIV, _compiled(kernel))],
        )

    return build
