"""The order in which functions can be worked on: callees before their callers."""

from __future__ import annotations

from pypto.errors import SignatureError
from pypto.ir import walk
from pypto.ir.nodes import Function, Invoke, Program


def invokes(function: Function) -> list[Invoke]:
    """Every call of another function in ``function``, in the order they are made."""
    return [
        expr
        for stmt in walk.statements(function.body)
        for value in walk.values(stmt)
        for expr in walk.subexpressions(value)
        if isinstance(expr, Invoke)
    ]


def callees_first(program: Program) -> list[Function]:
    """The functions, each after those it calls. Raises SignatureError where one calls itself."""
    done: dict[str, Function] = {}
    path: list[str] = []

    def visit(function: Function) -> None:
        if function.name in done:
            return
        path.append(function.name)
        for call in invokes(function):
            if call.function in path:
                cycle = " → ".join([*path[path.index(call.function) :], call.function])
                raise SignatureError(f"functions call each other in a circle: {cycle}", call.span)
            visit(program.function(call.function))
        path.pop()
        done[function.name] = function

    for function in program.functions:
        visit(function)
    return list(done.values())


def with_functions(program: Program, functions: dict[str, Function]) -> Program:
    """``program`` with new versions of its functions, in the order they are written."""
    from dataclasses import replace

    return replace(program, functions=tuple(functions[f.name] for f in program.functions))
