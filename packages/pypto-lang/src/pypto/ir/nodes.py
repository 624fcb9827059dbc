"""The IR: small frozen dataclasses, compared by structure (source locations don't count).

A ``Program`` is a tuple of ``Function``; a function's body is a tuple of statements; statements hold expressions.
Every expression has a ``type`` and a ``span``. Variables are mutable: an ``Assign`` to a name that exists gives that
variable a new value of the same type. A variable first assigned inside a ``For`` lives until the end of that body.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from pypto.errors import HostOrchestratorError
from pypto.ir.dtypes import DType


@dataclass(frozen=True, slots=True)
class Span:
    """A place in a user's source: 1-based lines, 0-based columns counted in characters, end exclusive."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int
    text: str = ""  # the source line the span starts on

    @property
    def where(self) -> str:
        """``file.py:line``, what run-time errors in generated code carry; the file without its folder."""
        return f"{self.file.replace(chr(92), '/').rsplit('/', 1)[-1]}:{self.line}"


NO_SPAN = Span("<generated>", 1, 0, 1, 0)


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
    """

    shape: tuple[int, int]
    dtype: DType
    valid: tuple[int | None, int | None] = field(default=(None, None), compare=False, repr=False)

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


@dataclass(frozen=True, slots=True)
class UnknownType:
    """Not inferred yet. Only between the parser and the pass ``infer_types``."""

    def __str__(self) -> str:
        return "unknown"


Type = TensorType | TileType | ScalarType | NoneType | TupleType | UnknownType

UNKNOWN = UnknownType()


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


@dataclass(frozen=True, slots=True)
class Binary:
    """Arithmetic on scalars: ``+ - * // % min max`` (``//`` and ``%`` round towards minus infinity, as in Python)."""

    op: str
    lhs: Expr
    rhs: Expr
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


Expr = Var | Const | DimExpr | Binary | ExprTuple | Call | Invoke


# --- statements ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Assign:
    """``target = value``."""

    target: Var
    value: Expr
    span: Span = field(default=NO_SPAN, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Unpack:
    """``a, b = self.f(...)``. Only before the pass ``resolve_aliases``, which knows results as Out arguments."""

    targets: tuple[Var, ...]
    value: Expr
    span: Span = field(default=NO_SPAN, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Eval:
    """An expression evaluated for its effect (a store, a call)."""

    value: Expr
    span: Span = field(default=NO_SPAN, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class For:
    """``for var in pl.range(start, stop, step)``; ``var`` is an INDEX scalar that lives inside the body."""

    var: Var
    start: Expr
    stop: Expr
    step: Expr
    body: tuple[Stmt, ...]
    span: Span = field(default=NO_SPAN, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Return:
    """The last statement of a function, if it has one.

    After ``resolve_aliases`` every value is an Out or InOut parameter.
    """

    values: tuple[Expr, ...]
    span: Span = field(default=NO_SPAN, compare=False, repr=False)


Stmt = Assign | Unpack | Eval | For | Return


# --- functions and programs ----------------------------------------------------------------------------------------


class FunctionKind(Enum):
    """Where a function runs and what its body is."""

    INCORE = "InCore kernel"
    CHIP_ORCHESTRATION = "chip orchestration"
    HOST_ORCHESTRATION = "host orchestrator"
    SUB_WORKER = "SubWorker"


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter; ``type`` is a TensorType or ScalarType (UnknownType until signatures are inferred)."""

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
            Filled by ``Program.resolve_sub_workers()``.
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
class Function:
    """One ``@pl.function``. ``sub_worker`` is given for SUB_WORKER, whose ``body`` is empty.

    ``results`` are the types of what it returns; None means they are not inferred yet (before ``infer_types``).
    """

    name: str
    kind: FunctionKind
    params: tuple[Param, ...]
    results: tuple[Type, ...] | None
    body: tuple[Stmt, ...]
    span: Span = field(default=NO_SPAN, compare=False, repr=False)
    sub_worker: SubWorkerSource | None = None
    doc: str = field(default="", compare=False, repr=False)

    def param(self, name: str) -> Param | None:
        """The parameter called ``name``, or None."""
        return next((p for p in self.params if p.name == name), None)


@dataclass(frozen=True, slots=True)
class Program:
    """What ``@pl.program`` makes of a class.

    Attributes:
        lowered: the same after all passes, where they have been run.
        made: what ``ir.compile`` keeps, so as not to do it again.
    """

    name: str
    functions: tuple[Function, ...]
    span: Span = field(default=NO_SPAN, compare=False, repr=False)
    doc: str = field(default="", compare=False, repr=False)
    lowered: Program | None = field(default=None, compare=False, repr=False)
    made: dict[Any, Any] = field(default_factory=dict, compare=False, repr=False)

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

    def resolve_sub_workers(self) -> Program:
        """This program with what its SubWorkers capture looked up now.

        Names are looked up when the program is compiled, not when its class is defined, so that helpers may stand below
        the class in a module. Raises UnboundVariable at the first name that exists nowhere.
        """
        from pypto.parser.sub_worker import resolve_program  # the parser imports this module

        return resolve_program(self)


_HOST_HINT = "mark one method with @pl.function(level=pl.Level.HOST, role=pl.Role.Orchestrator)"
