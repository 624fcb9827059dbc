"""Passes: plain functions from Program to Program, one a file, with the verifier between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pypto.ir.nodes import Function, Program
from pypto.ir.verifier import verify
from pypto.passes.add_host import add_host
from pypto.passes.flatten_calls import flatten_calls
from pypto.passes.infer_signatures import infer_signatures
from pypto.passes.infer_types import infer_types
from pypto.passes.resolve_aliases import resolve_aliases

Pass = Callable[[Program], Program]

PASSES: tuple[Pass, ...] = (infer_signatures, infer_types, flatten_calls, resolve_aliases)

__all__ = [
    "PASSES",
    "add_host",
    "checked",
    "flatten_calls",
    "infer_signatures",
    "infer_types",
    "lowered",
    "resolve_aliases",
    "run_all",
    "typed",
]


def typed(program: Program) -> Program:
    """``program`` with all types. Raises the language's errors."""
    program = infer_types(infer_signatures(program))
    verify(program)
    return program


def checked(program: Program) -> Program:
    """What ``@pl.program`` gives of a parsed program: it is typed, and knows what it is after all passes.

    Raises the language's errors, also those that only later passes notice.
    """
    seen: dict[str, Program] = {}
    last = run_all(program, after=seen.__setitem__)
    return replace(seen[infer_types.__name__], lowered=last)


def lowered(program: Program) -> Program:
    """``program`` as code generation takes it: after all passes, with an orchestrator on the host."""
    return add_host(replace(_lowered(program), functions=_with_captured(program)))


def _lowered(program: Program) -> Program:
    return program.lowered if program.lowered is not None else run_all(program)


def _with_captured(program: Program) -> tuple[Function, ...]:
    """The functions after all passes; SubWorkers with what they capture, which was looked up later."""
    return tuple(program.function(f.name) if f.sub_worker is not None else f for f in _lowered(program).functions)


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
