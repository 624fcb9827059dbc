"""The node: a function that can be called here or dispatched to a worker.

A ``ChiaNode`` owns one Ray remote function for as long as it lives, and one ``Dispatch`` for each set of options it is
called with. Ray exports a remote function to the cluster the first time it is used, so making a new one for each call,
or for each ``.options``, would cost several times the call itself.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import MethodType
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, cast, overload

import ray
from ray import ObjectRef, ObjectRefGenerator
from ray.cloudpickle import CloudPickler

from chia.base.collect import get
from chia.base.hooks import take_hooks
from chia.base.local_ray import ensure_ray
from chia.base.options import OptionSet
from chia.base.task import HOOKS_KEYWORD, task_of
from chia.errors import InstanceMissing, NodeError, NothingToWaitFor

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")
S_contra = TypeVar("S_contra", contravariant=True)

DISPATCHES_KEPT = 128  # sets of options remembered per node; scheduling strategies made per call must not pile up


class ChiaNode(Generic[P, R]):
    """What ``@ChiaFunction`` makes of a function.

    Called, it is the function: same process, same arguments, same result. ``chia_remote`` sends it to a worker.
    In a class it is a method: ``node.build()`` runs here, bound; remotely the instance is an argument like any other
    and passed explicitly, ``node.build.chia_remote(node)``.

    Attributes:
        __wrapped__: the function itself.
        ray_options: the options it was decorated with.
    """

    __wrapped__: Callable[P, R]
    __name__: str
    __qualname__: str

    def __init__(self, function: Callable[P, R], options: dict[str, Any]) -> None:
        _require_plain_function(function)
        functools.update_wrapper(self, function)
        self._options = OptionSet(options)
        self._instance_types: tuple[type, ...] = ()
        self._dispatch_with = functools.lru_cache(maxsize=DISPATCHES_KEPT)(self._new_dispatch)
        with _naming(self):
            self._remote_function = _ray_remote(task_of(function), self._options)
        self._dispatch: Dispatch[P, R] = Dispatch(self, OptionSet({}))

    @property
    def ray_options(self) -> dict[str, Any]:
        return OptionSet(self._options.values).values

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.__wrapped__(*args, **kwargs)

    @overload
    def chia_remote(self, /, *args: P.args, **kwargs: P.kwargs) -> ObjectRef[R]: ...
    @overload
    def chia_remote(self, /, *args: Any, **kwargs: Any) -> ObjectRef[R]: ...
    def chia_remote(self, /, *args: Any, **kwargs: Any) -> ObjectRef[R]:
        """Dispatch a call to a worker that has the resources, and return the reference to its result at once.

        Any argument may be the reference of another call: the task starts when that result is there, and gets it as a
        plain value. References inside lists or other containers are passed on as references.

        ``_chia_setup`` and ``_chia_cleanup`` name callables that run on the worker before and after the function,
        with the tuples ``_chia_setup_args`` and ``_chia_cleanup_args``. If setup raises, function and cleanup are
        skipped and the task fails; if cleanup raises, that is logged.

        With the option ``num_returns`` the result is a list of references; a generator gives Ray's generator of them.

        Raises:
            InstanceMissing: (a ``TypeError``) a method was dispatched without its instance.
            HookError: (a ``TypeError``) there is no such ``_chia_`` keyword, or not with this value.
            TypeError: the arguments do not fit the function, or one cannot be pickled.
        """
        return self._dispatch.chia_remote(*args, **kwargs)

    @overload
    def chia_remote_blocking(self, /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def chia_remote_blocking(self, /, *args: Any, **kwargs: Any) -> R: ...
    def chia_remote_blocking(self, /, *args: Any, **kwargs: Any) -> R:
        """Dispatch a call as ``chia_remote`` does, wait for it, and return the value (see ``get`` for what it raises).

        Ctrl-C ends the wait and cancels the task, which nobody else could reach. A generator is not waited for:
        what is returned yields its values as they arrive.

        Raises:
            NothingToWaitFor: (a ``ValueError``) the node has the option ``num_returns=0``.
        """
        return self._dispatch.chia_remote_blocking(*args, **kwargs)

    def options(self, /, **overrides: Any) -> Dispatch[P, R]:
        """The same node with other Ray options for one dispatch: ``fn.options(num_cpus=4).chia_remote(x)``.

        An option that is not named keeps the value it was decorated with.

        Raises:
            TypeError, ValueError: Ray has no such option, or not with this value.
        """
        options = OptionSet(overrides)
        try:
            hash(options)
        except TypeError:  # some value, a scheduling strategy say, cannot be looked up again
            return self._new_dispatch(options)
        return self._dispatch_with(options)

    def _new_dispatch(self, options: OptionSet) -> Dispatch[P, R]:
        with _naming(self):
            return Dispatch(self, options)

    def __set_name__(self, owner: type, name: str) -> None:
        # More than once when a class is rebuilt (dataclass slots) or borrows the method of another. A module's function
        # that a class merely lists among its attributes does not become a method of it.
        if self._instance_types or self.__qualname__ == f"{owner.__qualname__}.{self.__name__}":
            self._instance_types = (*self._instance_types, owner)

    @overload
    def __get__(self, instance: None, owner: type[Any]) -> ChiaNode[P, R]: ...
    @overload
    def __get__(
        self: ChiaNode[Concatenate[S, Q], R], instance: S, owner: type[Any] | None = None
    ) -> BoundChiaNode[S, Q, R]: ...
    def __get__(self, instance: Any, owner: type[Any] | None = None) -> Any:
        # Python's own bound method looks up what it lacks on its function: chia_remote, options, …
        return self if instance is None else MethodType(self, instance)

    def __repr__(self) -> str:
        return f"<ChiaFunction {self.__module__}.{self.__qualname__}({self._options})>"

    # The standard pickle stores where to import a node from, like any function. Ray gets it by value, as it gets its
    # own remote functions: a worker may not be able to import what a script, a notebook or a test module defines.
    def __reduce__(self) -> str:
        return self.__qualname__

    def __setstate__(self, state: tuple[Callable[P, R], dict[str, Any]]) -> None:
        self.__init__(*state)  # type: ignore[misc]


def _reduce_by_value(node: ChiaNode[..., Any]) -> tuple[Any, ...]:
    # In two steps, an empty object and then its state, because a function may refer to its own node.
    return ChiaNode.__new__, (ChiaNode,), (node.__wrapped__, node.ray_options)


CloudPickler.dispatch_table[ChiaNode] = _reduce_by_value


class Dispatch(Generic[P, R]):
    """One node with one set of options, ready to be sent; ``ChiaNode.options`` gives it."""

    __slots__ = ("_node", "_options", "_submit")

    def __init__(self, node: ChiaNode[P, R], options: OptionSet) -> None:
        remote_function = node._remote_function
        self._node = node
        self._options = options
        self._submit = (remote_function.options(**options.values) if options.values else remote_function).remote

    @overload
    def chia_remote(self, /, *args: P.args, **kwargs: P.kwargs) -> ObjectRef[R]: ...
    @overload
    def chia_remote(self, /, *args: Any, **kwargs: Any) -> ObjectRef[R]: ...
    def chia_remote(self, /, *args: Any, **kwargs: Any) -> ObjectRef[R]:
        """See ``ChiaNode.chia_remote``."""
        node = self._node
        if node._instance_types:
            _require_instance(node, args)
        ensure_ray()
        if kwargs and (hooks := take_hooks(kwargs)):
            kwargs[HOOKS_KEYWORD] = hooks
        with _naming(node):
            return cast("ObjectRef[R]", self._submit(*args, **kwargs))

    @overload
    def chia_remote_blocking(self, /, *args: P.args, **kwargs: P.kwargs) -> R: ...
    @overload
    def chia_remote_blocking(self, /, *args: Any, **kwargs: Any) -> R: ...
    def chia_remote_blocking(self, /, *args: Any, **kwargs: Any) -> R:
        """See ``ChiaNode.chia_remote_blocking``."""
        result: Any = self.chia_remote(*args, **kwargs)
        if result is None:
            raise NothingToWaitFor(f"{self._node!r} with num_returns=0 has nothing to wait for: use chia_remote")
        if isinstance(result, ObjectRefGenerator):
            return cast("R", (get(ref) for ref in result))
        try:
            return cast("R", get(result))
        except KeyboardInterrupt:
            ray.cancel(result[0] if isinstance(result, list) else result)
            raise

    def __repr__(self) -> str:
        return f"{self._node!r}.options({self._options})"


class BoundChiaNode(Protocol[S_contra, Q, R]):
    """A node looked up on an instance, as a type checker sees it; at run time it is Python's bound method.

    The call is bound. The dispatches are those of the node: their first argument is the instance.
    """

    def __call__(self, /, *args: Q.args, **kwargs: Q.kwargs) -> R: ...

    @overload
    def chia_remote(
        self, instance: S_contra | ObjectRef[Any], /, *args: Q.args, **kwargs: Q.kwargs
    ) -> ObjectRef[R]: ...
    @overload
    def chia_remote(self, instance: S_contra | ObjectRef[Any], /, *args: Any, **kwargs: Any) -> ObjectRef[R]: ...
    def chia_remote(self, instance: Any, /, *args: Any, **kwargs: Any) -> ObjectRef[R]: ...

    @overload
    def chia_remote_blocking(self, instance: S_contra | ObjectRef[Any], /, *args: Q.args, **kwargs: Q.kwargs) -> R: ...
    @overload
    def chia_remote_blocking(self, instance: S_contra | ObjectRef[Any], /, *args: Any, **kwargs: Any) -> R: ...
    def chia_remote_blocking(self, instance: Any, /, *args: Any, **kwargs: Any) -> R: ...

    def options(self, /, **overrides: Any) -> Dispatch[Concatenate[S_contra, Q], R]: ...


class _naming:
    """Ray's complaints about options and arguments do not say whose they are: note the node on them."""

    __slots__ = ("_node",)

    def __init__(self, node: ChiaNode[..., Any]) -> None:
        self._node = node

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, (TypeError, ValueError)):
            error.add_note(f"in {self._node!r}")


