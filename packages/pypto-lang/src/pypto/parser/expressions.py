"""Expressions of orchestrations and kernels: syntax tree to IR. Types come later, in the pass ``infer_types``."""

from __future__ import annotations

import ast
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pypto.errors import SignatureError, SyntaxUnsupported, TypeMismatch, UnboundVariable
from pypto.ir import sugar
from pypto.ir.dtypes import BOOL, FP32, INDEX, DType
from pypto.ir.nodes import (
    UNKNOWN,
    Binary,
    Call,
    Const,
    DimExpr,
    DimVar,
    Expr,
    ExprTuple,
    Invoke,
    ScalarType,
    Span,
    Var,
)
from pypto.language.operations import MAX, MIN, RANGE, Operation, OpFunction
from pypto.ops.registry import OpParam, Takes, did_you_mean
from pypto.parser.namespace import MISSING, Namespace
from pypto.parser.scope import Scope
from pypto.parser.source import Source
from pypto.parser.static import BINARY, attribute

_EXPR = (Var, Const, DimExpr, Binary, ExprTuple, Call, Invoke)

# What a call of a Python function means instead, where there is something.
_INSTEAD = {
    range: "use pl.range in a for statement",
    min: "use pl.min",
    max: "use pl.max",
    abs: "use pl.abs",
    len: "use pl.dim(tensor, 0)",
    print: "programs run in other processes: inspect results in a SubWorker",
}


@dataclass(frozen=True, slots=True)
class Static:
    """A Python value that is known while the program is parsed."""

    value: object


