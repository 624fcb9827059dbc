"""Brackets around intermediates."""

from __future__ import annotations

from collections.abc import Callable

from simpler.memory.regions import Lease


class Scope:
    """The HeapRing blocks allocated in one ``with orch.scope()``; they go when its last task has ended.

    A scope counts as a task of the scope around it: inner tasks may use outer blocks.

    Attributes:
        depth: how many scopes are around it.
        leases: of its blocks.
        live: tasks and inner scopes that have not ended.
        free: gives blocks back, called with the scope.
    """

    __slots__ = ("closed", "depth", "free", "leases", "live", "parent")

    def __init__(self, free: Callable[[Scope], None], parent: Scope | None = None) -> None:
        self.free = free
        self.parent = parent
        self.depth: int = parent.depth + 1 if parent else 0
        self.leases: list[Lease] = []
        self.live = 0
        self.closed = False
        if parent is not None:
            parent.live += 1

    def task_ended(self) -> None:
        self.live -= 1
        if self.closed and not self.live:
            self._release()

    def close(self) -> None:
        """No more tasks come that could use its blocks."""
        self.closed = True
        for lease in self.leases:
            lease.live = False
        if not self.live:
            self._release()

    def _release(self) -> None:
        self.free(self)
        self.leases.clear()
        if self.parent is not None:
            parent, self.parent = self.parent, None
            parent.task_ended()
