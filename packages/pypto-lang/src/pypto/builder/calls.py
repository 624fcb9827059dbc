"""Calls: operations of the language, functions of the program, helpers that are spliced in, and plain Python."""

from __future__ import annotations

import ast
import sysconfig
from collections.abc import Mapping, Sequence
from types import FunctionType
from typing import TYPE_CHECKING

from pypto.builder import arithmetic
from pypto.builder.state import RETURNED, Frame, State
from pypto.builder.values import Items, Missing, Static, Value, already_told
from pypto.errors import PyptoError, SignatureError, SyntaxUnsupported, TypeMismatch
from pypto.ir.calls import check_arguments, check_kinds, result_type
from pypto.ir.dtypes import INDEX, DType
from pypto.ir.nodes import (
    Call,
    Const,
    Eval,
    Expr,
    ExprTuple,
    FunctionKind,
    Invoke,
    ScalarType,
    Span,
    TensorType,
    TileType,
    Var,
)
from pypto.language.operations import MAX, MIN, RANGE, STATIC_ASSERT, STATIC_PRINT, SUM, Operation, OpFunction
from pypto.ops import registry
from pypto.ops.registry import Op, OpParam, Takes, did_you_mean
from pypto.source.files import definition_of
from pypto.source.namespace import Namespace

if TYPE_CHECKING:
    from pypto.builder.expressions import Expressions

# What a call of a Python function means instead, where there is something.
_INSTEAD: dict[object, str] = {
    sum: "use pl.row_sum or pl.col_sum",
    print: "programs run in other processes: inspect results in a SubWorker, or pl.static_print what is known now",
    float: "numbers of a program have the type they are declared with",
    int: "numbers of a program have the type they are declared with",
}
_REDUCTIONS = {
    "max": ("tile.row_max", "tile.col_max"),
    "min": ("tile.row_min", "tile.col_min"),
    "sum": ("tile.row_sum", "tile.col_sum"),
}


