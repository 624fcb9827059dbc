"""Calling a compiled program: what it takes, what it gives, what it refuses."""

from __future__ import annotations

import numpy as np
import pypto.language as pl
import pytest
import simpler
from pypto import ir
from pypto.errors import SignatureError, TypeMismatch
from pypto.ir.distributed_compiled_program import DistributedConfig

SHAPE = (32, 48)


def ones(value: float = 1.0) -> np.ndarray:
    return np.full(SHAPE, value, np.float32)


def test_all_arguments_write_the_output_in_place(add) -> None:
    f = np.zeros(SHAPE, np.float32)
    assert add(ones(2), ones(3), f) is None
    np.testing.assert_array_equal(f, 5)


def test_without_the_output_it_is_returned(add) -> None:
    f = add(ones(2), ones(3))
    assert type(f) is np.ndarray
    assert f.dtype == np.float32
    np.testing.assert_array_equal(f, np.full(SHAPE, 5, np.float32))


def test_arguments_can_be_given_by_name(add) -> None:
    f = np.zeros(SHAPE, np.float32)
    add(b=ones(3), a=ones(2), f=f)
    assert (f == 5).all()
    assert (add(ones(1), b=ones(1)) == 2).all()


def test_results_of_earlier_calls_stay_as_they_are(add) -> None:
    first = add(ones(1), ones(1))
    second = add(ones(2), ones(2))
    assert (first == 2).all()
    assert (second == 4).all()


def test_results_outlive_the_program(add_program) -> None:
    with ir.compile(add_program, distributed_config=DistributedConfig(num_sub_workers=1)) as compiled:
        f = compiled(ones(1), ones(1))
    np.testing.assert_array_equal(f, ones(2))


def test_arrays_need_not_be_contiguous(add) -> None:
    a = np.asfortranarray(np.arange(32 * 48, dtype=np.float32).reshape(SHAPE))
    b = np.arange(64 * 96, dtype=np.float32).reshape(64, 96)[::2, ::2]
    backing = np.zeros((32, 96), np.float32)
    f = backing[:, ::2]
    add(a, b, f)
    np.testing.assert_array_equal(f, a + b)
    assert (backing[:, 1::2] == 0).all()


@pytest.mark.parametrize("count", [0, 1, 4])
def test_a_wrong_number_of_arguments_is_refused(add, count: int) -> None:
    with pytest.raises(SignatureError, match=f"takes 3 arguments, or 2 without outputs; got {count}"):
        add(*[ones()] * count)


def test_an_unknown_name_is_refused(add) -> None:
    with pytest.raises(SignatureError, match="has no parameter 'c'"):
        add(ones(), ones(), c=ones())


def test_an_argument_given_twice_is_refused(add) -> None:
    with pytest.raises(SignatureError, match="'a' twice"):
        add(ones(), ones(), a=ones())


@pytest.mark.parametrize(
    ("b", "found"),
    [
        (np.zeros(SHAPE, np.int32), r"int32\[32, 48\]"),
        (np.zeros((48, 32), np.float32), r"float32\[48, 32\]"),
        (np.zeros(32, np.float32), r"float32\[32\]"),
    ],
)
def test_an_array_of_another_type_is_refused(add, b: np.ndarray, found: str) -> None:
    with pytest.raises(TypeMismatch, match=rf"argument b of .*expected float32\[32, 48\], got {found}"):
        add(ones(), b)


@pytest.mark.parametrize(
    "b", [[[1.0]], None, "text", np.zeros(SHAPE), np.zeros(SHAPE, ">f4"), np.zeros(SHAPE, "complex64")]
)
def test_what_is_no_array_a_chip_knows_is_refused(add, b: object) -> None:
    with pytest.raises(TypeMismatch, match="argument b of Add"):
        add(ones(), b)


def test_a_read_only_output_is_refused(add) -> None:
    f = ones()
    f.flags.writeable = False
    with pytest.raises(TypeMismatch, match=r"argument f .* read-only"):
        add(ones(), ones(), f)


def test_errors_say_where_the_signature_is_declared(add) -> None:
    with pytest.raises(SignatureError, match=r"declared at conftest\.py:\d+"):
        add()


# --- failing tasks ---------------------------------------------------------------------------------------------------


def test_a_failing_sub_worker_surfaces_with_all_it_said(add) -> None:
    with pytest.raises(simpler.TaskFailed) as caught:
        add(ones(-1), ones(0))
    error = caught.value
    assert isinstance(error.original, ValueError)
    assert str(error.original) == "smallest is -1.0"
    assert error.function == "not_negative"
    assert "sub" in error.worker.lower()
    assert isinstance(error.task, int)
    assert 'raise ValueError(f"smallest is {f.min()}")' in error.remote_traceback
    assert "sub_workers/not_negative.py" in error.remote_traceback


