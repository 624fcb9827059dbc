"""Signatures: parameters with types and directions, and results, from annotations."""

from __future__ import annotations

import ast
from types import FunctionType, GenericAlias

from pypto.builder.static import evaluate
from pypto.errors import SignatureError, SyntaxUnsupported
from pypto.ir.nodes import (
    Direction,
    FunctionKind,
    NoneType,
    Param,
    ScalarType,
    Span,
    TensorType,
    TileType,
    Type,
)
from pypto.language.annotations import Directed
from pypto.source.files import Source
from pypto.source.namespace import AnnotationNames, Namespace

UNDECLARED = NoneType()  # the type of a parameter that has no annotation, until it is inferred

# Orchestrators may leave annotations out: they take them from what they call.
_INFERRED = (FunctionKind.CHIP_ORCHESTRATION, FunctionKind.HOST_ORCHESTRATION)
_EXAMPLE = "write pl.Tensor[[128, 128], pl.FP32], pl.Out[pl.Tensor[...]] or pl.Scalar[pl.INT64]"


class Signatures:
    """Reads the signature of one function.

    Args:
        function: the Python function. Annotations that Python has evaluated are taken from it.
        node: its ``def``.
    """

    def __init__(
        self, function: FunctionType, node: ast.FunctionDef, kind: FunctionKind, source: Source, namespace: Namespace
    ) -> None:
        self._node = node
        self._kind = kind
        self._source = source
        self._names = AnnotationNames(namespace)
        try:
            self._evaluated = function.__annotations__
        except NameError:  # Python 3.14 evaluates them now; here they are, with the place of what is wrong
            self._evaluated = {}

    def parameters(self) -> tuple[Param, ...]:
        """The parameters after ``self``.

        Raises SignatureError, or SyntaxUnsupported for ``*args`` and defaults.
        """
        arguments = self._node.args
        other = [*arguments.kwonlyargs, *filter(None, (arguments.vararg, arguments.kwarg))]
        if other:
            raise SyntaxUnsupported("only plain parameters are supported", self._source.span(other[0]))
        if arguments.defaults:
            raise SyntaxUnsupported(
                "parameters have no defaults", self._source.span(arguments.defaults[0]), "give it at each call"
            )
        return tuple(self._parameter(argument) for argument in (*arguments.posonlyargs, *arguments.args)[1:])

    def results(self) -> tuple[Type, ...] | None:
        """The types of the results; None where the function doesn't say."""
        node = self._node.returns
        if node is None:
            return None
        value = self._value(node, "return")
        if isinstance(value, GenericAlias):  # tuple[A, B]
            items: list[object] = list(value.__args__)
        else:
            items = list(value) if isinstance(value, tuple) else [value]
        if items == [None]:
            return ()
        if self._kind is FunctionKind.SUB_WORKER:
            raise SignatureError(
                f"SubWorker {self._node.name} gives no result",
                self._source.span(node),
                "write it to a parameter: result: pl.Out[pl.Tensor[...]]",
            )
        for item in items:
            if not isinstance(item, TensorType):
                raise SignatureError("a function returns tensors", self._source.span(node), "write -> pl.Tensor[...]")
        return tuple(item for item in items if isinstance(item, TensorType))

    def local(self, node: ast.expr) -> Type:
        """The type an assignment declares. Raises SignatureError where it is no type."""
        value = evaluate(node, self._names, self._source)
        if not isinstance(value, (TensorType, TileType, ScalarType)):
            raise SignatureError("this is no type of the language", self._source.span(node), _EXAMPLE)
        return value

    def _parameter(self, argument: ast.arg) -> Param:
        span = self._source.span(argument)
        name_span = Span(span.file, span.line, span.column, span.line, span.column + len(argument.arg), span.text)
        if argument.annotation is None:
            if self._kind in _INFERRED:
                return Param(argument.arg, UNDECLARED, Direction.IN, name_span)
            raise SignatureError(
                f"parameter {argument.arg!r} of {self._kind.value} {self._node.name} needs a type", name_span, _EXAMPLE
            )
        value = self._value(argument.annotation, argument.arg)
        if isinstance(value, (TensorType, ScalarType)):
            return Param(argument.arg, value, Direction.IN, name_span)
        if isinstance(value, Directed):
            return Param(argument.arg, value.type, value.direction, name_span)
        where = self._source.span(argument.annotation)
        if isinstance(value, TileType):
            raise SignatureError("a tile can't be a parameter: tiles live inside one kernel", where, _EXAMPLE)
        raise SignatureError("this is no type of a parameter", where, _EXAMPLE)

    def _value(self, node: ast.expr, name: str) -> object:
        """An annotation's value. Python has evaluated it unless it is a string or annotations are postponed."""
        value = self._evaluated.get(name)
        if name in self._evaluated and not isinstance(value, str):
            return value
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            try:
                inner = ast.parse(node.value, mode="eval").body
            except SyntaxError:
                raise SignatureError("this is no type of the language", self._source.span(node), _EXAMPLE) from None
            for child in ast.walk(inner):
                ast.copy_location(child, node)
            node = inner
        return evaluate(node, self._names, self._source)