class Calls:
    """Builds the calls of one function."""

    def __init__(self, state: State, expressions: Expressions) -> None:
        self.state = state
        self.expressions = expressions

    def call(self, node: ast.Call) -> Value:
        """What a call gives."""
        for argument in node.args:
            if isinstance(argument, ast.Starred):
                raise self._unsupported(argument)
        if isinstance(node.func, ast.Attribute) and self.expressions.is_self(node.func.value):
            return self._of_program(node, node.func)
        callee = self.expressions.value(node.func)
        called = callee.value if isinstance(callee, Static) and callee.var is None else None
        if isinstance(called, OpFunction):
            return self._operation(node, called)
        if called is MIN or called is MAX or called is SUM or called in (min, max):
            return self._min_max(node, getattr(called, "__name__", ""))
        if called is STATIC_PRINT or called is STATIC_ASSERT:
            return self._static(node, called)
        if called is RANGE or called is range:
            raise SyntaxUnsupported("pl.range stands in a for statement only", self.state.span(node))
        if called in (abs, len) and len(node.args) == 1 and not node.keywords:
            value = self.expressions.value(node.args[0])
            if isinstance(value, Static) and value.is_number:
                return Static(abs(value.value))  # type: ignore[arg-type]
            if called is abs and not isinstance(value, (Static, Items, Missing)):
                return self.operation("tile.abs", (self.expressions.flat(value),), self.state.span(node))
            if isinstance(value, Items):
                return Static(len(value.values))
            if not isinstance(value, (Static, Missing)) and isinstance(value.type, (TensorType, TileType)):
                return self.expressions.size(self.expressions.flat(value), 0, self.state.span(node))
        return self._python(node, called)

    # --- plain Python ---------------------------------------------------------------------------------------------

    def _python(self, node: ast.Call, called: object) -> Value:
        """A Python function: called now where everything is known, else spliced in."""
        span = self.state.span(node)
        if callable(called) and not isinstance(called, Operation):
            keywords = {k.arg: k.value for k in node.keywords}
            values = [self.expressions.value(argument) for argument in node.args]
            named = {name: self.expressions.value(value) for name, value in keywords.items() if name is not None}
            if all(_plain(value) for value in (*values, *named.values())) and len(named) == len(keywords):
                return self._now(called, values, named, span)
            if isinstance(called, FunctionType) and not _is_installed(called):
                return self._spliced(called, values, named, node)
        name = ast.unparse(node.func)
        near = getattr(called, "__name__", "")
        instead = _INSTEAD.get(called) if callable(called) else None
        if instead is None and registry.spelled(near):
            instead = f"use pl.{near}"
        raise SyntaxUnsupported(
            f"{name} can't be called here: only operations (pl.…), the program's functions (self.…) and helpers can",
            self.state.span(node.func),
            instead or "compute it before the class, or do it in a SubWorker",
        )

    def _now(self, called: object, values: list[Value], named: dict[str, Value], span: Span) -> Value:
        assert callable(called)
        if called in (print, input, exec, eval, open):
            raise SyntaxUnsupported(
                f"{getattr(called, '__name__', called)} has no place here", span, _INSTEAD.get(called)
            )
        try:
            return Static(called(*map(_python_of, values), **{name: _python_of(v) for name, v in named.items()}))
        except PyptoError as error:
            raise type(error)(error.message, span, error.hint) from None
        except Exception as error:
            raise TypeMismatch(f"this can't be computed: {type(error).__name__}: {error}", span) from error

    def _spliced(self, function: FunctionType, values: list[Value], named: dict[str, Value], node: ast.Call) -> Value:
        """A helper's statements in the place of its call; gives what it returns."""
        from pypto.builder.statements import Statements

        state, span = self.state, self.state.span(node)
        source, definition = definition_of(function)
        if any(frame.source is source and frame.namespace.is_of(function) for frame in state.frames):
            raise SignatureError(f"{function.__name__} calls itself", span, "use a loop: for i in pl.range(...)")
        env = _bound(function, definition, values, named, span)
        env = {
            name: v if isinstance(v, (Static, Items, Missing)) else self.expressions.flat(v) for name, v in env.items()
        }
        frame = Frame(source, Namespace(function), None, env)
        state.frames.append(frame)
        try:
            Statements(state, self.expressions).function(definition)
        except PyptoError as error:
            error.calls = (*error.calls, span)
            raise
        finally:
            state.frames.pop()
        found = frame.env.get(RETURNED, Items(()))
        if isinstance(found, Missing):
            raise SignatureError(f"{function.__name__} returns on some paths only", span, "return at its end")
        return found

    def _static(self, node: ast.Call, called: object) -> Value:
        """``pl.static_print`` and ``pl.static_assert``."""
        span = self.state.span(node)
        values = [self.expressions.value(argument) for argument in node.args]
        if called is STATIC_PRINT:
            print(*(v.value if isinstance(v, Static) else _described(v) for v in values))
            return Items(())
        if not values or not isinstance(values[0], Static):
            raise SyntaxUnsupported("pl.static_assert takes what is known now", span, "assert in a SubWorker")
        if not values[0].value:
            text = values[1].value if len(values) > 1 and isinstance(values[1], Static) else "it does not hold"
            raise TypeMismatch(f"pl.static_assert: {text}", span)
        return Items(())

    def _min_max(self, node: ast.Call, name: str) -> Value:
        span = self.state.span(node)
        axis = next((k.value for k in node.keywords if k.arg == "axis"), None)
        values = [self.expressions.value(argument) for argument in node.args]
        first = values[0] if values else None
        if first is not None and not isinstance(first, (Static, Items, Missing)):
            tile = self.expressions.flat(first)
            if isinstance(tile.type, TileType) and (axis is not None or len(values) == 1):
                found = self.expressions.value(axis) if axis is not None else None
                number = found.value if isinstance(found, Static) else None
                if number not in (0, 1, -1):
                    raise TypeMismatch(f"pl.{name}: expected axis=1 (of each row) or axis=0", span)
                return self.operation(_REDUCTIONS[name][0 if number else 1], (tile,), span)
            values[0] = tile
        if node.keywords or len(values) < 2 or name == "sum":
            raise SignatureError(f"pl.{name} takes two numbers or more", span)
        result = values[0]
        at = self.state.span(node.args[0])
        for argument, value in zip(node.args[1:], values[1:], strict=True):
            result = self.expressions.operate(name, result, at, value, self.state.span(argument), span)
        return result

    # --- functions of the program ---------------------------------------------------------------------------------

    def _of_program(self, node: ast.Call, func: ast.Attribute) -> Value:
        state = self.state
        name, members = func.attr, state.frame.namespace.members
        if name not in state.functions and callable(members.get(name)):
            return self._python(node, members[name])
        if name not in state.functions:
            raise SignatureError(
                f"the program has no function {name!r}{did_you_mean(name, state.functions)}", state.span(func)
            )
        params = state.functions[name]
        keywords: dict[str | None, ast.expr] = {k.arg: k.value for k in node.keywords}
        device = keywords.pop("device") if "device" in keywords and "device" not in params else None
        bound = self._bind(f"self.{name}", node, keywords, params, required=len(params))
        args = tuple(self.expressions.operand(bound[param]) for param in params)
        place = None if device is None else self.expressions.operand(device)
        if name not in state.callees:
            already_told()
        return self._invoke(name, args, place, state.span(node))

    def _invoke(self, name: str, args: tuple[Expr, ...], device: Expr | None, span: Span) -> Value:
        state = self.state
        callee = state.callees[name]
        call = Invoke(name, args, device, arithmetic.INDEX_TYPE, span)
        check_kinds(state.name, state.kind, callee, call)
        bindings = check_arguments(callee, call)
        typed = tuple(
            arithmetic.number_as(argument, param.type.dtype) if isinstance(param.type, ScalarType) else argument
            for param, argument in zip(callee.params, args, strict=True)
        )
        call = Invoke(name, typed, device, result_type(callee, bindings), span)
        self._check_aliases(callee.name, callee.kind, [(p.name, p.direction.writes) for p in callee.params], typed)
        for param, arg in zip(callee.params, typed, strict=True):
            if param.direction.writes and isinstance(arg, Var):
                state.mark_written(arg)
        state.emit(Eval(call, span))
        results = tuple(arg for i in state.results[name] if isinstance(arg := typed[i], Var))
        return results[0] if len(results) == 1 else Items(results)

    def _check_aliases(
        self, callee: str, kind: FunctionKind, params: Sequence[tuple[str, bool]], args: Sequence[Expr]
    ) -> None:
        """Raises SignatureError where one tensor is passed twice and written."""
        seen: dict[str, tuple[str, bool]] = {}
        for (name, writes), arg in zip(params, args, strict=True):
            if not isinstance(arg, Var) or not isinstance(arg.type, TensorType):
                continue
            other, other_writes = seen.setdefault(arg.name, (name, writes))
            if other == name:
                continue
            # One kernel may update a tensor in place; elsewhere each argument may be a copy of its own.
            if (writes and other_writes) or ((writes or other_writes) and kind is not FunctionKind.INCORE):
                raise SignatureError(
                    f"{arg.name!r} is passed to {callee} as {other!r} and as {name!r}, and written",
                    arg.span,
                    "pass another tensor, or make it one parameter: pl.InOut[...]",
                )

    # --- operations -----------------------------------------------------------------------------------------------

    def operation(self, op: str, args: Sequence[Expr], span: Span, **attrs: object) -> Expr:
        """An operation on operands that are there already."""
        flat = tuple(self.expressions.flat(arg) for arg in args)
        return self._typed(registry.get(op), flat, tuple(sorted(attrs.items())), span)

    def whole_of(self, call: Call) -> Var | None:
        """The tensor that what a call gives is a part of."""
        position = registry.get(call.op).part_of
        whole = None if position is None else call.args[position]
        return whole if isinstance(whole, Var) else None

    def _operation(self, node: ast.Call, function: OpFunction) -> Value:
        params = function.ops[0].params
        name = f"pl.{function.__name__}"
        required = sum(not p.optional for p in params)
        keywords: dict[str | None, ast.expr] = {k.arg: k.value for k in node.keywords}
        bound = self._bind(name, node, keywords, [p.name for p in params], required)
        args: list[Expr] = []
        attrs: list[tuple[str, object]] = []
        for param in params:
            if param.name not in bound or (_is_none(bound[param.name]) and param.optional):
                args.append(args[-1])  # an omitted list equals the one before it
            elif param.takes.is_attribute:
                attrs.append((param.name, self._attribute_of(name, param, bound[param.name])))
            elif param.takes in (Takes.INDICES, Takes.SHAPE):
                args.append(self._indices(name, param, bound[param.name]))
            else:
                args.append(self.expressions.operand(bound[param.name]))
        span = self.state.span(node)
        op = _meant(function.ops, args)
        typed = self._typed(op, tuple(args), tuple(sorted(attrs, key=lambda item: item[0])), span)
        if op.writes is None:
            return typed
        written = typed.args[op.writes] if isinstance(typed, Call) else None
        assert isinstance(written, Var)
        self.state.mark_written(written)
        self.state.emit(Eval(typed, span))
        return written

    def _typed(self, op: Op, args: tuple[Expr, ...], attrs: tuple[tuple[str, object], ...], span: Span) -> Call:
        state = self.state
        if state.kind not in op.kinds:
            raise SignatureError(
                f"pl.{op.spelling} can't be used in {state.kind.value} {state.name}", span, _other_place(op, state.kind)
            )
        known = dict(attrs)
        number_dtype = known.get("dtype")
        operands = iter(args)
        for param in op.params:
            if param.takes.is_attribute:
                continue
            arg = next(operands)
            _check_operand(op, param.takes, param.name, arg)
            if number_dtype is None and isinstance(arg.type, TileType):
                number_dtype = arg.type.dtype
        type_ = op.infer(args, known)
        if isinstance(number_dtype, DType):
            args = tuple(arithmetic.number_as(arg, number_dtype) if isinstance(arg, Const) else arg for arg in args)
        return Call(op.name, args, attrs, type_, span)

    def _bind(
        self, what: str, node: ast.Call, keywords: Mapping[str | None, ast.expr], params: Sequence[str], required: int
    ) -> dict[str, ast.expr]:
        """Arguments by the name of their parameter. Raises SignatureError where they don't fit."""
        span = self.state.span(node)
        takes = f"{what} takes {_count(len(params), 'argument')} ({', '.join(params)})"
        if len(node.args) > len(params):
            raise SignatureError(f"{takes}, found {len(node.args)}", self.state.span(node.args[len(params)]))
        bound = dict(zip(params, node.args, strict=False))
        for keyword, value in keywords.items():
            if keyword is None:
                raise self._unsupported(value)
            if keyword in bound:
                raise SignatureError(f"{what}: argument {keyword!r} is given twice", self.state.span(value))
            if keyword not in params:
                near = did_you_mean(keyword, params)
                raise SignatureError(f"{what} has no parameter {keyword!r}{near}", self.state.span(value))
            bound[keyword] = value
        missing = [name for name in params[:required] if name not in bound]
        if missing:
            raise SignatureError(f"{takes}; missing: {', '.join(missing)}", span)
        return bound

    def _indices(self, what: str, param: OpParam, node: ast.expr) -> ExprTuple:
        span = self.state.span(node)
        value = self.expressions.value(node)
        places = node.elts if isinstance(node, (ast.List, ast.Tuple)) else None
        if isinstance(value, Items):
            found: list[Value] = list(value.values)
        elif isinstance(value, Static) and isinstance(value.value, (list, tuple)):
            found = [Static(item) for item in value.value]
        else:
            raise TypeMismatch(f"{what}: expected {param.takes.value} as {param.name}, such as [0, 0]", span)
        items: list[Expr] = []
        for position, item in enumerate(found):
            place = span if places is None or len(places) != len(found) else self.state.span(places[position])
            if param.takes is Takes.SHAPE:
                number = item.value if isinstance(item, Static) else None
                if type(number) is bool or not isinstance(number, int) or number <= 0:
                    self.expressions.lift(item, place)
                    raise TypeMismatch(
                        f"{what}: the shape of a tile is known when the program is written: expected a positive int",
                        place,
                        "give the part that holds data as valid_shapes" if param.name == "shapes" else None,
                    )
                items.append(arithmetic.index(number, place))
                continue
            lifted = self.expressions.flat(self.expressions.lift(item, place))
            if not isinstance(lifted.type, ScalarType) or not lifted.type.dtype.is_int:
                raise TypeMismatch(f"an item is an integer, found {lifted.type}", lifted.span)
            items.append(lifted)
        return self.expressions.tuple_of(items, span)

    def _attribute_of(self, what: str, param: OpParam, node: ast.expr) -> object:
        value = self.expressions.value(node)
        found = value.value if isinstance(value, Static) else None
        if param.takes is Takes.DTYPE and isinstance(found, DType) and found != INDEX:
            return found
        if param.takes is Takes.INT and isinstance(found, int) and not isinstance(found, bool):
            return found
        such = "such as pl.FP32" if param.takes is Takes.DTYPE else "such as 0"
        raise TypeMismatch(f"{what}: expected {param.takes.value} as {param.name}, {such}", self.state.span(node))

    def _unsupported(self, node: ast.AST) -> SyntaxUnsupported:
        from pypto.builder.expressions import unsupported

        return unsupported(node, self.state.frame.source)


