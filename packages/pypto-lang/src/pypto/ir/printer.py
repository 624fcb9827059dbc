"""Prints IR as the Python it could have been written as: parsed again, it gives the same IR."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from pypto.ir import sugar, walk
from pypto.ir.nodes import (
    ANY_DIM,
    Assign,
    Binary,
    Call,
    Const,
    Dim,
    DimExpr,
    DimVar,
    Direction,
    Eval,
    Expr,
    ExprTuple,
    For,
    Function,
    FunctionKind,
    Invoke,
    NoneType,
    Param,
    Program,
    Return,
    ScalarType,
    Stmt,
    TensorType,
    TileType,
    TupleType,
    Type,
    UnknownType,
    Unpack,
    Var,
)
from pypto.ops import registry

_DECORATORS = {
    FunctionKind.INCORE: "type=pl.FunctionType.InCore",
    FunctionKind.CHIP_ORCHESTRATION: "type=pl.FunctionType.Orchestration",
    FunctionKind.HOST_ORCHESTRATION: "level=pl.Level.HOST, role=pl.Role.Orchestrator",
    FunctionKind.SUB_WORKER: "level=pl.Level.HOST, role=pl.Role.Worker",
}

_INDENT = "    "


def print_program(program: Program) -> str:
    """The whole program as a Python module."""
    names = _dimension_names(program)
    lines = ["import pypto.language as pl"]
    if names:
        lines += ["", *(f'{name} = pl.dynamic("{dim}")' for dim, name in names.items())]
    lines += ["", "", "@pl.program", f"class {program.name}:"]
    printer = Printer(names)
    body: list[str] = _docstring(program.doc)
    for function in program.functions:
        body += ["", *printer.function(function)]
    lines += [_INDENT + line if line else "" for line in (body if program.doc else body[1:])]
    return "\n".join(lines) + "\n"


def print_function(function: Function) -> str:
    """One function, without the class around it."""
    return "\n".join(Printer().function(function)) + "\n"


def print_expr(expr: Expr) -> str:
    """One expression."""
    return Printer().expr(expr)


def print_type(type_: Type) -> str:
    """A type as it is written in a signature."""
    return Printer().type(type_)


class Printer:
    """Prints parts of a program.

    Args:
        dims: what dynamic dimensions are called in the text; their own names by default.
    """

    def __init__(self, dims: Mapping[str, str] | None = None) -> None:
        self._dims = dims or {}

    def function(self, function: Function) -> list[str]:
        """The lines of a function with its decorator."""
        params = "".join(f", {self._param(param)}" for param in function.params)
        head = f"def {function.name}(self{params}){self._results(function)}:"
        lines = [f"@pl.function({_DECORATORS[function.kind]})", head]
        if function.sub_worker is not None:
            return lines + function.sub_worker.source.rstrip("\n").split("\n")[1:]
        body = [line for stmt in function.body for line in self.stmt(stmt)]
        return lines + [_INDENT + line for line in _docstring(function.doc) + (body or ["pass"])]

    def stmt(self, stmt: Stmt) -> list[str]:
        """The lines of a statement."""
        match stmt:
            case Assign(target=target, value=value):
                return [f"{target.name} = {self.expr(value)}"]
            case Unpack(targets=targets, value=value):
                return [f"{', '.join(target.name for target in targets)} = {self.expr(value)}"]
            case Eval(value=value):
                return [self.expr(value)]
            case For(var=var, start=start, stop=stop, step=step, body=body):
                bounds = ", ".join(self.expr(bound) for bound in (start, stop, step))
                inner = [line for child in body for line in self.stmt(child)] or ["pass"]
                return [f"for {var.name} in pl.range({bounds}):", *(_INDENT + line for line in inner)]
            case Return(values=values):
                return [f"return {', '.join(self.expr(value) for value in values)}".rstrip()]
        raise AssertionError(f"no statement: {stmt!r}")

    def expr(self, expr: Expr) -> str:
        """An expression."""
        match expr:
            case Var(name=name):
                return name
            case DimExpr(name=name):
                return self._dims.get(name, name)
            case Const(value=value):
                return _number(value)
            case Binary(op="min" | "max" as op, lhs=lhs, rhs=rhs):
                return f"pl.{op}({self.expr(lhs)}, {self.expr(rhs)})"
            case Binary(op=op, lhs=lhs, rhs=rhs):
                return f"{self._operand(lhs)} {op} {self._operand(rhs)}"
            case ExprTuple(items=items):
                return f"[{', '.join(self.expr(item) for item in items)}]"
            case Call():
                return self._call(expr)
            case Invoke(function=function, args=args, device=device):
                arguments = [self.expr(arg) for arg in args]
                if device is not None:
                    arguments.append(f"device={self.expr(device)}")
                return f"self.{function}({', '.join(arguments)})"
        raise AssertionError(f"no expression: {expr!r}")

    def type(self, type_: Type) -> str:
        """A type."""
        match type_:
            case TensorType(shape=shape, dtype=dtype):
                return f"pl.Tensor[[{', '.join(self._dim(dim) for dim in shape)}], {dtype!r}]"
            case TileType(shape=shape, dtype=dtype):
                return f"pl.Tile[[{shape[0]}, {shape[1]}], {dtype!r}]"
            case ScalarType(dtype=dtype):
                return f"pl.Scalar[{dtype!r}]"
            case TupleType(items=items):
                return f"tuple[{', '.join(self.type(item) for item in items)}]"
            case NoneType():
                return "None"
            case UnknownType():
                return "unknown"
        raise AssertionError(f"no type: {type_!r}")

    def _operand(self, expr: Expr) -> str:
        text = self.expr(expr)
        return f"({text})" if isinstance(expr, Binary) and expr.op not in ("min", "max") else text

    def _call(self, call: Call) -> str:
        if call.op == sugar.NEGATE:
            return f"-({self.expr(call.args[0])})"
        if call.op == sugar.ROWS:
            x, begin, end = call.args
            bounds = ["" if isinstance(e, ExprTuple) and not e.items else self.expr(e) for e in (begin, end)]
            return f"{self.expr(x)}[{':'.join(bounds)}]"
        op = registry.get(call.op) if "." in call.op else registry.spelled(call.op)[0]
        args, attrs, texts = list(call.args), dict(call.attrs), list[str]()
        previous: Expr | None = None
        for param in op.params:
            if param.name in attrs:
                keyword = "" if isinstance(attrs[param.name], int) else f"{param.name}="
                texts.append(f"{keyword}{attrs[param.name]!r}")
                continue
            arg = args.pop(0)
            if not (param.optional and arg == previous):
                texts.append(self.expr(arg))
            previous = arg
        return f"pl.{op.spelling}({', '.join(texts)})"

    def _param(self, param: Param) -> str:
        if isinstance(param.type, UnknownType):
            return param.name
        text = self.type(param.type)
        if param.direction is not Direction.IN:
            text = f"pl.{param.direction.value}[{text}]"
        return f"{param.name}: {text}"

    def _results(self, function: Function) -> str:
        results = function.results or ()
        if any(isinstance(r, TensorType) and ANY_DIM in r.shape for r in results) or not results:
            return ""
        if len(results) == 1:
            return f" -> {self.type(results[0])}"
        return f" -> {self.type(TupleType(results))}"

    def _dim(self, dim: Dim) -> str:
        return self._dims.get(dim.name, dim.name) if isinstance(dim, DimVar) else str(dim)


def _number(value: int | float | bool) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        # Written as literals: a name such as `inf` would have to be imported.
        return "(1e999 - 1e999)" if math.isnan(value) else "1e999" if value > 0 else "-1e999"
    return repr(value)


def _docstring(doc: str) -> list[str]:
    if not doc:
        return []
    text = doc.replace("\\", "\\\\").replace('"""', '\\"\\"\\"')
    return f'"""{text}"""'.split("\n") if not text.endswith('"') else f'"""{text} """'.split("\n")


def _dimension_names(program: Program) -> dict[str, str]:
    """For every dynamic dimension a name that no variable of the program has."""
    taken = {"pl", "self"}
    dims: list[str] = []
    for function in program.functions:
        taken |= {param.name for param in function.params} | walk.names(function.body) | {function.name}
        dims += _dims_of(param.type for param in function.params)
        dims += _dims_of(function.results or ())
    return {dim: walk.fresh(dim, taken) if dim in taken else dim for dim in dict.fromkeys(dims)}


def _dims_of(types: Iterable[Type]) -> list[str]:
    shapes = [type_.shape for type_ in types if isinstance(type_, TensorType)]
    return [dim.name for shape in shapes for dim in shape if isinstance(dim, DimVar) and dim != ANY_DIM]
