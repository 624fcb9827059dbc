"""How a region travels in a pickle: as a file descriptor that multiprocessing hands over beside it."""

from __future__ import annotations

import os
from collections.abc import Callable
from multiprocessing import context, reduction
from typing import Any
from weakref import WeakKeyDictionary

from simpler_ipc._native import Region

Reduced = tuple[Callable[..., Region], tuple[Any, ...]]


class Memory:
    """The descriptor in the pickle, and the region it becomes.

    A process being started takes each descriptor once: all regions of one memory share one of these.
    """

    def __init__(self, fd: int) -> None:
        self._duplicate: Any = reduction.DupFd(fd)
        self._region: Region | None = None

    def __getstate__(self) -> Any:
        return self._duplicate

    def __setstate__(self, duplicate: Any) -> None:
        self._duplicate = duplicate
        self._region = None

    def region(self, name: str | None) -> Region:
        if self._region is None:
            fd = self._duplicate.detach()
            try:
                self._region = Region._join(fd, name)
            finally:
                os.close(fd)
        return Region._join(self._region.fd, name)


_memories: WeakKeyDictionary[Any, dict[int, Memory]] = WeakKeyDictionary()


def rebuild(memory: Memory, name: str | None) -> Region:
    return memory.region(name)


def reduce(region: Region) -> Reduced:
    process = context.get_spawning_popen()
    if process is None:  # for a process that runs already: multiprocessing serves the descriptor once
        memory = Memory(region.fd)
    else:
        memories = _memories.setdefault(process, {})
        memory = memories.get(region.fd) or memories.setdefault(region.fd, Memory(region.fd))
    return rebuild, (memory, region.name)
