"""The public names of a flow: ``ChiaFunction``, ``ChiaCallRemote``, ``get``.

In use::

    from chia.base.ChiaFunction import ChiaFunction, get

    @ChiaFunction(num_cpus=1)
    def square(x: int) -> int:
        return x * x

    square(3)  # here, in this process
    get(square.chia_remote(3))  # on a worker of the cluster
    get(square.chia_remote(square.chia_remote(3)))  # a reference as argument is an edge of the graph
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, overload

from ray import ObjectRef

from chia.base.actor import ChiaActor, chia_actor
from chia.base.collect import get
from chia.base.node import BoundChiaNode, BoundDispatch, ChiaNode, Dispatch
from chia.errors import NodeError

__all__ = [
    "BoundChiaNode",
    "BoundDispatch",
    "ChiaActor",
    "ChiaCallRemote",
    "ChiaFunction",
    "ChiaNode",
    "Dispatch",
    "chia_actor",
    "get",
]

P = ParamSpec("P")
R = TypeVar("R")


class _Decorator:
    """``ChiaFunction`` with its options given, waiting for the function."""

    def __init__(self, options: dict[str, Any], deep_refs: bool) -> None:
        self._options = options
        self._deep_refs = deep_refs

    def __call__(self, function: Callable[P, R], /) -> ChiaNode[P, R]:
        return ChiaNode(function, self._options, self._deep_refs)


@overload
def ChiaFunction(function: Callable[P, R], /) -> ChiaNode[P, R]: ...
@overload
def ChiaFunction(*, deep_refs: bool = False, **options: Any) -> _Decorator: ...
def ChiaFunction(*functions: Callable[..., Any], deep_refs: bool = False, **options: Any) -> Any:
    """Turn a function or a method into a node of a flow.

    Used bare (``@ChiaFunction``) or with any option that Ray takes for a task
    (``@ChiaFunction(resources={"fpga": 1}, num_cpus=2, max_retries=0)``). Ray's defaults hold: one CPU, no other
    resource, three retries when a worker dies, none when the function raises.

    ``deep_refs=True``: references inside of lists, tuples, dictionaries and sets, to any depth, arrive as values;
    without it only those that are arguments themselves do.

    The result is called like the function it wraps and keeps its name, docstring and signature; see ``ChiaNode``
    for what it adds. Over a static or class method the order is ``@staticmethod`` first, ``@ChiaFunction`` below.

    Raises:
        NodeError: (a ``TypeError``) what is decorated is no plain function.
        OptionError: (a ``ValueError``) Ray has no such option for tasks.
        TypeError: an option has the wrong type.
        ValueError: Ray has such an option, but not with this value.
    """
    if functions and (options or deep_refs):
        raise NodeError("ChiaFunction takes the function alone or options alone: @ChiaFunction(num_cpus=2)")
    if len(functions) > 1:
        raise NodeError(f"ChiaFunction decorates one function, not {len(functions)} positional arguments")
    decorate = _Decorator(options, deep_refs)
    return decorate(functions[0]) if functions else decorate


@overload
def ChiaCallRemote(fn: ChiaNode[P, R], /, *args: P.args, **kwargs: P.kwargs) -> ObjectRef[R]: ...
@overload
def ChiaCallRemote(fn: ChiaNode[..., R], /, *args: Any, **kwargs: Any) -> ObjectRef[R]: ...
@overload
def ChiaCallRemote(fn: BoundChiaNode[Any, ..., R], /, *args: Any, **kwargs: Any) -> ObjectRef[R]: ...
def ChiaCallRemote(fn: Any, /, *args: Any, **kwargs: Any) -> Any:
    """``fn.chia_remote(*args, **kwargs)`` for a ``fn`` that has to be a ``@ChiaFunction``.

    Raises:
        NodeError: (a ``TypeError``) ``fn`` is something else.
    """
    if not isinstance(fn, (ChiaNode, BoundChiaNode)) and not isinstance(getattr(fn, "__func__", fn), ChiaNode):
        raise NodeError(
            f"ChiaCallRemote needs a @ChiaFunction, not {fn!r} of type {type(fn).__name__}: decorate it first"
        )
    return fn.chia_remote(*args, **kwargs)
