"""Statements of orchestrations and kernels: syntax tree to IR."""

from __future__ import annotations

import ast
from collections.abc import Callable

from pypto.errors import SignatureError, SyntaxUnsupported
from pypto.ir.dtypes import INDEX
from pypto.ir.nodes import (
    UNKNOWN,
    Assign,
    Eval,
    Expr,
    For,
    Invoke,
    Return,
    ScalarType,
    Stmt,
    Type,
    Unpack,
    Var,
)
from pypto.parser.expressions import Expressions, unsupported
from pypto.parser.scope import Scope
from pypto.parser.source import Source


class Statements:
    """Parses the body of one function.

    Args:
        source: where the function stands.
        scope: its variables; shared with ``expressions``.
        annotation: evaluates the annotation of an assignment to a type.
    """

    def __init__(
        self, source: Source, scope: Scope, expressions: Expressions, annotation: Callable[[ast.expr], Type]
    ) -> None:
        self._source = source
        self._scope = scope
        self._expressions = expressions
        self._annotation = annotation

    def body(self, statements: list[ast.stmt]) -> tuple[Stmt, ...]:
        """The statements of a function, without its docstring. ``return`` may only be the last."""
        if statements and _is_docstring(statements[0]):
            statements = statements[1:]
        result: list[Stmt] = []
        for index, statement in enumerate(statements):
            if isinstance(statement, ast.Return):
                if index + 1 < len(statements):
                    raise SyntaxUnsupported("nothing can follow return", self._source.span(statements[index + 1]))
                result.append(self._return(statement))
            else:
                result += self._statement(statement)
        return tuple(result)

    def _statement(self, node: ast.stmt) -> list[Stmt]:
        span = self._source.span(node)
        match node:
            case ast.Pass():
                return []
            case ast.Expr(value=ast.Call() as value):
                return [Eval(self._expressions.expr(value), span)]
            case ast.Expr(value=ast.Constant(value=str())):  # a comment in quotes
                return []
            case ast.Expr():
                raise SyntaxUnsupported("this statement has no effect", span)
            case ast.Assign(targets=[target], value=value):
                return [self._assign(target, value, None, node)]
            case ast.Assign(targets=targets):
                raise SyntaxUnsupported("two targets in one assignment", self._source.span(targets[1]))
            case ast.AnnAssign(target=target, annotation=annotation, value=value):
                if value is None:
                    raise SyntaxUnsupported("a variable without a value", span, "assign it where it is declared")
                return [self._assign(target, value, annotation, node)]
            case ast.For():
                return [self._for(node)]
            case ast.Return():
                raise SyntaxUnsupported("return stands at the end of a function only", span, "a loop runs to its end")
        raise unsupported(node, self._source)

    def _assign(self, target: ast.expr, value: ast.expr, annotation: ast.expr | None, node: ast.stmt) -> Stmt:
        span = self._source.span(node)
        if isinstance(target, (ast.Tuple, ast.List)):
            return self._unpack(target, value, node)
        name = self._target(target)
        result = self._expressions.expr(value)
        declared = UNKNOWN if annotation is None else self._annotation(annotation)
        self._scope.define(name)
        return Assign(Var(name, declared, self._source.span(target)), result, span)

    def _unpack(self, target: ast.Tuple | ast.List, value: ast.expr, node: ast.stmt) -> Unpack:
        result: Expr = self._expressions.expr(value)
        if not isinstance(result, Invoke):
            raise SyntaxUnsupported(
                "only the results of one of the program's functions can be unpacked", self._source.span(value)
            )
        names = [self._target(item) for item in target.elts]
        if len(set(names)) != len(names):
            raise SyntaxUnsupported("one name twice among the targets", self._source.span(target))
        for name in names:
            self._scope.define(name)
        targets = tuple(
            Var(name, UNKNOWN, self._source.span(item)) for name, item in zip(names, target.elts, strict=True)
        )
        return Unpack(targets, result, self._source.span(node))

    def _target(self, target: ast.expr) -> str:
        if not isinstance(target, ast.Name):
            raise SyntaxUnsupported(
                "only variables can be assigned",
                self._source.span(target),
                "write to a tensor with pl.store in a kernel",
            )
        if self._scope.is_counter(target.id):
            raise SyntaxUnsupported(
                f"the loop variable {target.id!r} can't be assigned", self._source.span(target), "use another name"
            )
        return target.id

    def _for(self, node: ast.For) -> For:
        if node.orelse:
            raise SyntaxUnsupported("else of a loop", self._source.span(node.orelse[0]))
        name = self._target(node.target)
        start, stop, step = self._expressions.range_arguments(node.iter)
        if name in self._scope:
            raise SignatureError(
                f"{name!r} is a variable already", self._source.span(node.target), "give the loop variable another name"
            )
        with self._scope.loop(name, node.lineno):
            body = [statement for child in node.body for statement in self._statement(child)]
        variable = Var(name, ScalarType(INDEX), self._source.span(node.target))
        return For(variable, start, stop, step, tuple(body), self._source.span(node))

    def _return(self, node: ast.Return) -> Return:
        span = self._source.span(node)
        if node.value is None or (isinstance(node.value, ast.Constant) and node.value.value is None):
            return Return((), span)
        values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
        return Return(tuple(self._expressions.expr(value) for value in values), span)


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
