"""Chip orchestrations as C++ that submits kernels to a graph (``simpler/orchestration.h``)."""

from __future__ import annotations

from pypto.codegen.cpp import CppFunction
from pypto.codegen.queries import calls_of
from pypto.ir.nodes import Assign, Direction, Expr, Function, Invoke, Program, ScalarType

_TAGS = {Direction.IN: "in", Direction.OUT: "out", Direction.INOUT: "inout"}


def generate(function: Function, program: Program) -> str:
    """The C++ file of a chip orchestration."""
    return ChipOrchestration(function, program).text()


def kernels_of(function: Function, program: Program) -> tuple[Function, ...]:
    """The kernels a chip orchestration submits; a kernel's place in the tuple is its ``func_id``."""
    return tuple(program.function(name) for name in dict.fromkeys(call.function for call in calls_of(function)))


class ChipOrchestration(CppFunction):
    """Writes one chip orchestration."""

    place = "graph"
    include = "simpler/orchestration.h"
    entry = "orchestrate(simpler::Graph &graph, simpler::TaskArgsView args)"

    def __init__(self, function: Function, program: Program) -> None:
        super().__init__(function, program.name)
        self._kernels = kernels_of(function, program)

    def assign(self, stmt: Assign) -> None:
        text = self.expression(stmt.value)
        self.out.line(f"simpler::ContinuousTensor {self.names.define(stmt.target.name)} = {text};")

    def evaluate(self, value: Expr) -> None:
        assert isinstance(value, Invoke)
        func_id = [k.name for k in self._kernels].index(value.function)
        kernel = self._kernels[func_id]
        text = f"simpler::Task({func_id} /* {kernel.name} */)"
        for param, arg in zip(kernel.params, value.args, strict=True):
            if isinstance(param.type, ScalarType):
                text += f".scalar(static_cast<{param.type.dtype.cpp}>({self.expression(arg)}))"
            else:
                text += f".{_TAGS[param.direction]}({self.expression(arg)})"
        self.out.line(f"graph.submit({text});")
