"""What a worker runs in place of a node's function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from inspect import Parameter
from typing import Any

from chia.base.hooks import Hooks
from chia.base.portable_errors import make_portable

HOOKS_KEYWORD = "_chia_hooks"  # how hooks travel beside the function's own arguments


def task_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` as a task: with the hooks of a call around it, and with errors that survive the way back.

    It keeps the name and, for Ray's check of arguments at the call, the signature, with ``HOOKS_KEYWORD`` added.
    """

    def run(*args: Any, _chia_hooks: Hooks | None = None, **kwargs: Any) -> Any:
        try:
            if _chia_hooks is None:
                return function(*args, **kwargs)
            with _chia_hooks.around():
                return function(*args, **kwargs)
        except Exception as error:
            make_portable(error)
            raise

    def run_generator(*args: Any, _chia_hooks: Hooks | None = None, **kwargs: Any) -> Any:
        try:
            if _chia_hooks is None:
                yield from function(*args, **kwargs)
            else:
                with _chia_hooks.around():
                    yield from function(*args, **kwargs)
        except Exception as error:
            make_portable(error)
            raise

    task = functools.wraps(function)(run_generator if inspect.isgeneratorfunction(function) else run)
    task.__signature__ = _with_hooks_keyword(inspect.signature(function))  # type: ignore[attr-defined]
    return task


def _with_hooks_keyword(signature: inspect.Signature) -> inspect.Signature:
    # Without annotations: the signature travels with the task, and nobody there reads them.
    parameters = [parameter.replace(annotation=Parameter.empty) for parameter in signature.parameters.values()]
    at = -1 if parameters and parameters[-1].kind is Parameter.VAR_KEYWORD else len(parameters)
    parameters.insert(at, Parameter(HOOKS_KEYWORD, Parameter.KEYWORD_ONLY, default=None))
    return inspect.Signature(parameters)
