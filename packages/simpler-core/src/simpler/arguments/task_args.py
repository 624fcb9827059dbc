"""A task's arguments: built in the parent, read in a SubWorker."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from simpler_ipc import Region
from simpler_runtime import IN, INOUT, NO_DEP, OUT, OUTPUT_EXISTING, ContinuousTensor, TensorArgType
from simpler_runtime import TaskArgs as PlainTaskArgs

from simpler.arguments.arrays import (
    ArrayInfo,
    checked_shape,
    data_type,
    describe,
    make_tensor,
    numpy_dtype,
    view_address,
)
from simpler.errors import TensorError

# tag → (may the task write the tensor, does it wait for other tasks that use it and they for it)
_EFFECTS = (
    (IN, False, True),
    (OUT, True, True),
    (INOUT, True, True),
    (OUTPUT_EXISTING, True, True),
    (NO_DEP, True, False),
)


class Tensor:
    """One tensor of a TaskArgs. A deferred one is allocated whenever the task is submitted; before, it is nowhere."""

    __slots__ = ("deferred", "info", "ordered", "tag", "writes")

    def __init__(
        self, info: ArrayInfo, tag: TensorArgType, writes: bool, ordered: bool, *, deferred: bool = False
    ) -> None:
        self.info = info
        self.tag = tag
        self.writes = writes
        self.ordered = ordered
        self.deferred = deferred


class TaskArgs:
    """Tensors with tags and 64-bit scalars, in the order the callable takes them.

    Tensors can be numpy arrays, torch tensors on the CPU, buffers, anything with ``__array_interface__`` or
    ``__dlpack__``, or ``ContinuousTensor``. Their addresses are read here; they must not be resized afterwards. From
    ``submit_*`` until the run ends they belong to the run. One TaskArgs can be submitted any number of times.

        TaskArgs().inp(a).inp(b).out(c).add_scalar(3)
    """

    __slots__ = ("_deferred", "_plain", "_submitted", "_tensors")

    def __init__(self) -> None:
        self._tensors: list[Tensor] = []
        self._plain = PlainTaskArgs()  # the same, as it goes into a frame if every array is used in place
        self._deferred = False  # whether an OUT tensor is to be allocated
        self._submitted = False  # tasks on their way hold the two lists above

    def inp(self, array: object) -> TaskArgs:
        """Add a tensor the task reads."""
        return self.add_tensor(array, IN)

    def inout(self, array: object) -> TaskArgs:
        """Add a tensor the task reads and writes."""
        return self.add_tensor(array, INOUT)

    def out(self, array: object = None, *, shape: Any = None, dtype: Any = None) -> TaskArgs:
        """Add a tensor the task writes.

        Without ``array``, one of ``shape`` and ``dtype`` is allocated from the HeapRing at every submit, valid until
        the scope it is submitted in ends; read it as ``args.array(i)`` after the submit.
        """
        if array is not None:
            if shape is not None or dtype is not None:
                raise TensorError("out takes an array, or the shape and dtype of one to allocate, not both")
            return self.add_tensor(array, OUT)
        if shape is None or dtype is None:
            raise TensorError("out without an array needs both shape and dtype")
        dims, element = checked_shape(shape), data_type(dtype)
        nowhere = ArrayInfo(None, 0, 0, dims, element, True, None, make_tensor(0, dims, element), False)
        self._deferred = True
        return self._append(Tensor(nowhere, OUT, True, True, deferred=True))

    def add_tensor(self, array: object, tag: TensorArgType = IN) -> TaskArgs:
        """Add a tensor with a tag: IN, OUT, INOUT, OUTPUT_EXISTING (like OUT), or NO_DEP (no waiting on its account).

        Raises:
            TensorError: it is no array, not in this host's memory, or has a dtype or shape chips do not have.
        """
        for known, writes, ordered in _EFFECTS:
            if tag is known:
                return self._append(Tensor(describe(array), tag, writes, ordered))
        raise TensorError(f"{tag!r} is not a tag: use IN, OUT, INOUT, OUTPUT_EXISTING or NO_DEP")

    def add_scalar(self, value: float) -> TaskArgs:
        """Add a 64-bit scalar: an integer, a bool, or a float (stored as the bits of a double)."""
        if self._submitted:
            self._separate()
        self._plain.add_scalar(value.item() if isinstance(value, np.generic) else value)
        return self

    def _append(self, tensor: Tensor) -> TaskArgs:
        if self._submitted:
            self._separate()
        self._tensors.append(tensor)
        self._plain.add_tensor(tensor.info.tensor, tensor.tag)
        return self

    def _separate(self) -> None:
        """Leave what was submitted to the tasks that hold it, and go on with a copy."""
        plain = PlainTaskArgs()
        for tensor in self._tensors:
            plain.add_tensor(tensor.info.tensor, tensor.tag)
        for index in range(self._plain.scalar_count):
            plain.add_scalar(self._plain.scalar(index))
        self._tensors = list(self._tensors)
        self._plain = plain
        self._submitted = False

    @property
    def tensor_count(self) -> int:
        return len(self._tensors)

    @property
    def scalar_count(self) -> int:
        return self._plain.scalar_count

    def tag(self, index: int) -> TensorArgType:
        """How the task uses a tensor."""
        return self._tensors[index].tag

    def scalar(self, index: int) -> int:
        """The scalar's 64 bits as a signed integer."""
        return self._plain.scalar(index)

    def scalar_float(self, index: int) -> float:
        """The scalar's 64 bits as a double."""
        return self._plain.scalar_float(index)

    def array(self, index: int) -> Any:
        """The array as it was added; of an OUT tensor without one, the numpy array of the last submit."""
        return self._placed(index).array

    def tensor(self, index: int) -> ContinuousTensor:
        """Address, shape and dtype of a tensor."""
        return self._placed(index).tensor

    def _placed(self, index: int) -> ArrayInfo:
        info = self._tensors[index].info
        if info.array is None:
            raise TensorError(f"tensor {index} is allocated when the arguments are submitted; it is nowhere yet")
        return info

    def __repr__(self) -> str:
        tensors = (f"{tensor.tag.name} {list(tensor.info.shape)} {tensor.info.dtype.name}" for tensor in self._tensors)
        scalars = (str(self._plain.scalar(index)) for index in range(self._plain.scalar_count))
        return f"TaskArgs({', '.join((*tensors, *scalars))})"


