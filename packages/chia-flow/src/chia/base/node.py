"""The node: a function that can be called here or dispatched to a worker.

A ``ChiaNode`` owns one Ray remote function for as long as it lives, and one ``Dispatch`` for each set of options it is
called with. Ray exports a remote function to the cluster the first time it is used, so making a new one for each call,
or for each ``.options``, would cost several times the call itself.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from types import MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, cast, overload

import ray
from ray import ObjectRef, ObjectRefGenerator
from ray.cloudpickle import CloudPickler

from chia.base.call import take_call
from chia.base.collect import get
from chia.base.fitting import fits_method
from chia.base.local_ray import ensure_ray
from chia.base.options import OptionSet, unknown_option
from chia.base.references import resolved
from chia.base.remote_values import RemoteValues
from chia.base.task import CALL_KEYWORD, stepped, task_of
from chia.errors import InstanceAmbiguous, InstanceMissing, NodeError, NothingToWaitFor

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")

DISPATCHES_KEPT = 128  # sets of options remembered per node; scheduling strategies made per call must not pile up


class ChiaNode(Generic[P, R]):
    """What ``@ChiaFunction`` makes of a function.

    Called, it is the function: same process, same arguments, same result; references among the arguments arrive as
    values, and the ``_chia_`` keywords do what they do in a dispatch. ``chia_remote`` sends it to a worker. In a class
    it is a method: ``node.build()`` runs here, ``node.build.chia_remote()`` on a worker, both bound to ``node``; see
    ``BoundChiaNode``.

    Attributes:
        __wrapped__: the function itself.
        ray_options: the Ray options it was decorated with.
        deep_refs: whether references inside of containers arrive as values, too.
    """

    __wrapped__: Callable[P, R]
    __name__: str
    __qualname__: str

    def __init__(self, function: Callable[P, R], options: dict[str, Any], deep_refs: bool = False) -> None:
        _require_plain_function(function)
        functools.update_wrapper(self, function)
        self.deep_refs = deep_refs
        self._options = OptionSet(options)
        self._instance_types: tuple[type, ...] = ()
        self._dispatch_with = functools.lru_cache(maxsize=DISPATCHES_KEPT)(self._new_dispatch)
        self._stepped = stepped(function)
        with _naming(self, options):
            self._remote_function = _ray_remote(task_of(function, deep_refs), self._options)
        self._dispatch: Dispatch[P, R] = Dispatch(self, OptionSet({}))

    @property
    def ray_options(self) -> dict[str, Any]:
        return OptionSet(self._options.values).values

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        if kwargs or self.deep_refs or ObjectRef in map(type, args):
            return self._call_with_all(args, kwargs)
        return self.__wrapped__(*args, **kwargs)

    def _call_with_all(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
        call = take_call(kwargs)
        args, kwargs = resolved(args, kwargs, self.deep_refs)
        if call is None:
            return self.__wrapped__(*args, **kwargs)
        return cast("R", self._stepped(call, args, kwargs))

    @overload
    def chia_remote(self, /, *args: P.args, **kwargs: P.kwargs) -> ObjectRef[R]: ...
    @overload
    def chia_remote(self, /, *args: Any, **kwargs: Any) -> ObjectRef[R]: ...
    def chia_remote(self, /, *args: Any, **kwargs: Any) -> ObjectRef[R]:
        """Dispatch a call to a worker that has the resources, and return the reference to its result at once.

        Any argument may be the reference of another call: the task starts when that result is there, and gets it as a
        plain value. References inside lists or other containers are passed on as references, unless the node was
        decorated with ``deep_refs=True``.

        ``_chia_setup`` and ``_chia_cleanup`` name callables that run on the worker before and after the function,
        with the tuples ``_chia_setup_args`` and ``_chia_cleanup_args``. If setup raises, function and cleanup are
        skipped and the task fails; if cleanup raises, that is logged.

        With the option ``num_returns`` the result is a list of references; a generator gives Ray's generator of them.
        An async function runs in an event loop of its own on the worker.

        Raises:
            InstanceMissing: (a ``TypeError``) a method was dispatched without its instance.
            HookError: (a ``TypeError``) there is no such ``_chia_`` keyword, or not with this value.
            TypeError: the arguments do not fit the function, or one cannot be pickled.
        """
        return self._dispatch.chia_remote(*args, **kwargs)

    if TYPE_CHECKING:

        @overload
        def chia_remote_blocking(self, /, *args: P.args, **kwargs: P.kwargs) -> R: ...
        @overload
        def chia_remote_blocking(self, /, *args: Any, **kwargs: Any) -> R: ...
        def chia_remote_blocking(self, /, *args: Any, **kwargs: Any) -> R:
            """See ``Dispatch.chia_remote_blocking``."""
    else:

        @property
        def chia_remote_blocking(self) -> Callable[P, R]:
            return self._dispatch.chia_remote_blocking

    def options(self, /, **overrides: Any) -> Dispatch[P, R]:
        """The same node with other Ray options for one dispatch: ``fn.options(num_cpus=4).chia_remote(x)``.

        An option that is not named keeps the value it was decorated with; one that is, a dictionary like ``resources``
        too, is replaced.

        Raises:
            OptionError: (a ``ValueError``) Ray has no such option for tasks.
            TypeError, ValueError: it has, but not with this value.
        """
        options = OptionSet(overrides)
        try:
            hash(options)
        except TypeError:  # some value, a scheduling strategy say, cannot be looked up again
            return self._new_dispatch(options)
        return self._dispatch_with(options)

    def _new_dispatch(self, options: OptionSet) -> Dispatch[P, R]:
        with _naming(self, options.values):
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
        return self if instance is None else BoundChiaNode(self, instance)

    def __repr__(self) -> str:
        options = [text for text in (str(self._options), "deep_refs=True" if self.deep_refs else "") if text]
        return f"<ChiaFunction {self.__module__}.{self.__qualname__}({', '.join(options)})>"

    # The standard pickle stores where to import a node from, like any function. Ray gets it by value, as it gets its
    # own remote functions: a worker may not be able to import what a script, a notebook or a test module defines.
    def __reduce__(self) -> str:
        return self.__qualname__

    def __setstate__(self, state: tuple[Callable[P, R], dict[str, Any], bool]) -> None:
        self.__init__(*state)  # type: ignore[misc]


def _reduce_by_value(node: ChiaNode[..., Any]) -> tuple[Any, ...]:
    # In two steps, an empty object and then its state, because a function may refer to its own node.
    return ChiaNode.__new__, (ChiaNode,), (node.__wrapped__, node.ray_options, node.deep_refs)


CloudPickler.dispatch_table[ChiaNode] = _reduce_by_value


class Dispatch(Generic[P, R]):
    """One node with one set of options, ready to be sent; ``ChiaNode.options`` gives it.

    It shows the name, the docstring and the signature of the function. Called, it runs it here, as the node does:
    options are of dispatches.
    """

    def __init__(self, node: ChiaNode[P, R], options: OptionSet) -> None:
        functools.update_wrapper(self, node.__wrapped__)
        remote_function = node._remote_function
        self._node = node
        self._options = options
        self._submit = (remote_function.options(**options.values) if options.values else remote_function).remote
        if not TYPE_CHECKING:
            self.chia_remote_blocking = _shown_as(node.__wrapped__, self._call_and_wait)

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._node(*args, **kwargs)

    @overload
    def chia_remote(self, /, *args: P.args, **kwargs: P.kwargs) -> ObjectRef[R]: ...
    @overload
    def chia_remote(self, /, *args: Any, **kwargs: Any) -> ObjectRef[R]: ...
    def chia_remote(self, /, *args: Any, **kwargs: Any) -> ObjectRef[R]:
        """See ``ChiaNode.chia_remote``."""
        node = self._node
        if node._instance_types:
            _require_instance(node, args)
        return self._send(args, kwargs)

    def _send(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ObjectRef[R]:
        ensure_ray()
        if kwargs and (call := take_call(kwargs)):
            kwargs[CALL_KEYWORD] = call
        with _naming(self._node):
            return cast("ObjectRef[R]", self._submit(*args, **kwargs))

    if TYPE_CHECKING:

        @overload
        def chia_remote_blocking(self, /, *args: P.args, **kwargs: P.kwargs) -> R: ...
        @overload
        def chia_remote_blocking(self, /, *args: Any, **kwargs: Any) -> R: ...
        def chia_remote_blocking(self, /, *args: Any, **kwargs: Any) -> R:
            """Dispatch a call as ``chia_remote`` does, wait, and return the value (see ``get`` for what it raises).

            It shows the name, the docstring and the signature of the function, for those who make something of them (a
            tool's schema).

            Ctrl-C ends the wait and cancels the task, which nobody else could reach. A generator is not waited for:
            what is returned yields its values as they arrive, and cancels it when it is closed or collected.

            Raises:
                NothingToWaitFor: (a ``ValueError``) the node has the option ``num_returns=0``.
            """

    def _call_and_wait(self, /, *args: Any, **kwargs: Any) -> Any:
        return self._wait(self.chia_remote(*args, **kwargs))

    def _wait(self, result: Any) -> Any:
        if result is None:
            raise NothingToWaitFor(f"{self._node!r} with num_returns=0 has nothing to wait for: use chia_remote")
        if isinstance(result, ObjectRefGenerator):
            return RemoteValues(result)
        try:
            return get(result)
        except KeyboardInterrupt:
            ray.cancel(result[0] if isinstance(result, list) else result)
            raise

    def __repr__(self) -> str:
        return f"{self._node!r}.options({self._options})"


class BoundDispatch(Generic[S, Q, R]):
    """A dispatch of a method, bound to the instance that it was looked up on.

    The instance goes along by itself: ``node.build.chia_remote("-O2")``. It may also stand there as the first argument,
    as in ``node.build.chia_remote(node, "-O2")``. Where that could mean either, both are refused.
    """

    __slots__ = ("__self__", "_dispatch")

    def __init__(self, dispatch: Dispatch[Any, R], instance: S) -> None:
        self._dispatch = dispatch
        self.__self__ = instance

    @overload
    def chia_remote(self, /, *args: Q.args, **kwargs: Q.kwargs) -> ObjectRef[R]: ...
    @overload
    def chia_remote(self, /, *args: Any, **kwargs: Any) -> ObjectRef[R]: ...
    def chia_remote(self, /, *args: Any, **kwargs: Any) -> ObjectRef[R]:
        """See ``ChiaNode.chia_remote``; the call runs on a copy of this instance.

        Raises:
            InstanceAmbiguous: (a ``TypeError``) the first argument is the instance, and the method could take it as an
                argument of its own just as well.
            InstanceMissing: (a ``TypeError``) the first argument is another instance, and the method takes none.
        """
        return self._dispatch._send(self._with_instance(args, kwargs), kwargs)

    if TYPE_CHECKING:

        @overload
        def chia_remote_blocking(self, /, *args: Q.args, **kwargs: Q.kwargs) -> R: ...
        @overload
        def chia_remote_blocking(self, /, *args: Any, **kwargs: Any) -> R: ...
        def chia_remote_blocking(self, /, *args: Any, **kwargs: Any) -> R:
            """See ``Dispatch.chia_remote_blocking``."""
    else:

        @property
        def chia_remote_blocking(self) -> Callable[Q, R]:
            # A bound method, so that its signature is that of the method without the instance.
            call = _shown_as(self._dispatch._node.__wrapped__, self._call_and_wait)
            return MethodType(call, self.__self__)

    def _call_and_wait(self, instance: S, /, *args: Any, **kwargs: Any) -> Any:
        return self._dispatch._wait(self.chia_remote(*args, **kwargs))

    def _with_instance(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        instance, node = self.__self__, self._dispatch._node
        bound = (instance, *args)
        if not args or not isinstance(args[0], (type(instance), *node._instance_types)):
            return bound
        fits = functools.partial(fits_method, node.__wrapped__, kwargs)
        if args[0] is not instance:
            if fits(bound):
                return bound
            raise InstanceMissing(
                f"{node.__qualname__} was looked up on one instance and given another: a call runs on the one before "
                f"the dot; to name it as an argument, write {node.__qualname__}.chia_remote(other, …)"
            )
        if fits(args) and fits(bound):
            raise InstanceAmbiguous(
                f"{node.__qualname__} was given the instance that it is bound to, which it could take as an argument, "
                f"too: write {node.__qualname__}.chia_remote(node, …) or {node.__qualname__}.chia_remote(node, node, …)"
            )
        return bound if fits(bound) else args

    def __repr__(self) -> str:
        return f"{self._dispatch!r} of {self.__self__!r}"


class BoundChiaNode(BoundDispatch[S, Q, R]):
    """A node looked up on an instance. Called, it runs here, as a method does."""

    __slots__ = ("__weakref__",)

    def __init__(self, node: ChiaNode[Any, R], instance: S) -> None:
        super().__init__(node._dispatch, instance)

    @property
    def __func__(self) -> ChiaNode[Any, R]:
        return self._dispatch._node

    def __call__(self, /, *args: Q.args, **kwargs: Q.kwargs) -> R:
        return self._dispatch._node(self.__self__, *args, **kwargs)

    def options(self, /, **overrides: Any) -> BoundDispatch[S, Q, R]:
        """See ``ChiaNode.options``."""
        return BoundDispatch(self._dispatch._node.options(**overrides), self.__self__)

    def __getattr__(self, name: str) -> Any:  # as a bound method does
        return getattr(self._dispatch._node, name)

    @property
    def __doc__(self) -> str | None:  # type: ignore[override]
        return self._dispatch._node.__doc__

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(MethodType(self._dispatch._node.__wrapped__, self.__self__))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, BoundChiaNode):
            return NotImplemented
        return self.__self__ is other.__self__ and self.__func__ is other.__func__

    def __hash__(self) -> int:
        return hash((id(self.__self__), self.__func__))

    def __reduce__(self) -> tuple[Any, ...]:
        return getattr, (self.__self__, self.__func__.__name__)

    def __repr__(self) -> str:
        return f"<bound {self.__func__!r} of {self.__self__!r}>"


class _naming:
    """Ray's complaints about options and arguments do not say whose they are: note the node on them."""

    __slots__ = ("_node", "_options")

    def __init__(self, node: ChiaNode[..., Any], options: Iterable[str] = ()) -> None:
        self._node = node
        self._options = options

    def __enter__(self) -> None:
        return None

    def __exit__(self, _type: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, (TypeError, ValueError)):
            error.add_note(f"in {self._node!r}")
        if isinstance(error, ValueError) and (unknown := unknown_option(error, self._options)) is not None:
            unknown.add_note(f"in {self._node!r}")
            raise unknown from None


def _shown_as(function: Callable[..., Any], call: Callable[..., Any]) -> Callable[..., Any]:
    def chia_remote_blocking(*args: Any, **kwargs: Any) -> Any:
        return call(*args, **kwargs)

    return functools.wraps(function)(chia_remote_blocking)


def _require_plain_function(function: object) -> None:
    if isinstance(function, (staticmethod, classmethod)):
        kind = type(function).__name__
        raise NodeError(f"@{kind} goes above @ChiaFunction, not below: {function.__func__.__qualname__}")
    if isinstance(function, (ChiaNode, BoundChiaNode)):
        raise NodeError(f"{function!r} is a @ChiaFunction already; override its options with .options(…)")
    if inspect.isclass(function):
        raise NodeError(f"@ChiaFunction makes nodes of functions; decorate the methods of {function.__qualname__}")
    if not inspect.isfunction(function):
        raise NodeError(f"@ChiaFunction decorates Python functions, not {function!r} of type {type(function).__name__}")


def _require_instance(node: ChiaNode[..., Any], args: tuple[Any, ...]) -> None:
    if args and isinstance(args[0], (*node._instance_types, ObjectRef)):
        return
    given = f"not {type(args[0]).__name__}" if args else "and nothing was given"
    raise InstanceMissing(
        f"{node.__qualname__}.chia_remote takes the instance as its first argument, {given}: "
        f"{node.__qualname__}.chia_remote(node, …) or node.{node.__name__}.chia_remote(…)"
    )


def _ray_remote(function: Callable[..., Any], options: OptionSet) -> Any:
    values = OptionSet(options.values).values  # Ray keeps and changes the dictionary it gets
    return ray.remote(**values)(function) if values else ray.remote(function)
