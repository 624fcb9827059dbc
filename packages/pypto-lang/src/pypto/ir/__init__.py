"""The intermediate representation, and ``ir.compile``."""

from __future__ import annotations

# Eager: a later import of the submodule of the same name would otherwise put the module in the function's place.
from pypto.ir.compile import compile
from pypto.ir.nodes import Direction, Function, FunctionKind, Program, Span

__all__ = ["Direction", "Function", "FunctionKind", "Program", "Span", "compile"]
