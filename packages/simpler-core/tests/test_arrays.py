from __future__ import annotations

import array as stdlib_array
import re

import numpy as np
import pytest
import simpler
import torch
from simpler import ContinuousTensor, DataType, TensorError
from simpler.arguments.arrays import describe, element_type, refused_by_chips


class Interface:
    """Somebody's array class that only knows ``__array_interface__``."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    @property
    def __array_interface__(self) -> dict:
        return self.values.__array_interface__


class Dlpack:
    """Somebody's array class that only knows DLPack."""

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __dlpack__(self, **options: object) -> object:
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple:
        return self.values.__dlpack_device__()


WAYS_IN = {
    "numpy": lambda values: values,
    "numpy subclass": lambda values: values.view(np.matrix),
    "torch": torch.from_numpy,
    "torch with gradient": lambda values: torch.from_numpy(values).requires_grad_(),
    "memoryview": memoryview,
    "interface": Interface,
    "dlpack": Dlpack,
}


@pytest.mark.parametrize("way", WAYS_IN)
def test_every_kind_of_array_is_read_in_place(way):
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    info = describe(WAYS_IN[way](values))
    address = values.ctypes.data
    assert (info.start, info.end, info.shape, info.dtype) == (address, address + 24, (2, 3), DataType.FLOAT32)
    assert info.strided is None
    assert info.tensor == ContinuousTensor.make(address, (2, 3), DataType.FLOAT32)


def test_buffers_are_arrays():
    info = describe(stdlib_array.array("f", [1.0, 2.0]))
    assert (info.shape, info.dtype, info.writable) == ((2,), DataType.FLOAT32, True)


@pytest.mark.parametrize(
    "dtype", ["float32", "float16", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool"]
)
def test_every_dtype_of_a_chip_is_read(dtype):
    values = np.zeros(3, dtype=dtype)
    info = describe(values)
    assert info.dtype is DataType.of(dtype)
    assert info.end - info.start == values.nbytes


def test_torch_bfloat16_is_read_and_shown_as_bits():
    tensor = torch.ones(4, dtype=torch.bfloat16)
    info = describe(tensor)
    assert info.dtype is DataType.BFLOAT16
    assert info.end - info.start == 8


DTYPES = ["f8", ">f4", "c8", "c16", "g", "U3", "S5", "M8[ns]", "m8[s]", "V7", [("a", "i4"), ("b", ">f8", (2,))]]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_dtypes_that_chips_lack_are_read_as_numpy_has_them(dtype):
    info = describe(np.zeros((2, 3), dtype))
    assert info.dtype == np.dtype(dtype)
    assert info.end - info.start == 6 * np.dtype(dtype).itemsize
    assert info.tensor is None


@pytest.mark.parametrize(
    ("dtype", "advice"),
    [
        ("f8", r'is float64, which no chip knows \(float32, .*\): convert it with .astype\("float32"\)'),
        (">f4", r'is float32 in a foreign byte order, .* \.astype\("float32"\) gives it in that of this machine'),
        ("c8", "is complex64, .* pass .real and .imag"),
        ("M8[ns]", r'is datetime64\[ns\], .* pass .view\("int64"\)'),
        ([("a", "i4"), ("b", "f4")], "pass its fields one by one: a, b"),
        ("S5", r'pass .view\("uint8"\)'),
    ],
)
def test_why_chips_refuse_a_dtype_is_said_with_what_to_do(dtype, advice):
    assert re.search(advice, refused_by_chips(describe(np.zeros(3, dtype))))


@pytest.mark.parametrize("dtype", [object, [("a", "O")], np.dtypes.StringDType()], ids=str)
def test_arrays_of_python_objects_are_refused(dtype):
    with pytest.raises(TensorError, match="holds Python objects"):
        describe(np.zeros(2, dtype))


def test_masked_arrays_are_refused():
    with pytest.raises(TensorError, match=r"a masked array is two arrays: pass \.filled"):
        describe(np.ma.masked_array([1, 2], [True, False]))


@pytest.mark.parametrize("thing", [3, "text", [1, 2], None, np.ndarray, object()])
def test_what_is_no_array_is_refused(thing):
    with pytest.raises(TensorError, match="is not an array"):
        describe(thing)


def test_read_only_arrays_are_known_as_such():
    values = np.zeros(3, dtype=np.float32)
    assert describe(values).writable
    values.flags.writeable = False
    assert not describe(values).writable
    assert not describe(b"bytes").writable
    assert describe(bytearray(b"bytes")).writable


@pytest.mark.parametrize(
    "cut",
    [
        lambda a: a[:, 1:3],
        lambda a: a.T,
        lambda a: a[::-1],
        lambda a: a[::2, ::3],
        lambda a: np.broadcast_to(a[0], (4, 6)),
        lambda a: torch.from_numpy(a).t(),
        lambda a: torch.from_numpy(a)[:, ::2],
    ],
)
def test_a_view_with_gaps_spans_from_its_first_to_its_last_byte(cut):
    values = np.arange(24, dtype=np.float32).reshape(4, 6)
    view = cut(values)
    info = describe(view)
    plain = np.asarray(view)
    elements = [plain[tuple(slice(i, i + 1) for i in index)].ctypes.data for index in np.ndindex(plain.shape)]
    assert (info.start, info.end) == (min(elements), max(elements) + 4)
    assert info.strided is not None
    np.testing.assert_array_equal(info.strided, plain)


def test_a_view_without_gaps_is_read_as_its_own_range():
    values = np.arange(24, dtype=np.float32).reshape(4, 6)
    info = describe(values[1:3])
    assert (info.start, info.end) == (values.ctypes.data + 24, values.ctypes.data + 72)
    assert info.strided is None


def test_empty_and_zero_dimensional_arrays_are_read():
    assert describe(np.zeros((3, 0, 2), dtype=np.int8)).shape == (3, 0, 2)
    info = describe(np.array(3.0, dtype=np.float32))
    assert info.shape == ()
    assert info.end - info.start == 4


@pytest.mark.parametrize("shape", [(1,) * 6, (1,) * 32, (0, 2**33)])
def test_shapes_that_chips_lack_are_read(shape):
    info = describe(np.zeros(shape, np.int8))
    assert info.shape == shape
    assert info.tensor is None
    assert "at most 5 dimensions of at most 4294967295: reshape it" in refused_by_chips(info)


def test_a_torch_tensor_elsewhere_is_refused():
    with pytest.raises(TensorError, match="meta is not in this host's memory"):
        describe(torch.empty(3, device="meta"))


def test_a_sparse_torch_tensor_is_refused():
    with pytest.raises(TensorError, match="to_dense"):
        describe(torch.eye(3).to_sparse())


@pytest.mark.parametrize("dtype", ["float32", np.float32, np.dtype("float32"), torch.float32, DataType.FLOAT32])
def test_a_dtype_can_be_named_in_many_ways(dtype):
    assert element_type(dtype) is DataType.FLOAT32


def test_dtypes_that_chips_lack_are_numpys():
    assert element_type(torch.complex64) == np.dtype("c8")
    assert element_type("float64") == np.dtype("f8")
    assert element_type(torch.bfloat16) is DataType.BFLOAT16


@pytest.mark.parametrize("dtype", ["float31", None, 3])
def test_what_is_no_dtype_is_refused(dtype):
    with pytest.raises(simpler.TensorError, match="there is no dtype"):
        element_type(dtype)
