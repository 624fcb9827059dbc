"""What is known while the IR of one function is built: variables, the body being written, call sites, mistakes."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from pypto.builder.values import Items, Missing, Static, Value, _AlreadyTold
from pypto.errors import PyptoError, TypeMismatch
from pypto.ir.nodes import (
    Assign,
    Call,
    Const,
    Direction,
    Expr,
    Function,
    FunctionKind,
    Param,
    Span,
    Stmt,
    TensorType,
    TileType,
    Type,
    Var,
)
from pypto.source.files import Source
from pypto.source.namespace import Namespace

RETURNED = "return"  # no variable can be called so


@dataclass(slots=True)
class Frame:
    """One Python function whose statements are being built: the program's own, or a helper that it calls.

    Attributes:
        source: where it stands.
        namespace: what names mean that are no variables of it.
        self_name: what it calls the program; None in a helper.
        env: its variables; what it returned is ``RETURNED``.
        assigned: for each name that it assigns anywhere, the first line.
        counters: variables of the loops around the statement.
        declared: types that a name must keep, because a loop carries it.
        loops: how many loops of this function are around the statement.
        places: where each name was bound last.
        returns: where the function returns, once it has.
    """

    source: Source
    namespace: Namespace
    self_name: str | None
    env: dict[str, Value] = field(default_factory=dict)
    assigned: dict[str, int] = field(default_factory=dict)
    counters: set[str] = field(default_factory=set)
    declared: dict[str, Type] = field(default_factory=dict)
    loops: int = 0
    places: dict[str, Span] = field(default_factory=dict)
    returns: Span | None = None


class State:
    """The function that is being built.

    Args:
        name: of the function.
        params: its parameters, with types.
        functions: the names of the parameters of every function of the program.
        callees: the functions it calls that could be built.
        results: which parameters the results of each are.
        taken: names that variables made up here can't have.
    """

    def __init__(
        self,
        name: str,
        kind: FunctionKind,
        params: tuple[Param, ...],
        functions: Mapping[str, list[str]],
        callees: Mapping[str, Function],
        results: Mapping[str, tuple[int, ...]],
        taken: set[str],
    ) -> None:
        self.name = name
        self.kind = kind
        self.params = params
        self.functions = functions
        self.callees = callees
        self.results = results
        self.frames: list[Frame] = []
        self.errors: list[PyptoError] = []
        self.incomplete = False  # something was left out because of a mistake that is told elsewhere
        self.body: list[Stmt] = []
        self.origins: dict[str, str] = {}  # tensor variable → the variable of the whole that it is a part of
        self.written: set[str] = set()  # parameters and new tensors that are written on every path up to here
        self.dims = {
            dim.name: None
            for param in params
            if isinstance(param.type, TensorType)
            for dim in param.type.shape
            if not isinstance(dim, int)
        }
        self._taken = taken | {param.name for param in params}
        self._used = {param.name for param in params}
        self._counts: dict[str, int] = {}
        for param in params:
            if isinstance(param.type, TensorType):
                self.origins[param.name] = param.name

    @property
    def frame(self) -> Frame:
        """The Python function whose statement is being built."""
        return self.frames[-1]

    def span(self, node: ast.AST) -> Span:
        """The place of a syntax tree node."""
        return self.frame.source.span(node)

    # --- variables ------------------------------------------------------------------------------------------------

    def variable(self, stem: str, type_: Type, span: Span) -> Var:
        """A new variable of the IR, called ``stem`` where nothing else is."""
        if stem in self._used or not stem.isidentifier():
            stem = self._free(stem if stem.isidentifier() else "value")
        self._used.add(stem)
        return Var(stem, type_, span)

    def temporary(self, expr: Expr) -> Var:
        """A new variable for what an expression inside another gives."""
        stem = expr.op.partition(".")[2] if isinstance(expr, Call) else "value"
        name = self._free(stem)
        self._used.add(name)
        return Var(name, expr.type, expr.span)

    def _free(self, stem: str) -> str:
        count = self._counts.get(stem, 0)
        while True:
            count += 1
            name = f"{stem}_{count}"
            if name not in self._taken and name not in self._used:
                self._counts[stem] = count
                return name

    def emit(self, stmt: Stmt) -> None:
        """Add a statement to the body that is being written."""
        self.body.append(stmt)

    def assign(self, stem: str, value: Expr, span: Span) -> Var:
        """``stem = value`` in the body; gives the variable."""
        var = self.variable(stem, value.type, span)
        self.emit(Assign(var, value, span))
        return var

    @contextmanager
    def inner(self) -> Iterator[list[Stmt]]:
        """A body inside the one that is being written."""
        outer, self.body = self.body, []
        try:
            yield self.body
        finally:
            self.body = outer

    # --- tensors --------------------------------------------------------------------------------------------------

    def param_of(self, tensor: Var) -> Param | None:
        """The parameter that a tensor is, or is a part of."""
        origin = self.origins[tensor.name]
        return next((param for param in self.params if param.name == origin), None)

    def mark_written(self, tensor: Var) -> None:
        """``tensor`` is written here. Raises SignatureError where it is, or is a part of, an In parameter."""
        from pypto.errors import SignatureError

        param = self.param_of(tensor)
        if param is not None and param.direction is Direction.IN:
            raise SignatureError(
                f"{param.name!r} is written here, but it is an In parameter of {self.name}",
                tensor.span,
                f"declare {param.name}: pl.Out[...], or pl.InOut[...] where it is read too",
            )
        self.written.add(self.origins[tensor.name])

    # --- mistakes -------------------------------------------------------------------------------------------------

    @contextmanager
    def forgiving(self, names: Iterator[str] | list[str]) -> Iterator[None]:
        """Keep the error that is raised inside, and go on: what ``names`` stand for is not known then."""
        frame = self.frame
        before = (frame.env, frame.loops, frame.declared, set(frame.counters))
        try:
            yield
        except PyptoError as error:
            frame.env, frame.loops, frame.declared, frame.counters = before
            self.incomplete = True
            if not isinstance(error, _AlreadyTold):
                self.errors.append(error)
            for name in names:
                self.frame.env[name] = Missing("", told=True)


def number_type(value: Static) -> Const:
    """A number that is known as an expression."""
    from pypto.builder.arithmetic import BOOL_TYPE, INDEX_TYPE
    from pypto.ir.dtypes import FP32
    from pypto.ir.nodes import ScalarType

    if isinstance(value.value, bool):
        return Const(value.value, BOOL_TYPE)
    if isinstance(value.value, float):
        return Const(float(value.value), ScalarType(FP32))
    assert isinstance(value.value, int)
    return Const(int(value.value), INDEX_TYPE)


def is_value(value: Value | None) -> bool:
    """True for what a loop can carry: a number or a tile."""
    if isinstance(value, Static):
        return value.is_number
    return value is not None and not isinstance(value, (Items, Missing)) and not isinstance(value.type, TensorType)


def tile_type(value: Expr) -> TileType:
    """The type of a tile. Raises TypeMismatch for anything else."""
    if not isinstance(value.type, TileType):
        raise TypeMismatch(f"expected a tile, found {value.type}", value.span)
    return value.type
