"""IR prints as Python that parses back to the same IR."""

from __future__ import annotations

import math

import pypto.language as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pypto import passes
from pypto.builder.program import parse_text
from pypto.errors import SignatureError
from pypto.ir import walk
from pypto.ir.canonical import canonical
from pypto.ir.nodes import Assign, Const, Program
from pypto.ir.printer import print_expr, print_program, print_type
from pypto.ir.verifier import verify

ROWS = pl.dynamic("ROWS")
BLOCK = 128
T = pl.Tensor[[128, 128], pl.FP32]


@pl.program
class Dependency:
    """A chip adds, a SubWorker looks at the sum."""

    @pl.function(type=pl.FunctionType.InCore)
    def tile_add(self, a: T, b: T, f: pl.Out[T]) -> T:
        """Adds with "quotes", \\ and
        a second line."""
        tile_a = pl.load(a, [0, 0], [128, 128])
        tile_b = pl.load(b, [0, 0], [128, 128])
        tile_f = pl.add(tile_a, tile_b)
        out_f = pl.store(tile_f, [0, 0], f)
        return out_f

    @pl.function(type=pl.FunctionType.Orchestration)
    def chip_orch(self, a: T, b: T, f: pl.Out[T]) -> T:
        out_f = self.tile_add(a, b, f)
        return out_f

    @pl.function(level=pl.Level.HOST, role=pl.Role.Worker)
    def look(self, f: T):
        """Looks."""
        if not (f == 5.0).all():
            raise AssertionError(f"expected 5.0, got {f.max()}")

    @pl.function(level=pl.Level.HOST, role=pl.Role.Orchestrator)
    def host_orch(self, a: T, b: T, f: pl.Out[T]) -> T:
        out_f: T = self.chip_orch(a, b, f)
        self.look(out_f)
        return out_f


@pl.program
class Layers:
    """Two layers of a perceptron over blocks of rows, on two chips."""

    @pl.function(type=pl.FunctionType.InCore)
    def linear_relu(
        self,
        x: pl.Tensor[[ROWS, 64], pl.FP32],
        w: pl.Tensor[[64, 32], pl.FP32],
        b: pl.Tensor[[1, 32], pl.FP32],
        h: pl.Out[pl.Tensor[[ROWS, 32], pl.FP32]],
    ):
        rows = pl.dim(x, 0)
        tx = pl.load(x, [0, 0], [BLOCK, 64], valid_shapes=[rows, 64])
        tw = pl.load(w, [0, 0], [64, 32])
        tb = pl.load(b, [0, 0], [1, 32])
        th = pl.relu(pl.col_expand_add(pl.matmul(tx, tw), tb))
        return pl.store(th, [0, 0], h)

    @pl.function(type=pl.FunctionType.InCore)
    def softmax(self, z: pl.Tensor[[ROWS, 32], pl.FP32], p: pl.InOut[pl.Tensor[[ROWS, 32], pl.FP32]]):
        t = pl.load(z, [0, 0], [BLOCK, 32], valid_shapes=[ROWS, 32])
        t = pl.exp(pl.row_expand_sub(t, pl.row_max(t)))
        least = pl.full([BLOCK, 1], -math.inf, dtype=pl.FP32)
        pl.store(pl.row_expand_div(t, pl.maximum(pl.row_sum(t), least)), [0, 0], p)

    @pl.function(type=pl.FunctionType.Orchestration)
    def classify(self, images: pl.Tensor[[ROWS, 64], pl.FP32], w, b, probs: pl.Out[pl.Tensor[[ROWS, 32], pl.FP32]]):
        n = pl.dim(images, 0)
        h = pl.create_tensor([n, 32], dtype=pl.FP32)
        for r in pl.range(0, n, BLOCK):
            rows = pl.min(BLOCK, n - r)
            part = self.linear_relu(images[r : r + rows], w, b, pl.slice(h, [rows, 32], [r, 0]))
            self.softmax(part, probs[r : r + rows])
        return probs

    @pl.function(level=pl.Level.HOST, role=pl.Role.Orchestrator)
    def main(self, images: pl.Tensor[[ROWS, 64], pl.FP32], w, b, p0, p1):
        half = pl.dim(images, 0) // 2
        p0 = self.classify(images[:half], w, b, p0, device=0)
        p1 = self.classify(images[half:], w, b, p1, device=1)
        return p0, p1


