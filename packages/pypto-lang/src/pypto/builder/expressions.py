"""Expressions of orchestrations and kernels: a syntax tree becomes typed IR, or a Python value that is known now.

Each node is looked at once. Operations that give tiles and tensors get variables of their own, in the order they are
evaluated; arithmetic on numbers stays nested, up to a depth.
"""

from __future__ import annotations

import ast
import operator as operators
from collections.abc import Iterable

from pypto.builder import arithmetic, tiles
from pypto.builder.state import State
from pypto.builder.static import BINARY, attribute
from pypto.builder.values import Items, Missing, Static, Value, already_told
from pypto.errors import OutOfBounds, SyntaxUnsupported, TypeMismatch, UnboundVariable
from pypto.ir import walk
from pypto.ir.calls import is_integer
from pypto.ir.dtypes import BOOL, FP32, INDEX
from pypto.ir.nodes import (
    Assign,
    Call,
    Const,
    DimExpr,
    DimVar,
    Expr,
    ExprTuple,
    If,
    Invoke,
    ScalarType,
    Span,
    TensorType,
    TileType,
    TupleType,
    Var,
    Yield,
)
from pypto.language.operations import Operation
from pypto.ops.registry import did_you_mean
from pypto.source.files import Source
from pypto.source.namespace import MISSING

_DEEPEST = 40  # arithmetic nested more deeply gets variables, so that what comes later need not dig
_COMPARE = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}


