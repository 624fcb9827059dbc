"""What a generator on a worker yields, as values."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, cast

import ray
from ray import ObjectRefGenerator

from chia.base.collect import get

T = TypeVar("T")


class RemoteValues(Iterator[T], Generic[T]):
    """An iterator over the values of a task that generates them, each as soon as it is there.

    Closed, collected or interrupted (Ctrl-C) before its end, it cancels the task, which nobody else could reach.
    """

    __slots__ = ("_done", "_refs")

    def __init__(self, refs: ObjectRefGenerator) -> None:
        self._refs = refs
        self._done = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        if self._done:
            raise StopIteration
        try:
            value: Any = get(next(self._refs))
        except Exception:  # what the task raised, or the end of its values: it has ended by itself
            self._done = True
            raise
        except BaseException:  # Ctrl-C
            self.close()
            raise
        return cast("T", value)

    def close(self) -> None:
        """Cancel the task, unless its end was seen. No value comes any more."""
        if self._done:
            return
        self._done = True
        if ray.is_initialized():
            ray.cancel(self._refs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()
