"""Reading any array: where its bytes are, its shape, its dtype, whether it may be written.

Nothing here copies. numpy arrays, torch tensors, buffers, ``__array_interface__``, DLPack and ``ContinuousTensor``
all become an :class:`ArrayInfo`.
"""

from __future__ import annotations

import ctypes
import math
import sys
from typing import Any, NamedTuple

import numpy as np
from simpler_runtime import ContinuousTensor, DataType

from simpler.errors import TensorError

MAX_DIMENSIONS = 5  # of a ContinuousTensor
MAX_EXTENT = 2**32 - 1

DTYPES: dict[str, DataType] = {}  # numpy's typestr → DataType
NUMPY_DTYPES: dict[DataType, np.dtype[Any]] = {}
for _member in DataType:
    if _member.numpy is not None:
        _dtype = np.dtype(_member.numpy)
        DTYPES[_dtype.str] = _member
        NUMPY_DTYPES[_member] = _dtype
SUPPORTED = ", ".join(member.name.lower() for member in DataType)


class ArrayInfo(NamedTuple):
    """Where an array is and what it looks like.

    ``array`` is the object itself (it keeps the bytes alive), ``strided`` a numpy view of it if its elements are not
    one C-ordered run of bytes; then ``start``..``end`` spans everything between its first and last byte.
    """

    array: object
    start: int
    end: int
    shape: tuple[int, ...]
    dtype: DataType
    writable: bool
    strided: np.ndarray[Any, Any] | None
    tensor: ContinuousTensor
    device: bool  # an address in a chip's memory


def describe(array: object) -> ArrayInfo:
    """Read an array. TensorError if it is none, is not in this host's memory, or has a dtype or shape chips lack."""
    if type(array) is np.ndarray:
        interface = array.__array_interface__
        dtype = DTYPES.get(interface["typestr"])
        if dtype is None or interface["strides"] is not None:
            return _from_interface(array, interface)
        address, read_only = interface["data"]  # the usual case, without detours
        shape = interface["shape"]
        tensor = make_tensor(address, shape, dtype)
        return ArrayInfo(array, address, address + array.nbytes, shape, dtype, not read_only, None, tensor, False)
    if isinstance(array, ContinuousTensor):
        return _from_continuous(array)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(array, torch.Tensor):
        return _from_torch(array)
    if not isinstance(array, type):  # a class has the attributes of its instances, too
        if hasattr(array, "__array_interface__"):
            return _from_interface(array, array.__array_interface__)
        if hasattr(array, "__dlpack__"):
            return _from_dlpack(array)
    try:
        view = np.asarray(memoryview(array))  # type: ignore[arg-type]
    except (TypeError, ValueError, NotImplementedError) as error:
        raise TensorError(
            f"{type(array).__qualname__} is not an array: pass a numpy array, a torch tensor, a buffer, or something "
            f"with __array_interface__ or __dlpack__ ({error})"
        ) from error
    return _from_interface(array, view.__array_interface__, view)


def _from_interface(array: object, interface: dict[str, Any], owner: object = None) -> ArrayInfo:
    data = interface.get("data")
    shape = interface["shape"]
    typestr = interface["typestr"]
    dtype = DTYPES.get(typestr)
    if dtype is None:
        raise _unsupported(np.dtype(typestr))
    if not isinstance(data, tuple):
        raise TensorError(f"{type(array).__qualname__} has an __array_interface__ that gives no address")
    address, read_only = data
    strides = interface.get("strides")
    nbytes = dtype.itemsize * math.prod(shape)
    held = array if owner is None else owner
    if strides is None or nbytes == 0:
        return _info(held, address, address + nbytes, shape, dtype, not read_only, None)
    view = np.asarray(held)
    if view.flags.c_contiguous:
        return _info(held, address, address + nbytes, shape, dtype, not read_only, None)
    start, end = _bounds(view)
    return _info(held, start, end, shape, dtype, not read_only, view)


def _from_continuous(tensor: ContinuousTensor) -> ArrayInfo:
    start = tensor.data
    end = start + tensor.nbytes
    return ArrayInfo(tensor, start, end, tensor.shapes, tensor.dtype, True, None, tensor, tensor.child_memory)


