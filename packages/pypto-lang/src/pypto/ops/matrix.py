"""Matrix ops on tiles, and changes of a tile's layout or dtype."""

from __future__ import annotations

from typing import Any

from pypto.errors import TypeMismatch
from pypto.ir.dtypes import FP32, INT8, INT16, INT32, UINT8, DType
from pypto.ir.nodes import Call, Expr, TileType
from pypto.ops.elementwise import call_of
from pypto.ops.registry import Op, OpParam, Takes, register
from pypto.ops.rules import Attrs, check_dtype, region_of, same_valid, tile_of

# What products of a dtype are summed in.
_ACCUMULATOR = {INT8: INT32, UINT8: INT32, INT16: INT32, INT32: INT32}


def _has_product(dtype: DType) -> bool:
    return dtype.is_float or dtype in _ACCUMULATOR


def _product(name: str, a: Expr, b: Expr) -> TileType:
    """The type of ``a @ b``."""
    check_dtype(name, a, _has_product, "FP32, FP16, BF16, INT8, UINT8, INT16 or INT32")
    lhs, rhs = tile_of(a), tile_of(b)
    if lhs.dtype != rhs.dtype:
        raise TypeMismatch(f"pl.{name}: {lhs} times {rhs}: the dtypes differ", b.span, "pl.cast one of them")
    if lhs.shape[1] != rhs.shape[0]:
        raise TypeMismatch(
            f"pl.{name}: {lhs} times {rhs}: {lhs.shape[1]} columns on the left, {rhs.shape[0]} rows on the right",
            b.span,
        )
    inner = (region_of(lhs)[1], region_of(rhs)[0])
    if None not in inner and inner[0] != inner[1]:
        raise TypeMismatch(
            f"pl.{name}: {lhs.valid[1]} valid columns on the left, {rhs.valid[0]} valid rows on the right", b.span
        )
    dtype = _ACCUMULATOR.get(lhs.dtype, FP32)
    return TileType((lhs.shape[0], rhs.shape[1]), dtype, (lhs.valid[0], rhs.valid[1]))


def _infer_matmul(args: tuple[Expr, ...], attrs: Attrs) -> TileType:
    return _product("matmul", args[0], args[1])


def _infer_matmul_acc(args: tuple[Expr, ...], attrs: Attrs) -> TileType:
    product = _product("matmul_acc", args[1], args[2])
    acc = tile_of(args[0])
    if acc != product:
        raise TypeMismatch(f"pl.matmul_acc: expected {product} to add the product to, found {acc}", args[0].span)
    return TileType(acc.shape, acc.dtype, same_valid("matmul_acc", product.valid, region_of(acc), args[0]))


def _matmul_regions(call: Call, position: int) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    return (None, (1, 0)) if position == 0 else ((0, 1), None)


def _matmul_acc_regions(call: Call, position: int) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    return (((1, 0), (2, 1)), ((0, 0), (2, 0)), ((1, 1), (0, 1)))[position]


def _numpy_matmul(a: Any, b: Any) -> Any:
    import numpy

    wide = numpy.int32 if numpy.issubdtype(a.dtype, numpy.integer) else numpy.float32
    return a.astype(wide) @ b.astype(wide)


def _numpy_matmul_acc(acc: Any, a: Any, b: Any) -> Any:
    return acc + _numpy_matmul(a, b)


def _infer_transpose(args: tuple[Expr, ...], attrs: Attrs) -> TileType:
    tile = tile_of(args[0])
    return TileType((tile.shape[1], tile.shape[0]), tile.dtype, (tile.valid[1], tile.valid[0]), tile.fill)


def _infer_cast(args: tuple[Expr, ...], attrs: Attrs) -> TileType:
    tile, dtype = tile_of(args[0]), attrs["dtype"]
    assert isinstance(dtype, DType)
    return TileType(tile.shape, dtype, tile.valid, tile.fill)


def _numpy_cast(tile: Any, dtype: DType) -> Any:
    import numpy

    # BF16 has no numpy dtype; its values are kept as float32.
    target = numpy.dtype(dtype.numpy or "float32")
    if not (numpy.issubdtype(tile.dtype, numpy.floating) and numpy.issubdtype(target, numpy.integer)):
        return tile.astype(target)
    limits = numpy.iinfo(target)
    whole = numpy.trunc(numpy.nan_to_num(tile.astype(numpy.float64), nan=0.0, posinf=numpy.inf, neginf=-numpy.inf))
    low, high = whole <= float(limits.min), whole >= float(limits.max)
    inside = numpy.where(low | high, 0, whole).astype(target)
    return numpy.where(low, limits.min, numpy.where(high, limits.max, inside)).astype(target)


def _cpp_cast(call: Call, args: list[str], out: str | None) -> str:
    return f"simpler::tile::cast({out}, {args[0]});"


register(
    Op(
        name="tile.matmul",
        params=(OpParam("a", Takes.TILE), OpParam("b", Takes.TILE)),
        infer=_infer_matmul,
        numpy=_numpy_matmul,
        cpp=call_of("matmul"),
        doc="The matrix product `[M, K] @ [K, N]`. Floats are summed as FP32, integers as INT32, which is the result's "
        "dtype. As many columns of `a` must be valid as rows of `b`.",
        in_place=False,
        regions=_matmul_regions,
        cube=True,
    )
)
register(
    Op(
        name="tile.matmul_acc",
        params=(OpParam("acc", Takes.TILE), OpParam("a", Takes.TILE), OpParam("b", Takes.TILE)),
        infer=_infer_matmul_acc,
        numpy=_numpy_matmul_acc,
        cpp=call_of("matmul_acc"),
        doc="`acc + a @ b`: a matrix product added to `acc`, which has the product's shape and dtype.",
        in_place=(0,),
        regions=_matmul_acc_regions,
        cube=True,
    )
)
register(
    Op(
        name="tile.transpose",
        params=(OpParam("tile", Takes.TILE),),
        infer=_infer_transpose,
        numpy=lambda tile: tile.T.copy(),
        cpp=call_of("transpose"),
        doc="Rows become columns: `[R, C]` becomes `[C, R]`.",
        in_place=False,
    )
)
register(
    Op(
        name="tile.cast",
        params=(OpParam("tile", Takes.TILE), OpParam("dtype", Takes.DTYPE)),
        infer=_infer_cast,
        numpy=_numpy_cast,
        cpp=_cpp_cast,
        doc="The same elements in another dtype. Floats become integers by cutting off the fraction, the nearest "
        "integer where they are out of range, and 0 where they are NaN; integers wrap around.",
        in_place=False,
    )
)
