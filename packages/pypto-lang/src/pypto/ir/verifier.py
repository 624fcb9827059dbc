"""Checks that IR keeps its own rules. It is run between passes: what it finds is a bug in a pass."""

from __future__ import annotations

from collections.abc import Sequence

from pypto.errors import PyptoError, VerificationFailed
from pypto.ir import walk
from pypto.ir.calls import assignable, check_arguments, check_kinds, is_integer, result_type, same_type
from pypto.ir.dtypes import BOOL
from pypto.ir.nodes import (
    Assign,
    Call,
    Carried,
    Const,
    Eval,
    Expr,
    ExprTuple,
    For,
    Function,
    If,
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
    Var,
    While,
    Yield,
)
from pypto.ops import registry


def verify(program: Program) -> None:
    """Checks a program.

    Every variable is defined once, before it is used; the type of every expression is what its operands give; an
    operation that gives a tile or tensor, and a call of a function, stands alone; bodies end with what their loop
    carries or their ``If`` gives; calls are of kinds that may call each other, and their arguments fit; only parameters
    that are written are returned.

    Raises VerificationFailed with the place in the user's source that the node came from.
    """
    names = [function.name for function in program.functions]
    if len(set(names)) != len(names):
        raise VerificationFailed(f"program {program.name} has two functions of one name", program.span)
    for function in program.functions:
        _Verification(program, function).run()