def same_after_printing(program: Program) -> str:
    """Prints, parses, compares; the text."""
    text = print_program(program)
    assert canonical(parse_text(text)) == canonical(program), text
    return text


@pytest.mark.parametrize("program", [Dependency, Layers], ids=lambda program: program.name)
def test_programs_parse_back_after_every_pass(program):
    printed: dict[str, str] = {}
    passes.run_all(program, after=lambda name, new: printed.update({name: same_after_printing(new)}))
    assert list(printed) == ["build", "remove_dead_code", "plan_memory"]


def test_documentation_survives_printing():
    copy = parse_text(print_program(Dependency))
    assert copy.doc == Dependency.doc
    assert [f.doc for f in copy.functions] == [f.doc for f in Dependency.functions]


def test_dimensions_that_are_called_like_a_variable_get_another_name(programs):
    program = programs.program(
        """
        ROWS = pl.dynamic("rows")
        @pl.program
        class P:
            @pl.function(type=pl.FunctionType.InCore)
            def k(self, a: pl.Tensor[[ROWS, 8], pl.FP32]):
                rows = pl.min(ROWS, 8)
                t = pl.load(a, [0, 0], [8, 8], [rows, 8])
        """
    )
    copy = parse_text(print_program(program))
    assert 'rows_1 = pl.dynamic("rows")' in print_program(program)
    assert copy == program


def test_numbers_that_have_no_literal_print_as_expressions(programs):
    program = programs.kernel(
        "t = pl.full([4, 4], INF, dtype=pl.FP32)\nu = pl.full([4, 4], -INF, dtype=pl.FP32)\nv = t * NAN",
        INF=math.inf,
        NAN=math.nan,
    )
    copy = parse_text(print_program(program))
    values = [e.value for s in copy.functions[0].body for e in walk.subexpressions(s.value) if isinstance(e, Const)]
    floats = [value for value in values if isinstance(value, float)]
    assert floats[:2] == [math.inf, -math.inf]
    assert math.isnan(floats[2])


def test_spans_do_not_count_for_equality(programs):
    one = programs.kernel("t = pl.load(a, [0, 0], [4, 4])")
    other = programs.kernel("\n\nt = pl.load(a,\n    [0, 0], [4, 4])")
    assert one == other
    assert one.functions[0].body[0].span != other.functions[0].body[0].span
    assert one != programs.kernel("t = pl.load(a, [0, 1], [4, 4])")
    assert one != programs.kernel("u = pl.load(a, [0, 0], [4, 4])")


def test_types_and_expressions_print_by_themselves():
    assert print_type(Layers.entry.params[0].type) == "pl.Tensor[[ROWS, 64], pl.FP32]"
    first = Layers.entry.body[0]
    assert isinstance(first, Assign)
    assert print_expr(first.value) == "pl.dim(images, 0) // 2"


def test_text_without_a_program_is_an_error():
    with pytest.raises(SignatureError, match=r"empty\.py defines no program"):
        parse_text("x = 1", "empty.py")


# --- random kernels ------------------------------------------------------------------------------------------------

_UNARY = ["neg", "abs", "exp", "sqrt", "relu", "row_max", "col_sum", "transpose"]
_SIDES = [4, 8]
_KINDS = ["load", "unary", "binary", "scalar", "store", "loop", "matmul", "index", "if", "while"]


