"""Pickling that knows shared memory: an array in there travels as its place, not as its bytes."""

from __future__ import annotations

import io
import pickle
import sys
from typing import Any

import cloudpickle
import numpy as np

Place = tuple[str, int, tuple[int, ...], tuple[int, ...], np.dtype[Any], bool]
"""What it was (``"numpy"`` or ``"torch"``), offset in the region, shape, strides in bytes, dtype, writable."""


class _Pickler(cloudpickle.Pickler):
    def __init__(self, file: io.BytesIO, start: int, end: int) -> None:
        super().__init__(file)
        self._start = start
        self._end = end

    def persistent_id(self, thing: Any) -> Place | None:
        kind, array = "numpy", thing
        if type(thing) is not np.ndarray:
            torch = sys.modules.get("torch")
            if torch is None or type(thing) is not torch.Tensor or thing.device.type != "cpu":
                return None
            if not self._start <= thing.data_ptr() < self._end:
                return None
            kind, array = "torch", thing.detach().numpy()
        address = array.__array_interface__["data"][0]
        if not self._start <= address < self._end or not array.nbytes:
            return None
        return kind, address - self._start, array.shape, array.strides, array.dtype, array.flags.writeable


class _Unpickler(pickle.Unpickler):
    def __init__(self, content: bytes, memory: memoryview) -> None:
        super().__init__(io.BytesIO(content))
        self._memory = memory

    def persistent_load(self, place: Place) -> Any:
        kind, offset, shape, strides, dtype, writable = place
        array: np.ndarray[Any, Any] = np.ndarray(shape, dtype, self._memory, offset, strides)
        array.flags.writeable = writable
        return array if kind == "numpy" else sys.modules["torch"].from_numpy(array)


def dumps_shared(thing: object, start: int, end: int) -> bytes:
    """``thing`` pickled for a process that shares the memory at ``[start, end)``."""
    file = io.BytesIO()
    _Pickler(file, start, end).dump(thing)
    return file.getvalue()


def loads_shared(content: bytes, memory: memoryview) -> Any:
    """What ``dumps_shared`` pickled; ``memory`` is the memory it was told of."""
    return _Unpickler(content, memory).load()
