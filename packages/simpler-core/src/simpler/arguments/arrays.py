"""Reading any array: where its bytes are, its shape, its dtype, whether it may be written.

Nothing here copies. numpy arrays, torch tensors, buffers, ``__array_interface__``, DLPack and ``ContinuousTensor``
all become an :class:`ArrayInfo`.
"""

from __future__ import annotations

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

Element = DataType | np.dtype[Any]
"""A dtype: a DataType if chips have it, else numpy's. Both have ``itemsize`` and ``name``."""


class ArrayInfo(NamedTuple):
    """Where an array is and what it looks like.

    ``array`` is the object itself (it keeps the bytes alive), ``strided`` a numpy view of it if its elements are not
    one C-ordered run of bytes; then ``start``..``end`` spans everything between its first and last byte. ``tensor`` is
    what a chip is told of it; None if a chip lacks its dtype, or so many dimensions or elements.
    """

    array: object
    start: int
    end: int
    shape: tuple[int, ...]
    dtype: Element
    writable: bool
    strided: np.ndarray[Any, Any] | None
    tensor: ContinuousTensor | None
    device: bool  # an address in a chip's memory


def describe(array: object) -> ArrayInfo:
    """Read an array. TensorError if it is none, is not in this host's memory, or holds more than plain bytes."""
    if type(array) is np.ndarray:
        interface = array.__array_interface__
        dtype = DTYPES.get(interface["typestr"])
        if dtype is None or interface["strides"] is not None:
            return _from_numpy(array, array)
        address, read_only = interface["data"]  # the usual case, without detours
        shape = interface["shape"]
        tensor = tensor_of(address, shape, dtype)
        return ArrayInfo(array, address, address + array.nbytes, shape, dtype, not read_only, None, tensor, False)
    if isinstance(array, ContinuousTensor):
        return _from_continuous(array)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(array, torch.Tensor):
        return _from_torch(array)
    if isinstance(array, np.ma.MaskedArray):
        raise TensorError(
            "a masked array is two arrays: pass .filled(value), or .data and what np.ma.getmaskarray gives"
        )
    if isinstance(array, np.ndarray):
        return _from_numpy(array, array)
    if not isinstance(array, type):  # a class has the attributes of its instances, too
        if hasattr(array, "__array_interface__"):
            return _from_interface(array)
        if hasattr(array, "__dlpack__"):
            return _from_dlpack(array)
    try:
        view = np.asarray(memoryview(array))  # type: ignore[arg-type]
    except (TypeError, ValueError, NotImplementedError) as error:
        raise TensorError(
            f"{type(array).__qualname__} is not an array: pass a numpy array, a torch tensor, a buffer, or something "
            f"with __array_interface__ or __dlpack__ ({error})"
        ) from error
    return _from_numpy(view, view)


def _from_numpy(held: object, view: np.ndarray[Any, Any]) -> ArrayInfo:
    dtype = element_type(view.dtype)
    address, read_only = view.__array_interface__["data"]
    if view.nbytes == 0 or view.flags.c_contiguous:
        return _info(held, address, address + view.nbytes, view.shape, dtype, not read_only, None)
    start, end = _bounds(view)
    return _info(held, start, end, view.shape, dtype, not read_only, view)


def _from_interface(array: Any) -> ArrayInfo:
    if not isinstance(array.__array_interface__.get("data"), tuple):
        raise TensorError(f"{type(array).__qualname__} has an __array_interface__ that gives no address")
    return _from_numpy(array, np.asarray(array))


def _from_continuous(tensor: ContinuousTensor) -> ArrayInfo:
    start = tensor.data
    end = start + tensor.nbytes
    return ArrayInfo(tensor, start, end, tensor.shapes, tensor.dtype, True, None, tensor, tensor.child_memory)


def _from_torch(tensor: Any) -> ArrayInfo:
    torch = sys.modules["torch"]
    if tensor.device.type != "cpu":
        raise TensorError(f"a torch tensor on {tensor.device} is not in this host's memory: pass tensor.cpu()")
    if tensor.layout is not torch.strided:
        raise TensorError(f"a torch tensor of layout {tensor.layout} has no single run of bytes: pass .to_dense()")
    if tensor.is_conj() or tensor.is_neg():
        raise TensorError("a torch tensor that is a lazy conjugate or negative: pass .resolve_conj().resolve_neg()")
    plain = tensor.detach()
    if tensor.dtype is torch.bfloat16:  # numpy moves the bits without knowing what they mean
        plain = plain.view(torch.int16)
    try:
        view = plain.numpy()
    except (TypeError, RuntimeError) as error:
        raise TensorError(f"numpy has no dtype for {tensor.dtype}: pass tensor.view(torch.uint8)") from error
    info = _from_numpy(tensor, view)
    if tensor.dtype is torch.bfloat16:
        bits = DataType.BFLOAT16
        info = info._replace(dtype=bits, tensor=tensor_of(info.start, info.shape, bits))
    return info


