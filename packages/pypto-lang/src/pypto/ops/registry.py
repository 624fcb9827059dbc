"""The op registry: one op, one entry, from which parser, type inference, code generation and reference page read."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from pypto.ir.nodes import Call, Expr, FunctionKind, Type


class Takes(Enum):
    """What an op's parameter takes, and so how the parser reads it."""

    TENSOR = "a tensor"
    TILE = "a tile"
    TILE_OR_SCALAR = "a tile or a number"  # a number takes the dtype of the tile operand
    SCALAR = "a number"  # takes the dtype of the attribute "dtype"
    INDICES = "a list of index expressions"  # an ExprTuple
    SHAPE = "a list of positive ints known when the program is parsed"  # an ExprTuple of Const
    DTYPE = "a dtype"  # an attribute
    INT = "an int known when the program is parsed"  # an attribute

    @property
    def is_attribute(self) -> bool:
        """True where the value is kept in ``Call.attrs``, not in ``Call.args``."""
        return self in (Takes.DTYPE, Takes.INT)


@dataclass(frozen=True, slots=True)
class OpParam:
    """A parameter of an op, as users write it."""

    name: str
    takes: Takes
    optional: bool = False  # an omitted INDICES parameter equals the SHAPE parameter before it


Infer = Callable[[tuple[Expr, ...], Mapping[str, object]], Type]
Emit = Callable[[Call, list[str], str | None], str]
Regions = Callable[[Call, int], tuple[tuple[int, int] | None, tuple[int, int] | None]]
HostEmit = Callable[[Call, list[str]], str]

KERNEL = frozenset({FunctionKind.INCORE})
ORCHESTRATION = frozenset({FunctionKind.CHIP_ORCHESTRATION, FunctionKind.HOST_ORCHESTRATION})
ANYWHERE = KERNEL | ORCHESTRATION


@dataclass(frozen=True, slots=True)
class Op:
    """One operation of the language.

    Attributes:
        name: ``family.name``, what ``Call.op`` holds.
        params: its parameters in the order users write them; ``Call.args`` holds those that are no attributes.
        infer: ``infer(args, attrs)`` gives the type of the result, or raises TypeMismatch or OutOfBounds at
            the argument that is wrong.
        numpy: its meaning on numpy arrays that hold the valid region, called as ``numpy(*args, **attrs)`` (lists for
            INDICES and SHAPE, a DType for DTYPE).
        cpp: ``cpp(call, args, out)`` gives C++: one statement that writes ``out`` (or has its effect) for tile ops,
            an expression for tensor ops. ``args`` are the C++ spellings of ``call.args``; an ExprTuple's is its items
            joined by ", " without braces. ``core`` names the Core of a kernel, ``graph`` the Graph of an orchestration.
        host: ``host(call, args)`` gives a Python expression for a host orchestrator, where ``orch`` is simpler's
            orchestrator and ``host_ops`` the module ``pypto.ops.host``. None where the op has no place there.
        doc: one paragraph for the reference page; its first sentence is the summary.
        kinds: the kinds of function it may be used in.
        spelling: what users write after ``pl.``.
        in_place: the C++ may write its result over any operand (True), over none (False), or over those at these
            positions.
        writes: position of the operand that it writes; its result is that operand.
        part_of: position of the operand that its result is a part of, without a copy. A tensor that is neither is new.
        may_fail: it can end a run, so that it is not left out though nobody needs what it gives.
        regions: ``regions(call, position)`` tells for the operand at a position which operand's region each of its two
            dimensions takes, as (position, dimension), or None for its own. Without it, an operand keeps its region.
        rounded: what it gives of floats is rounded, and may differ from numpy in the last bits.
        helper: C++ that its ``cpp`` needs and the tile library lacks; written into a file that uses it, once.
        cube: it runs on a core's matrix unit: a kernel that uses it is placed on an AIC core, any other on an AIV core.
    """

    name: str
    params: tuple[OpParam, ...]
    infer: Infer
    numpy: Callable[..., object]
    cpp: Emit
    doc: str
    host: HostEmit | None = None
    kinds: frozenset[FunctionKind] = KERNEL
    spelling: str = ""
    in_place: bool | tuple[int, ...] = True
    cube: bool = False
    writes: int | None = None
    part_of: int | None = None
    may_fail: bool = False
    regions: Regions | None = None
    rounded: bool = False
    helper: str = ""

    def __post_init__(self) -> None:
        if not self.spelling:
            object.__setattr__(self, "spelling", self.name.partition(".")[2])

    @property
    def signature(self) -> str:
        """``add(lhs, rhs)``."""
        shown = [p.name + ("=None" if p.optional else "") for p in self.params]
        return f"{self.spelling}({', '.join(shown)})"


_OPS: dict[str, Op] = {}


def register(op: Op) -> Op:
    """Add ``op``. Raises ValueError when its name is taken, or when ops of one spelling differ in their parameters."""
    if op.name in _OPS:
        raise ValueError(f"op {op.name!r} is registered already")
    for other in spelled(op.spelling):
        if [p.name for p in other.params] != [p.name for p in op.params]:
            raise ValueError(f"ops {other.name!r} and {op.name!r} are spelled alike but take different parameters")
    _OPS[op.name] = op
    return op


def get(name: str) -> Op:
    """The op called ``name`` (``"tile.add"``). Raises KeyError, with the nearest name."""
    if name not in _OPS:
        raise KeyError(f"no op {name!r}{did_you_mean(name, _OPS)}")
    return _OPS[name]


def all_ops() -> tuple[Op, ...]:
    """Every op, sorted by name."""
    return tuple(_OPS[name] for name in sorted(_OPS))


def spelled(spelling: str) -> tuple[Op, ...]:
    """The ops users write as ``pl.<spelling>``; which one is meant is told by the kind of the first operand."""
    return tuple(op for op in _OPS.values() if op.spelling == spelling)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` for the nearest of ``known``, or the empty string."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
