"""Type rules that ops share, and what broadcasts, reductions and matrix ops do with values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pypto import ops
from pypto.errors import OutOfBounds, TypeMismatch
from pypto.ir.dtypes import (
    ALL,
    BF16,
    BOOL,
    FP16,
    FP32,
    INDEX,
    INT8,
    INT16,
    INT32,
    INT64,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    DType,
)
from pypto.ir.nodes import (
    ANY_DIM,
    Binary,
    Call,
    Const,
    DimExpr,
    DimVar,
    Expr,
    ExprTuple,
    ScalarType,
    Span,
    TensorType,
    TileType,
    Type,
    Var,
)
from pypto.ops.rules import check_count, check_number, check_region, extent, fits, same_tile, same_valid

INTEGERS = [dtype for dtype in ALL if dtype.is_int]
HERE, THERE = Span("f.py", 3, 4, 3, 5, "    t"), Span("f.py", 9, 4, 9, 5, "    u")


def var(type_: Type, span: Span = HERE) -> Var:
    return Var("t", type_, span)


def tile(rows: int, columns: int, dtype: DType = FP32, valid: tuple[int | None, int | None] | None = None) -> TileType:
    return TileType((rows, columns), dtype, (rows, columns) if valid is None else valid)


def index(value: int, span: Span = HERE) -> Const:
    return Const(value, ScalarType(INDEX), span)


def infer(name: str, *types: Type, **attrs: object) -> Type:
    """The result type of an op on operands of these types; the last stands THERE."""
    args: list[Expr] = [var(type_) for type_ in types]
    args[-1] = var(types[-1], THERE)
    return ops.get(f"tile.{name}").infer(tuple(args), attrs)


def value(name: str, *tiles: object, dtype: str = "float32") -> list:
    arrays = [np.array(rows, dtype) for rows in tiles]
    return ops.get(f"tile.{name}").numpy(*arrays).tolist()


# --- numbers and dtypes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_an_integer_type_holds_its_limits_and_nothing_beyond(dtype: DType) -> None:
    limits = np.iinfo(dtype.numpy)
    low, high = int(limits.min), int(limits.max)
    assert fits(low, dtype)
    assert fits(high, dtype)
    assert not fits(low - 1, dtype)
    assert not fits(high + 1, dtype)


@pytest.mark.parametrize("number", [0.5, float("inf"), float("-inf"), float("nan"), 10**400, -(10**400)])
@pytest.mark.parametrize("dtype", [*INTEGERS, BOOL], ids=str)
def test_no_integer_or_bool_holds_what_is_not_whole_or_far_too_large(dtype: DType, number: float) -> None:
    assert not fits(number, dtype)


@pytest.mark.parametrize(("number", "held"), [(0, True), (1, True), (True, True), (1.0, True), (2, False), (-1, False)])
def test_a_bool_holds_zero_and_one(number: float, held: bool) -> None:
    assert fits(number, BOOL) is held


@pytest.mark.parametrize("dtype", [FP32, FP16, BF16], ids=str)
def test_a_float_type_rounds_what_it_is_given_unless_no_float_is_that_large(dtype: DType) -> None:
    assert all(fits(number, dtype) for number in (0.1, 2**40 + 1, float("inf"), float("nan"), True))
    assert not fits(10**400, dtype)


@pytest.mark.parametrize(
    ("number", "dtype", "message"),
    [
        (Const(0.5, ScalarType(FP32), THERE), INT8, "pl.add: a FP32 number for INT8 elements"),
        (Const(1.0, ScalarType(FP32), THERE), BOOL, "pl.add: a FP32 number for BOOL elements"),
        (Var("x", ScalarType(FP32), THERE), INT64, "pl.add: a FP32 number for INT64 elements"),
        (Const(128, ScalarType(INDEX), THERE), INT8, "pl.add: 128 does not fit INT8"),
        (Const(2, ScalarType(INDEX), THERE), BOOL, "pl.add: 2 does not fit BOOL"),
    ],
)
def test_a_number_that_would_lose_something_is_refused(number: Expr, dtype: DType, message: str) -> None:
    with pytest.raises(TypeMismatch) as caught:
        check_number("add", dtype, number)
    assert (caught.value.message, caught.value.span) == (message, THERE)


def test_a_number_that_is_not_known_yet_may_fit() -> None:
    check_number("add", INT8, Var("n", ScalarType(INDEX)))
    check_number("add", FP16, Var("n", ScalarType(INDEX)))


def test_a_number_no_type_holds_is_an_error_at_its_place(programs) -> None:
    for dtype in ("INT64", "FP32"):
        text = f"t = pl.full([4, 4], «huge», dtype=pl.{dtype})"
        programs.fails(TypeMismatch, f"does not fit {dtype}", programs.kernel, text, huge=10**400)


# --- regions ---------------------------------------------------------------------------------------------------------


def dim_of(axis: int) -> Call:
    """``pl.dim`` of a tensor [M, 5]."""
    return Call("tensor.dim", (var(TensorType((DimVar("M"), 5), FP32)),), (("axis", axis),), ScalarType(INDEX))


@pytest.mark.parametrize(
    ("expr", "dim"),
    [
        (index(7), 7),
        (DimExpr("N", ScalarType(INDEX)), DimVar("N")),
        (
            Call("tensor.dim", (var(TensorType((DimVar("M"), 5), FP32)),), (("axis", 0),), ScalarType(INDEX)),
            DimVar("M"),
        ),
        (Call("tensor.dim", (var(TensorType((DimVar("M"), 5), FP32)),), (("axis", 1),), ScalarType(INDEX)), 5),
        (Var("n", ScalarType(INDEX)), ANY_DIM),
        (Binary("+", DimExpr("N", ScalarType(INDEX)), index(1), ScalarType(INDEX)), ANY_DIM),
    ],
)
def test_a_dimension_made_from_an_index_is_known_where_the_index_is(expr: Expr, dim: object) -> None:
    assert extent(expr) == dim


@pytest.mark.parametrize(
    ("expected", "found", "both"),
    [
        ((5, 6), (5, 6), (5, 6)),
        ((5, None), (5, 6), (5, 6)),
        ((None, 6), (5, None), (5, 6)),
        ((None, None), (None, None), (None, None)),
    ],
)
def test_valid_regions_that_may_be_equal_tell_each_other_what_is_known(expected, found, both) -> None:
    assert same_valid("add", expected, found, var(tile(8, 8))) == both


@pytest.mark.parametrize(
    ("expected", "found", "text"),
    [((5, 6), (5, 7), "5×6 and 5×7"), ((4, None), (5, 6), "4×? and 5×6"), ((0, 6), (None, 5), "0×6 and ?×5")],
)
def test_valid_regions_that_certainly_differ_are_refused(expected, found, text: str) -> None:
    with pytest.raises(TypeMismatch) as caught:
        same_valid("add", expected, found, var(tile(8, 8), THERE))
    assert caught.value.message == f"pl.add: the valid regions of the operands differ: {text}"
    assert caught.value.span == THERE


@pytest.mark.parametrize("other", [tile(8, 8), tile(6, 8), tile(8, 6, FP16)], ids=str)
def test_operands_of_two_types_are_refused_at_the_second(other: TileType) -> None:
    with pytest.raises(TypeMismatch) as caught:
        same_tile("add", var(tile(8, 6)), var(other, THERE))
    wanted = f"pl.add: expected Tile[[8, 6], FP32], as the first operand is, found {other}"
    assert (caught.value.message, caught.value.span) == (wanted, THERE)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_list_of_another_length_is_refused(count: int) -> None:
    items = ExprTuple((index(1),) * count, ScalarType(INDEX), THERE)
    with pytest.raises(TypeMismatch) as caught:
        check_count("slice", "offsets", items, 2)
    wanted = f"pl.slice: expected 2 offsets, one a dimension, found {count}"
    assert (caught.value.message, caught.value.span) == (wanted, THERE)


def region(offsets: list[Expr], extents: list[int | None], shape: tuple[object, ...] = (16, 16)) -> None:
    """Check a region of a tensor; its extents stand THERE."""
    items = ExprTuple(tuple(offsets), ScalarType(INDEX))
    check_region("load", var(TensorType(shape, FP32)), items, extents, at=var(tile(16, 16), THERE))


@pytest.mark.parametrize(
    ("offsets", "extents", "message", "place"),
    [
        ([index(-1), index(0)], [1, 1], "offset -1 in dimension 0 is negative", HERE),
        ([index(0), index(0)], [16, -1], "extent -1 in dimension 1 is negative", THERE),
        ([index(0), index(1)], [16, 16], "elements 1 to 17 of dimension 1 are outside", HERE),
        ([index(0), index(0)], [17, 16], "elements 0 to 17 of dimension 0 are outside", THERE),
        ([Var("n", ScalarType(INDEX)), index(0)], [17, 16], "elements 0 to 17 of dimension 0 are outside", THERE),
        ([index(17), index(0)], [None, 16], "elements 17 to 17 of dimension 0 are outside", HERE),
    ],
)
def test_what_is_certainly_outside_is_refused_where_it_is_wrong(offsets, extents, message: str, place: Span) -> None:
    with pytest.raises(OutOfBounds) as caught:
        region(offsets, extents)
    assert caught.value.message.startswith(f"pl.load: {message}")
    assert caught.value.span == place


def test_what_may_be_inside_is_left_to_the_run() -> None:
    region([index(16), index(0)], [0, 16])
    region([index(15), index(15)], [1, 1])
    region([Var("n", ScalarType(INDEX)), index(16)], [16, None])
    region([index(100), index(0)], [100, 16], shape=(DimVar("N"), 16))


# --- broadcasts ------------------------------------------------------------------------------------------------------

BROADCASTS = [f"{side}_expand_{name}" for side in ("row", "col") for name in ("add", "sub", "mul", "div")]
MATRIX, COLUMN, ROW = [[6, 8, 10], [3, 9, 12]], [[2], [3]], [[1, 2, 4]]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("row_expand_add", [[8, 10, 12], [6, 12, 15]]),
        ("row_expand_sub", [[4, 6, 8], [0, 6, 9]]),
        ("row_expand_mul", [[12, 16, 20], [9, 27, 36]]),
        ("row_expand_div", [[3, 4, 5], [1, 3, 4]]),
        ("col_expand_add", [[7, 10, 14], [4, 11, 16]]),
        ("col_expand_sub", [[5, 6, 6], [2, 7, 8]]),
        ("col_expand_mul", [[6, 16, 40], [3, 18, 48]]),
        ("col_expand_div", [[6, 4, 2.5], [3, 4.5, 3]]),
    ],
)
def test_a_column_meets_each_column_and_a_row_each_row(name: str, expected: list) -> None:
    assert value(name, MATRIX, COLUMN if name.startswith("row") else ROW) == expected


def test_integers_are_divided_towards_zero_by_columns_and_rows_too() -> None:
    assert value("row_expand_div", [[-7, 7], [-7, 7]], [[2], [-2]], dtype="int8") == [[-3, 3], [3, -3]]
    assert value("col_expand_div", [[-7, 7]], [[2, -2]], dtype="int8") == [[-3, -3]]


@pytest.mark.parametrize("name", BROADCASTS)
def test_a_broadcast_keeps_the_tiles_type(name: str) -> None:
    by_row = name.startswith("row")
    whole, part = tile(8, 6, FP16, (5, None)), tile(8, 1, FP16, (5, 1)) if by_row else tile(1, 6, FP16, (1, 4))
    assert infer(name, whole, part) == whole
    assert infer(name, whole, part).valid == (5, None)
    assert ops.get(f"tile.{name}").in_place == (0,)  # the vector is smaller than the result


@pytest.mark.parametrize("name", BROADCASTS)
def test_a_vector_of_another_shape_or_dtype_is_refused(name: str) -> None:
    expected = "8, 1" if name.startswith("row") else "1, 6"
    others = [tile(1, 6) if name.startswith("row") else tile(8, 1), tile(8, 6), tile(1, 1)]
    for vector in [*others, tile(*map(int, expected.split(",")), FP16)]:
        with pytest.raises(TypeMismatch) as caught:
            infer(name, tile(8, 6), vector)
        wanted = f"pl.{name}: expected Tile[[{expected}], FP32] to repeat over Tile[[8, 6], FP32], found {vector}"
        assert (caught.value.message, caught.value.span) == (wanted, THERE)


@pytest.mark.parametrize(
    ("name", "vector", "text"),
    [("row_expand_mul", tile(8, 1, FP32, (4, 1)), "5×1 and 4×1"), ("col_expand_mul", tile(1, 6), "1×3 and 1×6")],
)
def test_a_vector_that_is_valid_elsewhere_than_the_tile_is_refused(name: str, vector: TileType, text: str) -> None:
    with pytest.raises(TypeMismatch, match=rf"pl\.{name}: the valid regions of the operands differ: {text}"):
        infer(name, tile(8, 6, FP32, (5, 3)), vector)


@pytest.mark.parametrize("name", [*BROADCASTS, *(f"{a}_{n}" for a in ("row", "col") for n in ("max", "min", "sum"))])
def test_bools_are_no_numbers(name: str) -> None:
    with pytest.raises(TypeMismatch, match="expected a tile of numbers, found BOOL"):
        infer(name, *[tile(8, 6, BOOL)] * len(ops.get(f"tile.{name}").params))


@pytest.mark.parametrize("name", BROADCASTS)
def test_a_broadcast_names_its_operands_and_blames_the_one_that_is_wrong(name: str) -> None:
    by_row = name.startswith("row")
    assert [param.name for param in ops.get(f"tile.{name}").params] == ["tile", "column" if by_row else "row"]
    with pytest.raises(TypeMismatch, match="expected a tile of numbers, found BOOL") as caught:
        infer(name, tile(8, 6, BOOL), tile(8, 1) if by_row else tile(1, 6))
    assert caught.value.span == HERE


# --- reductions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("row_max", [[5], [9]]),
        ("row_min", [[-1], [-7]]),
        ("row_sum", [[6], [4]]),
        ("col_max", [[5, 2, 9]]),
        ("col_min", [[2, -1, -7]]),
        ("col_sum", [[7, 1, 2]]),
    ],
)
def test_a_reduction_leaves_one_element_a_row_or_column(name: str, expected: list) -> None:
    rows = [[5, 2, -1], [2, -7, 9]] if name.startswith("row") else [[5, 2, -7], [2, -1, 9]]
    for dtype in ("float32", "float16", "int8"):
        assert value(name, rows, dtype=dtype) == expected


@given(st.lists(st.integers(-128, 127), min_size=1, max_size=40))
def test_sums_of_integers_wrap_around(numbers: list[int]) -> None:
    wrapped = (sum(numbers) + 128) % 256 - 128
    assert value("row_sum", [numbers], dtype="int8") == [[wrapped]]
    assert value("col_sum", [[number] for number in numbers], dtype="int8") == [[wrapped]]


def test_sums_of_large_integers_are_exact_and_sums_of_halves_rounded_once() -> None:
    assert value("row_sum", [[2**24, 1, 2**24]], dtype="int32") == [[2**25 + 1]]
    assert value("col_sum", [[2048], *[[1]] * 4095], dtype="float16") == [[float(np.float16(2048 + 4095))]]


def test_a_reduction_keeps_what_is_known_of_the_valid_region() -> None:
    part = tile(8, 6, INT16, (5, None))
    for name in ("max", "min", "sum"):
        assert infer(f"row_{name}", part) == tile(8, 1, INT16)
        assert infer(f"row_{name}", part).valid == (5, 1)
        assert infer(f"col_{name}", part) == tile(1, 6, INT16)
        assert infer(f"col_{name}", part).valid == (1, None)
        assert ops.get(f"tile.row_{name}").in_place is ops.get(f"tile.col_{name}").in_place is False


# --- matrices --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("factors", "product"),
    [(FP32, FP32), (FP16, FP32), (BF16, FP32), (INT8, INT32), (UINT8, INT32), (INT16, INT32), (INT32, INT32)],
    ids=str,
)
def test_products_are_summed_in_a_type_with_room(factors: DType, product: DType) -> None:
    assert infer("matmul", tile(4, 6, factors), tile(6, 2, factors)) == tile(4, 2, product)
    assert infer("matmul_acc", tile(4, 2, product), tile(4, 6, factors), tile(6, 2, factors)) == tile(4, 2, product)


@pytest.mark.parametrize("dtype", [INT64, UINT16, UINT32, UINT64, BOOL], ids=str)
def test_types_without_products_are_refused(dtype: DType) -> None:
    with pytest.raises(TypeMismatch, match=f"of FP32, FP16, BF16, INT8, UINT8, INT16 or INT32, found {dtype}"):
        infer("matmul", tile(4, 6, dtype), tile(6, 2, dtype))


@pytest.mark.parametrize(
    ("types", "message", "place"),
    [
        ((tile(4, 6), tile(6, 2, FP16)), "the dtypes differ", THERE),
        ((tile(4, 6), tile(4, 6)), "6 columns on the left, 4 rows on the right", THERE),
        ((tile(4, 6, FP32, (4, 5)), tile(6, 2)), "5 valid columns on the left, 6 valid rows on the right", THERE),
        ((tile(4, 2, FP16), tile(4, 6, FP16), tile(6, 2, FP16)), r"expected Tile\[\[4, 2\], FP32\] to add", HERE),
        ((tile(2, 4), tile(4, 6), tile(6, 2)), r"expected Tile\[\[4, 2\], FP32\] to add", HERE),
        ((tile(4, 2, FP32, (3, 2)), tile(4, 6), tile(6, 2)), "the valid regions of the operands differ: 4×2", HERE),
    ],
)
def test_matrices_that_do_not_fit_are_refused(types: tuple[TileType, ...], message: str, place: Span) -> None:
    with pytest.raises(TypeMismatch, match=message) as caught:
        infer("matmul" if len(types) == 2 else "matmul_acc", *types)
    assert caught.value.span == place


def test_a_product_is_valid_where_its_factors_are() -> None:
    left, right = tile(8, 6, FP32, (5, None)), tile(6, 4, FP32, (3, None))
    assert infer("matmul", left, right).valid == (5, None)
    assert infer("matmul_acc", tile(8, 4, FP32, (None, 2)), left, right).valid == (5, 2)


def test_small_integers_are_multiplied_without_wrapping() -> None:
    assert value("matmul", [[127, -128]], [[127], [-128]], dtype="int8") == [[127 * 127 + 128 * 128]]
    result = ops.get("tile.matmul").numpy(np.full((1, 2), 200, np.uint8), np.full((2, 1), 200, np.uint8))
    assert (result.tolist(), result.dtype) == ([[80000]], np.int32)


def test_a_product_is_added_to_what_is_there() -> None:
    assert value("matmul_acc", [[10, 20]], [[1, 2]], [[3, 4], [5, 6]]) == [[10 + 13, 20 + 16]]
    halves = np.full((1, 1), 60000, np.float16)
    assert ops.get("tile.matmul").numpy(halves, halves).item() == float(halves.item()) ** 2  # beyond FP16


def test_a_transposed_tile_is_a_copy() -> None:
    before = np.arange(6.0).reshape(2, 3)
    after = ops.get("tile.transpose").numpy(before)
    after[0, 1] = 100
    assert before.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert after.tolist() == [[0, 100], [1, 4], [2, 5]]


def test_a_cast_keeps_shape_and_valid_region() -> None:
    assert infer("cast", tile(8, 6, FP32, (5, None)), dtype=INT8) == tile(8, 6, INT8)
    assert infer("cast", tile(8, 6, FP32, (5, None)), dtype=INT8).valid == (5, None)


def test_casts_to_floats_round_to_nearest() -> None:
    cast = ops.get("tile.cast").numpy
    assert cast(np.array([[2**24 + 1]], np.int32), FP32).tolist() == [[2**24]]
    assert cast(np.array([[2049.0]], np.float32), FP16).tolist() == [[2048.0]]
    assert cast(np.array([[True, False]]), FP16).tolist() == [[1.0, 0.0]]