class Expressions:
    """Builds the expressions of one function; ``calls`` builds what is called in them."""

    def __init__(self, state: State) -> None:
        from pypto.builder.calls import Calls

        self.state = state
        self.calls = Calls(state, self)

    # --- what callers ask for -------------------------------------------------------------------------------------

    def expr(self, node: ast.expr) -> Expr:
        """``node`` as an expression of the IR: a call of an operation may stand there as it is."""
        return self.lift(self.value(node), self.state.span(node))

    def operand(self, node: ast.expr) -> Expr:
        """``node`` as an operand: an operation inside another has got a variable."""
        return self.flat(self.expr(node))

    def index(self, node: ast.expr, what: str) -> Expr:
        """``node`` as an integer. Raises TypeMismatch, saying ``what`` it should be, where it is none."""
        found = self.operand(node)
        if not is_integer(found.type):
            raise TypeMismatch(f"{what} is an integer, found {found.type}", found.span)
        return found

    def condition(self, node: ast.expr) -> Static | Expr:
        """``node`` as something that is true or false: known now, or a BOOL."""
        value = self.value(node)
        if isinstance(value, Static) and not isinstance(value.value, DimVar):
            return Static(bool(value.value))
        found = self.flat(self.lift(value, self.state.span(node)))
        if is_integer(found.type):  # as in Python
            return arithmetic.binary("!=", found, arithmetic.index(0, found.span), found.span)
        arithmetic.check_condition(found)
        return found

    def flat(self, expr: Expr) -> Expr:
        """``expr``, or the variable that has its value where it is an operation."""
        if isinstance(expr, Call) and isinstance(expr.type, (TileType, TensorType)):
            return self.name(expr, None)
        return expr

    def name(self, call: Call, stem: str | None) -> Var:
        """Write a call of an operation down; gives the variable that stands for what it gives."""
        state = self.state
        var = state.temporary(call) if stem is None else state.variable(stem, call.type, call.span)
        state.emit(Assign(var, call, call.span))
        if isinstance(call.type, TensorType):
            whole = self.calls.whole_of(call)
            state.origins[var.name] = var.name if whole is None else state.origins[whole.name]
        return var

    def lift(self, value: Value, span: Span) -> Expr:
        """A value as an expression. Raises TypeMismatch where it has no place in the IR."""
        if isinstance(value, Missing):
            if value.told:
                already_told()
            raise UnboundVariable(value.why, span)
        if isinstance(value, Items):
            raise self._several(value, span)
        if not isinstance(value, Static):
            return value
        if value.var is not None:
            return Var(value.var.name, value.var.type, span)
        number = value.value
        if isinstance(number, DimVar):
            if number.name not in self.state.dims:
                raise UnboundVariable(
                    f"dimension {number.name} is in the shape of no parameter of {self.state.name}", span
                )
            return DimExpr(number.name, ScalarType(INDEX), span)
        if isinstance(number, bool):
            return Const(number, ScalarType(BOOL), span)
        if isinstance(number, float):  # numpy.float64 too
            return Const(float(number), ScalarType(FP32), span)
        try:
            whole = operators.index(number)  # type: ignore[arg-type]
        except TypeError:
            pass
        else:
            return arithmetic.index(whole, span)
        if isinstance(number, Operation):
            raise SyntaxUnsupported(f"pl.{number.__name__} must be called", span)
        raise TypeMismatch(
            f"a Python {type(number).__name__} has no meaning here: expected a variable, a number or an operation", span
        )

    def _several(self, value: Items, span: Span) -> Exception:
        from pypto.errors import SignatureError

        if not value.values:
            return SignatureError("this gives no result", span, "call it in a statement of its own")
        return TypeMismatch(f"expected one value, found {len(value.values)}", span)

    # --- each kind of node ---------------------------------------------------------------------------------------

    def value(self, node: ast.expr) -> Value:
        """What ``node`` stands for."""
        match node:
            case ast.Constant(value=bool() | int() | float() | str() | None):
                return Static(node.value)
            case ast.Name():
                return self._name(node)
            case ast.Attribute():
                return self._attribute(node)
            case ast.BinOp():
                return self._binary(node)
            case ast.UnaryOp():
                return self._unary(node)
            case ast.Compare():
                return self._compare(node)
            case ast.BoolOp():
                return self._logic(node)
            case ast.IfExp():
                return self._choice(node)
            case ast.Call():
                return self.calls.call(node)
            case ast.Subscript():
                return self._subscript(node)
            case ast.List() | ast.Tuple():
                return self._list(node)
        raise unsupported(node, self.state.frame.source)

    def _name(self, node: ast.Name) -> Value:
        state, frame = self.state, self.state.frame
        span = state.span(node)
        found = frame.env.get(node.id)
        if isinstance(found, Missing):
            if found.told:
                already_told()
            raise UnboundVariable(found.why, span)
        if isinstance(found, (Static, Items)):
            return found
        if found is not None:
            return Var(found.name, found.type, span) if isinstance(found, Var) else found
        if node.id in frame.assigned:
            line = frame.assigned[node.id]
            raise UnboundVariable(f"variable {node.id!r} is used before it is assigned (at line {line})", span)
        if node.id == frame.self_name:
            raise SyntaxUnsupported(f"{node.id} has no value here", span, f"write {node.id}.function(...)")
        value = frame.namespace.find(node.id)
        if value is MISSING:
            known = [*(name for name in frame.env if name.isidentifier()), *frame.namespace.names()]
            raise UnboundVariable(f"name {node.id!r} is not defined{did_you_mean(node.id, known)}", span)
        return Static(value)

    def _attribute(self, node: ast.Attribute) -> Value:
        span = self.state.span(node)
        if self.is_self(node.value):
            functions, members = self.state.functions, self.state.frame.namespace.members
            if node.attr in functions:
                raise SyntaxUnsupported(f"self.{node.attr} must be called", span)
            if node.attr in members:
                return Static(members[node.attr])
            near = did_you_mean(node.attr, [*functions, *members])
            raise UnboundVariable(f"the program has no {node.attr!r}{near}", span)
        base = self.value(node.value)
        if isinstance(base, Static) and base.var is None:
            return Static(attribute(base.value, node.attr, span))
        found = self.lift(base, self.state.span(node.value))
        if node.attr == "shape" and isinstance(found.type, (TensorType, TileType)):
            return Items(tuple(self.size(self.flat(found), axis, span) for axis in range(len(found.type.shape))))
        raise SyntaxUnsupported(
            f"variables have no attributes, so no .{node.attr}", span, "pl.dim(x, 0) is the size of a dimension"
        )

    def size(self, whole: Expr, axis: int, span: Span) -> Value:
        """The extent of a tensor or tile."""
        assert isinstance(whole.type, (TensorType, TileType))
        dim = whole.type.shape[axis]
        if isinstance(dim, int):
            return Static(dim)
        return Call("tensor.dim", (whole,), (("axis", axis),), ScalarType(INDEX), span)

    def _binary(self, node: ast.BinOp) -> Value:
        # A chain of operands is as deep a tree as it is long: it is walked, not descended.
        chain = [node]
        while isinstance(chain[-1].left, ast.BinOp):
            chain.append(chain[-1].left)
        left = self.value(chain[-1].left)
        at = chain[-1].left
        for link in reversed(chain):
            name = BINARY.get(type(link.op))
            if name is None:
                raise unsupported(link, self.state.frame.source)
            left = self.combine(name, left, self.state.span(at), link.right, link)
            at = link
        return left

    def combine(self, op: str, left: Value, left_span: Span, right: ast.expr, node: ast.expr) -> Value:
        """``left op right``."""
        lhs = left if isinstance(left, Static) else self.flat(self.lift(left, left_span))
        rhs = self.value(right)
        return self.operate(op, lhs, left_span, rhs, self.state.span(right), self.state.span(node))

    def operate(self, op: str, lhs: Value, lhs_span: Span, rhs: Value, rhs_span: Span, span: Span) -> Value:
        """``lhs op rhs``: computed now where both are known."""
        if _known(lhs) and _known(rhs):
            assert isinstance(lhs, Static)
            assert isinstance(rhs, Static)
            try:
                return Static(arithmetic.PYTHON[op](lhs.value, rhs.value))
            except (TypeError, ArithmeticError, ValueError) as error:
                raise TypeMismatch(f"this can't be computed: {error}", span) from None
        a, b = self.flat(self.lift(lhs, lhs_span)), self.flat(self.lift(rhs, rhs_span))
        if not isinstance(a.type, ScalarType) or not isinstance(b.type, ScalarType):
            return tiles.operator(op, a, b, span, self.calls.operation)
        return self._shallow(arithmetic.binary(op, a, b, span))

    def _shallow(self, expr: Expr) -> Expr:
        """``expr``, or a variable for it where it is nested deeply."""
        if _depth(expr, _DEEPEST) < _DEEPEST:
            return expr
        return self.state.assign("value", expr, expr.span)

    def _unary(self, node: ast.UnaryOp) -> Value:
        span = self.state.span(node)
        if isinstance(node.op, ast.Not):
            found = self.condition(node.operand)
            return Static(not found.value) if isinstance(found, Static) else arithmetic.negation(found, span)
        value = self.value(node.operand)
        if isinstance(node.op, ast.UAdd):
            return value
        if not isinstance(node.op, ast.USub):
            raise unsupported(node, self.state.frame.source)
        if _known(value) and isinstance(value, Static) and isinstance(value.value, (int, float)):
            return Static(-value.value)
        operand = self.flat(self.lift(value, self.state.span(node.operand)))
        if isinstance(operand.type, ScalarType):
            return self._shallow(arithmetic.negative(operand, span))
        return self.calls.operation("tile.neg", (operand,), span)

    def _compare(self, node: ast.Compare) -> Value:
        span = self.state.span(node)
        result: Value | None = None
        lhs, at = self.value(node.left), node.left
        for op, right in zip(node.ops, node.comparators, strict=True):
            rhs = self.value(right)
            if isinstance(op, (ast.Is, ast.IsNot, ast.In, ast.NotIn)) and _known(lhs) and _known(rhs):
                assert isinstance(lhs, Static)
                assert isinstance(rhs, Static)
                found: Value = Static(_python_compare(op, lhs.value, rhs.value))
            elif type(op) in _COMPARE:
                found = self.operate(_COMPARE[type(op)], lhs, self.state.span(at), rhs, self.state.span(right), span)
            else:
                raise SyntaxUnsupported("`is` and `in` work on what is known now only", span)
            result = found if result is None else self._both("and", result, found, span)
            lhs, at = rhs, right
        assert result is not None
        return result

    def _both(self, op: str, a: Value, b: Value, span: Span) -> Value:
        if isinstance(a, Static) and isinstance(b, Static):
            return Static((a.value and b.value) if op == "and" else (a.value or b.value))
        decides = [side for side in (a, b) if isinstance(side, Static)]
        if decides:
            if bool(decides[0].value) == (op == "or"):
                return Static(op == "or")
            return b if isinstance(a, Static) else a
        return self._shallow(arithmetic.binary(op, self.lift(a, span), self.lift(b, span), span))

    def _logic(self, node: ast.BoolOp) -> Value:
        op = "and" if isinstance(node.op, ast.And) else "or"
        result: Value = self.condition(node.values[0])
        for item in node.values[1:]:
            if isinstance(result, Static) and result.var is None and bool(result.value) == (op == "or"):
                return Static(op == "or")  # as in Python, the rest is not looked at
            result = self._both(op, result, self.condition(item), self.state.span(node))
        return result

    def _choice(self, node: ast.IfExp) -> Value:
        """``a if condition else b``."""
        state, span = self.state, self.state.span(node)
        condition = self.condition(node.test)
        if isinstance(condition, Static):
            return self.value(node.body if condition.value else node.orelse)
        with state.inner() as then:
            first = self.operand(node.body)
        with state.inner() as otherwise:
            second = self.operand(node.orelse)
        if first.type != second.type and not (is_integer(first.type) and is_integer(second.type)):
            raise TypeMismatch(f"this is {first.type} or {second.type}", span, "make both of one type")
        if isinstance(first.type, TensorType):
            raise SyntaxUnsupported("a tensor can't be chosen by a condition that is not known now", span)
        with_yield = []
        for body, value in ((then, first), (otherwise, second)):
            if not isinstance(value, Var):
                var = state.variable("choice", value.type, value.span)
                body.append(Assign(var, value, value.span))
                value = var
            with_yield.append((*body, Yield((value,), value.span)))
        type_ = ScalarType(INDEX) if is_integer(first.type) else first.type
        result = state.variable("choice", type_, span)
        state.emit(If(condition, with_yield[0], with_yield[1], (result,), span))
        return result

    # --- parts of things ------------------------------------------------------------------------------------------

    def _subscript(self, node: ast.Subscript) -> Value:
        base = self.value(node.value)
        span = self.state.span(node)
        if isinstance(base, Static) and base.var is None:
            index = self.value(node.slice)
            if not isinstance(index, Static) or isinstance(index.value, DimVar):
                raise SyntaxUnsupported("a Python value can't be indexed by a variable of the program", span)
            try:
                return Static(base.value[index.value])  # type: ignore[index]
            except (TypeError, LookupError) as error:
                raise TypeMismatch(f"this can't be indexed: {error!r}", span) from None
        if isinstance(base, Items):
            found = self.value(node.slice)
            if isinstance(found, Static) and isinstance(found.value, int):
                try:
                    return base.values[found.value]
                except IndexError:
                    raise OutOfBounds(f"there are {len(base.values)} values, not {found.value + 1}", span) from None
            raise SyntaxUnsupported("a tuple is indexed by an int that is known now", span)
        if not isinstance(node.slice, ast.Slice) or node.slice.step is not None:
            raise SyntaxUnsupported(
                "only the first dimension can be sliced like this: x[begin:end]",
                span,
                "use pl.slice(x, shape, offset) in an orchestration, pl.load(x, offsets, shapes) in a kernel",
            )
        tensor = self.flat(self.lift(base, self.state.span(node.value)))
        return self._rows(tensor, node.slice, span)

    def _rows(self, tensor: Expr, bounds: ast.Slice, span: Span) -> Expr:
        """``x[begin:end]`` as a slice of the first dimension."""
        if not isinstance(tensor.type, TensorType):
            raise TypeMismatch(f"only tensors can be sliced, this is {tensor.type}", tensor.span)
        sizes = [self.lift(self.size(tensor, axis, span), span) for axis in range(len(tensor.type.shape))]
        zero = arithmetic.index(0, span)
        begin = zero if bounds.lower is None else self.index(bounds.lower, "a bound of a slice")
        end = sizes[0] if bounds.upper is None else self.index(bounds.upper, "a bound of a slice")
        rows = _distance(begin, end)
        shape = self.tuple_of([rows, *sizes[1:]], end.span)
        offset = self.tuple_of([begin, *(zero for _ in sizes[1:])], begin.span)
        return self.calls.operation("tensor.slice", (tensor, shape, offset), span)

    def tuple_of(self, items: Iterable[Expr], span: Span) -> ExprTuple:
        """A list of integers as an expression."""
        items = tuple(items)
        return ExprTuple(items, TupleType(tuple(item.type for item in items)), span)

    def _list(self, node: ast.List | ast.Tuple) -> Value:
        values: list[Value] = []
        for item in node.elts:
            if isinstance(item, ast.Starred):
                raise unsupported(item, self.state.frame.source)
            value = self.value(item)
            values.append(value if isinstance(value, (Static, Items, Missing)) else self.flat(value))
        if all(isinstance(value, Static) and value.var is None for value in values):
            plain = [value.value for value in values if isinstance(value, Static)]
            return Static(tuple(plain) if isinstance(node, ast.Tuple) else plain)
        return Items(tuple(values))

    def is_self(self, node: ast.expr) -> bool:
        """True for the name by which a function calls its program."""
        frame = self.state.frame
        return isinstance(node, ast.Name) and node.id == frame.self_name and node.id not in frame.env


