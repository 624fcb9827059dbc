"""Every expression gets its type, and sugar becomes operations. What is wrong with a program is found here."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace

from pypto.errors import SignatureError, SyntaxUnsupported, TypeMismatch, UnboundVariable
from pypto.ir import sugar, walk
from pypto.ir.calls import assignable, check_arguments, check_kinds, is_integer, result_type, same_type
from pypto.ir.dtypes import BOOL, FP32, INDEX, DType
from pypto.ir.nodes import (
    UNKNOWN,
    Assign,
    Binary,
    Call,
    Const,
    DimExpr,
    DimVar,
    Eval,
    Expr,
    ExprTuple,
    For,
    Function,
    FunctionKind,
    Invoke,
    NoneType,
    Program,
    Return,
    ScalarType,
    Span,
    Stmt,
    TensorType,
    TileType,
    TupleType,
    Type,
    Unpack,
    Var,
)
from pypto.ops import registry
from pypto.ops.registry import Op, Takes
from pypto.passes.order import callees_first, with_functions

_TILE_OPERATORS = {"+": "tile.add", "-": "tile.sub", "*": "tile.mul", "/": "tile.div"}
_FOLD: dict[str, Callable[..., int | float]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    "min": min,
    "max": max,
}
_ZERO = Const(0, ScalarType(INDEX))


def infer_types(program: Program) -> Program:
    """Types every expression, replaces sugar, and gives functions without a result annotation their results.

    A variable that is assigned again in the same block with another type becomes another variable.

    Raises the language's errors at the place that is wrong.
    """
    done: dict[str, Function] = {}
    for function in callees_first(program):
        done[function.name] = function if function.sub_worker else _Inference(function, done).run()
    return with_functions(program, done)


class _Inference:
    """Types one function, whose callees are typed already."""

    def __init__(self, function: Function, callees: dict[str, Function]) -> None:
        self._function = function
        self._callees = callees
        self._blocks: list[dict[str, Var]] = [{p.name: Var(p.name, p.type, p.span) for p in function.params}]
        self._taken = walk.names(function.body) | {param.name for param in function.params}
        shapes = [param.type.shape for param in function.params if isinstance(param.type, TensorType)]
        self._dims = {dim.name for shape in shapes for dim in shape if isinstance(dim, DimVar)}

    def run(self) -> Function:
        body = tuple(self._stmt(stmt) for stmt in self._function.body)
        returned = body[-1] if body and isinstance(body[-1], Return) else None
        found = _results(returned)
        declared = self._function.results
        if declared is not None:
            self._check_results(declared, found, returned)
        return replace(self._function, body=body, results=found if declared is None else declared)

    def _check_results(self, declared: tuple[Type, ...], found: tuple[Type, ...], returned: Return | None) -> None:
        name = self._function.name
        span = returned.span if returned else self._function.span
        if len(declared) != len(found):
            raise SignatureError(f"{name} declares {_count(declared)} and returns {_count(found)}", span)
        for want, have in zip(declared, found, strict=True):
            if not same_type(want, have):
                raise TypeMismatch(f"{name} declares the result {want} and returns {have}", span)

    # --- statements ----------------------------------------------------------------------------------------------

    def _stmt(self, stmt: Stmt) -> Stmt:
        match stmt:
            case Assign(target=target, value=value):
                typed = self._expr(value)
                if isinstance(typed.type, (NoneType, TupleType)):
                    raise self._no_single_value(typed)
                return Assign(self._define(target, typed.type), typed, stmt.span)
            case Unpack(targets=targets, value=value):
                typed = self._expr(value)
                results = typed.type.items if isinstance(typed.type, TupleType) else ()
                if len(results) != len(targets):
                    raise SignatureError(
                        f"{_count((typed.type,) if isinstance(typed.type, TensorType) else results)} "
                        f"for {len(targets)} variables",
                        typed.span,
                    )
                defined = [self._define(t, type_) for t, type_ in zip(targets, results, strict=True)]
                return Unpack(tuple(defined), typed, stmt.span)
            case Eval(value=value):
                return Eval(self._expr(value), stmt.span)
            case For():
                return self._for(stmt)
            case Return(values=values):
                return Return(tuple(self._returned(value) for value in values), stmt.span)
        raise AssertionError(f"no statement: {stmt!r}")

    def _for(self, loop: For) -> For:
        start, stop, step = (self._expr(bound) for bound in (loop.start, loop.stop, loop.step))
        for bound in (start, stop, step):
            self._check_index("a bound of pl.range", bound)
        if isinstance(step, Const) and step.value == 0:
            raise TypeMismatch("pl.range: the step is 0", step.span)
        # In its second turn the loop sees what its first assigned: nothing is known of those tiles' valid regions.
        for name in {target.name for stmt in walk.statements(loop.body) for target in walk.targets(stmt)}:
            block = self._block_of(name)
            if block is not None and isinstance(type_ := block[name].type, TileType):
                block[name] = replace(block[name], type=replace(type_, valid=(None, None)))
        self._blocks.append({loop.var.name: loop.var})
        body = tuple(self._stmt(stmt) for stmt in loop.body)
        self._blocks.pop()
        return For(loop.var, start, stop, step, body, loop.span)

    def _returned(self, value: Expr) -> Expr:
        typed = self._expr(value)
        if isinstance(typed.type, NoneType):
            raise self._no_single_value(typed)
        if isinstance(typed.type, (TileType, ScalarType)):
            hint = "store it with pl.store, and return that tensor" if isinstance(typed.type, TileType) else None
            raise SignatureError(
                f"{self._function.name} returns a {typed.type}: functions return tensors", typed.span, hint
            )
        return typed

    def _no_single_value(self, value: Expr) -> SignatureError:
        name = value.function if isinstance(value, Invoke) else "this"
        if isinstance(value.type, TupleType):
            return SignatureError(f"{name} gives {_count(value.type.items)}", value.span, "unpack them: x, y = ...")
        return SignatureError(f"{name} gives no result", value.span, "call it in a statement of its own")

    def _define(self, target: Var, type_: Type) -> Var:
        """The variable that ``target`` becomes by getting a value of ``type_``."""
        if target.type != UNKNOWN and not assignable(target.type, type_):
            raise TypeMismatch(f"{target.name!r} is declared {target.type}, and its value is {type_}", target.span)
        block = self._block_of(target.name)
        if block is None:
            new = Var(target.name, type_, target.span)
            self._blocks[-1][target.name] = new
            return new
        old = block[target.name]
        if block is self._blocks[-1]:
            # Tensors are names, not storage: bound again, the name is another variable.
            keep = old.type == type_ and not isinstance(type_, TensorType)
            new = Var(old.name if keep else walk.fresh(target.name, self._taken), type_, target.span)
        elif assignable(old.type, type_):
            new = Var(old.name, old.type, target.span)
        else:
            raise TypeMismatch(
                f"{target.name!r} is {old.type} before the loop, and gets {type_} in it",
                target.span,
                "give it another name inside the loop",
            )
        block[target.name] = new
        return new

    def _block_of(self, name: str) -> dict[str, Var] | None:
        return next((block for block in reversed(self._blocks) if name in block), None)

    # --- expressions ---------------------------------------------------------------------------------------------

    def _expr(self, expr: Expr) -> Expr:
        match expr:
            case Var(name=name, span=span):
                block = self._block_of(name)
                if block is None:
                    raise UnboundVariable(f"variable {name!r} is not defined", span)
                return replace(block[name], span=span)
            case Const():
                return expr
            case DimExpr(name=name, span=span):
                if name not in self._dims:
                    raise UnboundVariable(
                        f"dimension {name} is in the shape of no parameter of {self._function.name}", span
                    )
                return expr
        typed = walk.with_operands(expr, tuple(self._expr(operand) for operand in walk.operands(expr)))
        match typed:
            case Binary():
                return self._binary(typed)
            case ExprTuple(items=items):
                for item in items:
                    self._check_index("an item", item)
                return replace(typed, type=TupleType(tuple(item.type for item in items)))
            case Call(op=sugar.NEGATE):
                return self._negate(typed)
            case Call(op=sugar.ROWS):
                return self._rows(typed)
            case Call():
                return self._call(typed)
            case Invoke():
                return self._invoke(typed)
        raise AssertionError(f"no expression: {expr!r}")

    def _invoke(self, call: Invoke) -> Invoke:
        callee = self._callees[call.function]
        check_kinds(self._function, callee, call)
        bindings = check_arguments(callee, call)
        args = tuple(
            _number_as(argument, param.type.dtype) if isinstance(param.type, ScalarType) else argument
            for param, argument in zip(callee.params, call.args, strict=True)
        )
        return replace(call, args=args, type=result_type(callee, bindings))

    def _call(self, call: Call) -> Call:
        op = self._op(call)
        if self._function.kind not in op.kinds:
            raise SignatureError(
                f"pl.{op.spelling} can't be used in {self._function.kind.value} {self._function.name}",
                call.span,
                _other_place(op, self._function.kind),
            )
        attrs = dict(call.attrs)
        number_dtype = attrs.get("dtype")
        args: list[Expr] = []
        operands = iter(call.args)
        for param in op.params:
            if param.takes.is_attribute:
                continue
            arg = next(operands)
            self._check_operand(op, param.takes, param.name, arg)
            if number_dtype is None and isinstance(arg.type, TileType):
                number_dtype = arg.type.dtype
            args.append(arg)
        type_ = op.infer(tuple(args), attrs)
        if isinstance(number_dtype, DType):
            args = [_number_as(arg, number_dtype) for arg in args]
        return Call(op.name, tuple(args), call.attrs, type_, call.span)

    def _op(self, call: Call) -> Op:
        """The op that is meant: of those that are spelled alike, the one whose first operand is of the kind found."""
        if "." in call.op:
            return registry.get(call.op)
        candidates = registry.spelled(call.op)
        for op in candidates:
            if call.args and _takes(op.params[0].takes, call.args[0].type):
                return op
        return candidates[0]

    def _check_operand(self, op: Op, takes: Takes, name: str, arg: Expr) -> None:
        if takes in (Takes.INDICES, Takes.SHAPE) or _takes(takes, arg.type):
            return
        found = "nothing" if isinstance(arg.type, NoneType) else str(arg.type)
        hint = None
        if isinstance(arg.type, TensorType) and takes in (Takes.TILE, Takes.TILE_OR_SCALAR):
            hint = "load it first: pl.load(tensor, [0, 0], [rows, columns])"
        if isinstance(arg.type, TileType) and takes is Takes.TENSOR:
            hint = "store it first: pl.store(tile, [0, 0], tensor)"
        raise TypeMismatch(f"pl.{op.spelling}: expected {takes.value} as {name}, found {found}", arg.span, hint)

    def _binary(self, expr: Binary) -> Expr:
        lhs, rhs = expr.lhs, expr.rhs
        for side in (lhs, rhs):
            if isinstance(side.type, TensorType):
                raise TypeMismatch(
                    f"operators work on tiles and numbers, this is {side.type}",
                    side.span,
                    "load it in a kernel first: pl.load(tensor, [0, 0], [rows, columns])",
                )
            if not isinstance(side.type, (TileType, ScalarType)):
                raise TypeMismatch(f"operators work on tiles and numbers, this is {side.type}", side.span)
        if isinstance(lhs.type, TileType) or isinstance(rhs.type, TileType):
            return self._tile_operator(expr)
        assert isinstance(lhs.type, ScalarType)
        assert isinstance(rhs.type, ScalarType)
        if expr.op == "/":
            raise SyntaxUnsupported("/ has no meaning between numbers", expr.span, "use //")
        dtype = _arithmetic_dtype(expr, lhs.type.dtype, rhs.type.dtype)
        if isinstance(lhs, Const) and isinstance(rhs, Const):
            try:
                return Const(_FOLD[expr.op](lhs.value, rhs.value), ScalarType(dtype), expr.span)
            except ZeroDivisionError:
                raise TypeMismatch("division by zero", expr.span) from None
        return replace(expr, type=ScalarType(dtype))

    def _tile_operator(self, expr: Binary) -> Call:
        lhs, rhs = expr.lhs, expr.rhs
        if expr.op not in _TILE_OPERATORS:
            word = {"min": "pl.minimum", "max": "pl.maximum"}.get(expr.op)
            raise SyntaxUnsupported(f"{expr.op} has no meaning for tiles", expr.span, f"use {word}" if word else None)
        if not isinstance(lhs.type, TileType):
            if expr.op == "/":
                raise SyntaxUnsupported(
                    "a number can't be divided by a tile", expr.span, "write pl.mul(pl.recip(tile), number)"
                )
            if expr.op == "-":  # number - tile is -tile + number
                rhs = self._call(Call("tile.neg", (rhs,), (), UNKNOWN, expr.span))
                return self._call(Call("tile.add", (rhs, lhs), (), UNKNOWN, expr.span))
            lhs, rhs = rhs, lhs
        return self._call(Call(_TILE_OPERATORS[expr.op], (lhs, rhs), (), UNKNOWN, expr.span))

    def _negate(self, call: Call) -> Expr:
        operand = call.args[0]
        if isinstance(operand.type, ScalarType):
            zero = Const(0.0, ScalarType(FP32)) if operand.type.dtype.is_float else _ZERO
            return self._binary(Binary("-", replace(zero, span=call.span), operand, UNKNOWN, call.span))
        return self._call(Call("tile.neg", (operand,), (), UNKNOWN, call.span))

    def _rows(self, call: Call) -> Expr:
        """``x[begin:end]`` as a slice of the first dimension."""
        tensor, begin, end = call.args
        if not isinstance(tensor.type, TensorType):
            raise TypeMismatch(f"only tensors can be sliced, this is {tensor.type}", tensor.span)
        span = call.span
        sizes = [self._size(tensor, axis, span) for axis in range(len(tensor.type.shape))]
        begin = replace(_ZERO, span=span) if isinstance(begin, ExprTuple) else begin
        end = sizes[0] if isinstance(end, ExprTuple) else end
        for bound in (begin, end):
            self._check_index("a bound of a slice", bound)
        rows = self._distance(begin, end)
        zeros = [replace(_ZERO, span=span) for _ in sizes[1:]]
        shape = self._expr_tuple([rows, *sizes[1:]], end.span)
        offset = self._expr_tuple([begin, *zeros], begin.span)
        return self._call(Call("tensor.slice", (tensor, shape, offset), (), UNKNOWN, span))

    def _distance(self, begin: Expr, end: Expr) -> Expr:
        """``end - begin``, as simple as it can be told."""
        if begin == _ZERO:
            return end
        if isinstance(end, Binary) and end.op == "+" and end.lhs == begin:
            return end.rhs
        return self._binary(Binary("-", end, begin, UNKNOWN, end.span))

    def _size(self, tensor: Expr, axis: int, span: Span) -> Expr:
        assert isinstance(tensor.type, TensorType)
        dim = tensor.type.shape[axis]
        if isinstance(dim, int):
            return Const(dim, ScalarType(INDEX), span)
        return Call("tensor.dim", (tensor,), (("axis", axis),), ScalarType(INDEX), span)

    def _expr_tuple(self, items: list[Expr], span: Span) -> ExprTuple:
        return ExprTuple(tuple(items), TupleType(tuple(item.type for item in items)), span)

    def _check_index(self, what: str, expr: Expr) -> None:
        if not is_integer(expr.type):
            raise TypeMismatch(f"{what} is an integer, found {expr.type}", expr.span)


def _results(returned: Return | None) -> tuple[Type, ...]:
    types: list[Type] = []
    for value in returned.values if returned else ():
        types += value.type.items if isinstance(value.type, TupleType) else (value.type,)
    return tuple(types)


def _count(results: tuple[Type, ...]) -> str:
    return {0: "no result", 1: "one result"}.get(len(results), f"{len(results)} results")


def _takes(takes: Takes, type_: Type) -> bool:
    wanted: tuple[type, ...] = {
        Takes.TENSOR: (TensorType,),
        Takes.TILE: (TileType,),
        Takes.TILE_OR_SCALAR: (TileType, ScalarType),
        Takes.SCALAR: (ScalarType,),
    }.get(takes, ())
    return isinstance(type_, wanted)


def _number_as(expr: Expr, dtype: DType) -> Expr:
    """A constant of ``dtype``; anything else as it is."""
    if not isinstance(expr, Const) or expr.type == ScalarType(dtype):
        return expr
    value: int | float | bool = float(expr.value) if dtype.is_float else int(expr.value)
    return Const(bool(value) if dtype == BOOL else value, ScalarType(dtype), expr.span)


def _arithmetic_dtype(expr: Binary, lhs: DType, rhs: DType) -> DType:
    """The dtype of arithmetic between two numbers: INDEX between integers, FP32 between floats."""
    if lhs.is_int and rhs.is_int:
        return INDEX
    both = [(expr.lhs, lhs), (expr.rhs, rhs)]
    if expr.op not in ("//", "%") and all(d.is_float or (d.is_int and isinstance(e, Const)) for e, d in both):
        return FP32
    raise TypeMismatch(f"{expr.op} has no meaning between {lhs} and {rhs}", expr.span)


def _other_place(op: Op, kind: FunctionKind) -> str | None:
    if kind is FunctionKind.INCORE:
        return "use pl.load to read a part of a tensor" if op.name == "tensor.slice" else "do it in an orchestration"
    if FunctionKind.INCORE in op.kinds:
        return "do it in a kernel: @pl.function(type=pl.FunctionType.InCore)"
    return None
