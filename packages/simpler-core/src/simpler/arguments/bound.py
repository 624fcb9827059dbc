"""Arguments as they travel in a frame, and as the task on the other side reads them.

Tensors and scalars travel in the layout that chips read. An array that this layout cannot describe (another dtype, more
dimensions, gaps between its elements) leaves its address there and the rest in a note.
"""

from __future__ import annotations

import marshal
import pickle
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from simpler_runtime import ContinuousTensor, DataType
from simpler_runtime import TaskArgs as PlainTaskArgs

from simpler.arguments.arrays import ArrayInfo, numpy_dtype
from simpler.errors import TensorError

MASK_BITS = 64  # tensors that a frame's header can mark as read-only; of others, a note does

Note = tuple[int, tuple[int, ...], tuple[int, ...] | None, str | bytes]
"""Which tensor, its shape, its strides (None: C order), its dtype as numpy's typestr, or pickled."""


class Bound(NamedTuple):
    """Arguments with addresses that children understand.

    ``readonly`` has bit i for a tensor i that must not be written, ``notes`` tells of what no tensor describes.
    """

    plain: PlainTaskArgs
    readonly: int = 0
    notes: bytes = b""


def bind(plain: PlainTaskArgs, infos: Sequence[ArrayInfo], readonly: Sequence[bool]) -> Bound:
    """Arguments on their way. ``infos`` are their arrays, wherever they lie now."""
    mask = 0
    notes: list[Note] = []
    for index, info in enumerate(infos):
        if readonly[index]:
            mask |= 1 << index
        if info.tensor is None or info.strided is not None:
            strides = None if info.strided is None else info.strided.strides
            notes.append((index, info.shape, strides, _named(info.dtype)))
    high = mask >> MASK_BITS
    packed = marshal.dumps((notes, high)) if notes or high else b""
    return Bound(plain, mask & ((1 << MASK_BITS) - 1), packed)


def _named(dtype: DataType | np.dtype[Any]) -> str | bytes:
    known = numpy_dtype(dtype)
    return known.str if known.kind != "V" else pickle.dumps(known)


def with_scalars(plain: PlainTaskArgs, source: PlainTaskArgs) -> PlainTaskArgs:
    """``plain`` with the scalars of ``source`` added."""
    for index in range(source.scalar_count):
        plain.add_scalar(source.scalar(index))
    return plain


class SubTaskArgs:
    """What a SubWorker function is called with: the submitted tensors and scalars, without tags.

    Arrays are views of the caller's bytes (or their shared copy): what the function writes into an argument that was
    submitted as OUT or INOUT is seen by the caller; those submitted as IN are read-only. They are valid until the
    function returns.
    """

    __slots__ = ("_memory", "_notes", "_plain", "_readonly", "_start")

    def __init__(self, plain: PlainTaskArgs, memory: memoryview, start: int, readonly: int, notes: bytes) -> None:
        """``memory`` are the bytes that all processes share, from address ``start``."""
        self._plain = plain
        self._memory = memory
        self._start = start
        self._readonly = readonly
        self._notes: dict[int, Note] = {}
        if notes:
            listed, high = marshal.loads(notes)
            self._notes = {note[0]: note for note in listed}
            self._readonly |= high << MASK_BITS

    @property
    def tensor_count(self) -> int:
        return self._plain.tensor_count

    @property
    def scalar_count(self) -> int:
        return self._plain.scalar_count

    def tensor(self, index: int) -> ContinuousTensor:
        """Address, shape and dtype of a tensor. TensorError if it is none that a chip could have."""
        tensor = self._plain.tensor(index)
        if index in self._notes:
            array = self.array(index)
            raise TensorError(
                f"tensor {index} has dtype {array.dtype}, shape {list(array.shape)} and strides {list(array.strides)}, "
                "which no ContinuousTensor describes: use array"
            )
        return tensor

    def array(self, index: int) -> np.ndarray[Any, Any]:
        """A numpy view of a tensor, in place. bfloat16 elements are shown as their uint16 bits."""
        tensor = self._plain.tensor(index)
        note = self._notes.get(index)
        strides: tuple[int, ...] | None = None
        if note is None:
            shape, dtype = tensor.shapes, numpy_dtype(tensor.dtype)
        else:
            _, shape, strides, name = note
            dtype = np.dtype(name) if isinstance(name, str) else pickle.loads(name)
        if 0 in shape or not dtype.itemsize:
            array: np.ndarray[Any, Any] = np.empty(shape, dtype)
        else:
            array = np.ndarray(shape, dtype, self._memory, tensor.data - self._start, strides)
        if self._readonly >> index & 1:
            array.flags.writeable = False
        return array

    def arrays(self) -> list[np.ndarray[Any, Any]]:
        """All tensors as numpy views, in order."""
        return [self.array(index) for index in range(self._plain.tensor_count)]

    def scalar(self, index: int) -> int:
        """The scalar's 64 bits as a signed integer."""
        return self._plain.scalar(index)

    def scalar_float(self, index: int) -> float:
        """The scalar's 64 bits as a double."""
        return self._plain.scalar_float(index)

    def __repr__(self) -> str:
        return f"SubTaskArgs({self.tensor_count} tensors, {self.scalar_count} scalars)"
