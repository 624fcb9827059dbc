"""Arithmetic between numbers of a program: one rule of types, one meaning, wherever it is computed.

Integers of any dtype, and INDEX, are 64-bit two's complement and wrap around; ``//`` and ``%`` round towards minus
infinity. Floats are FP32, and each result is rounded to it; an integer literal beside a float is a float. Comparisons,
``and``, ``or`` and ``not`` give BOOL. What Python can compute while the program is built, Python computes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable

from pypto.errors import SyntaxUnsupported, TypeMismatch
from pypto.ir.dtypes import BOOL, FP32, INDEX, DType
from pypto.ir.nodes import ARITHMETIC, COMPARISONS, LOGIC, Binary, Const, Expr, Not, ScalarType, Span

INDEX_TYPE = ScalarType(INDEX)
BOOL_TYPE = ScalarType(BOOL)

PYTHON: dict[str, Callable[..., object]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    "/": operator.truediv,
    "**": operator.pow,
    "@": operator.matmul,
    "min": min,
    "max": max,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


def index(value: int, span: Span) -> Const:
    """An integer as an expression."""
    return Const(value, INDEX_TYPE, span)


def wrapped(value: int) -> int:
    """``value`` as 64 bits hold it."""
    return (value + 2**63) % 2**64 - 2**63


def binary(op: str, lhs: Expr, rhs: Expr, span: Span) -> Expr:
    """``lhs op rhs`` between numbers. Raises TypeMismatch or SyntaxUnsupported where that has no meaning."""
    for side in (lhs, rhs):
        if not isinstance(side.type, ScalarType):
            raise TypeMismatch(f"{op} works on tiles and numbers, this is {side.type}", side.span)
    assert isinstance(lhs.type, ScalarType)
    assert isinstance(rhs.type, ScalarType)
    if op in LOGIC:
        for side in (lhs, rhs):
            check_condition(side)
        return Binary(op, lhs, rhs, BOOL_TYPE, span)
    if op == "/":
        raise SyntaxUnsupported("/ has no meaning between numbers", span, "use //")
    if op not in ARITHMETIC and op not in COMPARISONS:
        raise SyntaxUnsupported(f"{op} has no meaning between numbers", span, "multiply" if op == "**" else None)
    dtype = _dtype(op, (lhs, lhs.type.dtype), (rhs, rhs.type.dtype), span)
    lhs, rhs = number_as(lhs, dtype), number_as(rhs, dtype)
    for side in (lhs, rhs):
        if isinstance(side, Const) and dtype == INDEX and wrapped(int(side.value)) != side.value:
            raise TypeMismatch(f"{side.value} does not fit INT64", side.span)
    if isinstance(lhs, Const) and isinstance(rhs, Const):
        return _folded(op, lhs, rhs, dtype, span)
    return Binary(op, lhs, rhs, BOOL_TYPE if op in COMPARISONS else ScalarType(dtype), span)


def negative(operand: Expr, span: Span) -> Expr:
    """``-operand`` of a number."""
    assert isinstance(operand.type, ScalarType)
    if operand.type.dtype.is_float:
        return binary("-", Const(0.0, ScalarType(FP32), span), operand, span)
    return binary("-", index(0, span), operand, span)


def negation(operand: Expr, span: Span) -> Expr:
    """``not operand``."""
    check_condition(operand)
    return Not(operand, BOOL_TYPE, span)


def check_condition(expr: Expr) -> None:
    """Raises TypeMismatch where ``expr`` is not true or false."""
    if expr.type != BOOL_TYPE:
        hint = "compare it: x != 0" if isinstance(expr.type, ScalarType) else None
        raise TypeMismatch(f"a condition is true or false, found {expr.type}", expr.span, hint)


def number_as(expr: Expr, dtype: DType) -> Expr:
    """A constant of ``dtype``; anything else as it is."""
    if not isinstance(expr, Const) or expr.type == ScalarType(dtype):
        return expr
    value: int | float | bool = float(expr.value) if dtype.is_float else int(expr.value)
    return Const(bool(value) if dtype == BOOL else value, ScalarType(dtype), expr.span)


def _dtype(op: str, lhs: tuple[Expr, DType], rhs: tuple[Expr, DType], span: Span) -> DType:
    """What ``op`` computes in."""
    a, b = lhs[1], rhs[1]
    if a.is_int and b.is_int:
        return INDEX
    if a == b == BOOL and op in ("==", "!="):
        return BOOL
    if op not in ("//", "%") and all(d.is_float or (d.is_int and isinstance(e, Const)) for e, d in (lhs, rhs)):
        return FP32
    raise TypeMismatch(f"{op} has no meaning between {a} and {b}", span)


def _folded(op: str, lhs: Const, rhs: Const, dtype: DType, span: Span) -> Const:
    try:
        value = PYTHON[op](lhs.value, rhs.value)
    except ZeroDivisionError:
        raise TypeMismatch("division by zero", span) from None
    if op in COMPARISONS:
        return Const(bool(value), BOOL_TYPE, span)
    assert isinstance(value, (int, float))
    return Const(wrapped(value) if dtype == INDEX and isinstance(value, int) else value, ScalarType(dtype), span)
