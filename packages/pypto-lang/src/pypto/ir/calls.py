"""Which function may call which, and whether the arguments fit."""

from __future__ import annotations

from pypto.errors import SignatureError, TypeMismatch
from pypto.ir.dtypes import BOOL, INDEX, INT64
from pypto.ir.nodes import (
    ANY_DIM,
    Const,
    Dim,
    DimVar,
    Expr,
    Function,
    FunctionKind,
    Invoke,
    NoneType,
    ScalarType,
    TensorType,
    TupleType,
    Type,
)
from pypto.ir.printer import print_expr

_CALLS = {
    FunctionKind.INCORE: (),
    FunctionKind.CHIP_ORCHESTRATION: (FunctionKind.INCORE,),
    FunctionKind.HOST_ORCHESTRATION: (FunctionKind.CHIP_ORCHESTRATION, FunctionKind.SUB_WORKER),
    FunctionKind.SUB_WORKER: (),
}
_HINTS = {
    (FunctionKind.INCORE, FunctionKind.INCORE): "call both kernels from a chip orchestration",
    (FunctionKind.HOST_ORCHESTRATION, FunctionKind.INCORE): "call a chip orchestration that calls the kernel",
    (FunctionKind.CHIP_ORCHESTRATION, FunctionKind.SUB_WORKER): "call the SubWorker from the host orchestrator",
}

Bindings = dict[str, Dim]


def check_kinds(caller: str, kind: FunctionKind, callee: Function, call: Invoke) -> None:
    """Raises SignatureError where ``caller``, of ``kind``, may not call ``callee``, or may not choose its device."""
    if callee.kind not in _CALLS[kind]:
        raise SignatureError(
            f"{kind.value} {caller} can't call {callee.kind.value} {callee.name}",
            call.span,
            _HINTS.get((kind, callee.kind)),
        )
    if call.device is not None and callee.kind is not FunctionKind.CHIP_ORCHESTRATION:
        raise SignatureError(
            f"device= can't be given to {callee.kind.value} {callee.name}",
            call.device.span,
            "it chooses the chip of a chip orchestration that a host orchestrator calls",
        )
    if call.device is not None and not is_integer(call.device.type):
        raise TypeMismatch(
            f"device= takes an index into device_ids, found {call.device.type}", call.device.span, "write device=0"
        )


def check_arguments(callee: Function, call: Invoke) -> Bindings:
    """What the callee's dynamic dimensions are in this call.

    Raises SignatureError for a wrong number of arguments, TypeMismatch at the first that doesn't fit.
    """
    if len(call.args) != len(callee.params):
        raise SignatureError(f"{callee.name} takes {len(callee.params)} arguments, found {len(call.args)}", call.span)
    bindings: Bindings = {}
    for param, argument in zip(callee.params, call.args, strict=True):
        problem = _misfit(param.type, argument, bindings)
        if problem is not None:
            raise TypeMismatch(
                f"argument {describe(argument)} is {argument.type}, but parameter {param.name!r} of {callee.name} "
                f"is {param.type}" + (f": {problem}" if problem else ""),
                argument.span,
                f"{callee.name} is declared at {param.span.where}",
            )
    return bindings


def result_type(callee: Function, bindings: Bindings) -> Type:
    """The type of a call, with the callee's dynamic dimensions replaced."""
    results = [replace_dims(result, bindings) for result in callee.results or ()]
    if not results:
        return NoneType()
    return results[0] if len(results) == 1 else TupleType(tuple(results))


def replace_dims(type_: Type, bindings: Bindings) -> Type:
    """``type_`` as the caller sees it: a dimension the call doesn't tell is any."""
    if not isinstance(type_, TensorType):
        return type_
    dims = tuple(bindings.get(dim.name, ANY_DIM) if isinstance(dim, DimVar) else dim for dim in type_.shape)
    return TensorType(dims, type_.dtype)


def same_dim(one: Dim, other: Dim) -> bool:
    """False where two dimensions differ, or aren't known to be equal."""
    return one == other or ANY_DIM in (one, other)


def same_type(one: Type, other: Type) -> bool:
    """Equal types, where a computed dimension equals any."""
    if isinstance(one, TensorType) and isinstance(other, TensorType):
        return (
            one.dtype == other.dtype
            and len(one.shape) == len(other.shape)
            and all(same_dim(a, b) for a, b in zip(one.shape, other.shape, strict=True))
        )
    return one == other


def assignable(variable: Type, value: Type) -> bool:
    """True where a variable that exists may get a value: of its type, or both are 64-bit signed integers."""
    wide = (ScalarType(INDEX), ScalarType(INT64))
    return same_type(variable, value) or (variable in wide and value in wide)


def is_integer(type_: Type) -> bool:
    """True for a scalar of an integer dtype."""
    return isinstance(type_, ScalarType) and type_.dtype.is_int


def scalar_fits(expected: ScalarType, argument: Expr) -> bool:
    """True where a number may be given for one of type ``expected`` without losing what it says."""
    if not isinstance(argument.type, ScalarType):
        return False
    want, have = expected.dtype, argument.type.dtype
    if want.is_float:
        return have.is_float or (isinstance(argument, Const) and have != BOOL)
    return want == have or (want.is_int and have.is_int)


def describe(expr: Expr) -> str:
    """How an error message names an argument."""
    text = print_expr(expr)
    return f"`{text}`" if len(text) <= 40 else "here"


def _misfit(expected: Type, argument: Expr, bindings: Bindings) -> str | None:
    """What is wrong with ``argument``: an explanation, "" where the types say it, None where it fits."""
    found = argument.type
    if isinstance(expected, ScalarType):
        return None if scalar_fits(expected, argument) else ""
    if not isinstance(expected, TensorType) or not isinstance(found, TensorType):
        return ""
    if expected.dtype != found.dtype:
        return "the dtypes differ"
    if len(expected.shape) != len(found.shape):
        return "the numbers of dimensions differ"
    for axis, (want, have) in enumerate(zip(expected.shape, found.shape, strict=True)):
        if isinstance(want, int):
            if not same_dim(want, have):
                return f"dimension {axis} differs"
            continue
        known = bindings.get(want.name, ANY_DIM)
        if not same_dim(known, have):
            return f"dimension {axis}, {want.name}, is {known} in an argument before, and {have} in this one"
        bindings[want.name] = have if known == ANY_DIM else known
    return None
