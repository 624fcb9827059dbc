"""Every tile, tensor and function result gets a variable, so that operations have no operations inside."""

from __future__ import annotations

from dataclasses import replace

from pypto.ir import walk
from pypto.ir.nodes import (
    Assign,
    Call,
    Eval,
    Expr,
    For,
    Function,
    Invoke,
    Program,
    Return,
    Stmt,
    TensorType,
    TileType,
    TupleType,
    Unpack,
    Var,
)


def flatten_calls(program: Program) -> Program:
    """Gives nested operations and calls variables of their own, in the order they are evaluated.

    Afterwards an operation with a tile or tensor result, and a call of a function, stands only as the value of an
    Assign, Unpack or Eval. Arithmetic on numbers stays nested.
    """
    return replace(program, functions=tuple(_Flattening(f).run() for f in program.functions))


class _Flattening:
    def __init__(self, function: Function) -> None:
        self._function = function
        self._taken = walk.names(function.body) | {param.name for param in function.params}
        self._out: list[Stmt] = []

    def run(self) -> Function:
        return replace(self._function, body=self._body(self._function.body))

    def _body(self, body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
        outer, self._out = self._out, []
        for stmt in body:
            self._out.append(self._stmt(stmt))
        inner, self._out = self._out, outer
        return tuple(inner)

    def _stmt(self, stmt: Stmt) -> Stmt:
        match stmt:
            case Assign(value=value) | Eval(value=value) | Unpack(value=value):
                return replace(stmt, value=self._operands_flat(value))
            case For(start=start, stop=stop, step=step):
                start, stop, step = (self._flat(bound) for bound in (start, stop, step))
                return replace(stmt, start=start, stop=stop, step=step, body=self._body(stmt.body))
            case Return(values=values):
                flat = [item for value in values for item in self._returned(value)]
                return replace(stmt, values=tuple(flat))
        raise AssertionError(f"no statement: {stmt!r}")

    def _returned(self, value: Expr) -> list[Expr]:
        if not isinstance(value.type, TupleType):
            return [self._flat(value)]
        assert isinstance(value, Invoke)
        targets = tuple(Var(self._name(value), type_, value.span) for type_ in value.type.items)
        self._out.append(Unpack(targets, self._operands_flat(value), value.span))
        return list(targets)

    def _operands_flat(self, expr: Expr) -> Expr:
        return walk.with_operands(expr, tuple(self._flat(operand) for operand in walk.operands(expr)))

    def _flat(self, expr: Expr) -> Expr:
        """``expr``, or the variable that has its value."""
        expr = self._operands_flat(expr)
        if not isinstance(expr, (Call, Invoke)) or not isinstance(expr.type, (TileType, TensorType)):
            return expr
        variable = Var(self._name(expr), expr.type, expr.span)
        self._out.append(Assign(variable, expr, expr.span))
        return variable

    def _name(self, expr: Call | Invoke) -> str:
        stem = expr.op.partition(".")[2] if isinstance(expr, Call) else expr.function
        return walk.fresh(stem, self._taken)
