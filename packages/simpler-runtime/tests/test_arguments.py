"""DataType, ContinuousTensor, TaskArgs, CallConfig and the task frame, as Python sees them."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from simpler_runtime import (
    IN,
    INOUT,
    OUT,
    CallConfig,
    ContinuousTensor,
    DataType,
    TaskArgs,
    TensorArgType,
    read_task,
    write_task,
)

HEADER_NBYTES = 1112  # of a task frame, before its arguments

tensors = st.builds(
    ContinuousTensor.make,
    st.integers(0, 2**64 - 1),
    st.lists(st.integers(0, 1000), max_size=5),
    st.sampled_from(list(DataType)),
    st.booleans(),
)
scalars = st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False))
task_args = st.builds(lambda ts, ss: _filled(ts, ss), st.lists(tensors, max_size=6), st.lists(scalars, max_size=6))


def _filled(some_tensors: list[ContinuousTensor], some_scalars: list[int | float]) -> TaskArgs:
    args = TaskArgs()
    for t in some_tensors:
        args.add_tensor(t)
    for s in some_scalars:
        args.add_scalar(s)
    return args


def _contents(args: TaskArgs) -> tuple[list[ContinuousTensor], list[int]]:
    return (
        [args.tensor(i) for i in range(args.tensor_count)],
        [args.scalar(i) for i in range(args.scalar_count)],
    )


@pytest.mark.parametrize("dtype", list(DataType))
def test_dtypes_agree_with_numpy(dtype: DataType) -> None:
    if dtype is DataType.BFLOAT16:
        assert dtype.numpy is None
        assert dtype.itemsize == 2
    else:
        assert np.dtype(dtype.numpy).itemsize == dtype.itemsize
        assert DataType.of(dtype.numpy) is dtype


def test_an_unknown_dtype_lists_the_known_ones() -> None:
    assert DataType.of("bfloat16") is DataType.BFLOAT16
    with pytest.raises(ValueError, match=r"unknown dtype 'float8'.*float32.*bool"):
        DataType.of("float8")


def test_tags_have_the_names_of_every_layer() -> None:
    assert TensorArgType.INPUT is IN
    assert TensorArgType.OUTPUT is OUT
    assert [tag.name for tag in TensorArgType] == ["IN", "OUT", "INOUT", "OUTPUT_EXISTING", "NO_DEP"]


def test_a_tensor_shows_what_it_was_made_from() -> None:
    t = ContinuousTensor.make(0x1000, (2, 3), DataType.INT16, child_memory=True)
    assert (t.data, t.shapes, t.ndims, t.dtype, t.child_memory, t.nbytes) == (
        0x1000,
        (2, 3),
        2,
        DataType.INT16,
        True,
        12,
    )
    assert repr(t) == "ContinuousTensor(0x1000, [2, 3], int16, child_memory)"
    assert t == ContinuousTensor.make(0x1000, [2, 3], DataType.INT16, True)
    assert t != ContinuousTensor.make(0x1000, [2, 3], DataType.INT16)
    assert t != 5
    assert ContinuousTensor.NBYTES == 40


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([1] * 6, "at most 5 dimensions, got 6"),
        ([2, -1], "extent -1 of dimension 1"),
        ([2**32], "4294967296"),
        ([2**31] * 3, "2\\*\\*63"),
    ],
)
def test_impossible_extents_are_refused(shapes: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ContinuousTensor.make(0, shapes, DataType.FLOAT32)


def test_extents_may_be_numpy_integers() -> None:
    assert ContinuousTensor.make(0, np.array([3, 4]), DataType.UINT8).shapes == (3, 4)


def test_scalars_keep_their_bits() -> None:
    args = TaskArgs().add_scalar(-3).add_scalar(2**64 - 1).add_scalar(0.1).add_scalar(True)
    args.add_scalar(np.int32(7)).add_scalar(np.float32(0.5)).add_scalar(np.True_)
    assert [args.scalar(0), args.scalar(1), args.scalar(3), args.scalar(4), args.scalar(6)] == [-3, -1, 1, 7, 1]
    assert args.scalar_float(2) == 0.1
    assert args.scalar_float(5) == 0.5
    assert args.scalar(2) == struct.unpack("<q", struct.pack("<d", 0.1))[0]


def test_what_is_no_scalar_is_refused() -> None:
    with pytest.raises(ValueError, match="18446744073709551616 does not fit 64 bits"):
        TaskArgs().add_scalar(2**64)
    with pytest.raises(TypeError, match="int, a float or a bool"):
        TaskArgs().add_scalar("3")  # type: ignore[arg-type]


def test_indices_are_checked() -> None:
    args = TaskArgs().add_tensor(ContinuousTensor.make(0, [1], DataType.BOOL), INOUT)
    assert args.tag(0) is INOUT
    for i in (1, -1):
        with pytest.raises(IndexError, match=f"there are 1 tensors, no {i}"):
            args.tensor(i)
    with pytest.raises(IndexError, match="there are 0 scalars, no 0"):
        args.scalar(0)


@given(args=task_args, offset=st.integers(0, 9))
def test_a_blob_gives_the_same_arguments_back(args: TaskArgs, offset: int) -> None:
    buffer = bytearray(args.blob_nbytes + offset)
    assert args.write_blob(buffer, offset) == args.blob_nbytes
    again = TaskArgs.read_blob(memoryview(buffer)[offset:], args.blob_nbytes)
    assert _contents(again) == _contents(args)


@given(args=task_args)
def test_the_blob_has_the_layout_of_the_design(args: TaskArgs) -> None:
    buffer = bytearray(args.blob_nbytes)
    args.write_blob(buffer)
    count = args.tensor_count
    assert struct.unpack_from("<ii", buffer) == (count, args.scalar_count)
    assert len(buffer) == 8 + 40 * count + 8 * args.scalar_count
    for i in range(count):
        t = args.tensor(i)
        data, *shapes, ndims, dtype, child_memory = struct.unpack_from("<Q5IIBB", buffer, 8 + 40 * i)
        assert (data, tuple(shapes[:ndims]), dtype, bool(child_memory)) == (
            t.data,
            t.shapes,
            t.dtype.value,
            t.child_memory,
        )
    assert list(struct.unpack_from(f"<{args.scalar_count}q", buffer, 8 + 40 * count)) == _contents(args)[1]


def test_a_blob_can_be_read_at_an_address() -> None:
    buffer = np.zeros(8, np.uint64)
    nbytes = TaskArgs().add_scalar(5).write_blob(buffer)
    assert TaskArgs.read_blob(buffer.ctypes.data, nbytes).scalar(0) == 5


@given(noise=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(noise: bytes) -> None:
    try:
        args = TaskArgs.read_blob(noise, len(noise))
    except ValueError as e:
        assert "damaged" in str(e)  # noqa: PT017
    else:
        assert args.blob_nbytes <= len(noise)


def test_a_buffer_too_small_is_named_with_both_sizes() -> None:
    args = TaskArgs().add_scalar(1)
    with pytest.raises(ValueError, match="takes 16 bytes, the buffer has 11"):
        args.write_blob(bytearray(15), 4)
    with pytest.raises(ValueError, match="takes 16 bytes, the buffer has 0"):
        args.write_blob(bytearray(15), 100)
    with pytest.raises(ValueError, match="1128 bytes, the buffer has 1000"):
        write_task(bytearray(1000), bytes(32), CallConfig(), args)
    with pytest.raises((TypeError, BufferError)):
        args.write_blob(bytes(100))


def test_call_config_has_the_fields_and_defaults_of_the_design() -> None:
    config = CallConfig()
    names = [
        "block_dim",
        "aicpu_thread_num",
        "enable_l2_swimlane",
        "enable_dump_tensor",
        "enable_pmu",
        "enable_dep_gen",
    ]
    assert [getattr(config, name) for name in [*names, "enable_scope_stats"]] == [0, 3, 0, 0, 0, 0, 0]
    assert config.output_prefix == ""
    config.block_dim = 5
    config.output_prefix = "out/é"
    assert config == CallConfig(block_dim=5, output_prefix="out/é")
    assert config != CallConfig(block_dim=5)
    assert repr(config) == "CallConfig(block_dim=5, output_prefix='out/é')"


def test_an_output_prefix_too_long_is_refused() -> None:
    assert CallConfig(output_prefix="x" * 1023).output_prefix == "x" * 1023
    with pytest.raises(ValueError, match="1024 bytes; at most 1023"):
        CallConfig(output_prefix="x" * 1024)


@given(
    args=task_args, digest=st.binary(min_size=32, max_size=32), block_dim=st.integers(0, 50), spare=st.integers(0, 20)
)
def test_a_task_frame_gives_digest_config_and_arguments_back(
    args: TaskArgs, digest: bytes, block_dim: int, spare: int
) -> None:
    buffer = bytearray(HEADER_NBYTES + args.blob_nbytes + spare)
    config = CallConfig(block_dim=block_dim, output_prefix="here")
    assert write_task(buffer, digest, config, args) == len(buffer) - spare
    frame = read_task(buffer)
    assert frame.digest == digest
    assert frame.config == config
    assert frame.args_nbytes == args.blob_nbytes
    assert _contents(frame.args()) == _contents(args)


def test_a_digest_has_32_bytes() -> None:
    with pytest.raises(ValueError, match="32 bytes, got 20"):
        write_task(bytearray(2000), bytes(20), CallConfig(), TaskArgs())


@given(cut=st.integers(0, 1103))
def test_a_truncated_frame_is_refused(cut: int) -> None:
    buffer = bytearray(2000)
    assert write_task(buffer, bytes(32), CallConfig(), TaskArgs().add_scalar(1)) == 1128
    with pytest.raises(ValueError, match="damaged"):
        read_task(memoryview(buffer)[:cut])


@given(noise=st.binary(min_size=1096, max_size=1200))
def test_a_frame_of_noise_is_read_or_refused(noise: bytes) -> None:
    try:
        frame = read_task(noise)
        frame.args()
    except ValueError as e:
        assert "damaged" in str(e)  # noqa: PT017
    else:
        assert frame.args_nbytes <= len(noise) - HEADER_NBYTES


def test_the_arguments_of_a_released_buffer_are_not_read() -> None:
    view = memoryview(bytearray(2000))
    write_task(view, bytes(32), CallConfig(), TaskArgs())
    frame = read_task(view)
    view.release()
    with pytest.raises(ValueError, match="released"):
        frame.args()
