"""``@pl.function``: what a method of a program is."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from types import FunctionType as PythonFunction
from typing import NoReturn

from pypto.errors import SignatureError, SyntaxUnsupported
from pypto.ir.nodes import FunctionKind, Span
from pypto.language.annotations import FunctionType, Level, Role
from pypto.source.files import caller_span

_KERNEL_LEVELS = (Level.CORE, Level.CORE_GROUP)


@dataclass(frozen=True, slots=True)
class FunctionDeclaration:
    """A method marked with ``@pl.function``, until its class becomes a program."""

    function: PythonFunction
    kind: FunctionKind
    span: Span | None

    def __call__(self, *args: object, **kwargs: object) -> NoReturn:
        raise SignatureError(
            f"{self.function.__qualname__} can't be called by itself: it is part of a program",
            caller_span(),
            "mark the class with @pl.program, compile it with pypto.ir.compile, and call the result",
        )


def function(
    type: FunctionType | None = None, level: Level | None = None, role: Role | None = None
) -> Callable[[Callable[..., object]], FunctionDeclaration]:
    """Marks a method of a program and says what it is.

    | written | is |
    | --- | --- |
    | ``type=pl.FunctionType.InCore``, or ``level=pl.Level.CORE_GROUP`` | a kernel: works on tiles on one core |
    | ``type=pl.FunctionType.Orchestration``, or ``level=pl.Level.CHIP`` | a chip orchestration: submits kernels |
    | ``level=pl.Level.HOST, role=pl.Role.Orchestrator`` | the host orchestrator: submits chip tasks and SubWorkers |
    | ``level=pl.Level.HOST, role=pl.Role.Worker`` | a SubWorker: plain Python, run as a task in its own process |

    Raises SignatureError for any other combination.
    """
    span = caller_span()
    if callable(type):
        raise SignatureError(
            "@pl.function needs to know what the function is", span, "write @pl.function(type=pl.FunctionType.InCore)"
        )
    kinds = {kind for kind in (_kind_of_type(type), _kind_of_level(level, role, span)) if kind is not None}
    if len(kinds) != 1:
        what = "says two different things" if kinds else "needs type= or level="
        raise SignatureError(
            f"@pl.function {what}", span, "write @pl.function(type=pl.FunctionType.InCore), for example"
        )
    kind = kinds.pop()

    def mark(method: Callable[..., object]) -> FunctionDeclaration:
        if not isinstance(method, PythonFunction) or method.__name__ == "<lambda>":
            raise SignatureError(f"@pl.function marks functions written with def, not {method!r}", span)
        if hasattr(method, "__wrapped__"):
            raise SignatureError(
                f"{method.__name__} has another decorator", span, "pl.function reads its source: remove it"
            )
        if inspect.iscoroutinefunction(method) or inspect.isasyncgenfunction(method):
            raise SyntaxUnsupported(f"{method.__name__} is async: it would never run", span, "write def")
        return FunctionDeclaration(method, kind, span)

    return mark


def _kind_of_type(type: FunctionType | None) -> FunctionKind | None:
    if type is None:
        return None
    return FunctionKind.INCORE if type is FunctionType.InCore else FunctionKind.CHIP_ORCHESTRATION


def _kind_of_level(level: Level | None, role: Role | None, span: Span | None) -> FunctionKind | None:
    if level is None:
        if role is not None:
            raise SignatureError("@pl.function: role= needs level=", span, "add level=pl.Level.HOST")
        return None
    if level in _KERNEL_LEVELS and role is None:
        return FunctionKind.INCORE
    if level is Level.CHIP and role is not Role.Worker:
        return FunctionKind.CHIP_ORCHESTRATION
    if level is Level.HOST and role is not None:
        return FunctionKind.HOST_ORCHESTRATION if role is Role.Orchestrator else FunctionKind.SUB_WORKER
    if level is Level.HOST:
        raise SignatureError(
            "@pl.function at level HOST needs a role", span, "add role=pl.Role.Orchestrator or role=pl.Role.Worker"
        )
    said = f"level {level.value}" + (f" with role {role.value}" if role else "")
    raise SignatureError(
        f"@pl.function: a function can't be at {said}",
        span,
        "kernels are at CORE or CORE_GROUP, orchestrations at CHIP, orchestrators and workers at HOST",
    )
