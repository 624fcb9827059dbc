"""The tasks that use some bytes: the last that wrote them, and those that read them since.

A task is any object with a ``state``; 0 (``TaskState.FREE``) means that it ended well, so nobody waits for it.
"""

from __future__ import annotations

from typing import Generic, Protocol, TypeVar


class HasState(Protocol):
    state: int


Task = TypeVar("Task", bound=HasState)

# Readers are looked through for ended ones when there are this many, then at every doubling.
PRUNE_READERS = 16


class Users(Generic[Task]):
    """Users of the same bytes. ``turn`` counts writes in the map they are of: the turn of the last one here."""

    __slots__ = ("prune_at", "readers", "turn", "writer")

    def __init__(self) -> None:
        self.writer: Task | None = None
        self.readers: list[Task] = []
        self.turn = 0
        self.prune_at = PRUNE_READERS

    def add_reader(self, task: Task) -> None:
        readers = self.readers
        if len(readers) >= self.prune_at:
            self.readers = readers = [reader for reader in readers if reader.state]
            self.prune_at = max(PRUNE_READERS, 2 * len(readers))
        readers.append(task)

    def idle(self) -> bool:
        """Whether no task has to wait for anything here."""
        return not (self.writer is not None and self.writer.state) and not any(task.state for task in self.readers)

    def look(self, task: Task, reads: bool, writes: bool, needs: list[Task], follows: list[Task]) -> None:
        """Say which tasks come before one that reads or writes these bytes, or some of them."""
        writer = self.writer
        if writer is not None and writer is not task:
            if writer.state:
                (needs if reads else follows).append(writer)
            else:
                self.writer = None
        if writes:
            for reader in self.readers:
                if reader.state and reader is not task:
                    follows.append(reader)

    def touch(self, task: Task, reads: bool, writes: bool, turn: int, needs: list[Task], follows: list[Task]) -> None:
        """The same for one that reads, or writes, all of them; it is the last writer or a reader from now on."""
        self.look(task, reads, writes, needs, follows)
        if writes:
            self.writer = task
            self.turn = turn
            self.readers = []
        elif self.writer is not task:
            self.add_reader(task)
