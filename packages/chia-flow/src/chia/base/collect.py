"""Getting the values behind references."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar, overload

import ray
from ray import ObjectRef
from ray.exceptions import RayTaskError

from chia.base.local_ray import ensure_ray

R = TypeVar("R")


@overload
def get(refs: ObjectRef[R], *, timeout: float | None = None) -> R: ...
@overload
def get(refs: Sequence[ObjectRef[R]], *, timeout: float | None = None) -> list[R]: ...
def get(refs: Any, *, timeout: float | None = None) -> Any:
    """Wait for a reference and return its value, or for several and return their values in the same order.

    Ctrl-C ends the wait; the task itself goes on.

    Args:
        refs: what ``chia_remote`` returned, or a list or tuple of such references.
        timeout: seconds to wait; ``0`` asks without waiting, ``None`` (the default) waits as long as it takes.

    Raises:
        ray.exceptions.GetTimeoutError: (a ``TimeoutError``) not there in time; for instance because no node of the
            cluster offers the resources that the task asks for.
        Exception: what the task raised. It is an instance of the original type as well as of
            ``ray.exceptions.RayTaskError``, its text holds the traceback of the worker, and ``.cause`` is the
            original. (The rare type that cannot be combined is raised itself, from the ``RayTaskError``.)
        ray.exceptions.RayError: the worker died, the object was lost, the task was cancelled.
    """
    ensure_ray()
    try:
        return ray.get(list(refs) if isinstance(refs, tuple) else refs, timeout=timeout)
    except RayTaskError as error:
        if isinstance(error, type(error.cause)):
            raise
        raise error.cause from error
