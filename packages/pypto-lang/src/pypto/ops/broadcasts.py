"""Elementwise ops of a tile with a column or a row that is repeated over it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pypto.errors import TypeMismatch
from pypto.ir.nodes import Call, Expr, Fill, TileType
from pypto.ops.elementwise import call_of, divide, ufunc
from pypto.ops.registry import Op, OpParam, Takes, register
from pypto.ops.rules import Attrs, check_dtype, is_number, region_of, same_valid, tile_of


def _expand(name: str, numpy: Callable[..., Any], by_row: bool, doc: str) -> None:
    def infer(args: tuple[Expr, ...], attrs: Attrs) -> TileType:
        check_dtype(name, args[0], is_number, "numbers")
        tile, vector = tile_of(args[0]), tile_of(args[1])
        shape = (tile.shape[0], 1) if by_row else (1, tile.shape[1])
        if vector.shape != shape or vector.dtype != tile.dtype:
            expected = TileType(shape, tile.dtype)
            raise TypeMismatch(f"pl.{name}: expected {expected} to repeat over {tile}, found {vector}", args[1].span)
        mine, its = region_of(tile), region_of(vector)
        if by_row:
            rows, _ = same_valid(name, (mine[0], 1), (its[0], 1), args[1])
            valid = (rows, tile.valid[1])
        else:
            _, columns = same_valid(name, (1, mine[1]), (1, its[1]), args[1])
            valid = (tile.valid[0], columns)
        return TileType(tile.shape, tile.dtype, tile.valid if tile.fill is Fill.NO else valid)

    def regions(call: Call, position: int) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
        other = 1 - position
        return ((other, 0), None) if by_row else (None, (other, 1))

    register(
        Op(
            name=f"tile.{name}",
            params=(OpParam("tile", Takes.TILE), OpParam("column" if by_row else "row", Takes.TILE)),
            infer=infer,
            numpy=numpy,
            cpp=call_of(name),
            doc=doc,
            regions=regions,
            rounded=name.endswith("div"),
            in_place=(0,),
        )
    )


for _name, _numpy, _verb in (
    ("add", ufunc("add"), "Adds {} to"),
    ("sub", ufunc("subtract"), "Subtracts {} from"),
    ("mul", ufunc("multiply"), "Multiplies by {}"),
    ("div", divide, "Divides by {}"),
):
    _column = _verb.format("a column `[R, 1]`")
    _expand(f"row_expand_{_name}", _numpy, True, f"{_column} every column of a tile `[R, C]`.")
    _row = _verb.format("a row `[1, C]`")
    _expand(f"col_expand_{_name}", _numpy, False, f"{_row} every row of a tile `[R, C]`.")
