"""What a function gives back is an argument it wrote: results disappear, names for them become that argument."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from pypto.errors import SignatureError, SyntaxUnsupported
from pypto.ir import walk
from pypto.ir.nodes import (
    Assign,
    Call,
    Direction,
    Eval,
    Expr,
    For,
    Function,
    FunctionKind,
    Invoke,
    Program,
    Return,
    Stmt,
    TensorType,
    Unpack,
    Var,
)
from pypto.ops import registry
from pypto.passes.order import callees_first, with_functions


def resolve_aliases(program: Program) -> Program:
    """Replaces every name of a tensor by the parameter, new tensor or part of one (a slice) that it stands for.

    Takes a program without nested calls (``flatten_calls``). Afterwards calls and stores stand in Eval only, with every
    Out argument explicit; a tensor variable is assigned once, by an operation that makes a tensor or takes a part of
    one; and every returned value is an Out or InOut parameter, whose types are the function's results.

    Raises SignatureError where an In parameter is written, where one tensor is passed twice and written, and where a
    function returns anything but what it was given to write.
    """
    done: dict[str, Function] = {}
    results: dict[str, Sequence[int]] = {}
    for function in callees_first(program):
        resolution = _Resolution(function, done, results)
        done[function.name], results[function.name] = resolution.run()
    return with_functions(program, done)


class _Resolution:
    """Resolves one function.

    Args:
        callees: the functions it calls, resolved.
        results: for each of them, which parameters its results are.
    """

    def __init__(self, function: Function, callees: dict[str, Function], results: dict[str, Sequence[int]]) -> None:
        self._function = function
        self._callees = callees
        self._results = results
        # Tensor variables: what they stand for, and what that is a part of.
        self._stands_for: dict[str, Var] = {}
        self._part_of: dict[str, str] = {}
        for param in function.params:
            if isinstance(param.type, TensorType):
                self._own(Var(param.name, param.type, param.span), param.name)

    def run(self) -> tuple[Function, Sequence[int]]:
        body = self._body(self._function.body)
        returned = body[-1].values if body and isinstance(body[-1], Return) else ()
        names = [param.name for param in self._function.params]
        indexes = [names.index(value.name) for value in returned if isinstance(value, Var)]
        types = tuple(self._function.params[index].type for index in indexes)
        return replace(self._function, body=body, results=types), indexes

    def _body(self, body: tuple[Stmt, ...]) -> tuple[Stmt, ...]:
        return tuple(new for stmt in body for new in self._stmt(stmt))

    def _stmt(self, stmt: Stmt) -> list[Stmt]:
        match stmt:
            case Assign(target=Var(type=TensorType()) as target, value=value):
                return self._tensor(target, self._expr(value), stmt)
            case Assign(value=value):
                return [replace(stmt, value=self._expr(value))]
            case Unpack(targets=targets, value=value):
                call = self._expr(value)
                for target, written in zip(targets, self._written(call), strict=True):
                    self._bind(target, written)
                return [Eval(call, stmt.span)]
            case Eval(value=value):
                return [replace(stmt, value=self._expr(value))]
            case For(start=start, stop=stop, step=step):
                start, stop, step = (self._expr(bound) for bound in (start, stop, step))
                outer = dict(self._stands_for)
                inner = self._body(stmt.body)
                self._stands_for = outer
                return [replace(stmt, start=start, stop=stop, step=step, body=inner)]
            case Return(values=values):
                return [replace(stmt, values=tuple(self._returned(self._expr(value)) for value in values))]
        raise AssertionError(f"no statement: {stmt!r}")

    def _tensor(self, target: Var, value: Expr, stmt: Assign) -> list[Stmt]:
        if isinstance(value, Call) and (op := registry.get(value.op)).writes is None:
            if target.name in self._stands_for:
                raise self._rebound(target)
            whole = None if op.part_of is None else value.args[op.part_of]
            self._own(target, self._part_of[whole.name] if isinstance(whole, Var) else target.name)
            return [replace(stmt, value=value)]
        (written,) = self._written(value)
        self._bind(target, written)
        return [] if isinstance(value, Var) else [Eval(value, stmt.span)]

    def _written(self, value: Expr) -> list[Var]:
        """The variables that ``value`` gives: it is one itself, or it wrote them."""
        match value:
            case Var():
                found: list[Expr] = [value]
            case Call(op=op, args=args):
                written = registry.get(op).writes
                assert written is not None
                found = [args[written]]
            case Invoke(function=name, args=args):
                found = [args[index] for index in self._results[name]]
            case _:
                raise AssertionError(f"no tensor: {value!r}")
        return [var for var in found if isinstance(var, Var)]

    def _bind(self, target: Var, written: Var) -> None:
        old = self._stands_for.get(target.name)
        if old is not None and old.name != written.name:
            raise self._rebound(target)
        self._stands_for[target.name] = written

    def _own(self, variable: Var, origin: str) -> None:
        self._stands_for[variable.name] = variable
        self._part_of[variable.name] = origin

    def _rebound(self, target: Var) -> SyntaxUnsupported:
        return SyntaxUnsupported(
            f"{target.name!r} is another tensor in the next turn of the loop",
            target.span,
            "give the tensor inside the loop a name of its own",
        )

    def _expr(self, expr: Expr) -> Expr:
        resolved = walk.rebuild(expr, self._variable)
        if isinstance(resolved, Call) and (written := registry.get(resolved.op).writes) is not None:
            self._check_written(resolved.args[written])
        if isinstance(resolved, Invoke):
            self._check_call(resolved)
        return resolved

    def _variable(self, expr: Expr) -> Expr:
        if isinstance(expr, Var) and isinstance(expr.type, TensorType):
            return replace(self._stands_for[expr.name], span=expr.span)
        return expr

    def _check_call(self, call: Invoke) -> None:
        callee = self._callees[call.function]
        seen: dict[str, tuple[str, bool]] = {}
        for param, arg in zip(callee.params, call.args, strict=True):
            writes = param.direction.writes
            if writes:
                self._check_written(arg)
            if not isinstance(arg, Var) or not isinstance(arg.type, TensorType):
                continue
            other, other_writes = seen.setdefault(arg.name, (param.name, writes))
            if other == param.name:
                continue
            # One kernel may update a tensor in place; elsewhere each argument may be a copy of its own.
            if (writes and other_writes) or ((writes or other_writes) and callee.kind is not FunctionKind.INCORE):
                raise SignatureError(
                    f"{arg.name!r} is passed to {call.function} as {other!r} and as {param.name!r}, and written",
                    arg.span,
                    "pass another tensor, or make it one parameter: pl.InOut[...]",
                )

    def _check_written(self, arg: Expr) -> None:
        """Raises SignatureError where ``arg`` is an In parameter, or a part of one."""
        if not isinstance(arg, Var):
            return
        param = self._function.param(self._part_of[arg.name])
        if param is not None and param.direction is Direction.IN:
            raise SignatureError(
                f"{param.name!r} is written here, but it is an In parameter of {self._function.name}",
                arg.span,
                f"declare {param.name}: pl.Out[...], or pl.InOut[...] where it is read too",
            )

    def _returned(self, value: Expr) -> Expr:
        assert isinstance(value, Var)
        param = self._function.param(value.name)
        if param is None or not param.direction.writes:
            what = "the In parameter" if param else "the intermediate tensor"
            raise SignatureError(
                f"{self._function.name} returns {what} {value.name!r}: it can return only what it was given to write",
                value.span,
                "write to a parameter pl.Out[...] and return that",
            )
        return value
