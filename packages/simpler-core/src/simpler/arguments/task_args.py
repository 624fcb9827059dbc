"""A task's arguments, as the caller writes them."""

from __future__ import annotations

from typing import Any

import numpy as np
from simpler_runtime import IN, INOUT, NO_DEP, OUT, OUTPUT_EXISTING, ContinuousTensor, TensorArgType
from simpler_runtime import TaskArgs as PlainTaskArgs

from simpler.arguments.arrays import (
    ArrayInfo,
    checked_shape,
    describe,
    element_type,
    refused_by_chips,
    stand_in,
    tensor_of,
)
from simpler.arguments.bound import Bound, bind, with_scalars
from simpler.errors import TensorError

# tag → (does the task need what is there, may it write, does it wait for others that use the tensor and they for it)
_EFFECTS = (
    (IN, True, False, True),
    (OUT, False, True, True),
    (INOUT, True, True, True),
    (OUTPUT_EXISTING, False, True, True),
    (NO_DEP, True, True, False),
)


class Tensor:
    """One tensor of a TaskArgs. A deferred one is allocated whenever the task is submitted; before, it is nowhere.

    Attributes:
        reads: the task needs what the bytes hold.
        writes: it may write them; all of them, unless it reads them too.
        ordered: it waits for tasks that use them, and they for it.
    """

    __slots__ = ("deferred", "info", "ordered", "reads", "tag", "writes")

    def __init__(
        self,
        info: ArrayInfo,
        tag: TensorArgType,
        reads: bool,
        writes: bool,
        ordered: bool,
        *,
        deferred: bool = False,
    ) -> None:
        self.info = info
        self.tag = tag
        self.reads = reads
        self.writes = writes
        self.ordered = ordered
        self.deferred = deferred


class TaskArgs:
    """Tensors with tags and 64-bit scalars, in the order the callable takes them.

    Tensors can be numpy arrays of any dtype without objects, torch tensors on the CPU, buffers, anything with
    ``__array_interface__`` or ``__dlpack__``, or ``ContinuousTensor``. Their addresses are read here; they must not be
    resized afterwards. From ``submit_*`` until the run ends they belong to the run. One TaskArgs can be submitted any
    number of times.

        TaskArgs().inp(a).inp(b).out(c).add_scalar(3)
    """

    __slots__ = ("_bound", "_deferred", "_plain", "_submitted", "_tensors")

    def __init__(self) -> None:
        self._tensors: list[Tensor] = []
        self._plain = PlainTaskArgs()  # the same for a chip, and the scalars
        self._bound: Bound | None = None  # as they go into a frame if every array is used in place; made when needed
        self._deferred = False  # whether an OUT tensor is to be allocated
        self._submitted = False  # tasks on their way hold the two lists above

    def inp(self, array: object) -> TaskArgs:
        """Add a tensor the task reads."""
        return self.add_tensor(array, IN)

    def inout(self, array: object) -> TaskArgs:
        """Add a tensor the task reads and writes."""
        return self.add_tensor(array, INOUT)

    def out(self, array: object = None, *, shape: Any = None, dtype: Any = None) -> TaskArgs:
        """Add a tensor the task writes all of; pass one that it writes in part to ``inout``.

        Without ``array``, one of ``shape`` and ``dtype`` is allocated from the HeapRing at every submit, valid until
        the scope it is submitted in ends; read it as ``args.array(i)`` after the submit.
        """
        if array is not None:
            if shape is not None or dtype is not None:
                raise TensorError("out takes an array, or the shape and dtype of one to allocate, not both")
            return self.add_tensor(array, OUT)
        if shape is None or dtype is None:
            raise TensorError("out without an array needs both shape and dtype")
        dims, element = checked_shape(shape), element_type(dtype)
        nowhere = ArrayInfo(None, 0, 0, dims, element, True, None, tensor_of(0, dims, element), False)
        self._deferred = True
        return self._append(Tensor(nowhere, OUT, False, True, True, deferred=True))

    def add_tensor(self, array: object, tag: TensorArgType = IN) -> TaskArgs:
        """Add a tensor with a tag: IN, OUT, INOUT, OUTPUT_EXISTING (like OUT), or NO_DEP (no waiting on its account).

        Raises:
            TensorError: it is no array, not in this host's memory, masked, or holds Python objects.
        """
        for known, reads, writes, ordered in _EFFECTS:
            if tag is known:
                return self._append(Tensor(describe(array), tag, reads, writes, ordered))
        raise TensorError(f"{tag!r} is not a tag: use IN, OUT, INOUT, OUTPUT_EXISTING or NO_DEP")

    def add_scalar(self, value: float) -> TaskArgs:
        """Add a 64-bit scalar: an integer, a bool, or a float (stored as the bits of a double)."""
        self._change()
        self._plain.add_scalar(value.item() if isinstance(value, np.generic) else value)
        return self

    def _append(self, tensor: Tensor) -> TaskArgs:
        self._change()
        self._tensors.append(tensor)
        self._plain.add_tensor(tensor.info.tensor or stand_in(tensor.info.start), tensor.tag)
        return self

    def _change(self) -> None:
        """Leave what was submitted to the tasks that hold it, and go on with a copy."""
        self._bound = None
        if self._submitted:
            plain = PlainTaskArgs()
            for tensor in self._tensors:
                plain.add_tensor(tensor.info.tensor or stand_in(tensor.info.start), tensor.tag)
            self._plain = with_scalars(plain, self._plain)
            self._tensors = list(self._tensors)
            self._submitted = False

    def _in_place(self) -> Bound:
        """As they go into a frame if every array is used where it is."""
        if self._bound is None:
            infos = [tensor.info for tensor in self._tensors]
            self._bound = bind(
                self._plain, infos, [not (tensor.writes and tensor.info.writable) for tensor in self._tensors]
            )
        return self._bound

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
        """Address, shape and dtype of a tensor. TensorError if it is none that a chip could have."""
        info = self._placed(index)
        if info.tensor is None:
            raise TensorError(f"tensor {index} {refused_by_chips(info)}")
        return info.tensor

    def _placed(self, index: int) -> ArrayInfo:
        info = self._tensors[index].info
        if info.array is None:
            raise TensorError(f"tensor {index} is allocated when the arguments are submitted; it is nowhere yet")
        return info

    def __repr__(self) -> str:
        infos = ((tensor.tag.name, tensor.info) for tensor in self._tensors)
        tensors = (f"{tag} {list(info.shape)} {info.dtype.name.lower()}" for tag, info in infos)
        scalars = (str(self._plain.scalar(index)) for index in range(self._plain.scalar_count))
        return f"TaskArgs({', '.join((*tensors, *scalars))})"
