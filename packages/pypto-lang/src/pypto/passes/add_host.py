"""A chip orchestration without a host level gets an orchestrator that runs it on the first chip."""

from __future__ import annotations

from dataclasses import replace

from pypto.ir.nodes import Eval, Function, FunctionKind, Invoke, NoneType, Param, Program, Return, TupleType, Type, Var


def add_host(program: Program) -> Program:
    """``program`` with a host orchestrator; as it is where it has one.

    Takes a program after ``resolve_aliases``. The orchestrator has the chip orchestration's parameters and results.
    Raises HostOrchestratorError where nothing, or more than one chip orchestration, could be meant.
    """
    entry = program.entry
    if entry.kind is FunctionKind.HOST_ORCHESTRATION:
        return program
    name = "host_orch"
    while any(function.name == name for function in program.functions):
        name += "_"
    args = tuple(Var(param.name, param.type, param.span) for param in entry.params)
    results = entry.results or ()
    gives: Type = NoneType() if not results else results[0] if len(results) == 1 else TupleType(results)
    last = entry.body[-1] if entry.body else None
    values = last.values if isinstance(last, Return) else ()
    body = (Eval(Invoke(entry.name, args, None, gives, entry.span), entry.span), Return(values, entry.span))
    params = tuple(Param(param.name, param.type, param.direction, param.span) for param in entry.params)
    host = Function(name, FunctionKind.HOST_ORCHESTRATION, params, results, body, entry.span, None, entry.doc)
    return replace(program, functions=(*program.functions, host))
