"""Setup and cleanup around a task, on the worker that runs it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from chia.base.references import resolved
from chia.errors import HookError

_log = logging.getLogger(__name__)
_PREFIX = "_chia_"


@dataclass(frozen=True)
class Hooks:
    """What runs before and after a task. Neither sees the task's result. References among their arguments arrive as
    values."""

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
            self.setup(*resolved(self.setup_args, {})[0])
        try:
            yield
        finally:
            if self.cleanup is not None:
                try:
                    self.cleanup(*resolved(self.cleanup_args, {})[0])
                except Exception:
                    _log.exception("the cleanup of a task failed; its result stands")
