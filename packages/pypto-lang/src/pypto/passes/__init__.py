"""Passes: plain functions from Program to Program, one a file, with the verifier between them."""

from __future__ import annotations

from collections.abc import Callable

from pypto.ir.nodes import Program
from pypto.ir.verifier import verify
from pypto.passes.flatten_calls import flatten_calls
from pypto.passes.infer_signatures import infer_signatures
from pypto.passes.infer_types import infer_types
from pypto.passes.resolve_aliases import resolve_aliases

Pass = Callable[[Program], Program]

PASSES: tuple[Pass, ...] = (infer_signatures, infer_types, flatten_calls, resolve_aliases)

__all__ = [
    "PASSES",
    "flatten_calls",
    "infer_signatures",
    "infer_types",
    "resolve_aliases",
    "run_all",
    "typed",
]


def typed(program: Program) -> Program:
    """``program`` with all types, as ``@pl.program`` gives it. Raises the language's errors."""
    program = infer_types(infer_signatures(program))
    verify(program)
    return program


def run_all(program: Program, after: Callable[[str, Program], None] | None = None) -> Program:
    """``program`` as code generation takes it.

    Args:
        after: called with the name of each pass and what it gave.

    Raises the language's errors, and VerificationFailed where a pass broke the IR.
    """
    for step in PASSES:
        program = step(program)
        if step is not infer_signatures:
            verify(program, resolved=step is resolve_aliases)
        if after is not None:
            after(step.__name__, program)
    return program
