"""Passes: plain functions from Program to Program, one a file, with the verifier between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pypto.ir.nodes import Program
from pypto.ir.verifier import verify
from pypto.passes.add_host import add_host
from pypto.passes.plan_memory import plan_memory
from pypto.passes.remove_dead_code import remove_dead_code

Pass = Callable[[Program], Program]

PASSES: tuple[Pass, ...] = (remove_dead_code, plan_memory)

__all__ = ["PASSES", "add_host", "checked", "lowered", "plan_memory", "remove_dead_code", "run_all"]


def run_all(program: Program, after: Callable[[str, Program], None] | None = None) -> Program:
    """``program`` as code generation takes it, but for what is looked up when it is compiled.

    Args:
        after: called with the name of each pass and what it gave; first with ``"build"`` and the program itself.

    Raises the language's errors, and VerificationFailed where the program or a pass broke the rules of the IR.
    """
    verify(program)
    if after is not None:
        after("build", program)
    for step in PASSES:
        program = step(program)
        verify(program)
        if after is not None:
            after(step.__name__, program)
    return program


def checked(program: Program) -> Program:
    """``program``, which knows what it is after all passes. Raises what they raise."""
    return replace(program, lowered=run_all(program))


def lowered(program: Program) -> Program:
    """``program`` as code generation takes it: after all passes, with an orchestrator on the host.

    Its SubWorkers have been resolved: what they capture was looked up after the passes were run.
    """
    last = program.lowered if program.lowered is not None else run_all(program)
    functions = tuple(program.function(f.name) if f.sub_worker is not None else f for f in last.functions)
    return add_host(replace(last, functions=functions))