def _known(value: Value) -> bool:
    return isinstance(value, Static) and not isinstance(value.value, DimVar)


def _depth(expr: Expr, enough: int) -> int:
    """How deeply an expression is nested; no further than ``enough`` is looked."""
    depth, level = 0, [expr]
    while level and depth < enough:
        level = [operand for e in level for operand in walk.operands(e)]
        depth += 1
    return depth


def _distance(begin: Expr, end: Expr) -> Expr:
    """``end - begin``, as simple as it can be told."""
    if isinstance(begin, Const) and begin.value == 0:
        return end
    if getattr(end, "op", None) == "+" and getattr(end, "lhs", None) == begin:
        rhs: Expr = end.rhs  # type: ignore[union-attr]
        return rhs
    return arithmetic.binary("-", end, begin, end.span)


def _python_compare(op: ast.cmpop, lhs: object, rhs: object) -> bool:
    match op:
        case ast.Is():
            return lhs is rhs
        case ast.IsNot():
            return lhs is not rhs
        case ast.In():
            return lhs in rhs  # type: ignore[operator]
    return lhs not in rhs  # type: ignore[operator]


# Python that has no meaning in orchestrations and kernels: what it is called, and what to write instead.
_UNSUPPORTED: dict[type[ast.AST], tuple[str, str | None]] = {
    ast.With: ("with", "write each level as a method of its own: @pl.function(level=..., role=...)"),
    ast.Try: ("try", "errors end the run and are raised where it was started"),
    ast.Raise: ("raise", "raise in a SubWorker"),
    ast.Assert: ("assert", "assert in a SubWorker, or pl.static_assert what is known now"),
    ast.Import: ("import", "import at the top of the file"),
    ast.ImportFrom: ("import", "import at the top of the file"),
    ast.FunctionDef: ("a function inside a function", "make it a function of the module, or a method of the program"),
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
}


def unsupported(node: ast.AST, source: Source) -> SyntaxUnsupported:
    """The error for Python that the language has no meaning for."""
    kind = type(node.op) if isinstance(node, (ast.BinOp, ast.UnaryOp)) else type(node)
    what, hint = _UNSUPPORTED.get(kind, (f"Python's {kind.__name__}", None))
    return SyntaxUnsupported(f"{what} has no meaning in orchestrations and kernels", source.span(node), hint)


def result_of(call: Invoke, results: tuple[Var, ...]) -> Value:
    """What a call of a function gives, which is among its arguments."""
    return results[0] if len(results) == 1 else Items(results)