def _require_plain_function(function: object) -> None:
    if isinstance(function, (staticmethod, classmethod)):
        kind = type(function).__name__
        raise NodeError(f"@{kind} goes above @ChiaFunction, not below: {function.__func__.__qualname__}")
    if isinstance(function, ChiaNode):
        raise NodeError(f"{function!r} is a @ChiaFunction already; override its options with .options(…)")
    if inspect.isclass(function):
        raise NodeError(f"@ChiaFunction makes nodes of functions; decorate the methods of {function.__qualname__}")
    if not inspect.isfunction(function):
        raise NodeError(f"@ChiaFunction decorates Python functions, not {function!r} of type {type(function).__name__}")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise NodeError(f"{function.__qualname__} is async, and a worker runs plain functions: use asyncio.run in one")


def _require_instance(node: ChiaNode[..., Any], args: tuple[Any, ...]) -> None:
    if args and isinstance(args[0], (*node._instance_types, ObjectRef)):
        return
    given = f"not {type(args[0]).__name__}" if args else "and nothing was given"
    raise InstanceMissing(
        f"{node.__qualname__}.chia_remote takes the instance as its first argument, {given}: "
        f"node.{node.__name__}.chia_remote(node, …)"
    )


def _ray_remote(function: Callable[..., Any], options: OptionSet) -> Any:
    values = OptionSet(options.values).values  # Ray keeps and changes the dictionary it gets
    return ray.remote(**values)(function) if values else ray.remote(function)
