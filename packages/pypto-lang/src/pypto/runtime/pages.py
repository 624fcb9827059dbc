"""Memory of results that are gone, for results to come: pages that a process has used before need not be made again."""

from __future__ import annotations

import math
from collections import deque
from typing import Any

SMALL = 64 << 10  # bytes; below, Python's and numpy's own allocators are as good
KEPT = 256 << 20  # bytes that are kept for later at most


class Pages:
    """Hands out zeroed arrays, and takes their memory back when nobody refers to them any more."""

    def __init__(self) -> None:
        self._free: deque[Any] = deque()  # the most recent last; appending and popping need no lock

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Any:
        """A new array of zeros; ``"bfloat16"``, which numpy lacks, comes as 16-bit integers."""
        import numpy

        element = numpy.dtype("uint16" if dtype == "bfloat16" else dtype)
        nbytes = element.itemsize * math.prod(shape)
        if nbytes < SMALL:
            return numpy.zeros(shape, element)
        block = self._take(nbytes)
        if block is None:
            block = numpy.zeros(nbytes, numpy.uint8)
        else:
            block[:nbytes].fill(0)
        lease = _Lease(self._free, block, nbytes)
        return numpy.asarray(lease).view(element).reshape(shape)

    def _take(self, nbytes: int) -> Any:
        """A block that has room, without wasting more than half of it; None where there is none."""
        for _ in range(len(self._free)):
            try:
                block = self._free.pop()
            except IndexError:  # another thread took it
                return None
            if nbytes <= block.nbytes <= 2 * nbytes:
                return block
            self._free.appendleft(block)
        return None


class _Lease:
    """Owns a block for as long as an array or a view of it lives; numpy keeps the object it made an array of."""

    def __init__(self, free: deque[Any], block: Any, nbytes: int) -> None:
        self._free = free
        self._block = block
        self.__array_interface__ = {**block[:nbytes].__array_interface__}

    def __del__(self) -> None:
        self._free.append(self._block)
        while sum(block.nbytes for block in tuple(self._free)) > KEPT:
            self._free.popleft()
