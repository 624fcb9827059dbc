"""The intermediate representation, and ``ir.compile``, which is defined in ``pypto.driver``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pypto.ir.nodes import Direction, Function, FunctionKind, Program, Span

if TYPE_CHECKING:
    from pypto.driver.compile import compile

__all__ = ["Direction", "Function", "FunctionKind", "Program", "Span", "compile"]


def __getattr__(name: str) -> Any:
    """``compile``: whoever only writes a program needs nothing of what compiles it."""
    if name == "compile":
        from pypto.driver.compile import compile

        return compile
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
