"""Operators between tiles, and between tiles and numbers: numpy's meaning, in operations of the language."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pypto.builder.arithmetic import INDEX_TYPE, index
from pypto.errors import SyntaxUnsupported, TypeMismatch
from pypto.ir.dtypes import DType
from pypto.ir.nodes import Const, Expr, ExprTuple, ScalarType, Span, TensorType, TileType, TupleType

_NAMES = {"+": "add", "-": "sub", "*": "mul", "/": "div"}
_POWERS = 16  # the largest exponent that is written out as products


class Emit(Protocol):
    """Makes an operation of the IR, and gives a variable or a call."""

    def __call__(self, op: str, args: Sequence[Expr], span: Span, **attrs: object) -> Expr: ...


def operator(op: str, lhs: Expr, rhs: Expr, span: Span, emit: Emit) -> Expr:
    """``lhs op rhs`` where one of them, at least, is a tile. Raises the language's errors."""
    for side in (lhs, rhs):
        if isinstance(side.type, TensorType):
            raise TypeMismatch(
                f"operators work on tiles and numbers, this is {side.type}",
                side.span,
                "load it in a kernel first: pl.load(tensor, [0, 0], [rows, columns])",
            )
        if not isinstance(side.type, (TileType, ScalarType)):
            raise TypeMismatch(f"operators work on tiles and numbers, this is {side.type}", side.span)
    if op == "@":
        return emit("tile.matmul", (lhs, rhs), span)
    if op == "**":
        return _power(lhs, rhs, span, emit)
    if op not in _NAMES:
        word = {"min": "pl.minimum", "max": "pl.maximum"}.get(op)
        raise SyntaxUnsupported(f"{op} has no meaning for tiles", span, f"use {word}" if word else None)
    name = _NAMES[op]
    if not isinstance(lhs.type, TileType):
        assert isinstance(rhs.type, TileType)
        if op == "-":  # number - tile is -tile + number
            return emit("tile.add", (emit("tile.neg", (rhs,), span), lhs), span)
        if op == "/":
            return emit("tile.div", (full(rhs.type.shape, lhs, rhs.type.dtype, span, emit), rhs), span)
        return emit(f"tile.{name}", (rhs, lhs), span)
    if not isinstance(rhs.type, TileType):
        return emit(f"tile.{name}", (lhs, rhs), span)
    return _broadcast(name, lhs, rhs, span, emit)


def _broadcast(name: str, lhs: Expr, rhs: Expr, span: Span, emit: Emit) -> Expr:
    """``lhs`` and ``rhs`` repeated over each other where one has a single row or column."""
    assert isinstance(lhs.type, TileType)
    assert isinstance(rhs.type, TileType)
    a, b = lhs.type.shape, rhs.type.shape
    if lhs.type.dtype == rhs.type.dtype and a != b:
        if a[0] == b[0] and b[1] == 1:
            return emit(f"tile.row_expand_{name}", (lhs, rhs), span)
        if a[1] == b[1] and b[0] == 1:
            return emit(f"tile.col_expand_{name}", (lhs, rhs), span)
        fits = all(m == n or 1 in (m, n) for m, n in zip(a, b, strict=True))
        if fits:
            shape = (max(a[0], b[0]), max(a[1], b[1]))
            return _broadcast(name, expanded(lhs, shape, span, emit), rhs, span, emit)
    return emit(f"tile.{name}", (lhs, rhs), span)


def expanded(tile: Expr, shape: tuple[int, int], span: Span, emit: Emit) -> Expr:
    """``tile``, which has one row or one column, repeated to ``shape``."""
    assert isinstance(tile.type, TileType)
    ones = full(shape, Const(1, INDEX_TYPE, span), tile.type.dtype, span, emit)
    if tile.type.shape[0] == shape[0]:
        return emit("tile.row_expand_mul", (ones, tile), span)
    if tile.type.shape[1] == shape[1]:
        return emit("tile.col_expand_mul", (ones, tile), span)
    column = full((shape[0], 1), Const(1, INDEX_TYPE, span), tile.type.dtype, span, emit)
    tall = emit("tile.col_expand_mul", (column, tile), span)
    return emit("tile.row_expand_mul", (ones, tall), span)


def full(shape: tuple[int, int], value: Expr, dtype: DType, span: Span, emit: Emit) -> Expr:
    """``pl.full(shape, value, dtype)``."""
    items = tuple(index(extent, span) for extent in shape)
    sizes = ExprTuple(items, TupleType(tuple(item.type for item in items)), span)
    return emit("tile.full", (sizes, value), span, dtype=dtype)


def _power(base: Expr, exponent: Expr, span: Span, emit: Emit) -> Expr:
    number = exponent.value if isinstance(exponent, Const) and isinstance(base.type, TileType) else None
    if number == 0.5:
        return emit("tile.sqrt", (base,), span)
    if not isinstance(number, (int, float)) or number != int(number) or not 1 <= number <= _POWERS:
        raise SyntaxUnsupported(
            f"** takes a tile and a whole number from 1 to {_POWERS} that is known now, or 0.5",
            span,
            "use pl.exp(pl.log(x) * y)",
        )
    result: Expr | None = None
    square, left = base, int(number)
    while True:
        if left % 2:
            result = square if result is None else emit("tile.mul", (result, square), span)
        left //= 2
        if not left:
            assert result is not None
            return result
        square = emit("tile.mul", (square, square), span)
