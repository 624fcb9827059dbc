"""The intermediate representation: nodes, dtypes, printer, verifier."""

from __future__ import annotations

from pypto.ir.nodes import Direction, Function, FunctionKind, Program, Span

__all__ = ["Direction", "Function", "FunctionKind", "Program", "Span"]
