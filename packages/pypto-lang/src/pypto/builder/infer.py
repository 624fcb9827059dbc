"""Orchestrators without annotations take types and directions from what they call."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import replace

from pypto.builder.signature import UNDECLARED
from pypto.builder.values import already_told
from pypto.errors import SignatureError, TypeMismatch
from pypto.ir.nodes import Dim, DimVar, Direction, Function, Param, TensorType, Type
from pypto.source.files import Source


def inferred(
    name: str,
    node: ast.FunctionDef,
    self_name: str,
    params: tuple[Param, ...],
    functions: Mapping[str, list[str]],
    callees: Mapping[str, Function],
    source: Source,
) -> tuple[Param, ...]:
    """The parameters of a function, each with a type.

    A parameter without one has the type of the parameters it is passed to. It is Out where a callee writes it before
    any reads it, InOut where one reads it first or both at once, In otherwise.

    Raises SignatureError for a parameter that is passed to nothing, TypeMismatch where two callees disagree.
    """
    if all(param.type != UNDECLARED for param in params):
        return params
    search = _Search(self_name, params, functions, callees)
    for statement in node.body:
        search.statement(statement)
    if search.incomplete:
        already_told()
    return tuple(
        param if param.type != UNDECLARED else _with_type(name, param, search.uses[param.name], source)
        for param in params
    )


class _Use:
    """A parameter passed to a callee: whole, or a part of it."""

    def __init__(self, callee: Function, param: Param, argument: ast.expr, whole: bool) -> None:
        self.callee, self.param, self.argument, self.whole = callee, param, argument, whole


class _Search:
    """What each parameter is passed to, in the order of the calls."""

    def __init__(
        self,
        self_name: str,
        params: tuple[Param, ...],
        functions: Mapping[str, list[str]],
        callees: Mapping[str, Function],
    ) -> None:
        self._self = self_name
        self._functions = functions
        self._callees = callees
        self.uses: dict[str, list[_Use]] = {param.name: [] for param in params}
        self.incomplete = False  # a function that is called could not be built
        # Variables that stand for a parameter, or (False) a part of it.
        self._stands_for: dict[str, tuple[str, bool]] = {param.name: (param.name, True) for param in params}

    def statement(self, node: ast.stmt) -> None:
        """Look at a statement, and at those inside it."""
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.stmt):
                self.statement(child)
            elif isinstance(child, ast.expr):
                self._calls(child)
        if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found = self._parameter(node.value)
            for target in targets:
                if isinstance(target, ast.Name):
                    if found is not None:
                        self._stands_for[target.id] = found
                    elif not self._is_call(node.value):  # what a call gives is most often what it was given
                        self._stands_for.pop(target.id, None)

    def _calls(self, node: ast.expr) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self._calls(child)
        if not isinstance(node, ast.Call) or not self._is_call(node):
            return
        assert isinstance(node.func, ast.Attribute)
        callee = self._callees.get(node.func.attr)
        if callee is None and node.func.attr not in self._functions:
            return
        if callee is None:
            self.incomplete = True
            return
        given = dict(zip((p.name for p in callee.params), node.args, strict=False))
        given |= {keyword.arg: keyword.value for keyword in node.keywords if keyword.arg}
        for param in callee.params:
            argument = given.get(param.name)
            found = self._parameter(argument) if argument is not None else None
            if found is not None and argument is not None:
                self.uses[found[0]].append(_Use(callee, param, argument, found[1]))

    def _is_call(self, node: ast.expr) -> bool:
        func = node.func if isinstance(node, ast.Call) else None
        base = func.value if isinstance(func, ast.Attribute) else None
        return isinstance(base, ast.Name) and base.id == self._self

    def _parameter(self, node: ast.expr) -> tuple[str, bool] | None:
        """The parameter that an expression is, or (False) is a part of."""
        if isinstance(node, ast.Name):
            return self._stands_for.get(node.id)
        whole: tuple[str, bool] | None = None
        if isinstance(node, ast.Subscript):
            whole = self._parameter(node.value)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "slice":
            whole = self._parameter(node.args[0]) if node.args else None
        return None if whole is None else (whole[0], False)


def _with_type(name: str, param: Param, uses: list[_Use], source: Source) -> Param:
    type_: Type = UNDECLARED
    first: _Use | None = None
    for use in uses:
        if not use.whole:
            continue
        merged = use.param.type if first is None else _merged(type_, use.param.type)
        first = first or use
        if merged is None:
            raise TypeMismatch(
                f"parameter {param.name!r} of {name} has no annotation, and its uses disagree: "
                f"{first.callee.name} takes {type_}, {use.callee.name} takes {use.param.type}",
                source.span(use.argument),
                f"annotate {param.name}",
            )
        type_ = merged
    if type_ == UNDECLARED:
        raise SignatureError(
            f"parameter {param.name!r} of {name} has no annotation, and "
            + ("only parts of it are passed on" if uses else "it is passed to nothing that has one"),
            param.span,
            f"annotate it: {param.name}: pl.Tensor[[128, 128], pl.FP32]",
        )
    return replace(param, type=type_, direction=_direction([use.param.direction for use in uses]))


def _merged(one: Type, other: Type) -> Type | None:
    """The type that fits where ``one`` and where ``other`` is taken, if any: a dynamic dimension takes all."""
    if not isinstance(one, TensorType) or not isinstance(other, TensorType):
        return one if one == other else None
    if one.dtype != other.dtype or len(one.shape) != len(other.shape):
        return None
    dims: list[Dim] = []
    for a, b in zip(one.shape, other.shape, strict=True):
        if isinstance(a, int) and isinstance(b, int) and a != b:
            return None
        dims.append(a if isinstance(a, int) or isinstance(b, DimVar) else b)
    return TensorType(tuple(dims), one.dtype)


def _direction(uses: list[Direction]) -> Direction:
    if uses[0] is Direction.IN and any(use.writes for use in uses):
        return Direction.INOUT
    return uses[0]