def _meant(ops: Sequence[Op], args: Sequence[Expr]) -> Op:
    """Of ops that are spelled alike, the one whose operands are of the kinds found."""
    for op in ops:
        wanted = [param.takes for param in op.params if not param.takes.is_attribute]
        if all(_takes(takes, arg) for takes, arg in zip(wanted, args, strict=False)):
            return op
    for op in ops:
        if args and _takes(op.params[0].takes, args[0]):
            return op
    return ops[0]


def _takes(takes: Takes, arg: Expr) -> bool:
    wanted: tuple[type, ...] = {
        Takes.TENSOR: (TensorType,),
        Takes.TILE: (TileType,),
        Takes.TILE_OR_SCALAR: (TileType, ScalarType),
        Takes.SCALAR: (ScalarType,),
    }.get(takes, ())
    return takes in (Takes.INDICES, Takes.SHAPE) or isinstance(arg.type, wanted)


def _check_operand(op: Op, takes: Takes, name: str, arg: Expr) -> None:
    if _takes(takes, arg):
        return
    hint = None
    if isinstance(arg.type, TensorType) and takes in (Takes.TILE, Takes.TILE_OR_SCALAR):
        hint = "load it first: pl.load(tensor, [0, 0], [rows, columns])"
    if isinstance(arg.type, TileType) and takes is Takes.TENSOR:
        hint = "store it first: pl.store(tile, [0, 0], tensor)"
    raise TypeMismatch(f"pl.{op.spelling}: expected {takes.value} as {name}, found {arg.type}", arg.span, hint)