def test_a_program_is_usable_after_a_failed_call(add) -> None:
    with pytest.raises(simpler.TaskFailed):
        add(ones(-1), ones(0))
    assert (add(ones(1), ones(2)) == 3).all()


# --- dynamic dimensions ----------------------------------------------------------------------------------------------

N = pl.dynamic("N")
M = pl.dynamic("M")


@pl.program
class Rows:
    """Adds a row to each row; a chip takes 16 rows at a time."""

    @pl.function(type=pl.FunctionType.InCore)
    def block(
        self,
        x: pl.Tensor[[N, 24], pl.INT32],
        row: pl.Tensor[[1, 24], pl.INT32],
        f: pl.Out[pl.Tensor[[N, 24], pl.INT32]],
    ):
        tile = pl.load(x, [0, 0], [16, 24], valid_shapes=[N, 24])
        return pl.store(pl.col_expand_add(tile, pl.load(row, [0, 0], [1, 24])), [0, 0], f)

    @pl.function(type=pl.FunctionType.Orchestration)
    def chip(
        self,
        x: pl.Tensor[[N, 24], pl.INT32],
        row: pl.Tensor[[1, 24], pl.INT32],
        f: pl.Out[pl.Tensor[[N, 24], pl.INT32]],
    ):
        for begin in pl.range(0, N, 16):
            rows = pl.min(16, N - begin)
            self.block(x[begin : begin + rows], row, f[begin : begin + rows])
        return f

    @pl.function(level=pl.Level.HOST, role=pl.Role.Orchestrator)
    def host(
        self,
        x: pl.Tensor[[N, 24], pl.INT32],
        row: pl.Tensor[[1, 24], pl.INT32],
        f: pl.Out[pl.Tensor[[N, 24], pl.INT32]],
    ):
        return self.chip(x, row, f)


@pytest.fixture(scope="module")
def rows(_own_cache: None):
    with ir.compile(Rows) as compiled:
        yield compiled


@pytest.mark.parametrize("count", [1, 15, 16, 17, 48, 100])
def test_dynamic_dimensions_take_any_size(rows, count: int) -> None:
    x = np.arange(count * 24, dtype=np.int32).reshape(count, 24)
    row = np.arange(24, dtype=np.int32).reshape(1, 24)
    np.testing.assert_array_equal(rows(x, row), x + row)


def test_a_dynamic_dimension_has_one_size_in_a_call(rows) -> None:
    x, row = np.zeros((5, 24), np.int32), np.zeros((1, 24), np.int32)
    with pytest.raises(TypeMismatch, match=r"argument f .*got int32\[6, 24\], where N is 5 \(dimension 0 of x\)"):
        rows(x, row, np.zeros((6, 24), np.int32))


@pl.program
class Sized:
    """The size of its output is told by nothing but the output."""

    @pl.function(level=pl.Level.HOST, role=pl.Role.Worker)
    def fill(self, f: pl.Out[pl.Tensor[[M], pl.FP32]]):
        f[:] = 7

    @pl.function(level=pl.Level.HOST, role=pl.Role.Orchestrator)
    def host(self, f: pl.Out[pl.Tensor[[M], pl.FP32]]):
        self.fill(f)
        return f


def test_an_output_of_unknown_size_must_be_passed() -> None:
    with ir.compile(Sized, distributed_config=DistributedConfig(num_sub_workers=1)) as compiled:
        with pytest.raises(SignatureError, match="no argument tells its dimension M"):
            compiled()
        f = np.zeros(9, np.float32)
        compiled(f)
        assert (f == 7).all()


def test_several_results_are_a_tuple_in_the_order_they_are_returned() -> None:
    @pl.program
    class Two:
        @pl.function(level=pl.Level.HOST, role=pl.Role.Worker)
        def fill(self, one: pl.Out[pl.Tensor[[1], pl.INT64]], two: pl.Out[pl.Tensor[[2], pl.INT64]]):
            one[:] = 1
            two[:] = 2

        @pl.function(level=pl.Level.HOST, role=pl.Role.Orchestrator)
        def host(self, one: pl.Out[pl.Tensor[[1], pl.INT64]], two: pl.Out[pl.Tensor[[2], pl.INT64]]):
            self.fill(one, two)
            return two, one

    with ir.compile(Two, distributed_config=DistributedConfig(num_sub_workers=1)) as compiled:
        results = compiled()
    assert [r.tolist() for r in results] == [[2, 2], [1]]
