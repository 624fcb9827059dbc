"""Starting Ray when nobody has: one place that decides where a flow runs."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray._private import ray_constants

_starting = threading.Lock()


def ensure_ray() -> None:
    """Make sure that this process is connected to Ray.

    A process that called ``ray.init`` itself, and every Ray worker, is. For any other: with ``RAY_ADDRESS`` set (as it
    is inside a submitted job) connect to that cluster, else start a Ray of its own by ``start_local_ray``. A cluster
    that merely runs on this machine is not looked for: name it with ``RAY_ADDRESS=auto`` or ``ray.init("auto")``.
    """
    if ray.is_initialized():
        return
    with _starting:
        if ray.is_initialized():
            return
        if os.environ.get(ray_constants.RAY_ADDRESS_ENVIRONMENT_VARIABLE):
            ray.init()
        else:
            start_local_ray()


def start_local_ray(**init_options: Any) -> None:
    """Start a Ray of this process's own that only this machine can reach; it ends with ``ray.shutdown()`` or exit.

    All its servers listen on the loopback address and there is no dashboard.

    Args:
        init_options: handed to ``ray.init``; ``num_cpus`` for instance.
    """
    with _loopback_only():
        ray.init(address="local", include_dashboard=init_options.pop("include_dashboard", False), **init_options)


@contextmanager
def _loopback_only() -> Iterator[None]:
    # ray.init replaces a loopback address it is given (_node_ip_address) by the one other machines reach, and its
    # servers then listen on every interface. Ray has one switch for "this Ray is for this machine alone", the default
    # on macOS; there is no argument for it, and its environment variable is read once, when ray is imported.
    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