def _other_place(op: Op, kind: FunctionKind) -> str | None:
    if kind is FunctionKind.INCORE:
        return "use pl.load to read a part of a tensor" if op.name == "tensor.slice" else "do it in an orchestration"
    if FunctionKind.INCORE in op.kinds:
        return "do it in a kernel: @pl.function(type=pl.FunctionType.InCore)"
    return None


def _bound(
    function: FunctionType, definition: ast.FunctionDef, values: Sequence[Value], named: Mapping[str, Value], span: Span
) -> dict[str, Value]:
    """The arguments of a helper by its parameters' names, defaults too."""
    import inspect

    try:
        bound = inspect.signature(function).bind(*values, **named)
    except TypeError as error:
        raise SignatureError(f"{function.__name__}: {error}", span) from None
    env: dict[str, Value] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise SyntaxUnsupported(f"{function.__name__} takes *{name}: give each argument by itself", span)
        env[name] = bound.arguments[name] if name in bound.arguments else Static(parameter.default)
    return env


def _plain(value: Value) -> bool:
    if isinstance(value, Items):
        return all(map(_plain, value.values))
    return isinstance(value, Static)


def _python_of(value: Value) -> object:
    if isinstance(value, Items):
        return tuple(map(_python_of, value.values))
    assert isinstance(value, Static)
    return value.value


def _described(value: Value) -> str:
    if isinstance(value, Items):
        return f"({', '.join(map(_described, value.values))})"
    if isinstance(value, Static):
        return repr(value.value)
    return "?" if isinstance(value, Missing) else str(value.type)


def _is_installed(function: FunctionType) -> bool:
    """True for functions of Python and of installed packages: nobody writes kernels in those."""
    file = function.__code__.co_filename
    return "site-packages" in file or file.startswith((sysconfig.get_path("stdlib"), "<frozen"))


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