class _Verification:
    def __init__(self, program: Program, function: Function) -> None:
        self._program = program
        self._function = function
        self._visible: dict[str, Type] = {}
        self._defined: set[str] = set()

    def run(self) -> None:
        function = self._function
        for param in function.params:
            if not (param.name not in self._defined):
                raise self._wrong(f"two parameters {param.name!r}", param.span)
            ok = isinstance(param.type, (TensorType, ScalarType))
            if not (ok):
                raise self._wrong(f"parameter {param.name!r} is of type {param.type}", param.span)
            written_number = isinstance(param.type, ScalarType) and param.direction.writes
            if written_number:
                raise self._wrong(f"number {param.name!r} is written", param.span)
            self._define(Var(param.name, param.type), param.span)
        if not ((function.sub_worker is None) or not function.body):
            raise self._wrong("a SubWorker has a body", function.span)
        for index, stmt in enumerate(function.body):
            last = index + 1 == len(function.body)
            if not (last or not isinstance(stmt, Return)):
                raise self._wrong("return is not the last statement", stmt.span)
            if isinstance(stmt, Yield):
                raise self._wrong("a function yields", stmt.span)
            self._stmt(stmt)
        if function.sub_worker is None and function.results:
            returns = bool(function.body) and isinstance(function.body[-1], Return)
            if not (returns):
                raise self._wrong("results, and no return", function.span)

    def _stmt(self, stmt: Stmt) -> None:
        for value in walk.values(stmt):
            if not (isinstance(stmt, While) and value is stmt.condition):
                self._expr(value, inside=not isinstance(stmt, (Assign, Eval)))
        match stmt:
            case Assign(target=target, value=value):
                if isinstance(value, Invoke):
                    raise self._wrong("a call is assigned", stmt.span)
                alias = isinstance(value, Var) and not isinstance(value.type, ScalarType)
                if alias:
                    raise self._wrong(f"{target.name!r} is another name of a tile or tensor", stmt.span)
                if not (assignable(target.type, value.type)):
                    raise self._wrong(f"{value.type} assigned to {target.type}", stmt.span)
                self._define(target, stmt.span)
            case For(var=var, start=start, stop=stop, step=step, carried=carried, body=body):
                for bound in (start, stop, step):
                    if not (is_integer(bound.type)):
                        raise self._wrong(f"a loop bound is {bound.type}", bound.span)
                self._loop(carried, (var, *(c.param for c in carried)), body, stmt.span)
            case While(condition=condition, carried=carried, body=body):
                self._loop(carried, tuple(c.param for c in carried), body, stmt.span, condition)
            case If(condition=condition, then=then, otherwise=otherwise, results=results):
                self._condition(condition)
                for branch in (then, otherwise):
                    self._body(branch, (), tuple(r.type for r in results), stmt.span)
                for result in results:
                    self._define(result, stmt.span)
            case Return(values=values):
                self._return(values, stmt.span)

    def _loop(
        self,
        carried: Sequence[Carried],
        params: Sequence[Var],
        body: tuple[Stmt, ...],
        span: Span,
        condition: Expr | None = None,
    ) -> None:
        for c in carried:
            if isinstance(c.param.type, TensorType):
                raise self._wrong(f"tensor {c.param.name!r} is carried", span)
            fits = assignable(c.param.type, c.init.type) and c.param.type == c.result.type
            if not (fits):
                raise self._wrong(f"{c.param.name!r} is {c.param.type}, and begins as {c.init.type}", span)
        self._body(body, params, tuple(c.param.type for c in carried), span, condition)
        for c in carried:
            self._define(c.result, span)

    def _body(
        self,
        body: tuple[Stmt, ...],
        params: Sequence[Var],
        gives: tuple[Type, ...],
        span: Span,
        condition: Expr | None = None,
    ) -> None:
        """Check what a statement has inside: ``params`` are defined there, values of types ``gives`` yielded."""
        outer = dict(self._visible)
        for param in params:
            self._define(param, span)
        if condition is not None:
            self._expr(condition, inside=True)
            self._condition(condition)
        for index, stmt in enumerate(body):
            if isinstance(stmt, Return):
                raise self._wrong("return inside a body", stmt.span)
            last = index + 1 == len(body)
            if not (last or not isinstance(stmt, Yield)):
                raise self._wrong("yield is not the last statement", stmt.span)
            self._stmt(stmt)
        final = body[-1] if body else None
        yielded = tuple(value.type for value in final.values) if isinstance(final, Yield) else ()
        fits = len(yielded) == len(gives) and all(map(assignable, gives, yielded))
        if not (fits):
            raise self._wrong(f"yields {[str(t) for t in yielded]} for {[str(t) for t in gives]}", span)
        self._visible = outer

    def _condition(self, condition: Expr) -> None:
        if not (condition.type == ScalarType(BOOL)):
            raise self._wrong(f"a condition is {condition.type}", condition.span)

    def _return(self, values: tuple[Expr, ...], span: Span) -> None:
        results = self._function.results
        fits = len(values) == len(results) and all(same_type(v.type, r) for v, r in zip(values, results, strict=True))
        if not (fits):
            raise self._wrong(f"{[str(v.type) for v in values]} returned as {[str(r) for r in results]}", span)
        for value in values:
            param = self._function.param(value.name) if isinstance(value, Var) else None
            if not (param is not None and param.direction.writes):
                raise self._wrong("returns what isn't Out or InOut", span)

    def _define(self, target: Var, span: Span) -> None:
        if not (target.name not in self._defined):
            raise self._wrong(f"{target.name!r} is defined twice", span)
        self._defined.add(target.name)
        self._visible[target.name] = target.type

    def _expr(self, expr: Expr, inside: bool) -> None:
        for operand in walk.operands(expr):
            self._expr(operand, inside=True)
        match expr:
            case Var(name=name, type=type_):
                found = self._visible.get(name)
                if not (found is not None):
                    raise self._wrong(f"{name!r} is not defined", expr.span)
                if not (found == type_):
                    raise self._wrong(f"{name!r} is {found}, used as {type_}", expr.span)
            case ExprTuple(items=items):
                if not (all(is_integer(item.type) for item in items)):
                    raise self._wrong("an index is no integer", expr.span)
            case Call():
                self._call(expr, inside)
            case Invoke():
                self._invoke(expr, inside)
            case Const(type=type_):
                if not (isinstance(type_, ScalarType)):
                    raise self._wrong(f"a number is {type_}", expr.span)

    def _call(self, call: Call, inside: bool) -> None:
        try:
            op = registry.get(call.op)
            expected = op.infer(call.args, dict(call.attrs))
        except (KeyError, PyptoError) as error:
            raise VerificationFailed(f"in {self._function.name}: {error}", call.span) from error
        if not (same_type(expected, call.type)):
            raise self._wrong(f"{call.op} gives {expected}, not {call.type}", call.span)
        if self._function.kind not in op.kinds:
            raise self._wrong(f"{call.op} in a {self._function.kind.value}", call.span)
        nested = inside and isinstance(call.type, (TileType, TensorType))
        if nested:
            raise self._wrong(f"{call.op} inside an expression", call.span)

    def _invoke(self, call: Invoke, inside: bool) -> None:
        try:
            callee = self._program.function(call.function)
            check_kinds(self._function.name, self._function.kind, callee, call)
            expected = result_type(callee, check_arguments(callee, call))
        except (KeyError, PyptoError) as error:
            raise VerificationFailed(f"in {self._function.name}: {error}", call.span) from error
        alike = [expected, call.type] if not isinstance(expected, TupleType) else [NoneType(), NoneType()]
        if not (same_type(alike[0], alike[1])):
            raise self._wrong(f"{call.function} gives {expected}, not {call.type}", call.span)
        if inside:
            raise self._wrong(f"a call of {call.function} inside an expression", call.span)

    def _wrong(self, problem: str, span: Span) -> VerificationFailed:
        return VerificationFailed(f"in {self._function.name}: {problem}", span)
