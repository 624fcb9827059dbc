"""Whether two views have a byte in common, by address, shape and stride: however many elements they have."""

from __future__ import annotations

from typing import Any

import numpy as np

MAX_WORK = 100_000
"""Steps that numpy may take to find out. Views that need more count as overlapping."""

Shadow = np.ndarray[Any, Any]


class _Somewhere:
    __slots__ = ("__array_interface__",)

    def __init__(self, address: int, shape: tuple[int, ...], strides: tuple[int, ...] | None, itemsize: int) -> None:
        self.__array_interface__ = {
            "version": 3,
            "data": (address, True),
            "shape": shape,
            "strides": strides,
            "typestr": f"|V{itemsize}",
        }


def shadow(address: int, shape: tuple[int, ...], strides: tuple[int, ...] | None, itemsize: int) -> Shadow:
    """An array that is only looked at from outside: where it lies. It keeps nothing alive."""
    return np.asarray(_Somewhere(address, shape, strides, itemsize))


def shadow_of(view: np.ndarray[Any, Any]) -> Shadow:
    """The shadow of an array."""
    return shadow(view.__array_interface__["data"][0], view.shape, view.strides, view.itemsize)


def overlap(one: Shadow, other: Shadow) -> bool:
    """Whether they have a byte in common. True also when that would take too long to find out."""
    try:
        return np.shares_memory(one, other, max_work=MAX_WORK)  # type: ignore[arg-type] # any number will do
    except np.exceptions.TooHardError:
        return True
