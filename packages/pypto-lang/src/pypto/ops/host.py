"""What generated host orchestrators call. No import of numpy or torch: arrays of either kind pass through."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from typing import Any

from pypto.errors import OutOfBounds


def slice_tensor(array: Any, shape: Sequence[int], offset: Sequence[int], where: str = "") -> Any:
    """The part of ``array`` of extents ``shape`` from ``offset`` on, as a view.

    Args:
        array: anything with ``shape`` and slicing: a numpy array, a torch tensor.
        where: the place in the user's source, for the error.

    Raises OutOfBounds where the part reaches outside the array or is not contiguous in it.
    """
    at = f"{where}: " if where else ""
    if not len(shape) == len(offset) == len(array.shape):
        raise OutOfBounds(f"{at}slice of a {len(array.shape)}-dimensional array with {len(shape)} extents")
    several = False
    for axis, (count, begin, have) in enumerate(zip(shape, offset, array.shape, strict=True)):
        if begin < 0 or count < 0 or begin + count > have:
            raise OutOfBounds(
                f"{at}slice out of bounds in dimension {axis}: offset {begin}, extent {count}, the array has {have}"
            )
        if several and count != have:
            raise OutOfBounds(f"{at}slice is not contiguous: dimension {axis} must be taken whole ({count} of {have})")
        several = several or count > 1
    return array[tuple(slice(begin, begin + count) for begin, count in zip(offset, shape, strict=True))]


def wrapped(value: int) -> int:
    """``value`` as 64 bits hold it, in two's complement."""
    return (value + 2**63) % 2**64 - 2**63


def single(value: float) -> float:
    """``value`` rounded to the nearest float of 32 bits; infinite beyond the greatest."""
    try:
        return float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)
