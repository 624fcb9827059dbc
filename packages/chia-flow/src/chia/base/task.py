"""What runs in place of a node's function: here, and on a worker."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from inspect import Parameter
from typing import Any

from chia.base.call import Call
from chia.base.portable_errors import make_portable
from chia.base.references import resolved

CALL_KEYWORD = "_chia_call"  # how what a call carries travels beside the function's own arguments


def is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def stepped(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` of the same kind, called as ``(call, args, kwargs)``, with the steps of the call around it."""

    def around(call: Call | None) -> AbstractContextManager[Any]:
        return nullcontext() if call is None else call.around()

    if inspect.isgeneratorfunction(function):

        def generate(call: Call | None, args: Any, kwargs: Any) -> Iterator[Any]:
            with around(call):
                return (yield from function(*args, **kwargs))

        return generate
    if inspect.isasyncgenfunction(function):

        async def generate_async(call: Call | None, args: Any, kwargs: Any) -> AsyncGenerator[Any, None]:
            with around(call):
                async for value in function(*args, **kwargs):
                    yield value

        return generate_async
    if inspect.iscoroutinefunction(function):

        async def wait(call: Call | None, args: Any, kwargs: Any) -> Any:
            with around(call):
                return await function(*args, **kwargs)

        return wait

    def run(call: Call | None, args: Any, kwargs: Any) -> Any:
        if call is None:
            return function(*args, **kwargs)
        with call.around():
            return function(*args, **kwargs)

    return run


def task_of(function: Callable[..., Any], deep_refs: bool = False) -> Callable[..., Any]:
    """``function`` as a task: with the steps of a call around it, and with errors that survive the way back.

    It keeps the name and, for Ray's check of arguments at the call, the signature, with ``CALL_KEYWORD`` added. What
    is async runs in an event loop of its own, to its end.
    """
    body = stepped(function)

    def given(args: Any, kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return resolved(args, kwargs, deep=True) if deep_refs else (args, kwargs)

    def run(*args: Any, _chia_call: Call | None = None, **kwargs: Any) -> Any:
        try:
            result = body(_chia_call, *given(args, kwargs))
            return asyncio.run(result) if inspect.iscoroutinefunction(function) else result
        except Exception as error:
            make_portable(error)
            raise

    def run_generator(*args: Any, _chia_call: Call | None = None, **kwargs: Any) -> Any:
        try:
            values = body(_chia_call, *given(args, kwargs))
            yield from _drained(values) if inspect.isasyncgenfunction(function) else values
        except Exception as error:
            make_portable(error)
            raise

    generates = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    task: Callable[..., Any] = functools.wraps(function)(run_generator if generates else run)
    if is_async(function):
        task = _unmarked(task)
    task.__signature__ = _with_call_keyword(inspect.signature(function))  # type: ignore[attr-defined]
    return task


def _drained(values: AsyncGenerator[Any, None]) -> Iterator[Any]:
    """What an async generator yields, each value awaited in one event loop."""
    end = object()

    async def step() -> Any:
        return await anext(values, end)

    with asyncio.Runner() as runner:
        try:
            while (value := runner.run(step())) is not end:
                yield value
        finally:
            runner.run(values.aclose())


def _unmarked(task: Callable[..., Any]) -> Callable[..., Any]:
    # Ray looks through __wrapped__ for what is async, and refuses it.
    del task.__wrapped__  # type: ignore[attr-defined]
    return task


def _with_call_keyword(signature: inspect.Signature) -> inspect.Signature:
    # Without annotations: the signature travels with the task, and nobody there reads them.
    parameters = [parameter.replace(annotation=Parameter.empty) for parameter in signature.parameters.values()]
    at = -1 if parameters and parameters[-1].kind is Parameter.VAR_KEYWORD else len(parameters)
    parameters.insert(at, Parameter(CALL_KEYWORD, Parameter.KEYWORD_ONLY, default=None))
    return inspect.Signature(parameters)
