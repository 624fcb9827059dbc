"""One small Ray for all tests of a process, reachable from this machine only, that leaves nothing behind."""

from __future__ import annotations

import os
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Ray reads these when it is imported. The token keeps other users of the machine out and is stored nowhere.
os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(), RAY_USAGE_STATS_ENABLED="0")
os.environ.pop("RAY_ADDRESS", None)

import psutil
import pytest
import ray
from chia.base.local_ray import start_local_ray

SMALL = {"num_cpus": 2, "object_store_memory": 100 * 2**20, "log_to_driver": False, "logging_level": "ERROR"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Workers cannot import test modules: what these define travels by value.
    for module in {item.module for item in items if isinstance(item, pytest.Function)}:
        ray.cloudpickle.register_pickle_by_value(module)


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """The address of a running Ray with two CPUs and two units of the resource ``fpga``."""
    with tempfile.TemporaryDirectory(prefix="chia-") as directory:  # short: it is part of socket paths
        start_local_ray(_temp_dir=directory, resources={"fpga": 2}, **SMALL)
        try:
            yield ray.get_runtime_context().gcs_address
        finally:
            processes = psutil.Process().children(recursive=True)
            ray.shutdown()
        _, left = psutil.wait_procs(processes, timeout=30)
        assert not left


class Gate:
    """A task stops here until it is let through: ``gate.stop`` in the task, the rest in the test."""

    def __init__(self, directory: Path) -> None:
        self.reached_path, self.open_path = str(directory / "reached"), str(directory / "open")
        os.mkfifo(self.reached_path)
        os.mkfifo(self.open_path)

    def wait_until_reached(self) -> None:
        with open(self.reached_path) as pipe:
            pipe.read()

    def open(self) -> None:
        with open(self.open_path, "w") as pipe:
            pipe.write("go")


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)
