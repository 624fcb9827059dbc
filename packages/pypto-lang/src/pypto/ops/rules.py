"""What type rules of several ops have in common."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

from pypto.errors import OutOfBounds, TypeMismatch
from pypto.ir.dtypes import BOOL, DType
from pypto.ir.nodes import (
    ANY_DIM,
    Call,
    Const,
    Dim,
    DimExpr,
    DimVar,
    Expr,
    ExprTuple,
    Fill,
    ScalarType,
    TensorType,
    TileType,
)

Attrs = Mapping[str, object]
Valid = tuple[int | None, int | None]


def tile_of(expr: Expr) -> TileType:
    """The type of an operand that is a tile."""
    assert isinstance(expr.type, TileType)
    return expr.type


def tensor_of(expr: Expr) -> TensorType:
    """The type of an operand that is a tensor."""
    assert isinstance(expr.type, TensorType)
    return expr.type


def items_of(expr: Expr) -> tuple[Expr, ...]:
    """The items of an operand that is a list."""
    assert isinstance(expr, ExprTuple)
    return expr.items


def static(expr: Expr) -> int | None:
    """The value of an index expression where it is known now."""
    return int(expr.value) if isinstance(expr, Const) else None


def extent(expr: Expr) -> Dim:
    """The dimension a tensor gets from an index expression used as its extent."""
    match expr:
        case Const(value=value):
            return int(value)
        case DimExpr(name=name):
            return DimVar(name)
        case Call(op="tensor.dim", args=(tensor,)):
            return tensor_of(tensor).shape[int(str(expr.attr("axis")))]
    return ANY_DIM


def same_tile(op: str, expected: Expr, found: Expr) -> TileType:
    """The type both operands have, and so their result. Raises TypeMismatch at ``found`` where they differ."""
    want, have = tile_of(expected), tile_of(found)
    if want != have:
        raise TypeMismatch(f"pl.{op}: expected {want}, as the first operand is, found {have}", found.span)
    if want.fill is Fill.YES or have.fill is Fill.YES:
        other = have if want.fill is Fill.YES else want
        return TileType(want.shape, want.dtype, other.valid, fill_of(want, have))
    if Fill.MAYBE in (want.fill, have.fill):
        return TileType(want.shape, want.dtype, (None, None), fill_of(want, have))
    return TileType(want.shape, want.dtype, same_valid(op, want.valid, have.valid, found))


def fill_of(*tiles: TileType) -> Fill:
    """Whether what is computed element by element from ``tiles`` is one value everywhere."""
    fills = [tile.fill for tile in tiles]
    if Fill.NO in fills:
        return Fill.NO
    return Fill.MAYBE if Fill.MAYBE in fills else Fill.YES


def region_of(tile: TileType) -> Valid:
    """What is known of the region of a tile that something else must match: nothing where it takes that one's."""
    return tile.valid if tile.fill is Fill.NO else (None, None)


def same_valid(op: str, expected: Valid, found: Valid, at: Expr) -> Valid:
    """What is known of the valid region that two operands must share. TypeMismatch where they certainly don't."""
    known: list[int | None] = []
    for want, have in zip(expected, found, strict=True):
        if want is not None and have is not None and want != have:
            regions = f"{_region(expected)} and {_region(found)}"
            raise TypeMismatch(f"pl.{op}: the valid regions of the operands differ: {regions}", at.span)
        known.append(have if want is None else want)
    return (known[0], known[1])


def _region(valid: Valid) -> str:
    return "×".join("?" if count is None else str(count) for count in valid)


def check_number(op: str, dtype: DType, number: Expr) -> None:
    """Raises TypeMismatch where ``number`` can't be converted to ``dtype`` without losing what it says."""
    assert isinstance(number.type, ScalarType)
    have = number.type.dtype
    if have.is_float and not dtype.is_float:
        raise TypeMismatch(f"pl.{op}: a {have} number for {dtype} elements", number.span, "write an int")
    if isinstance(number, Const) and not fits(number.value, dtype):
        raise TypeMismatch(f"pl.{op}: {number.value} does not fit {dtype}", number.span)


def fits(value: int | float | bool, dtype: DType) -> bool:
    """True where ``dtype`` can hold ``value``; a float type rounds it."""
    if dtype.is_float:
        return isinstance(value, float) or abs(value) <= sys.float_info.max
    if dtype == BOOL:
        return value in (0, 1)
    bits = 8 * dtype.itemsize
    low, high = (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if dtype.is_signed else (0, (1 << bits) - 1)
    return low <= value <= high and value == int(value)


def check_dtype(op: str, operand: Expr, allowed: Callable[[DType], bool], wanted: str) -> None:
    """Raises TypeMismatch at ``operand`` where its tile's dtype is not ``allowed``."""
    dtype = tile_of(operand).dtype
    if not allowed(dtype):
        raise TypeMismatch(f"pl.{op}: expected a tile of {wanted}, found {dtype}", operand.span, "pl.cast it first")


def is_any(dtype: DType) -> bool:
    """True for every dtype."""
    return True


def is_number(dtype: DType) -> bool:
    """True for every dtype but BOOL."""
    return dtype != BOOL


def check_count(op: str, what: str, items: Expr, count: int) -> None:
    """Raises TypeMismatch where a list has another length than ``count``."""
    have = len(items_of(items))
    if have != count:
        raise TypeMismatch(f"pl.{op}: expected {count} {what}, one a dimension, found {have}", items.span)


def check_region(op: str, tensor: Expr, offsets: Expr, extents: Sequence[int | None], at: Expr) -> None:
    """Raises OutOfBounds where a region certainly reaches outside ``tensor``.

    Args:
        offsets: an ExprTuple, one index expression a dimension.
        extents: how many elements are touched in each dimension; None where that is not known now.
        at: the operand to point at where the extent alone is too large.
    """
    shape = tensor_of(tensor).shape
    for axis, (offset, count, dim) in enumerate(zip(items_of(offsets), extents, shape, strict=True)):
        begin = static(offset)
        if begin is not None and begin < 0:
            raise OutOfBounds(f"pl.{op}: offset {begin} in dimension {axis} is negative", offset.span)
        if count is not None and count < 0:
            raise OutOfBounds(f"pl.{op}: extent {count} in dimension {axis} is negative", at.span)
        end = (begin or 0) + (count or 0)
        if isinstance(dim, int) and end > dim:
            place = offset if begin else at
            raise OutOfBounds(
                f"pl.{op}: elements {begin or 0} to {end} of dimension {axis} are outside {tensor_of(tensor)}",
                place.span,
            )
