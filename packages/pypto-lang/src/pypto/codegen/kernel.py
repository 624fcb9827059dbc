"""InCore functions as C++ kernels on tiles (``simpler/tile.h``).

Every tile variable is a ``simpler::tile::Tile`` in core-local memory. A variable whose value is not needed any more
lends its memory to the next one of the same type, so that a kernel fits the small memory of a core.
"""

from __future__ import annotations

from dataclasses import dataclass

from pypto.codegen.cpp import CppFunction
from pypto.codegen.queries import ops_of
from pypto.codegen.writer import Names
from pypto.ir import walk
from pypto.ir.nodes import Assign, Call, Expr, Function, Stmt, TensorType, TileType, Var
from pypto.ops import registry


def generate(function: Function, program_name: str) -> str:
    """The C++ file of an InCore function."""
    return Kernel(function, program_name).text()


def core_type(function: Function) -> str:
    """Which core runs the kernel: ``"AIC"`` where it multiplies matrices, else ``"AIV"``."""
    return "AIC" if any(registry.get(op).cube for op in ops_of(function)) else "AIV"


@dataclass(slots=True)
class _Memory:
    """The memory of a tile: its C++ name, the scope it was made in, and the variable that has it now."""

    identifier: str
    type: TileType
    scope: Names
    variable: str


def tile_type(type: TileType) -> str:
    """``simpler::tile::Tile<float, 128, 64>``."""
    return f"simpler::tile::Tile<{type.dtype.cpp}, {type.shape[0]}, {type.shape[1]}>"


def _unshared(call: Call) -> list[Var]:
    """The operands that the result of ``call`` may not be written over."""
    in_place = registry.get(call.op).in_place
    shared = range(len(call.args)) if in_place is True else in_place or ()
    others = (a for i, a in enumerate(call.args) if i not in shared)
    return [a for a in others if isinstance(a, Var) and isinstance(a.type, TileType)]


class Kernel(CppFunction):
    """Writes one kernel."""

    place = "core"
    include = "simpler/tile.h"
    entry = "kernel(simpler::Core &core, simpler::TaskArgsView args)"

    def __init__(self, function: Function, program_name: str) -> None:
        super().__init__(function, program_name)
        self._memory: list[_Memory] = []

    def assign(self, stmt: Assign, rest: tuple[Stmt, ...]) -> None:
        target, value = stmt.target, stmt.value
        type = target.type
        assert isinstance(type, TileType)
        known = self.names.find(target.name)
        if isinstance(value, Var):
            out = known or self._declare(target.name, type)
            self.out.line(f"simpler::tile::copy({out}, {self.names[value.name]});")
            return
        assert isinstance(value, Call)  # of variables and numbers: the pass flatten_calls has seen to it
        memory = None if known else self._idle(type, value, rest)
        if known:
            self._over(known, type, value)
        elif memory:
            out = self.names.define(target.name)
            self.out.line(f"auto &{out} = {memory.identifier}; // whose value is not needed any more")
            memory.variable = target.name
            self._over(out, type, value)
        else:
            self.out.line(self._call(value, self._declare(target.name, type)))

    def evaluate(self, value: Expr) -> None:
        assert isinstance(value, Call)
        self.out.line(self._call(value, None))

    def _idle(self, type: TileType, value: Call, rest: tuple[Stmt, ...]) -> _Memory | None:
        """Memory made in this scope that the result of ``value`` may take, because nothing in ``rest`` needs it."""
        needed = walk.names(rest) | {a.name for a in _unshared(value)}
        for memory in self._memory:
            # Types that differ in their valid region alone are equal.
            if memory.type == type and memory.scope is self.names and memory.variable not in needed:
                return memory
        return None

    def _declare(self, name: str, type: TileType) -> str:
        """A new tile for the variable ``name``, in the scope that is open."""
        identifier = self.names.define(name)
        self.out.line(f"{tile_type(type)} {identifier}(core);")
        self._memory.append(_Memory(identifier, type, self.names, name))
        return identifier

    def _over(self, out: str, type: TileType, value: Call) -> None:
        """Compute ``value`` into the tile ``out``, which holds an older value."""
        if out in {self.names[a.name] for a in _unshared(value)}:
            with self.scope("{"):
                result = self.names.define("result")
                self.out.line(f"{tile_type(type)} {result}(core);")
                self.out.line(self._call(value, result))
                self.out.line(f"simpler::tile::copy({out}, {result});")
            return
        if not any(isinstance(a.type, TileType | TensorType) for a in value.args):
            # The operation has no operand to take its valid region from: it is the whole tile again.
            self.out.line(f"{out}.rows = {type.shape[0]}, {out}.cols = {type.shape[1]};")
        self.out.line(self._call(value, out))

    def _call(self, call: Call, out: str | None) -> str:
        return registry.get(call.op).cpp(call, [self.expression(a) for a in call.args], out)
