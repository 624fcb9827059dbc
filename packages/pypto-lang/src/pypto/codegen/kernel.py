"""InCore functions as C++ kernels on tiles (``simpler/tile.h``).

Every tile is a ``simpler::tile::Tile`` in core-local memory, or a reference to one whose value is not needed any more:
the pass ``plan_memory`` has decided which. A tile that is one value everywhere takes the valid region of what it meets;
where that is known only when the kernel runs, a flag beside it says whether it still is.
"""

from __future__ import annotations

from pypto.codegen.cpp import CppFunction, string_literal
from pypto.codegen.queries import ops_of
from pypto.ir.nodes import Alloc, Assign, Call, Expr, Fill, Function, Span, TensorType, TileType, Var
from pypto.ops import registry


def generate(function: Function, program_name: str) -> str:
    """The C++ file of an InCore function."""
    return Kernel(function, program_name).text()


def core_type(function: Function) -> str:
    """Which core runs the kernel: ``"AIC"`` where it multiplies matrices, else ``"AIV"``."""
    return "AIC" if any(registry.get(op).cube for op in ops_of(function)) else "AIV"


def tile_type(type: TileType) -> str:
    """``simpler::tile::Tile<float, 128, 64>``."""
    return f"simpler::tile::Tile<{type.dtype.cpp}, {type.shape[0]}, {type.shape[1]}>"


class Kernel(CppFunction):
    """Writes one kernel."""

    place = "core"
    include = "simpler/tile.h"
    entry = "kernel(simpler::Core &core, simpler::TaskArgsView args)"

    def __init__(self, function: Function, program_name: str) -> None:
        super().__init__(function, program_name)
        assert function.memory is not None, "the pass plan_memory has not been run"
        self._allocs: dict[str, Alloc] = {name: alloc for alloc in function.memory for name in alloc.variables}
        self._identifiers: dict[str, str] = {}  # Alloc → its tile in C++

    def declare(self, var: Var, span: Span) -> None:
        """Make the tile of ``var``, or a name for the one that it shares."""
        alloc = self._allocs[var.name]
        assert isinstance(var.type, TileType)
        if alloc.name == var.name:
            identifier = self._identifiers[alloc.name] = self.names.define(var.name)
            self.out.line(f"{tile_type(var.type)} {identifier}(core);")
        else:
            self.names.alias(var.name, self._identifiers[alloc.name])

    def extra_carried(self, var: Var, value: Expr) -> tuple[str, str, str] | None:
        assert isinstance(var.type, TileType)
        return ("bool", "fill", self._fill(value)) if var.type.fill is Fill.MAYBE else None

    def assign(self, stmt: Assign) -> None:
        target, value = stmt.target, stmt.value
        assert isinstance(value, Call)  # of variables and numbers
        assert isinstance(target.type, TileType)
        alloc = self._allocs[target.name]
        shared = alloc.name != target.name
        if shared:
            out = self.names.define(target.name)
            self.out.line(f"auto &{out} = {self._identifiers[alloc.name]}; // whose value is not needed any more")
        else:
            self.declare(target, stmt.span)
            out = self.names[target.name]
        if shared and not any(isinstance(a.type, TileType | TensorType) for a in value.args):
            # The operation has no operand to take its valid region from: it is the whole tile again.
            self.out.line(f"{out}.rows = {target.type.shape[0]}, {out}.cols = {target.type.shape[1]};")
        if target.type.fill is Fill.MAYBE:
            flag = " && ".join(self._fill(a) for a in value.args if isinstance(a.type, TileType))
            name = self.names.define(f"{target.name}_fill", key=("fill", target.name))
            self.out.line(f"const bool {name} = {flag};")
        self._call(value, out, self._identifiers[alloc.name])

    def evaluate(self, value: Expr) -> None:
        assert isinstance(value, Call)
        self._call(value, None, None)

    def _call(self, call: Call, out: str | None, memory: str | None) -> None:
        """The statements of an operation. ``memory`` is the tile that ``out`` names."""
        op = registry.get(call.op)
        args = [self.expression(a) for a in call.args]
        whole: list[str] = []
        if op.regions is not None:
            seen: list[str] = []
            for position, arg in enumerate(call.args):
                type_ = arg.type
                if not isinstance(type_, TileType) or type_.fill is Fill.NO:
                    continue
                lines = [
                    f"{args[position]}.{('rows', 'cols')[axis]} = {args[source[0]]}.{('rows', 'cols')[source[1]]};"
                    for axis, source in enumerate(op.regions(call, position))
                    if source is not None and not self._is_whole(call, source, type_.shape[axis])
                ]
                if not lines:
                    continue
                condition = "" if type_.fill is Fill.YES else f"if ({' && '.join([self._fill(arg), *seen])}) "
                seen.append(f"!{self._fill(arg)}")
                self.out.line(f"{condition}{{ {' '.join(lines)} }}" if condition else " ".join(lines))
                if self._memory_of(arg) != memory:
                    rows, cols = type_.shape
                    whole.append(f"{condition}{args[position]}.rows = {rows}, {args[position]}.cols = {cols};")
            self._check_regions(call, args)
        if op.helper:
            self.op_helpers[op.name] = op.helper
        self.out.line(op.cpp(call, args, out))
        for line in whole:
            self.out.line(line)

    def _check_regions(self, call: Call, args: list[str]) -> None:
        """Say the line where operands that are to be valid in the same region are not."""
        tiles = [(text, a.type) for text, a in zip(args, call.args, strict=True) if isinstance(a.type, TileType)]
        if len(tiles) != 2 or tiles[0][1] != tiles[1][1] or registry.get(call.op).regions is None:
            return
        (a, one), (b, other) = tiles
        known = None not in (*one.valid, *other.valid) and one.valid == other.valid
        if known or a == b or registry.get(call.op).cube or Fill.YES in (one.fill, other.fill):
            return
        self._helpers.add("same_region")
        self.out.line(f"same_region(core, {a}, {b}, {string_literal(call.span.where)});")

    def _is_whole(self, call: Call, source: tuple[int, int], extent: int) -> bool:
        """True where the region of an operand is known to be all of a dimension."""
        type_ = call.args[source[0]].type
        return isinstance(type_, TileType) and type_.fill is Fill.NO and type_.valid[source[1]] == extent

    def _memory_of(self, arg: Expr) -> str | None:
        return self._identifiers[self._allocs[arg.name].name] if isinstance(arg, Var) else None

    def _fill(self, value: Expr) -> str:
        """Whether a tile is one value everywhere, in C++."""
        assert isinstance(value, Var)
        assert isinstance(value.type, TileType)
        if value.type.fill is not Fill.MAYBE:
            return "true" if value.type.fill is Fill.YES else "false"
        return self.names[("fill", value.name)]
