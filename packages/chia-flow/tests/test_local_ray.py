"""Where a flow runs when it does not say: a Ray of its own, or the one of RAY_ADDRESS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
from chia.base import local_ray

pytestmark = pytest.mark.xdist_group("ray")

FLOW = """
import json
import os

import ray
from chia.base.ChiaFunction import ChiaFunction, get

FACTOR = 3

class Shape:
    def __init__(self, side):
        self.side = side

    @ChiaFunction
    def area(self):
        return self.side * self.side

@ChiaFunction(num_cpus=0.5)
def times(value):
    return value * FACTOR

@ChiaFunction
def through(value):
    return get(times.chia_remote(value)), os.getpid()

if __name__ == "__main__":
    shape = Shape(4)
    value, worker = get(through.chia_remote(shape.area.chia_remote(shape)))
    print(json.dumps({"value": value, "worker": worker, "address": ray.get_runtime_context().gcs_address}), flush=True)
    input()
"""


@contextmanager
def running(path: Path, **environment: str) -> Iterator[tuple[psutil.Popen, dict[str, Any]]]:
    """The flow above as a script, and what it printed; it ends by itself at the end of the block."""
    path.write_text(FLOW)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with psutil.Popen([sys.executable, str(path)], env=os.environ | environment, text=True, **pipes) as flow:
        try:
            line = flow.stdout.readline()
            if not line:
                raise AssertionError(flow.stderr.read())
            yield flow, json.loads(line)
            _, errors = flow.communicate("\n", timeout=60)
            assert flow.returncode == 0, errors
        finally:
            if flow.poll() is None:
                flow.kill()


def test_a_script_without_ray_gets_one_that_only_this_machine_reaches_and_leaves_nothing(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="chia-") as directory:
        with running(tmp_path / "flow.py", RAY_TMPDIR=directory) as (flow, printed):
            processes = flow.children(recursive=True)
            pids = {flow.pid, *(process.pid for process in processes)}
            listening = {
                connection.laddr.ip.removeprefix("::ffff:")
                for connection in psutil.net_connections("tcp")
                if connection.pid in pids and connection.status == psutil.CONN_LISTEN
            }
        _, left = psutil.wait_procs(processes, timeout=30)

    assert printed["value"] == 48
    assert printed["worker"] in pids
    assert listening == {"127.0.0.1"}
    assert not left


def test_with_ray_address_a_script_joins_that_cluster(cluster: str, tmp_path: Path) -> None:
    # The variable is Ray's own way to say that 127.0.0.1 is meant as written.
    joining = {"RAY_ADDRESS": cluster, "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
    with running(tmp_path / "flow.py", **joining) as (flow, printed):
        children = flow.children(recursive=True)
    assert printed["value"] == 48
    assert printed["address"] == cluster
    assert children == []


def test_a_process_that_is_connected_stays_where_it_is(cluster: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise AssertionError("a second Ray")

    monkeypatch.setattr(local_ray.ray, "init", refuse)
    local_ray.ensure_ray()
