"""The IR: small frozen dataclasses, compared by structure (source locations don't count).

A ``Program`` is a tuple of ``Function``; a function's body is a tuple of statements; statements hold expressions.
Every expression has a ``type`` and a ``span``.

Numbers and tiles are values: each has one variable, which is defined once (SSA). What a loop carries from turn to
turn, and what the branches of an ``If`` give, has variables of its own: ``Carried``, ``If.results``; the ``Yield`` at
the end of a body says what their next value is. Tensors are places: a variable of one stands for a parameter, a new
tensor or a part of one, and is never carried. An operation that gives a tile stands alone in an ``Assign``; arithmetic
on numbers nests.

    body      = statement*
    statement = Assign(var, expr) | Eval(expr) | Return(expr*) | Yield(expr*)
              | For(var, start, stop, step, Carried*, body) | While(condition, Carried*, body)
              | If(condition, body, body, var*)
    expr      = Var | Const | DimExpr | Binary(op, expr, expr) | Not(expr) | ExprTuple(expr*)
              | Call(op, expr*, attribute*) | Invoke(function, expr*, device)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from pypto.errors import HostOrchestratorError
from pypto.ir.dtypes import DType
from pypto.spans import NO_SPAN, Span

# --- types ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DimVar:
    """A dimension that is known when the program runs (``pl.dynamic("M")``)."""

    name: str

    def __str__(self) -> str:
        return self.name


# A dimension that is computed (`pl.slice(x, [rows, 64], ...)`): fits any other until the program runs.
ANY_DIM = DimVar("?")

Dim = int | DimVar


class Fill(Enum):
    """Whether a tile is one value everywhere, whatever its region."""

    NO = "no"
    YES = "yes"
    MAYBE = "maybe"  # in the first turn of a loop, say

    def meet(self, other: Fill) -> Fill:
        """What is known of a value that is one or the other."""
        return self if self is other else Fill.MAYBE


@dataclass(frozen=True, slots=True)
class TensorType:
    """A tensor in memory: 1 to 5 dimensions, each an int or a DimVar."""

    shape: tuple[Dim, ...]
    dtype: DType

    def __str__(self) -> str:
        return f"Tensor[[{', '.join(map(str, self.shape))}], {self.dtype}]"


@dataclass(frozen=True, slots=True)
class TileType:
    """A tile in a core's local memory: static ``(rows, columns)``.

    ``valid`` is how many rows and columns of it hold data, where that is known before the program runs; else None.
    ``fill`` tells whether it is one value everywhere, such as ``pl.full`` gives: such a tile takes the valid region of
    what it meets.
    """

    shape: tuple[int, int]
    dtype: DType
    valid: tuple[int | None, int | None] = field(default=(None, None), compare=False, repr=False)
    fill: Fill = field(default=Fill.NO, compare=False, repr=False)

    def __str__(self) -> str:
        return f"Tile[[{self.shape[0]}, {self.shape[1]}], {self.dtype}]"


@dataclass(frozen=True, slots=True)
class ScalarType:
    """One value."""

    dtype: DType

    def __str__(self) -> str:
        return f"Scalar[{self.dtype}]"


@dataclass(frozen=True, slots=True)
class NoneType:
    """The type of a call that gives nothing."""

    def __str__(self) -> str:
        return "None"


@dataclass(frozen=True, slots=True)
class TupleType:
    """The type of an ``ExprTuple`` and of a call with several results."""

    items: tuple[Type, ...]

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.items))})"


Type = TensorType | TileType | ScalarType | NoneType | TupleType


class Direction(Enum):
    """What a function does with a parameter: reads it, writes it, or both."""

    IN = "In"
    OUT = "Out"
    INOUT = "InOut"

    @property
    def writes(self) -> bool:
        """True for OUT and INOUT."""
        return self is not Direction.IN


# --- expressions ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Var:
    """A use (or, as an assignment's target, a definition) of a variable or parameter."""

    name: str
    type: Type
    span: Span = field(default=NO_SPAN, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Const:
    """A number known when the program is parsed.

    An int is of type ``ScalarType(INDEX)``, a float of ``ScalarType(FP32)``, unless it stands beside a tile, or for a
    Scalar parameter: then it is of their dtype.
    """

    value: int | float | bool
    type: Type
    span: Span = field(default=NO_SPAN, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class DimExpr:
    """A dynamic dimension used as a value; some parameter of the function has it in its shape."""

    name: str
    type: Type
    span: Span = field(default=NO_SPAN, compare=False, repr=False)


ARITHMETIC = ("+", "-", "*", "//", "%", "/", "min", "max")
COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
LOGIC = ("and", "or")


@dataclass(frozen=True, slots=True)
class Binary:
    """Two numbers make one: ``op`` is one of ARITHMETIC, COMPARISONS (which give BOOL) and LOGIC.

    Integers of any dtype are INDEX in arithmetic: 64 bits, two's complement, wrapping around; ``//`` and ``%`` round
    towards minus infinity. Floats are FP32: each result is rounded to it. So it is in kernels, on chips and on hosts.
    """

    op: str
    lhs: Expr
    rhs: Expr
    type: Type
    span: Span = field(default=NO_SPAN, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Not:
    """``not operand``, of a BOOL."""

    operand: Expr
    type: Type
    span: Span = field(default=NO_SPAN, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class ExprTuple:
    """A list of index expressions: offsets, shapes."""

    items: tuple[Expr, ...]
    type: Type
    span: Span = field(default=NO_SPAN, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Call:
    """One operation of the op registry; ``args`` in the order of the op's operands, ``attrs`` sorted by name."""

    op: str
    args: tuple[Expr, ...]
    attrs: tuple[tuple[str, object], ...]
    type: Type
    span: Span = field(default=NO_SPAN, compare=False, repr=False)

    def attr(self, name: str) -> object:
        """The attribute called ``name``; KeyError where there is none."""
        return dict(self.attrs)[name]


@dataclass(frozen=True, slots=True)
class Invoke:
    """A call of another function of the program: ``self.function(args, device=…)``.

    ``type`` is that of its result: a TensorType, a TupleType of several, or NoneType.
    """

    function: str
    args: tuple[Expr, ...]
    device: Expr | None
    type: Type
    span: Span = field(default=NO_SPAN, compare=False, repr=False)


Expr = Var | Const | DimExpr | Binary | Not | ExprTuple | Call | Invoke


# --- statements ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Assign:
    """``target = value``, which defines ``target``."""

    target: Var
    value: Expr
    span: Span = field(default=NO_SPAN, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Eval:
    """An expression evaluated for its effect: a store, a call. What a call gives is among its Out arguments."""

    value: Expr
    span: Span = field(default=NO_SPAN, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Carried:
    """A value that goes from turn to turn of a loop.

    ``param`` is it inside the body, ``init`` what it is in the first turn, ``result`` what it is after the loop. A turn
    ends with a ``Yield`` of the next values.
    """

    param: Var
    init: Expr
    result: Var


@dataclass(frozen=True, slots=True)
class For:
    """``for var in pl.range(start, stop, step)``; ``var`` is an INDEX scalar that lives inside the body."""

    var: Var
    start: Expr
    stop: Expr
    step: Expr
    carried: tuple[Carried, ...]
    body: tuple[Stmt, ...]
    span: Span = field(default=NO_SPAN, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class While:
    """``while condition``; the condition sees what the loop carries."""

    condition: Expr
    carried: tuple[Carried, ...]
    body: tuple[Stmt, ...]
    span: Span = field(default=NO_SPAN, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class If:
    """``if condition: then, else: otherwise``; each branch ends with a ``Yield`` of ``results`` where there are any."""

    condition: Expr
    then: tuple[Stmt, ...]
    otherwise: tuple[Stmt, ...]
    results: tuple[Var, ...] = ()
    span: Span = field(default=NO_SPAN, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Yield:
    """The last statement of a body that carries values, or of a branch that gives some."""

    values: tuple[Expr, ...]
    span: Span = field(default=NO_SPAN, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Return:
    """The last statement of a function, if it has one. Every value is an Out or InOut parameter."""

    values: tuple[Expr, ...]
    span: Span = field(default=NO_SPAN, compare=False, repr=False)


Stmt = Assign | Eval | For | While | If | Yield | Return


# --- functions and programs ----------------------------------------------------------------------------------------


class FunctionKind(Enum):
    """Where a function runs and what its body is."""

    INCORE = "InCore kernel"
    CHIP_ORCHESTRATION = "chip orchestration"
    HOST_ORCHESTRATION = "host orchestrator"
    SUB_WORKER = "SubWorker"


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter; ``type`` is a TensorType or ScalarType."""

    name: str
    type: Type
    direction: Direction = Direction.IN
    span: Span = field(default=NO_SPAN, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class SubWorkerSource:
    """A SubWorker's Python.

    Attributes:
        source: its ``def`` without decorator, annotations and ``self``, dedented; parameters in order.
        globals: the names it uses that are neither its own nor builtins, with what they are bound to, sorted by name.
            Filled by ``pypto.passes.capture.resolve_program``.
        uses_torch: it refers to torch (so its tensors are torch tensors).
        uses_numpy: it refers to numpy.
        free: the names to be captured, each with the place of its first use.
        function: the Python function it comes from, or None (a printed program that was parsed from text).
    """

    source: str
    globals: tuple[tuple[str, object], ...] = field(default=(), compare=False, repr=False)
    uses_torch: bool = field(default=False, compare=False)
    uses_numpy: bool = field(default=False, compare=False)
    free: tuple[tuple[str, Span], ...] = field(default=(), compare=False, repr=False)
    function: Callable[..., object] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Alloc:
    """Memory of a core that tiles of a kernel share, one after the other.

    Attributes:
        name: of the first variable in it; it is allocated where that is defined.
        type: of every tile in it.
        nbytes: what it takes of the core's memory.
        variables: whose values it holds, the first first.
        span: where the first is defined.
    """

    name: str
    type: TileType
    nbytes: int
    variables: tuple[str, ...]
    span: Span = field(default=NO_SPAN, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Function:
    """One ``@pl.function``. ``sub_worker`` is given for SUB_WORKER, whose ``body`` is empty.

    Attributes:
        results: the types of what it returns.
        memory: of a kernel: where its tiles are, once the pass ``plan_memory`` has decided; None before.
    """

    name: str
    kind: FunctionKind
    params: tuple[Param, ...]
    results: tuple[Type, ...]
    body: tuple[Stmt, ...]
    span: Span = field(default=NO_SPAN, compare=False, repr=False)
    sub_worker: SubWorkerSource | None = None
    doc: str = field(default="", compare=False, repr=False)
    memory: tuple[Alloc, ...] | None = field(default=None, compare=False, repr=False)

    def param(self, name: str) -> Param | None:
        """The parameter called ``name``, or None."""
        return next((p for p in self.params if p.name == name), None)


@dataclass(frozen=True, slots=True)
class Program:
    """What ``@pl.program`` makes of a class.

    Attributes:
        lowered: the same after all passes, where they have been run.
        made: what ``ir.compile`` keeps, so as not to do it again.
        declared: its functions as other programs can use them: ``kernel = Program.kernel`` in a class.
    """

    name: str
    functions: tuple[Function, ...]
    span: Span = field(default=NO_SPAN, compare=False, repr=False)
    doc: str = field(default="", compare=False, repr=False)
    lowered: Program | None = field(default=None, compare=False, repr=False)
    made: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)
    declared: Mapping[str, object] = field(default_factory=dict, compare=False, repr=False)

    def __getattr__(self, name: str) -> Any:
        """A function of it, for another program."""
        if not name.startswith("_") and name in self.declared:
            return self.declared[name]
        known = ", ".join(self.declared) if not name.startswith("_") else ""
        raise AttributeError(f"the program has no function {name!r}" + (f"; it has {known}" if known else ""))

    def function(self, name: str) -> Function:
        """The function called ``name``. Raises KeyError listing the functions there are."""
        for function in self.functions:
            if function.name == name:
                return function
        raise KeyError(f"{self.name} has no function {name!r}; it has {', '.join(f.name for f in self.functions)}")

    def of_kind(self, kind: FunctionKind) -> tuple[Function, ...]:
        """The functions of one kind, in the order they are written."""
        return tuple(f for f in self.functions if f.kind is kind)

    @property
    def entry(self) -> Function:
        """Where a run starts: the host orchestrator, or the single chip orchestration when there is no host level.

        Raises HostOrchestratorError when there is none, or more than one.
        """
        if self.of_kind(FunctionKind.HOST_ORCHESTRATION):
            return self.require_host()
        chips = self.of_kind(FunctionKind.CHIP_ORCHESTRATION)
        if len(chips) == 1:
            return chips[0]
        if chips:
            names = ", ".join(f.name for f in chips)
            message = f"program {self.name} has no host orchestrator, and {len(chips)} chip orchestrations ({names})"
        else:
            message = f"program {self.name} has neither a host orchestrator nor a chip orchestration"
        raise HostOrchestratorError(message, self.span, _HOST_HINT)

    def require_host(self) -> Function:
        """The host orchestrator. Raises HostOrchestratorError when there is none, or more than one."""
        hosts = self.of_kind(FunctionKind.HOST_ORCHESTRATION)
        if len(hosts) == 1:
            return hosts[0]
        if not hosts:
            raise HostOrchestratorError(f"program {self.name} has no host orchestrator", self.span, _HOST_HINT)
        names = ", ".join(f.name for f in hosts)
        raise HostOrchestratorError(
            f"program {self.name} has {len(hosts)} host orchestrators ({names}); a run can start at one only",
            hosts[1].span,
            "split the class into one program for each, or call the others' chip orchestrations from one of them",
        )


_HOST_HINT = "mark one method with @pl.function(level=pl.Level.HOST, role=pl.Role.Orchestrator)"
