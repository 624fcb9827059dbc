"""Setup and cleanup around a task, on the worker that runs it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from chia.errors import HookError

_log = logging.getLogger(__name__)
_PREFIX = "_chia_"
_NAMES = ("setup", "setup_args", "cleanup", "cleanup_args")


@dataclass(frozen=True)
class Hooks:
    """What runs before and after a task. Neither sees the task's result."""

    setup: Callable[..., object] | None = None
    setup_args: tuple[Any, ...] = ()
    cleanup: Callable[..., object] | None = None
    cleanup_args: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        for name in ("setup", "cleanup"):
            hook, args = getattr(self, name), getattr(self, f"{name}_args")
            if hook is not None and not callable(hook):
                raise HookError(f"{_PREFIX}{name} must be a callable, not {hook!r}")
            if not isinstance(args, tuple):
                raise HookError(f"{_PREFIX}{name}_args must be a tuple, not {args!r}")
            if hook is None and args:
                raise HookError(f"{_PREFIX}{name}_args is given without {_PREFIX}{name}")

    @contextmanager
    def around(self) -> Iterator[None]:
        """Setup, the body, cleanup. A setup that raises skips both; a cleanup that raises is logged, never raised."""
        if self.setup is not None:
            self.setup(*self.setup_args)
        try:
            yield
        finally:
            if self.cleanup is not None:
                try:
                    self.cleanup(*self.cleanup_args)
                except Exception:
                    _log.exception("the cleanup of a task failed; its result stands")


def take_hooks(kwargs: dict[str, Any]) -> Hooks | None:
    """Take the reserved keywords out of ``kwargs``; ``None`` when there are none.

    Raises:
        HookError: a reserved keyword (one that starts with ``_chia_``) that does not exist, or has a wrong value.
    """
    reserved = [name for name in kwargs if name.startswith(_PREFIX)]
    if not reserved:
        return None
    for name in reserved:
        if name.removeprefix(_PREFIX) not in _NAMES:
            known = ", ".join(_PREFIX + known for known in _NAMES)
            raise HookError(f"{name} is no keyword of chia_remote; those starting with {_PREFIX} are: {known}")
    return Hooks(**{name.removeprefix(_PREFIX): kwargs.pop(name) for name in reserved})
