"""Checks that IR keeps its own rules. It is run between passes: what it finds is a bug in a pass."""

from __future__ import annotations

from pypto.errors import PyptoError, VerificationFailed
from pypto.ir import walk
from pypto.ir.calls import assignable, check_arguments, check_kinds, is_integer, result_type, same_type
from pypto.ir.nodes import (
    UNKNOWN,
    Assign,
    Call,
    Eval,
    Expr,
    ExprTuple,
    For,
    Function,
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


def verify(program: Program, *, resolved: bool = False) -> None:
    """Checks a typed program.

    Every variable is defined before it is used and keeps its type; the type of every expression is what its operands
    give; calls are of kinds that may call each other, and their arguments fit; results are what is returned.

    Args:
        resolved: also check what holds after ``resolve_aliases``: calls and stores stand in Eval, tensor variables
            are assigned once, by what makes a tensor or a slice, and only parameters that are written are returned.

    Raises VerificationFailed with the place in the user's source that the node came from.
    """
    names = [function.name for function in program.functions]
    if len(set(names)) != len(names):
        raise VerificationFailed(f"program {program.name} has two functions of one name", program.span)
    for function in program.functions:
        _Verification(program, function, resolved).run()


class _Verification:
    def __init__(self, program: Program, function: Function, resolved: bool) -> None:
        self._program = program
        self._function = function
        self._resolved = resolved
        self._blocks: list[dict[str, Type]] = [{}]

    def run(self) -> None:
        function = self._function
        for param in function.params:
            self._require(param.name not in self._blocks[0], f"two parameters {param.name!r}", param.span)
            ok = isinstance(param.type, (TensorType, ScalarType))
            self._require(ok, f"parameter {param.name!r} is of type {param.type}", param.span)
            written_number = isinstance(param.type, ScalarType) and param.direction.writes
            self._require(not written_number, f"number {param.name!r} is written", param.span)
            self._blocks[0][param.name] = param.type
        self._require(function.results is not None, "results are not inferred", function.span)
        self._require((function.sub_worker is None) or not function.body, "a SubWorker has a body", function.span)
        for index, stmt in enumerate(function.body):
            last = index + 1 == len(function.body)
            self._require(last or not isinstance(stmt, Return), "return is not the last statement", stmt.span)
            self._stmt(stmt)
        if function.sub_worker is None and function.results and not isinstance(function.body[-1], Return):
            self._require(False, "results, and no return", function.span)

    def _stmt(self, stmt: Stmt) -> None:
        for value in walk.values(stmt):
            self._expr(value)
        match stmt:
            case Assign(target=target, value=value):
                self._require(assignable(target.type, value.type), f"{value.type} assigned to {target.type}", stmt.span)
                if self._resolved and isinstance(target.type, TensorType):
                    makes = isinstance(value, Call) and registry.get(value.op).writes is None
                    self._require(makes, f"{target.name!r} is another name of a tensor", stmt.span)
                    self._require(self._find(target.name) is None, f"{target.name!r} is bound twice", stmt.span)
                self._define(target, stmt.span)
            case Unpack(targets=targets, value=value):
                self._require(not self._resolved, "results are unpacked", stmt.span)
                types = value.type.items if isinstance(value.type, TupleType) else ()
                self._require(len(types) == len(targets), f"{value.type} unpacked into {len(targets)}", stmt.span)
                for target in targets:
                    self._define(target, stmt.span)
            case For(var=var, start=start, stop=stop, step=step, body=body):
                for bound in (start, stop, step):
                    self._require(is_integer(bound.type), f"a loop bound is {bound.type}", bound.span)
                self._blocks.append({var.name: var.type})
                for child in body:
                    self._require(not isinstance(child, Return), "return inside a loop", child.span)
                    self._stmt(child)
                self._blocks.pop()
            case Return(values=values):
                self._return(values, stmt.span)
            case Eval():
                pass

    def _return(self, values: tuple[Expr, ...], span: Span) -> None:
        types: list[Type] = []
        for value in values:
            types += value.type.items if isinstance(value.type, TupleType) else (value.type,)
        results = self._function.results or ()
        fits = len(types) == len(results) and all(map(same_type, types, results))
        self._require(fits, f"{[str(t) for t in types]} returned as {[str(r) for r in results]}", span)
        if self._resolved:
            for value in values:
                param = self._function.param(value.name) if isinstance(value, Var) else None
                self._require(param is not None and param.direction.writes, "returns what isn't Out or InOut", span)

    def _define(self, target: Var, span: Span) -> None:
        old = self._find(target.name)
        self._require(target.type != UNKNOWN, f"{target.name!r} has no type", span)
        self._require(
            old is None or same_type(old, target.type), f"{target.name!r} was {old}, becomes {target.type}", span
        )
        if old is None:
            self._blocks[-1][target.name] = target.type

    def _find(self, name: str) -> Type | None:
        return next((block[name] for block in reversed(self._blocks) if name in block), None)

    def _expr(self, expr: Expr, inside: bool = False) -> None:
        for operand in walk.operands(expr):
            self._expr(operand, inside=True)
        self._require(expr.type != UNKNOWN, f"an expression has no type: {type(expr).__name__}", expr.span)
        match expr:
            case Var(name=name, type=type_):
                found = self._find(name)
                self._require(found is not None, f"{name!r} is not defined", expr.span)
                self._require(found == type_, f"{name!r} is {found}, used as {type_}", expr.span)
            case ExprTuple(items=items):
                self._require(all(is_integer(item.type) for item in items), "an index is no integer", expr.span)
            case Call():
                self._call(expr, inside)
            case Invoke():
                self._invoke(expr, inside)

    def _call(self, call: Call, inside: bool) -> None:
        try:
            op = registry.get(call.op)
            expected = op.infer(call.args, dict(call.attrs))
        except (KeyError, PyptoError) as error:
            raise VerificationFailed(f"in {self._function.name}: {error}", call.span) from error
        self._require(same_type(expected, call.type), f"{call.op} gives {expected}, not {call.type}", call.span)
        self._require(self._function.kind in op.kinds, f"{call.op} in a {self._function.kind.value}", call.span)
        nested = inside and isinstance(call.type, (TileType, TensorType))
        self._require(not (self._resolved and nested), f"{call.op} inside an expression", call.span)

    def _invoke(self, call: Invoke, inside: bool) -> None:
        try:
            callee = self._program.function(call.function)
            check_kinds(self._function, callee, call)
            expected = result_type(callee, check_arguments(callee, call))
        except (KeyError, PyptoError) as error:
            raise VerificationFailed(f"in {self._function.name}: {error}", call.span) from error
        alike = [expected, call.type] if not isinstance(expected, TupleType) else [NoneType(), NoneType()]
        self._require(same_type(alike[0], alike[1]), f"{call.function} gives {expected}, not {call.type}", call.span)
        self._require(not (self._resolved and inside), f"a call of {call.function} inside an expression", call.span)

    def _require(self, condition: bool, problem: str, span: Span) -> None:
        if not condition:
            raise VerificationFailed(f"in {self._function.name}: {problem}", span)