class Expressions:
    """Parses the expressions of one function.

    Args:
        source: where the function stands.
        namespace: what names mean that are no variables of the function.
        scope: the function's variables.
        self_name: what the function calls its first parameter.
        functions: the program's functions, each with the names of its parameters.
    """

    def __init__(
        self,
        source: Source,
        namespace: Namespace,
        scope: Scope,
        self_name: str,
        functions: Mapping[str, Sequence[str]],
    ) -> None:
        self._source = source
        self._namespace = namespace
        self._scope = scope
        self._self = self_name
        self._functions = functions

    def expr(self, node: ast.expr) -> Expr:
        """``node`` as an expression of the IR."""
        value = self._value(node)
        return self.lift(value.value, self._source.span(node)) if isinstance(value, Static) else value

    def optional(self, node: ast.expr | None) -> Expr:
        """``node``, or an empty ExprTuple where there is none."""
        return ExprTuple((), UNKNOWN) if node is None else self.expr(node)

    def range_arguments(self, node: ast.expr) -> tuple[Expr, Expr, Expr]:
        """Start, stop and step of ``pl.range(...)``. Raises SyntaxUnsupported for anything else."""
        span = self._source.span(node)
        callee = self._value(node.func) if isinstance(node, ast.Call) else None
        if not isinstance(node, ast.Call) or callee != Static(RANGE):
            raise SyntaxUnsupported("a loop goes over pl.range only", span, "write `for i in pl.range(...)`")
        if node.keywords or not 1 <= len(node.args) <= 3:
            raise SignatureError("pl.range takes stop, or start and stop, or start, stop and step", span)
        values = [self.expr(argument) for argument in node.args]
        zero, one = (Const(n, ScalarType(INDEX), span) for n in (0, 1))
        if len(values) == 1:
            return zero, values[0], one
        return values[0], values[1], values[2] if len(values) == 3 else one

    def lift(self, value: object, span: Span) -> Expr:
        """A Python value as an expression. Raises TypeMismatch where it has no place in the IR."""
        if isinstance(value, DimVar):
            return DimExpr(value.name, ScalarType(INDEX), span)
        if isinstance(value, bool):
            return Const(value, ScalarType(BOOL), span)
        if isinstance(value, float):  # numpy.float64 too
            return Const(float(value), ScalarType(FP32), span)
        try:
            return Const(operator.index(value), ScalarType(INDEX), span)  # type: ignore[arg-type]
        except TypeError:
            pass
        if isinstance(value, Operation):
            raise SyntaxUnsupported(f"pl.{value.__name__} must be called", span)
        raise TypeMismatch(
            f"a Python {type(value).__name__} has no meaning here: expected a variable, a number or an operation", span
        )

    # --- each kind of node ---------------------------------------------------------------------------------------

    def _value(self, node: ast.expr) -> Expr | Static:
        match node:
            case ast.Constant(value=bool() | int() | float()):
                return Static(node.value)
            case ast.Name():
                return self._name(node)
            case ast.Attribute():
                return self._attribute(node)
            case ast.BinOp():
                return self._binary(node)
            case ast.UnaryOp(op=ast.USub() | ast.UAdd()):
                return self._sign(node)
            case ast.Call():
                return self._call(node)
            case ast.Subscript():
                return self._subscript(node)
            case ast.List() | ast.Tuple():
                return self._list(node)
        raise unsupported(node, self._source)

    def _name(self, node: ast.Name) -> Expr | Static:
        span = self._source.span(node)
        if node.id in self._scope:
            return Var(node.id, UNKNOWN, span)
        if why := self._scope.why_missing(node.id):
            raise UnboundVariable(why, span)
        if node.id == self._self:
            raise SyntaxUnsupported(f"{self._self} has no value here", span, f"write {self._self}.function(...)")
        value = self._namespace.find(node.id)
        if value is MISSING:
            known = [*self._scope.names(), *self._namespace.names()]
            raise UnboundVariable(f"name {node.id!r} is not defined{did_you_mean(node.id, known)}", span)
        return Static(value)

    def _attribute(self, node: ast.Attribute) -> Expr | Static:
        span = self._source.span(node)
        if self._is_self(node.value):
            if node.attr in self._functions:
                raise SyntaxUnsupported(f"{self._self}.{node.attr} must be called", span)
            if node.attr in self._namespace.members:
                return Static(self._namespace.members[node.attr])
            raise UnboundVariable(f"the program has no {node.attr!r}{did_you_mean(node.attr, self._members())}", span)
        base = self._value(node.value)
        if not isinstance(base, Static):
            raise SyntaxUnsupported(
                f"variables have no attributes, so no .{node.attr}", span, "pl.dim(x, 0) is the size of a dimension"
            )
        return Static(attribute(base.value, node.attr, span))

    def _binary(self, node: ast.BinOp) -> Expr | Static:
        if type(node.op) not in BINARY:
            raise unsupported(node, self._source)
        name, compute = BINARY[type(node.op)]
        lhs, rhs = self._value(node.left), self._value(node.right)
        span = self._source.span(node)
        sides = [side.value for side in (lhs, rhs) if isinstance(side, Static) and not isinstance(side.value, DimVar)]
        if len(sides) == 2:
            try:
                return Static(compute(*sides))
            except (TypeError, ArithmeticError) as error:
                raise TypeMismatch(f"this can't be computed: {error}", span) from None
        return Binary(name, self.expr(node.left), self.expr(node.right), UNKNOWN, span)

    def _sign(self, node: ast.UnaryOp) -> Expr | Static:
        value = self._value(node.operand)
        if isinstance(node.op, ast.UAdd):
            return value
        if isinstance(value, Static) and isinstance(value.value, (int, float)):
            return Static(-value.value)
        return Call(sugar.NEGATE, (self.expr(node.operand),), (), UNKNOWN, self._source.span(node))

    def _subscript(self, node: ast.Subscript) -> Expr | Static:
        base = self._value(node.value)
        span = self._source.span(node)
        if isinstance(base, Static):
            index = self._value(node.slice)
            if not isinstance(index, Static):
                raise SyntaxUnsupported("a Python value can't be indexed by a variable of the program", span)
            try:
                return Static(base.value[index.value])  # type: ignore[index]
            except (TypeError, LookupError) as error:
                raise TypeMismatch(f"this can't be indexed: {error!r}", span) from None
        if not isinstance(node.slice, ast.Slice) or node.slice.step is not None:
            raise SyntaxUnsupported(
                "only the first dimension can be sliced like this: x[begin:end]",
                span,
                "use pl.slice(x, shape, offset) in an orchestration, pl.load(x, offsets, shapes) in a kernel",
            )
        bounds = (self.optional(node.slice.lower), self.optional(node.slice.upper))
        return Call(sugar.ROWS, (self.expr(node.value), *bounds), (), UNKNOWN, span)

    def _list(self, node: ast.List | ast.Tuple) -> Expr | Static:
        values = [self._value(item) for item in node.elts]
        if all(isinstance(value, Static) for value in values):
            return Static([value.value for value in values if isinstance(value, Static)])
        return ExprTuple(tuple(self.expr(item) for item in node.elts), UNKNOWN, self._source.span(node))

    # --- calls ---------------------------------------------------------------------------------------------------

    def _call(self, node: ast.Call) -> Expr | Static:
        for argument in node.args:
            if isinstance(argument, ast.Starred):
                raise unsupported(argument, self._source)
        if isinstance(node.func, ast.Attribute) and self._is_self(node.func.value):
            return self._invoke(node, node.func)
        callee = self._value(node.func)
        called = callee.value if isinstance(callee, Static) else None
        if isinstance(called, OpFunction):
            return self._operation(node, called)
        if called is MIN or called is MAX:
            return self._min_max(node, "min" if called is MIN else "max")
        span = self._source.span(node.func)
        if called is RANGE:
            raise SyntaxUnsupported("pl.range stands in a for statement only", self._source.span(node))
        instead = _INSTEAD.get(called) if isinstance(called, type) or callable(called) else None
        name = ast.unparse(node.func)
        raise SyntaxUnsupported(
            f"{name} can't be called here: only operations (pl.…) and the program's functions ({self._self}.…) can",
            span,
            instead or "compute it before the class, or do it in a SubWorker",
        )

    def _min_max(self, node: ast.Call, name: str) -> Expr | Static:
        if node.keywords or len(node.args) < 2:
            raise SignatureError(f"pl.{name} takes two numbers or more", self._source.span(node))
        values = [self._value(argument) for argument in node.args]
        if all(isinstance(value, Static) and isinstance(value.value, (int, float)) for value in values):
            numbers = [value.value for value in values if isinstance(value, Static)]
            return Static((min if name == "min" else max)(numbers))  # type: ignore[type-var]
        result = self.expr(node.args[0])
        for argument in node.args[1:]:
            result = Binary(name, result, self.expr(argument), UNKNOWN, self._source.span(node))
        return result

    def _invoke(self, node: ast.Call, func: ast.Attribute) -> Invoke:
        name = func.attr
        if name not in self._functions:
            raise SignatureError(
                f"the program has no function {name!r}{did_you_mean(name, self._functions)}", self._source.span(func)
            )
        params = self._functions[name]
        keywords = {k.arg: k.value for k in node.keywords}
        device = keywords.pop("device") if "device" in keywords and "device" not in params else None
        bound = self._bind(f"{self._self}.{name}", node, keywords, params, required=len(params))
        return Invoke(
            name,
            tuple(self.expr(bound[param]) for param in params),
            None if device is None else self.expr(device),
            UNKNOWN,
            self._source.span(node),
        )

    def _operation(self, node: ast.Call, function: OpFunction) -> Call:
        params = function.ops[0].params
        name = f"pl.{function.__name__}"
        required = sum(not p.optional for p in params)
        keywords = {k.arg: k.value for k in node.keywords}
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
                args.append(self.expr(bound[param.name]))
        op = function.ops[0].name if len(function.ops) == 1 else function.__name__
        return Call(op, tuple(args), tuple(sorted(attrs, key=lambda item: item[0])), UNKNOWN, self._source.span(node))

    def _bind(
        self, what: str, node: ast.Call, keywords: dict[str | None, ast.expr], params: Sequence[str], required: int
    ) -> dict[str, ast.expr]:
        """Arguments by the name of their parameter. Raises SignatureError where they don't fit."""
        span = self._source.span(node)
        takes = f"{what} takes {_count(len(params), 'argument')} ({', '.join(params)})"
        if len(node.args) > len(params):
            raise SignatureError(f"{takes}, found {len(node.args)}", self._source.span(node.args[len(params)]))
        bound = dict(zip(params, node.args, strict=False))
        for keyword, value in keywords.items():
            if keyword is None:
                raise unsupported(value, self._source)
            if keyword in bound:
                raise SignatureError(f"{what}: argument {keyword!r} is given twice", self._source.span(value))
            if keyword not in params:
                near = did_you_mean(keyword, params)
                raise SignatureError(f"{what} has no parameter {keyword!r}{near}", self._source.span(value))
            bound[keyword] = value
        missing = [name for name in params[:required] if name not in bound]
        if missing:
            raise SignatureError(f"{takes}; missing: {', '.join(missing)}", span)
        return bound

    def _indices(self, what: str, param: OpParam, node: ast.expr) -> ExprTuple:
        span = self._source.span(node)
        if isinstance(node, (ast.List, ast.Tuple)):
            items = tuple(self.expr(item) for item in node.elts)
        else:
            value = self._value(node)
            if not isinstance(value, Static) or not isinstance(value.value, (list, tuple)):
                raise TypeMismatch(f"{what}: expected {param.takes.value} as {param.name}, such as [0, 0]", span)
            items = tuple(self.lift(item, span) for item in value.value)
        if param.takes is Takes.SHAPE:
            for item in items:
                if not (isinstance(item, Const) and type(item.value) is int and item.value > 0):
                    raise TypeMismatch(
                        f"{what}: the shape of a tile is known when the program is written: expected a positive int",
                        item.span,
                        "give the part that holds data as valid_shapes" if param.name == "shapes" else None,
                    )
        return ExprTuple(items, UNKNOWN, span)

    def _attribute_of(self, what: str, param: OpParam, node: ast.expr) -> object:
        value = self._value(node)
        found = value.value if isinstance(value, Static) else None
        if param.takes is Takes.DTYPE and isinstance(found, DType) and found != INDEX:
            return found
        if param.takes is Takes.INT and isinstance(found, int) and not isinstance(found, bool):
            return found
        such = "such as pl.FP32" if param.takes is Takes.DTYPE else "such as 0"
        raise TypeMismatch(f"{what}: expected {param.takes.value} as {param.name}, {such}", self._source.span(node))

    def _is_self(self, node: ast.expr) -> bool:
        return isinstance(node, ast.Name) and node.id == self._self and node.id not in self._scope

    def _members(self) -> list[str]:
        return [*self._functions, *self._namespace.members]


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