def _from_dlpack(array: Any) -> ArrayInfo:
    try:
        view = np.from_dlpack(array)
    except (RuntimeError, BufferError, TypeError, ValueError) as error:
        raise TensorError(f"{type(array).__qualname__} cannot be read through DLPack: {error}") from error
    # numpy marks what it imports read-only when the exporter said so, or could not say.
    return _from_numpy(view, view)


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
    dtype: Element,
    writable: bool,
    strided: np.ndarray[Any, Any] | None,
) -> ArrayInfo:
    return ArrayInfo(array, start, end, shape, dtype, writable, strided, tensor_of(start, shape, dtype), False)


def first_byte(info: ArrayInfo) -> int:
    """Address of the first element; not of the lowest where an axis runs backwards."""
    return info.start if info.strided is None else info.strided.__array_interface__["data"][0]


def tensor_of(address: int, shape: tuple[int, ...], dtype: Element) -> ContinuousTensor | None:
    """What a chip is told of a C-ordered array; None if it cannot be told."""
    if not isinstance(dtype, DataType):
        return None
    try:
        return ContinuousTensor.make(address, shape, dtype)
    except (TypeError, ValueError, OverflowError):
        return None


def stand_in(address: int) -> ContinuousTensor:
    """Carries the address of an array that no ContinuousTensor describes; shape and dtype travel beside it."""
    return ContinuousTensor.make(address, (), DataType.UINT8)


def refused_by_chips(info: ArrayInfo) -> str:
    """Why ``info.tensor`` is None, and what to do about it."""
    if isinstance(info.dtype, DataType):
        return (
            f"has shape {list(info.shape)}, and a chip's tensors have at most {MAX_DIMENSIONS} dimensions of at most "
            f"{MAX_EXTENT}: reshape it"
        )
    kind, name = info.dtype.kind, info.dtype.name
    if info.dtype.newbyteorder("=").str in DTYPES:
        advice = f'.astype("{name}") gives it in that of this machine'
        name += " in a foreign byte order"
    elif kind == "f":
        advice = 'convert it with .astype("float32")'
    elif kind == "c":
        advice = "pass .real and .imag, converted to float32"
    elif kind in "mM":
        advice = 'pass .view("int64")'
    elif info.dtype.names:
        advice = f"pass its fields one by one: {', '.join(info.dtype.names)}"
    else:
        advice = 'pass .view("uint8")'
    return f"is {name}, which no chip knows ({SUPPORTED}): {advice}"


def element_type(dtype: Any) -> Element:
    """What ``dtype`` (a DataType, numpy or torch dtype, or a name) is. TensorError if it has no fixed, plain bytes."""
    if isinstance(dtype, DataType):
        return dtype
    name = str(dtype).removeprefix("torch.")
    if name == "bfloat16":
        return DataType.BFLOAT16
    if dtype is None:  # numpy takes it for float64
        raise TensorError("there is no dtype None")
    try:
        found = dtype if isinstance(dtype, np.dtype) else np.dtype(name if name != str(dtype) else dtype)
    except TypeError as error:
        raise TensorError(f"there is no dtype {dtype!r}: {error}") from error
    if found.hasobject:
        raise TensorError(
            f"dtype {found} holds Python objects, which have no bytes that processes could share: convert it with "
            ".astype to a dtype of numbers, or to one of fixed length such as U10"
        )
    return DTYPES.get(found.str, found) if found.names is None else found


def numpy_dtype(dtype: Element) -> np.dtype[Any]:
    """The numpy dtype that shows such elements; bfloat16, which numpy lacks, is shown as its uint16 bits."""
    if isinstance(dtype, np.dtype):
        return dtype
    return NUMPY_DTYPES.get(dtype) or np.dtype(np.uint16)


def checked_shape(shape: Any) -> tuple[int, ...]:
    """``shape`` as a tuple of non-negative integers; an integer means one dimension."""
    dims = (shape,) if isinstance(shape, int | np.integer) else tuple(shape)
    try:
        whole = tuple(int(dim) for dim in dims)
    except (TypeError, ValueError):
        whole = ()
    if whole != dims or any(dim < 0 for dim in whole):
        raise TensorError(f"shape {shape!r} is none: it is an integer, or a sequence of integers, from 0")
    return whole