class SubTaskArgs:
    """What a SubWorker function is called with: the submitted tensors and scalars, without tags.

    Arrays are views of the caller's bytes (or their shared copy): what the function writes into an argument that was
    submitted as OUT or INOUT is seen by the caller. They are valid until the function returns.
    """

    __slots__ = ("_plain", "_region")

    def __init__(self, plain: PlainTaskArgs, region: Region) -> None:
        self._plain = plain
        self._region = region

    @property
    def tensor_count(self) -> int:
        return self._plain.tensor_count

    @property
    def scalar_count(self) -> int:
        return self._plain.scalar_count

    def tensor(self, index: int) -> ContinuousTensor:
        """Address, shape and dtype of a tensor."""
        return self._plain.tensor(index)

    def array(self, index: int) -> np.ndarray[Any, Any]:
        """A numpy view of a tensor, in place. bfloat16 elements are shown as their uint16 bits."""
        tensor = self._plain.tensor(index)
        dtype = numpy_dtype(tensor.dtype)
        shape = tensor.shapes
        if math.prod(shape) == 0:
            return np.empty(shape, dtype)
        address = tensor.data
        if tensor.child_memory or not self._region.contains(address, tensor.nbytes):
            raise TensorError(f"tensor {index} at {address:#x} is in a chip's memory, which a SubWorker cannot see")
        return view_address(address, shape, tensor.dtype)

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