# Python that has no meaning in orchestrations and kernels: what it is called, and what to write instead.
_UNSUPPORTED: dict[type[ast.AST], tuple[str, str | None]] = {
    ast.With: ("with", "write each level as a method of its own: @pl.function(level=..., role=...)"),
    ast.If: ("if", "use pl.min and pl.max for tails; decide with Python before the class, or in a SubWorker"),
    ast.IfExp: ("a conditional expression", "use pl.min, pl.max or pl.maximum"),
    ast.While: ("while", "use `for i in pl.range(...)`"),
    ast.AugAssign: ("an augmented assignment", "write `x = x + y`"),
    ast.Compare: ("a comparison", None),
    ast.BoolOp: ("and/or", None),
    ast.Break: ("break", "give pl.range the bound it shall have"),
    ast.Continue: ("continue", "give pl.range the bounds it shall have"),
    ast.Try: ("try", "errors end the run and are raised where it was started"),
    ast.Raise: ("raise", "raise in a SubWorker"),
    ast.Assert: ("assert", "assert in a SubWorker"),
    ast.Import: ("import", "import at the top of the file"),
    ast.ImportFrom: ("import", "import at the top of the file"),
    ast.FunctionDef: ("a function inside a function", "make it a method of the program, or a SubWorker"),
    ast.ClassDef: ("a class inside a function", None),
    ast.Lambda: ("lambda", None),
    ast.ListComp: ("a comprehension", "use `for i in pl.range(...)`"),
    ast.GeneratorExp: ("a comprehension", "use `for i in pl.range(...)`"),
    ast.JoinedStr: ("a string", "strings belong into SubWorkers"),
    ast.Constant: ("a constant that is no number", None),
    ast.Starred: ("*", "give each argument by itself"),
    ast.Delete: ("del", None),
    ast.Global: ("global", None),
    ast.Nonlocal: ("nonlocal", None),
    ast.Dict: ("a dict", None),
    ast.NamedExpr: (":=", "assign in a statement of its own"),
    ast.Pow: ("**", None),
    ast.MatMult: ("@", "use pl.matmul"),
}


def unsupported(node: ast.AST, source: Source) -> SyntaxUnsupported:
    """The error for Python that the language has no meaning for."""
    kind = type(node.op) if isinstance(node, ast.BinOp) else type(node)
    what, hint = _UNSUPPORTED.get(kind, (f"Python's {kind.__name__}", None))
    return SyntaxUnsupported(f"{what} has no meaning in orchestrations and kernels", source.span(node), hint)
