"""What a call carries beside its arguments, and what happens around its function because of that."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from chia.base.hooks import Hooks
from chia.errors import HookError

_PREFIX = "_chia_"
_HOOKS = ("setup", "setup_args", "cleanup", "cleanup_args")
_NAMES = (*_HOOKS, "tag", "display_name")


@dataclass(frozen=True, slots=True)
class Call:
    """The reserved keywords of one call, as they travel to where it runs. Where none is used there is no Call.

    Attributes:
        tag: what caching, bypass and profile know the call by.
        display_name: what a profile shows instead of the function's name.
    """

    hooks: Hooks | None = None
    tag: str | None = None
    display_name: str | None = None

    def __post_init__(self) -> None:
        for name in ("tag", "display_name"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise HookError(f"{_PREFIX}{name} must be a string, not {value!r}")

    def around(self) -> ExitStack:
        """All that happens around the function, in this order; in the reverse one when it ends."""
        steps = ExitStack()
        if self.hooks is not None:
            steps.enter_context(self.hooks.around())
        return steps

    def run(self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        with self.around():
            return function(*args, **kwargs)


def take_call(kwargs: dict[str, Any]) -> Call | None:
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
            raise HookError(f"{name} is no keyword of a call; those starting with {_PREFIX} are: {known}")
    values = {name.removeprefix(_PREFIX): kwargs.pop(name) for name in reserved}
    hooks = {name: values.pop(name) for name in _HOOKS if name in values}
    return Call(Hooks(**hooks) if hooks else None, **values)
