"""What a name or an expression of a program stands for while its IR is built."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from pypto.errors import PyptoError
from pypto.ir.nodes import Expr, Var


@dataclass(frozen=True, slots=True)
class Static:
    """A Python value that is known now.

    ``var`` is the program's variable that holds the same number, where there is one.
    """

    value: object
    var: Var | None = None

    @property
    def is_number(self) -> bool:
        """True for what can be a number of the program."""
        return isinstance(self.value, (bool, int, float))


@dataclass(frozen=True, slots=True)
class Items:
    """Several values: a tuple or list, or what a function with several results gives."""

    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Missing:
    """A variable that has no value here, and why. ``told``: the reason has been reported already."""

    why: str
    told: bool = False


Value = Expr | Static | Items | Missing


class _AlreadyTold(PyptoError):
    """Something can't be built because of an error that is reported elsewhere."""


def already_told() -> NoReturn:
    """Give up on what depends on a mistake that has been reported."""
    raise _AlreadyTold("depends on an earlier error")
