"""Ray actors with the call surface of nodes."""

from __future__ import annotations

from typing import Any

import ray
from ray import ObjectRef
from ray.actor import ActorHandle

from chia.base.collect import get
from chia.errors import NodeError


class ActorMethod:
    """A method of an actor: ``chia_remote``, ``chia_remote_blocking``, ``options``, as of a node."""

    __slots__ = ("_method",)

    def __init__(self, method: Any) -> None:
        self._method = method

    def chia_remote(self, /, *args: Any, **kwargs: Any) -> ObjectRef[Any]:
        """Send the call to the actor, and return the reference to its result at once. References may be arguments."""
        ref: ObjectRef[Any] = self._method.remote(*args, **kwargs)
        return ref

    def chia_remote_blocking(self, /, *args: Any, **kwargs: Any) -> Any:
        """Send the call, wait for it, and return the value. Ctrl-C ends the wait and cancels the call."""
        ref = self.chia_remote(*args, **kwargs)
        try:
            return get(ref)
        except KeyboardInterrupt:
            ray.cancel(ref)
            raise

    def options(self, /, **overrides: Any) -> ActorMethod:
        """The same method with other Ray options for one call; for instance ``num_returns``."""
        return ActorMethod(self._method.options(**overrides))


class ChiaActor:
    """An actor whose methods are called like nodes.

    Attributes:
        actor: Ray's handle, for ``ray.kill`` say. (A method of that name is reached through it.)
    """

    __slots__ = ("actor",)

    def __init__(self, actor: ActorHandle[Any]) -> None:
        self.actor = actor

    def __getattr__(self, name: str) -> ActorMethod:
        if name.startswith("__"):  # copying and pickling ask for what there is not
            raise AttributeError(name)
        return ActorMethod(getattr(self.actor, name))

    def __reduce__(self) -> tuple[Any, ...]:
        return ChiaActor, (self.actor,)

    def __repr__(self) -> str:
        return f"chia_actor({self.actor!r})"


def chia_actor(actor: ActorHandle[Any]) -> ChiaActor:
    """Give a Ray actor the call surface of nodes: ``chia_actor(store).write.chia_remote(key, value)``.

    There are no ``_chia_`` keywords: hooks, caching and profiles are of tasks.

    Raises:
        NodeError: (a ``TypeError``) it is no handle of an actor.
    """
    if not isinstance(actor, ActorHandle):
        raise NodeError(f"chia_actor takes the handle of a Ray actor, not {actor!r} of type {type(actor).__name__}")
    return ChiaActor(actor)
