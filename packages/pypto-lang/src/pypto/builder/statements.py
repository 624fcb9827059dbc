"""Statements of orchestrations and kernels: rebinding becomes values with one variable each, carried and chosen.

A name that a loop's body assigns is carried from turn to turn; one that a branch assigns is chosen after the branches.
Tensors are places, and stay what they are: `f = pl.store(tile, [0, 0], f)` binds the name to the same place again.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence

from pypto.builder.control import Control, assigned_by
from pypto.builder.expressions import Expressions, unsupported
from pypto.builder.state import RETURNED, State, number_type
from pypto.builder.structure import structured
from pypto.builder.values import Items, Missing, Static, Value, _AlreadyTold
from pypto.errors import SignatureError, SyntaxUnsupported, TypeMismatch
from pypto.ir.calls import assignable
from pypto.ir.nodes import (
    Assign,
    Call,
    Eval,
    Expr,
    Return,
    ScalarType,
    Span,
    TensorType,
    TileType,
    Type,
    Var,
)


class Statements(Control):
    """Builds the statements of the innermost frame.

    Args:
        annotation: evaluates the annotation of an assignment to a type; in helpers they are not looked at.
    """

    def __init__(
        self, state: State, expressions: Expressions, annotation: Callable[[ast.expr], Type] | None = None
    ) -> None:
        super().__init__(state, expressions)
        self._annotation = annotation

    def function(self, node: ast.FunctionDef) -> None:
        """The body of a function, without its docstring. What it returns is ``RETURNED`` in its frame then."""
        body = node.body[1:] if _is_docstring(node.body) else node.body
        frame = self._state.frame
        for statement in body:
            for child in ast.walk(statement):
                if isinstance(child, ast.Name) and isinstance(child.ctx, ast.Store):
                    frame.assigned[child.id] = min(child.lineno, frame.assigned.get(child.id, child.lineno))
        for index, statement in enumerate(body[:-1]):
            if isinstance(statement, ast.Return):
                raise SyntaxUnsupported("nothing can follow return", self._state.span(body[index + 1]))
        self.block(structured(body, {*frame.assigned, *frame.env}))

    # --- blocks -------------------------------------------------------------------------------------------------------

    def block(self, statements: Sequence[ast.stmt]) -> None:
        state = self._state
        for statement in statements:
            if len(state.frames) > 1:  # a mistake in a helper is told where it is called
                self._statement(statement)
                continue
            with state.forgiving(assigned_by([statement])):
                self._statement(statement)

    def _statement(self, node: ast.stmt) -> None:
        span = self._state.span(node)
        match node:
            case ast.Pass():
                pass
            case ast.Expr(value=ast.Constant()):
                pass
            case ast.Expr(value=value):
                self._effect(value, span)
            case ast.Assign(targets=targets, value=value):
                if len(targets) > 1:
                    raise SyntaxUnsupported("two targets in one assignment", self._state.span(targets[1]))
                self._assign(targets[0], value, None, node)
            case ast.AnnAssign(target=target, annotation=annotation, value=value):
                if value is None:
                    raise SyntaxUnsupported("a variable without a value", span, "assign it where it is declared")
                self._assign(target, value, annotation, node)
            case ast.AugAssign(target=ast.Name() as target, op=op, value=value):
                load = ast.copy_location(ast.Name(target.id, ast.Load()), target)
                combined = ast.copy_location(ast.BinOp(load, op, value), node)
                self._assign(target, combined, None, node)
            case ast.For():
                self.for_statement(node)
            case ast.While():
                self.while_statement(node)
            case ast.If():
                self.if_statement(node)
            case ast.Return():
                self._return(node, span)
            case ast.AugAssign(target=target):
                self.target(target)
            case _:
                raise unsupported(node, self._state.frame.source)

    def _effect(self, node: ast.expr, span: Span) -> None:
        if not isinstance(node, ast.Call):
            self._expressions.value(node)
            raise SyntaxUnsupported("this statement has no effect", span)
        value = self._expressions.value(node)
        if isinstance(value, Call):
            if isinstance(value.type, (TensorType, TileType)):
                self._expressions.name(value, None)
            else:
                self._state.emit(Eval(value, span))

    # --- assignments --------------------------------------------------------------------------------------------------

    def _assign(self, target: ast.expr, value: ast.expr, annotation: ast.expr | None, node: ast.stmt) -> None:
        found = self._expressions.value(value)
        span = self._state.span(node)
        if isinstance(target, (ast.Tuple, ast.List)):
            self.unpack(target, found, value, span)
            return
        name = self.target(target)
        declared = None if annotation is None or self._annotation is None else self._annotation(annotation)
        if isinstance(found, Items) and not found.values:
            called = ast.unparse(value.func).rpartition(".")[2] if isinstance(value, ast.Call) else "this"
            raise SignatureError(
                f"{called} gives no result", self._state.span(value), "call it in a statement of its own"
            )
        if isinstance(found, Items) and isinstance(value, ast.Call):
            called = ast.unparse(value.func).rpartition(".")[2]
            raise SignatureError(
                f"{called} gives {len(found.values)} results", self._state.span(value), "unpack them: x, y = ..."
            )
        self._bind(name, found, span, self._state.span(target), declared, self._state.span(value))

    def unpack(self, target: ast.Tuple | ast.List, found: Value, value: ast.expr, span: Span) -> None:
        names = [ast.unparse(item) if _is_tuple(item) else self.target(item) for item in target.elts]
        if len(set(names)) != len(names):
            raise SyntaxUnsupported("one name twice among the targets", self._state.span(target))
        if isinstance(found, Static) and isinstance(found.value, (tuple, list)):
            found = Items(tuple(Static(item) for item in found.value))
        if isinstance(found, Missing):
            self._expressions.lift(found, span)
        if isinstance(found, (Static, Missing)) or (
            not isinstance(found, Items) and not isinstance(found.type, TensorType)
        ):
            raise SyntaxUnsupported(
                "only tuples, and the results of one of the program's functions, can be unpacked",
                self._state.span(value),
            )
        values = found.values if isinstance(found, Items) else (found,)
        if len(values) != len(names):
            many = {0: "no result", 1: "one result"}.get(len(values), f"{len(values)} results")
            raise SignatureError(f"{many} for {len(names)} variables", self._state.span(value))
        for name, item, part in zip(names, target.elts, values, strict=True):
            if isinstance(item, (ast.Tuple, ast.List)):
                self.unpack(item, part, value, span)
                continue
            self._bind(name, part, span, self._state.span(item), None, self._state.span(value))

    def _bind(self, name: str, found: Value, span: Span, place: Span, declared: Type | None, value_span: Span) -> None:
        """From here on ``name`` is ``found``."""
        state, frame = self._state, self._state.frame
        if isinstance(found, Missing):
            self._expressions.lift(found, span)
        if isinstance(found, Static) and not found.is_number and found.var is None:
            from pypto.ir.nodes import DimVar

            if isinstance(found.value, DimVar):
                found = self._expressions.lift(found, value_span)
            elif not _is_python(found.value):
                self._expressions.lift(found, value_span)  # raises
        value = found
        if not isinstance(found, (Items, Missing)) and (not isinstance(found, Static) or found.is_number):
            expr = self._expressions.lift(found, value_span)
            if isinstance(found, Static):
                number = number_type(found) if found.var is None else None
                if declared is not None:
                    self._check_declared(name, declared, expr, place)
                if number is not None:
                    expr = self._expressions.lift(Static(found.value), value_span)
                    value = Static(found.value, state.assign(name, expr, span))
            else:
                if declared is not None:
                    self._check_declared(name, declared, expr, place)
                value = self._variable(name, expr, span)
            self._check_carried(name, value if isinstance(value, Expr) else expr, place)
        self._check_place(name, value, place)
        frame.env[name] = value
        frame.places[name] = place

    def _variable(self, name: str, expr: Expr, span: Span) -> Expr:
        """The variable that ``name`` stands for when it gets ``expr``."""
        if isinstance(expr, Var):
            return expr  # another name for the same value
        if isinstance(expr, Call) and isinstance(expr.type, (TileType, TensorType)):
            var = self._expressions.name(expr, name)
            body = self._state.body
            body[-1] = Assign(var, expr, span)
            return var
        return self._state.assign(name, expr, span)

    def _check_declared(self, name: str, declared: Type, expr: Expr, place: Span) -> None:
        if not assignable(declared, expr.type):
            raise TypeMismatch(f"{name!r} is declared {declared}, and its value is {expr.type}", place)

    def _check_carried(self, name: str, value: Expr, place: Span) -> None:
        """Raises TypeMismatch where a loop carries ``name`` as something else."""
        carried = self._state.frame.declared.get(name)
        if carried is not None and not assignable(carried, value.type):
            raise TypeMismatch(
                f"{name!r} is {carried} before the loop, and gets {value.type} in it",
                place,
                "give it another name inside the loop",
            )

    def _check_place(self, name: str, value: Value, place: Span) -> None:
        """Raises where the name of an Out parameter would stand for something else."""
        state = self._state
        param = next((p for p in state.params if p.name == name), None) if len(state.frames) == 1 else None
        if param is None or not param.direction.writes or not isinstance(param.type, TensorType):
            return
        if not isinstance(value, Expr) or isinstance(value.type, TensorType):
            return
        offsets = ", ".join("0" for _ in param.type.shape)
        raise TypeMismatch(
            f"{name!r} is an {param.direction.value} parameter: what is assigned to its name is not stored in it",
            place,
            f"pl.store(..., [{offsets}], {name})",
        )

    def target(self, target: ast.expr) -> str:
        if not isinstance(target, ast.Name):
            raise SyntaxUnsupported(
                "only variables can be assigned",
                self._state.span(target),
                "write to a tensor with pl.store in a kernel",
            )
        if target.id in self._state.frame.counters:
            raise SyntaxUnsupported(
                f"the loop variable {target.id!r} can't be assigned", self._state.span(target), "use another name"
            )
        return target.id

    # --- return -------------------------------------------------------------------------------------------------------

    def _return(self, node: ast.Return, span: Span) -> None:
        frame = self._state.frame
        if frame.loops:
            raise SyntaxUnsupported("return stands at the end of a function only", span, "a loop runs to its end")
        frame.returns = span
        if node.value is None or (isinstance(node.value, ast.Constant) and node.value.value is None):
            frame.env[RETURNED] = Items(())
            return
        value = self._expressions.value(node.value)
        if len(self._state.frames) > 1:  # a helper gives whatever it likes
            frame.env[RETURNED] = value if isinstance(value, (Static, Items, Missing)) else self._flat(value)
            return
        places = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
        if isinstance(value, Static) and isinstance(value.value, tuple):
            value = Items(tuple(Static(item) for item in value.value))
        found = list(value.values) if isinstance(value, Items) else [value]
        returned: list[Value] = []
        if not found:
            name = ast.unparse(node.value.func).rpartition(".")[2] if isinstance(node.value, ast.Call) else "this"
            raise SignatureError(
                f"{name} gives no result", self._state.span(node.value), "call it in a statement of its own"
            )
        for index, item in enumerate(found):
            place = self._state.span(places[index] if len(places) == len(found) else node.value)
            if isinstance(item, Items):
                returned += [self._returned(part, place) for part in item.values]
            else:
                returned.append(self._returned(item, place))
        frame.env[RETURNED] = Items(tuple(returned))

    def _flat(self, value: Expr) -> Value:
        return self._expressions.flat(value)

    def _returned(self, value: Value, place: Span) -> Expr:
        """What a function of the program returns. Raises SignatureError for all but what it was given to write."""
        state = self._state
        typed = self._expressions.lift(value, place)
        if isinstance(typed.type, (TileType, ScalarType)):
            hint = "store it with pl.store, and return that tensor" if isinstance(typed.type, TileType) else None
            raise SignatureError(f"{state.name} returns a {typed.type}: functions return tensors", place, hint)
        var = self._expressions.flat(typed)
        assert isinstance(var, Var)
        param = next((p for p in state.params if p.name == var.name), None)
        if param is None or not param.direction.writes:
            what = "the In parameter" if param else "the intermediate tensor"
            raise SignatureError(
                f"{state.name} returns {what} {var.name!r}: it can return only what it was given to write",
                place,
                "write to a parameter pl.Out[...] and return that",
            )
        return Var(var.name, var.type, place)


def returned(state: State, span: Span) -> Return | None:
    """The statement at the end of the program's own function. Raises SignatureError where some paths lack one."""
    found = state.frame.env.get(RETURNED)
    if found is None:
        return None
    if isinstance(found, Missing):
        if found.told:
            raise _AlreadyTold("")
        raise SignatureError(
            f"{state.name} returns different things on different paths", span, "return once, at the end"
        )
    assert isinstance(found, Items)
    values = tuple(value for value in found.values if isinstance(value, Expr))
    return Return(values, state.frame.returns or span)


def _is_python(value: object) -> bool:
    """True for Python values that a variable may stand for while the program is built."""
    import types

    from pypto.ir.dtypes import DType

    return isinstance(value, (list, tuple, dict, str, bytes, DType, type(None), types.ModuleType, types.FunctionType))


def _is_tuple(node: ast.expr) -> bool:
    return isinstance(node, (ast.Tuple, ast.List))


def _is_docstring(body: list[ast.stmt]) -> bool:
    first = body[0] if body else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
