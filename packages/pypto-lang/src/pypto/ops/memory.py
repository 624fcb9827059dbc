"""How tiles come to be and where they go: load, store, full."""

from __future__ import annotations

from typing import Any

from pypto.errors import TypeMismatch
from pypto.ir.dtypes import DType
from pypto.ir.nodes import Call, Expr, Fill, ScalarType, TensorType, TileType
from pypto.ops.registry import Op, OpParam, Takes, register
from pypto.ops.rules import Attrs, check_count, check_number, check_region, items_of, static, tensor_of, tile_of


def cpp_string(text: str) -> str:
    """``text`` as a C++ string literal."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _check_two_dimensional(name: str, tensor: Expr) -> None:
    if len(tensor_of(tensor).shape) != 2:
        raise TypeMismatch(
            f"pl.{name}: tiles are parts of 2-dimensional tensors, this is {tensor_of(tensor)}", tensor.span
        )


def _shape(items: Expr) -> tuple[int, int]:
    rows, columns = (static(item) for item in items_of(items))
    assert rows is not None
    assert columns is not None
    return rows, columns


def _infer_load(args: tuple[Expr, ...], attrs: Attrs) -> TileType:
    tensor, offsets, shapes, valid_shapes = args
    _check_two_dimensional("load", tensor)
    check_count("load", "offsets", offsets, 2)
    check_count("load", "extents", shapes, 2)
    check_count("load", "valid extents", valid_shapes, 2)
    shape = _shape(shapes)
    rows, columns = (static(item) for item in items_of(valid_shapes))
    for axis, (count, most) in enumerate(zip((rows, columns), shape, strict=True)):
        if count is not None and count > most:
            item = items_of(valid_shapes)[axis]
            raise TypeMismatch(f"pl.load: {count} valid elements in a tile that has {most} of them", item.span)
    check_region("load", tensor, offsets, (rows, columns), at=valid_shapes)
    return TileType(shape, tensor_of(tensor).dtype, (rows, columns))


def _numpy_load(tensor: Any, offsets: list[int], shapes: list[int], valid_shapes: list[int]) -> Any:
    (row, column), (rows, columns) = offsets, valid_shapes
    return tensor[row : row + rows, column : column + columns].copy()


def _cpp_load(call: Call, args: list[str], out: str | None) -> str:
    tensor, offsets, _, valid = args
    return f"simpler::tile::load(core, {out}, {tensor}, {offsets}, {valid}, {cpp_string(call.span.where)});"


def _infer_store(args: tuple[Expr, ...], attrs: Attrs) -> TensorType:
    tile, offsets, tensor = args
    _check_two_dimensional("store", tensor)
    check_count("store", "offsets", offsets, 2)
    if tile_of(tile).dtype != tensor_of(tensor).dtype:
        raise TypeMismatch(
            f"pl.store: {tile_of(tile)} into {tensor_of(tensor)}: the dtypes differ",
            tile.span,
            "pl.cast the tile first",
        )
    check_region("store", tensor, offsets, tile_of(tile).valid, at=tile)
    return tensor_of(tensor)


def _numpy_store(tile: Any, offsets: list[int], tensor: Any) -> Any:
    (row, column), (rows, columns) = offsets, tile.shape
    tensor[row : row + rows, column : column + columns] = tile
    return tensor


def _cpp_store(call: Call, args: list[str], out: str | None) -> str:
    tile, offsets, tensor = args
    return f"simpler::tile::store(core, {tensor}, {tile}, {offsets}, {cpp_string(call.span.where)});"


def _infer_full(args: tuple[Expr, ...], attrs: Attrs) -> TileType:
    shapes, value = args
    dtype = attrs["dtype"]
    assert isinstance(dtype, DType)
    assert isinstance(value.type, ScalarType)
    check_count("full", "extents", shapes, 2)
    check_number("full", dtype, value)
    shape = _shape(shapes)
    return TileType(shape, dtype, shape, Fill.YES)


def _numpy_full(shape: list[int], value: Any, dtype: DType) -> Any:
    import numpy

    return numpy.full(shape, value, dtype.numpy or "float32")


def _cpp_full(call: Call, args: list[str], out: str | None) -> str:
    return f"simpler::tile::full({out}, {args[1]});"


register(
    Op(
        name="tile.load",
        may_fail=True,
        params=(
            OpParam("tensor", Takes.TENSOR),
            OpParam("offsets", Takes.INDICES),
            OpParam("shapes", Takes.SHAPE),
            OpParam("valid_shapes", Takes.INDICES, optional=True),
        ),
        infer=_infer_load,
        numpy=_numpy_load,
        cpp=_cpp_load,
        doc="Copies a part of a 2-dimensional tensor into a tile of `shapes`, from `offsets` on. `valid_shapes` tells "
        "how many rows and columns of the tile are filled, where the tensor ends earlier; all of them by default. "
        "Reaching outside the tensor is an error, before the run where that is known, else in it.",
    )
)
register(
    Op(
        name="tile.store",
        params=(OpParam("tile", Takes.TILE), OpParam("offsets", Takes.INDICES), OpParam("tensor", Takes.TENSOR)),
        infer=_infer_store,
        numpy=_numpy_store,
        cpp=_cpp_store,
        writes=2,
        doc="Copies the valid part of a tile into a 2-dimensional tensor, from `offsets` on, and gives that tensor, "
        "which must be an Out or InOut parameter. Reaching outside the tensor is an error, before the run where that "
        "is known, else in it.",
    )
)
register(
    Op(
        name="tile.full",
        params=(OpParam("shape", Takes.SHAPE), OpParam("value", Takes.SCALAR), OpParam("dtype", Takes.DTYPE)),
        infer=_infer_full,
        numpy=_numpy_full,
        cpp=_cpp_full,
        doc="A tile of `shape` whose every element is `value`. Beside a tile of which a part is valid, as much of it "
        "is.",
    )
)
register(
    Op(
        name="tile.copy",
        params=(OpParam("tile", Takes.TILE),),
        infer=lambda args, attrs: tile_of(args[0]),
        numpy=lambda tile: tile.copy(),
        cpp=lambda call, args, out: f"simpler::tile::copy({out}, {args[0]});",
        doc="The same elements in another place. Programs need none; compilers do, where values go from turn to turn.",
    )
)
