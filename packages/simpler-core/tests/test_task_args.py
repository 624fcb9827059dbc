from __future__ import annotations

import numpy as np
import pytest
from simpler import IN, INOUT, NO_DEP, OUT, OUTPUT_EXISTING, ContinuousTensor, DataType, TaskArgs, TensorError


def test_tensors_and_scalars_keep_their_order_and_tags():
    a, b = np.zeros(2, np.float32), np.zeros(3, np.int8)
    args = TaskArgs().inp(a).add_scalar(7).out(b).inout(a).add_tensor(a, NO_DEP).add_tensor(b, OUTPUT_EXISTING)
    assert [args.tag(index) for index in range(args.tensor_count)] == [IN, OUT, INOUT, NO_DEP, OUTPUT_EXISTING]
    assert args.array(0) is a
    assert args.array(1) is b
    assert args.tensor(1).shapes == (3,)
    assert (args.scalar_count, args.scalar(0)) == (1, 7)


@pytest.mark.parametrize(("given", "read"), [(3, 3), (True, 1), (-1, -1), (2**64 - 1, -1), (np.int32(5), 5)])
def test_integers_are_stored_in_64_bits_and_read_as_signed(given, read):
    assert TaskArgs().add_scalar(given).scalar(0) == read


@pytest.mark.parametrize("given", [1.5, np.float32(1.5)])
def test_floats_are_stored_as_the_bits_of_a_double(given):
    args = TaskArgs().add_scalar(given)
    assert args.scalar_float(0) == 1.5
    assert args.scalar(0) == 0x3FF8000000000000


def test_continuous_tensors_are_taken_as_they_are():
    values = np.zeros(4, np.float32)
    tensor = ContinuousTensor.make(values.ctypes.data, (4,), DataType.FLOAT32)
    assert TaskArgs().inp(tensor).tensor(0) == tensor


def test_what_is_no_tag_is_refused():
    with pytest.raises(TensorError, match="is not a tag"):
        TaskArgs().add_tensor(np.zeros(2, np.float32), "in")


def test_an_output_without_array_needs_shape_and_dtype():
    with pytest.raises(TensorError, match="needs both shape and dtype"):
        TaskArgs().out(shape=(3,))
    with pytest.raises(TensorError, match="not both"):
        TaskArgs().out(np.zeros(3, np.float32), shape=(3,))


def test_an_output_to_allocate_has_no_array_before_it_is_submitted():
    args = TaskArgs().out(shape=(3, 4), dtype="float32")
    with pytest.raises(TensorError, match="allocated when the arguments are submitted"):
        args.array(0)
    with pytest.raises(TensorError, match="allocated when the arguments are submitted"):
        args.tensor(0)


@pytest.mark.parametrize("shape", [(-1,), (1.5,), "ab", (None,)])
def test_what_is_no_shape_is_refused(shape):
    with pytest.raises(TensorError, match="is none: it is an integer"):
        TaskArgs().out(shape=shape, dtype="float32")


def test_they_show_what_they_hold():
    text = repr(TaskArgs().inp(np.zeros((2, 3), np.float32)).add_scalar(9))
    assert text == "TaskArgs(IN [2, 3] float32, 9)"


def test_an_array_no_chip_could_have_is_no_continuous_tensor():
    args = TaskArgs().inp(np.zeros(2))
    assert args.array(0).dtype == np.float64
    with pytest.raises(TensorError, match="tensor 0 is float64, which no chip knows"):
        args.tensor(0)