def _from_torch(tensor: Any) -> ArrayInfo:
    if tensor.device.type != "cpu":
        raise TensorError(f"a torch tensor on {tensor.device} is not in this host's memory: pass tensor.cpu()")
    if tensor.layout is not sys.modules["torch"].strided:
        raise TensorError(f"a torch tensor of layout {tensor.layout} has no single run of bytes: pass .to_dense()")
    if tensor.is_conj() or tensor.is_neg():
        raise TensorError("a torch tensor that is a lazy conjugate or negative: pass .resolve_conj().resolve_neg()")
    name = str(tensor.dtype).removeprefix("torch.")
    try:
        dtype = DataType.of(name)
    except (ValueError, KeyError, TypeError) as error:
        raise _unsupported(name) from error
    address = tensor.data_ptr()
    shape = tuple(tensor.shape)
    nbytes = dtype.itemsize * tensor.numel()
    if tensor.is_contiguous() or nbytes == 0:
        return _info(tensor, address, address + nbytes, shape, dtype, True, None)
    plain = tensor.detach()
    if dtype not in NUMPY_DTYPES:  # bfloat16: numpy moves the bits without knowing what they mean
        plain = plain.view(sys.modules["torch"].int16)
    view = plain.numpy()
    start, end = _bounds(view)
    return _info(tensor, start, end, shape, dtype, True, view)


def _from_dlpack(array: Any) -> ArrayInfo:
    try:
        view = np.from_dlpack(array)
    except (RuntimeError, BufferError, TypeError, ValueError) as error:
        raise TensorError(f"{type(array).__qualname__} cannot be read through DLPack: {error}") from error
    # numpy marks what it imports read-only when the exporter said so, or could not say.
    return _from_interface(array, view.__array_interface__, view)


def _bounds(view: np.ndarray[Any, Any]) -> tuple[int, int]:
    """Addresses of the first byte of a non-empty array and of the one behind its last."""
    start = end = view.__array_interface__["data"][0]
    for stride, extent in zip(view.strides, view.shape, strict=True):
        span = stride * (extent - 1)
        start, end = start + min(span, 0), end + max(span, 0)
    return start, end + view.itemsize


def _info(
    array: object,
    start: int,
    end: int,
    shape: tuple[int, ...],
    dtype: DataType,
    writable: bool,
    strided: np.ndarray[Any, Any] | None,
) -> ArrayInfo:
    tensor = make_tensor(start, shape, dtype)
    return ArrayInfo(array, start, end, shape, dtype, writable, strided, tensor, False)


def make_tensor(address: int, shape: tuple[int, ...], dtype: DataType) -> ContinuousTensor:
    """The 40-byte description of a C-ordered array at ``address``. TensorError if its shape does not fit one."""
    try:
        return ContinuousTensor.make(address, shape, dtype)
    except (TypeError, ValueError, OverflowError) as error:
        raise TensorError(
            f"shape {tuple(shape)} does not fit a tensor: at most {MAX_DIMENSIONS} dimensions of at most {MAX_EXTENT} "
            f"({error})"
        ) from error


def data_type(dtype: Any) -> DataType:
    """What ``dtype`` (a DataType, numpy or torch dtype, or a name) is to a chip. TensorError if it is nothing."""
    if isinstance(dtype, DataType):
        return dtype
    name = str(dtype).removeprefix("torch.")
    try:
        return DataType.of(name)
    except (ValueError, KeyError, TypeError):
        pass
    try:
        found = DTYPES.get(np.dtype(dtype).str)
    except TypeError:
        found = None
    if found is None:
        raise _unsupported(dtype)
    return found


def numpy_dtype(dtype: DataType) -> np.dtype[Any]:
    """The numpy dtype that shows such elements; bfloat16, which numpy lacks, is shown as its uint16 bits."""
    return NUMPY_DTYPES.get(dtype) or np.dtype(np.uint16)


def checked_shape(shape: Any) -> tuple[int, ...]:
    """``shape`` as a tuple of non-negative integers; an integer means one dimension."""
    dims = (shape,) if isinstance(shape, int | np.integer) else tuple(shape)
    if len(dims) > MAX_DIMENSIONS or any(int(dim) != dim or not 0 <= dim <= MAX_EXTENT for dim in dims):
        raise TensorError(
            f"shape {dims} does not fit a tensor: at most {MAX_DIMENSIONS} dimensions, each an integer in "
            f"0..{MAX_EXTENT}"
        )
    return tuple(int(dim) for dim in dims)


def view_address(address: int, shape: tuple[int, ...], dtype: DataType) -> np.ndarray[Any, Any]:
    """A numpy view of bytes that are known to be mapped and to outlive it."""
    element = numpy_dtype(dtype)
    nbytes = element.itemsize * math.prod(shape)
    if nbytes == 0:
        return np.empty(shape, element)
    memory: Any = (ctypes.c_char * nbytes).from_address(address)
    return np.frombuffer(memory, element).reshape(shape)


def _unsupported(dtype: object) -> TensorError:
    return TensorError(f"dtype {dtype} is not one a chip knows; convert to one of {SUPPORTED}")
