"""The operations as functions a program may name. They have a meaning inside a program only."""

from __future__ import annotations

import inspect
from typing import NoReturn

from pypto.errors import SyntaxUnsupported, UnknownOp
from pypto.ops import spelled
from pypto.ops.registry import Op, all_ops, did_you_mean
from pypto.source.files import caller_span


class Operation:
    """A name of the language that the parser knows; calling it as Python is an error.

    Raises SyntaxUnsupported when called.
    """

    def __init__(self, name: str, signature: inspect.Signature, doc: str) -> None:
        self.__name__ = self.__qualname__ = name
        self.__module__ = "pypto.language"
        self.__signature__ = signature
        self.__doc__ = doc

    def __call__(self, *args: object, **kwargs: object) -> NoReturn:
        raise SyntaxUnsupported(
            f"pl.{self.__name__} has a meaning only inside the functions of a @pl.program",
            caller_span(),
            "write it in a method marked with @pl.function, of a class marked with @pl.program",
        )

    def __repr__(self) -> str:
        return f"pl.{self.__name__}"


class OpFunction(Operation):
    """An operation of the op registry; ops of one spelling are one function, told apart by their first operand."""

    def __init__(self, spelling: str) -> None:
        ops = spelled(spelling)
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        parameters = [
            inspect.Parameter(p.name, kind, default=None if p.optional else inspect.Parameter.empty)
            for p in ops[0].params
        ]
        doc = "\n\n".join(op.doc for op in ops)
        takes = "\n".join(f"    {p.name}: {p.takes.value}." for p in ops[0].params)
        super().__init__(spelling, inspect.Signature(parameters), f"{doc}\n\nArgs:\n{takes}")

    @property
    def ops(self) -> tuple[Op, ...]:
        """The ops that are spelled like this."""
        return spelled(self.__name__)


def _marker(name: str, parameters: str, doc: str) -> Operation:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    signature = inspect.Signature([inspect.Parameter(p, kind) for p in parameters.split()])
    return Operation(name, signature, doc)


RANGE = _marker(
    "range",
    "start stop step",
    "`for i in pl.range(stop)`, `pl.range(start, stop)` or `pl.range(start, stop, step)`: a loop of the program.\n\n"
    "The bounds are index expressions, evaluated once, before the loop.",
)
MIN = _marker("min", "a b", "The smaller of two numbers, or with axis= of each row (1) or column (0) of a tile.")
MAX = _marker("max", "a b", "The larger of two numbers, or with axis= of each row (1) or column (0) of a tile.")
SUM = _marker("sum", "tile axis", "The sum of each row (axis=1) or column (axis=0) of a tile.")
STATIC_PRINT = _marker(
    "static_print", "values", "Prints what is known while the program is built, and types of the rest."
)
STATIC_ASSERT = _marker("static_assert", "condition message", "An error while the program is built, unless it holds.")

_MARKERS = (RANGE, MIN, MAX, SUM, STATIC_PRINT, STATIC_ASSERT)
_OPERATIONS: dict[str, Operation] = {marker.__name__: marker for marker in _MARKERS}


def find(name: str) -> Operation | None:
    """The operation written ``pl.name``, or None. An op that was registered a moment ago is found."""
    if name not in _OPERATIONS and spelled(name):
        _OPERATIONS[name] = OpFunction(name)
    return _OPERATIONS.get(name)


def names() -> list[str]:
    """Every name that ``find`` finds."""
    return sorted({marker.__name__ for marker in _MARKERS} | {op.spelling for op in all_ops()})


def unknown(name: str, known: list[str]) -> UnknownOp:
    """The error for ``pl.name`` that is nothing."""
    hint = None
    if name == "at":
        hint = "write each level as a method of its own: @pl.function(level=..., role=...)"
    return UnknownOp(f"pl.{name} is no operation of the language{did_you_mean(name, known)}", None, hint)