@st.composite
def kernels(draw: st.DrawFn) -> str:
    """The text of a program with one kernel: tiles of two sizes in straight lines and loops, with what they allow."""
    lines: list[str] = []
    counter = iter(range(1000))

    def number() -> str:
        return draw(st.sampled_from(["0.5", "-2", "3", "1e30", "by", "0.25 * by", "1e999", "-1e999"]))

    def index() -> str:
        return draw(st.sampled_from(["0", "n", "n - 3", "n // 2 % 5", "pl.min(n, M, 4)", "-n", "M + 1"]))

    def block(depth: int, tiles: dict[str, tuple[int, int]], room: int) -> None:
        indent = "    " * (depth + 2)
        for _ in range(draw(st.integers(1, room))):
            kind = draw(
                st.sampled_from(
                    ["load", "unary", "binary", "scalar", "store", "loop", "matmul", "index", "if", "while"]
                )
            )
            alike = [other for other in tiles if depth == 0 or kind in ("unary", "binary", "scalar")]
            name = draw(st.sampled_from([f"t{next(counter)}", *alike]))
            if kind == "load" or not tiles:
                shape = (draw(st.sampled_from(_SIDES)), draw(st.sampled_from(_SIDES)))
                lines.append(f"{indent}{name} = pl.load(a, [{index()}, 0], [{shape[0]}, {shape[1]}])")
                tiles[name] = shape
                continue
            source = draw(st.sampled_from(sorted(tiles)))
            rows, columns = tiles[source]
            alike = sorted(other for other, shape in tiles.items() if shape == (rows, columns))
            if depth and name in tiles:  # what a body assigns keeps its type
                if tiles[name] != (rows, columns):
                    continue
                lines.append(f"{indent}{name} = {name} + {source}")
                continue
            if kind == "unary":
                op = draw(st.sampled_from(_UNARY))
                shapes = {"row_max": (rows, 1), "col_sum": (1, columns), "transpose": (columns, rows)}
                lines.append(f"{indent}{name} = pl.{op}({source})")
                tiles[name] = shapes.get(op, (rows, columns))
            elif kind == "binary":
                op = draw(st.sampled_from("+-*/"))
                lines.append(f"{indent}{name} = {source} {op} {draw(st.sampled_from(alike))}")
                tiles[name] = (rows, columns)
            elif kind == "scalar":
                op = draw(st.sampled_from("+-*"))
                sides = draw(st.permutations([source, number()]))
                lines.append(f"{indent}{name} = {f' {op} '.join(sides)}")
                tiles[name] = (rows, columns)
            elif kind == "matmul":
                lines.append(f"{indent}{name} = pl.matmul({source}, pl.transpose({source}))")
                tiles[name] = (rows, rows)
            elif kind == "store":
                lines.append(f"{indent}f = pl.store(-{source}, [{index()}, {index()}], f)")
            elif kind == "index":
                lines.append(f"{indent}n = pl.max({index()}, M)")
            elif depth < 2 and kind == "if":
                lines.append(f"{indent}if {index()} < {index()} and not n == 3:")
                lines.append(f"{indent}    pass")
                block(depth + 1, dict(tiles), 3)
                if draw(st.booleans()):
                    lines.append(f"{indent}else:")
                    lines.append(f"{indent}    n = n + 1")
                    block(depth + 1, dict(tiles), 3)
            elif depth < 2 and kind == "while":
                lines.append(f"{indent}while n < {index()}:")
                lines.append(f"{indent}    n += 2")
                block(depth + 1, dict(tiles), 3)
            elif depth < 2:
                variable = f"i{next(counter)}"
                lines.append(f"{indent}for {variable} in pl.range({index()}, {index()}, {draw(st.integers(1, 3))}):")
                lines.append(f"{indent}    pass")
                block(depth + 1, dict(tiles), 3)

    block(0, {}, 8)
    head = (
        'import pypto.language as pl\nM = pl.dynamic("M")\n@pl.program\nclass P:\n'
        "    @pl.function(type=pl.FunctionType.InCore)\n"
        "    def kernel(self, a: pl.Tensor[[M, 64], pl.FP32], by: pl.Scalar[pl.FP32], n: pl.Scalar[pl.INT64], "
        "f: pl.InOut[pl.Tensor[[M, M], pl.FP32]]):\n"
    )
    return head + "\n".join([*lines, "        return f"])


@settings(max_examples=60, deadline=None)
@given(kernels())
def test_random_kernels_parse_back_after_every_pass(text):
    program = parse_text(text)
    same_after_printing(program)
    lowered = passes.run_all(program, after=lambda _, new: same_after_printing(new))
    verify(lowered)
