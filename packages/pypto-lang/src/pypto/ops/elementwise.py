"""Elementwise ops on tiles: two tiles, a tile and a number, one tile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pypto.ir.dtypes import DType
from pypto.ir.nodes import Call, Expr, TileType
from pypto.ops.registry import Op, OpParam, Takes, register
from pypto.ops.rules import Attrs, check_dtype, check_number, is_any, is_number, same_tile, tile_of


def call_of(name: str) -> Callable[[Call, list[str], str | None], str]:
    """The emission of most tile ops: ``simpler::tile::name(out, operands);``."""
    return lambda call, args, out: f"simpler::tile::{name}({', '.join([str(out), *args])});"


def ufunc(name: str) -> Callable[..., Any]:
    """numpy's function ``name``; numpy is imported when it is called, to keep ``import pypto`` quick."""

    def apply(*operands: Any) -> Any:
        import numpy

        with numpy.errstate(all="ignore"):
            return getattr(numpy, name)(*operands)

    return apply


def divide(lhs: Any, rhs: Any) -> Any:
    """Division; of integers towards zero, as in C++."""
    import numpy

    lhs = numpy.asarray(lhs)
    if not numpy.issubdtype(lhs.dtype, numpy.integer):
        with numpy.errstate(all="ignore"):
            return lhs / rhs
    rhs = numpy.asarray(rhs, lhs.dtype)
    if (rhs == 0).any():
        raise ZeroDivisionError("integer division of a tile by zero")
    quotient = lhs // rhs
    inexact = (lhs % rhs != 0) & ((lhs < 0) != (rhs < 0))
    return quotient + inexact.astype(lhs.dtype)


def _binary(
    name: str, numpy: Callable[..., Any], doc: str, allowed: Callable[[DType], bool] = is_any, wanted: str = "any dtype"
) -> None:
    def infer(args: tuple[Expr, ...], attrs: Attrs) -> TileType:
        lhs, rhs = args
        check_dtype(name, lhs, allowed, wanted)
        if isinstance(rhs.type, TileType):
            return same_tile(name, lhs, rhs)
        check_number(name, tile_of(lhs).dtype, rhs)
        return tile_of(lhs)

    params = (OpParam("lhs", Takes.TILE), OpParam("rhs", Takes.TILE_OR_SCALAR))
    register(
        Op(
            name=f"tile.{name}",
            params=params,
            infer=infer,
            numpy=numpy,
            cpp=call_of(name),
            doc=doc,
            regions=of_the_other,
            may_fail=name == "div",
            rounded=name == "div",
        )
    )


def of_the_other(call: Call, position: int) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    """The region of the other operand, where that is a tile."""
    other = 1 - position
    if len(call.args) < 2 or not isinstance(call.args[other].type, TileType):
        return None, None
    return (other, 0), (other, 1)


def unary(
    name: str,
    numpy: Callable[..., Any],
    doc: str,
    allowed: Callable[[DType], bool] = is_number,
    wanted: str = "numbers",
    *,
    scalar: str = "",
    rounded: bool = False,
) -> None:
    """Register an operation on each element of one tile.

    Args:
        numpy: its meaning on arrays.
        doc: for the reference page; the first sentence is the summary.
        allowed: the dtypes it takes, which ``wanted`` names in errors.
        scalar: C++ of ``x``, one element (a float where the dtype is a float), for what the tile library lacks.
        rounded: what it gives of floats may differ from numpy in the last bits.
    """

    def infer(args: tuple[Expr, ...], attrs: Attrs) -> TileType:
        check_dtype(name, args[0], allowed, wanted)
        return tile_of(args[0])

    helper = _HELPER.format(name=name, scalar=scalar) if scalar else ""
    register(
        Op(
            name=f"tile.{name}",
            params=(OpParam("tile", Takes.TILE),),
            infer=infer,
            numpy=numpy,
            cpp=_call_of_helper(name) if scalar else call_of(name),
            doc=doc,
            rounded=rounded,
            helper=helper,
        )
    )


_HELPER = """\
template <class T, int R, int C>
void {name}_elements(simpler::tile::Tile<T, R, C> &out, const simpler::tile::Tile<T, R, C> &a) {{
  simpler::tile::detail::map_tile(out, [](simpler::tile::detail::Value<T> x) {{ return {scalar}; }}, a);
}}"""


def _call_of_helper(name: str) -> Callable[[Call, list[str], str | None], str]:
    return lambda call, args, out: f"{name}_elements({out}, {args[0]});"


def is_float(dtype: DType) -> bool:
    """True for floats."""
    return dtype.is_float


def _is_signed(dtype: DType) -> bool:
    return dtype.is_signed and is_number(dtype)


def _rsqrt(tile: Any) -> Any:
    return ufunc("divide")(tile.dtype.type(1), ufunc("sqrt")(tile))


def _recip(tile: Any) -> Any:
    return ufunc("divide")(tile.dtype.type(1), tile)


def _relu(tile: Any) -> Any:
    return ufunc("maximum")(tile, tile.dtype.type(0))


_NUMBERS = (is_number, "numbers")
_PAIR = "`rhs` is a tile of the same shape and dtype, or a number."
_OR = 'On BOOL tiles it means "or".'
_AND = 'On BOOL tiles it means "and".'
_binary("add", ufunc("add"), f"Adds element by element. {_PAIR} Also spelled `lhs + rhs`. {_OR}")
_binary("sub", ufunc("subtract"), f"Subtracts element by element. {_PAIR} Also spelled `lhs - rhs`.", *_NUMBERS)
_binary("mul", ufunc("multiply"), f"Multiplies element by element. {_PAIR} Also spelled `lhs * rhs`. {_AND}")
_binary(
    "div",
    divide,
    f"Divides element by element. {_PAIR} Integers are divided towards zero, and a zero divisor among them fails the "
    "kernel. Also spelled `lhs / rhs`.",
    *_NUMBERS,
)
_binary("maximum", ufunc("maximum"), f"The larger of each pair of elements; NaN where either is. {_PAIR}")
_binary("minimum", ufunc("minimum"), f"The smaller of each pair of elements; NaN where either is. {_PAIR}")

unary("neg", ufunc("negative"), "Minus each element. Also spelled `-tile`.", _is_signed, "signed numbers")
unary("abs", ufunc("abs"), "The absolute value of each element.")
unary("exp", ufunc("exp"), "e to the power of each element.", is_float, "floats", rounded=True)
unary("log", ufunc("log"), "The natural logarithm of each element.", is_float, "floats", rounded=True)
unary("sqrt", ufunc("sqrt"), "The square root of each element.", is_float, "floats", rounded=True)
unary("rsqrt", _rsqrt, "One over the square root of each element.", is_float, "floats", rounded=True)
unary("recip", _recip, "One over each element.", is_float, "floats", rounded=True)
unary("relu", _relu, "Each element, or zero where it is negative.")
