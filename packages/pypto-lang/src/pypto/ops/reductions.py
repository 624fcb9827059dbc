"""Reductions of a tile along its rows or columns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pypto.ir.nodes import Expr, TileType
from pypto.ops.elementwise import call_of
from pypto.ops.registry import Op, OpParam, Takes, register
from pypto.ops.rules import Attrs, check_dtype, is_number, tile_of


def _numpy(how: str, axis: int) -> Callable[[Any], Any]:
    def reduce(tile: Any) -> Any:
        import numpy

        if how != "sum":
            return getattr(numpy, how)(tile, axis=axis, keepdims=True)
        # Halves are summed as floats and rounded once; integers wrap around.
        wide = numpy.float32 if tile.dtype == numpy.float16 else tile.dtype
        return numpy.sum(tile, axis=axis, keepdims=True, dtype=wide).astype(tile.dtype)

    return reduce


def _reduction(name: str, how: str, by_row: bool, doc: str) -> None:
    def infer(args: tuple[Expr, ...], attrs: Attrs) -> TileType:
        check_dtype(name, args[0], is_number, "numbers")
        tile = tile_of(args[0])
        if by_row:
            return TileType((tile.shape[0], 1), tile.dtype, (tile.valid[0], 1))
        return TileType((1, tile.shape[1]), tile.dtype, (1, tile.valid[1]))

    register(
        Op(
            name=f"tile.{name}",
            params=(OpParam("tile", Takes.TILE),),
            infer=infer,
            numpy=_numpy(how, axis=1 if by_row else 0),
            cpp=call_of(name),
            doc=doc,
            in_place=False,
        )
    )


for _how, _what in (("max", "largest element"), ("min", "smallest element"), ("sum", "sum")):
    _reduction(f"row_{_how}", _how, True, f"The {_what} of each row: `[R, C]` becomes a column `[R, 1]`.")
    _reduction(f"col_{_how}", _how, False, f"The {_what} of each column: `[R, C]` becomes a row `[1, C]`.")
