from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
import simpler
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
