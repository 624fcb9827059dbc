"""What users see of the language outside of a program, and where programs may stand."""

from __future__ import annotations

import inspect
import linecache
import subprocess
import sys

import pypto.language as pl
import pytest
from pypto import ops
from pypto.errors import SourceUnavailable, SyntaxUnsupported, TypeMismatch, UnboundVariable
from pypto.ir.nodes import DimVar, Direction, FunctionKind, Program, ScalarType, TensorType, TileType

PROGRAM = '''
import pypto.language as pl

@pl.program
class Copy:
    """Copies."""

    @pl.function(type=pl.FunctionType.InCore)
    def copy(self, a: pl.Tensor[[8, 8], pl.FP32], f: pl.Out[pl.Tensor[[8, 8], pl.FP32]]):
        """One tile."""
        return pl.store(pl.load(a, [0, 0], [8, 8]), [0, 0], f)
'''


def test_a_program_keeps_its_name_and_documentation(programs):
    program = programs.run(PROGRAM)["Copy"]
    assert isinstance(program, Program)
    assert (program.name, program.doc) == ("Copy", "Copies.")
    assert program.function("copy").doc == "One tile."
    assert program.function("copy").kind is FunctionKind.INCORE
    with pytest.raises(KeyError, match="Copy has no function 'copi'; it has copy"):
        program.function("copi")


def test_annotations_are_types():
    rows = pl.dynamic("ROWS")
    assert pl.Tensor[[rows, 64], pl.FP32] == TensorType((DimVar("ROWS"), 64), pl.FP32)
    assert pl.Tile[[8, 64], pl.FP16] == TileType((8, 64), pl.FP16)
    assert pl.Scalar[pl.INT64] == ScalarType(pl.INT64)
    assert pl.Out[pl.Tensor[[4], pl.BOOL]].direction is Direction.OUT
    assert pl.InOut[pl.Tensor[[4], pl.BOOL]].direction is Direction.INOUT


def test_every_operation_is_a_documented_function():
    for op in ops.all_ops():
        function = getattr(pl, op.spelling)
        assert op.spelling in pl.__all__
        assert op.doc in inspect.getdoc(function)
        assert list(inspect.signature(function).parameters) == [param.name for param in op.params]
    assert set(pl.__all__) == set(dir(pl))


@pytest.mark.parametrize("postponed", ["", "from __future__ import annotations\n"])
def test_programs_may_stand_in_functions_and_use_what_they_see_there(programs, postponed):
    text = postponed + (
        "import pypto.language as pl\n"
        "def make(size, block, dtype):\n"
        "    R = pl.dynamic('R')\n"
        "    only_here = 8\n"
        "    @pl.program\n"
        "    class P:\n"
        "        WIDTH = 4\n"
        "        @pl.function(type=pl.FunctionType.InCore)\n"
        "        def k(self, a: pl.Tensor[[R, size[0]], dtype], f: 'pl.Out[pl.Tensor[[only_here, WIDTH], dtype]]'):\n"
        "            t = pl.load(a, [0, 0], block, [pl.min(R, self.WIDTH), size[0]])\n"
        "            u: pl.Tile[[only_here, 8], dtype] = pl.full(block, 0, dtype=dtype)\n"
        "            pl.store(pl.full([1, 1], 0, dtype=dtype), [0, 0], f)\n"
        "    return P\n"
    )
    make = programs.run(text)["make"]
    program = make([8, 9], [8, 8], pl.INT32)
    params = program.functions[0].params
    assert [str(param.type) for param in params] == ["Tensor[[R, 8], INT32]", "Tensor[[8, 4], INT32]"]
    assert params[1].direction is Direction.OUT
    assert program != make([8, 9], [8, 8], pl.INT16)


@pytest.mark.parametrize(
    ("kind", "message", "annotation"),
    [
        (UnboundVariable, "name 'ROW' is not defined; did you mean 'ROWS'", "pl.Tensor[[«ROW», 8], pl.FP32]"),
        (TypeMismatch, "expected a positive int or a pl.dynamic, found 0", "«pl.Tensor[[0, 8], pl.FP32]»"),
        (
            SyntaxUnsupported,
            "integer division or modulo by zero",
            "«pl.Tensor[[8 // 0, 8], pl.FP32]»",
        ),
        (
            SyntaxUnsupported,
            "this can't be evaluated: .* has no attribute 'width'",
            "«pl.Tensor[[ROWS.width], pl.FP32]»",
        ),
    ],
)
def test_a_postponed_annotation_that_is_wrong_is_an_error_at_its_place(programs, kind, message, annotation):
    text = (
        "from __future__ import annotations\n"
        "import pypto.language as pl\n"
        "ROWS = pl.dynamic('ROWS')\n"
        "@pl.program\n"
        "class P:\n"
        "    @pl.function(type=pl.FunctionType.InCore)\n"
        f"    def k(self, a: {annotation}):\n"
        "        pass\n"
    )
    programs.fails(kind, message, programs.run, text)


def test_results_are_annotated_as_one_or_several(programs):
    program = programs.program(
        """
        T = pl.Tensor[[4, 4], pl.FP32]
        @pl.program
        class P:
            @pl.function(type=pl.FunctionType.InCore)
            def k(self, f: pl.Out[T], g: pl.Out[T]) -> tuple[T, T]:
                zeros = pl.full([4, 4], 0.0, dtype=pl.FP32)
                return pl.store(zeros, [0, 0], f), pl.store(zeros, [0, 0], g)
            @pl.function(type=pl.FunctionType.Orchestration)
            def c(self, f: pl.Out[T], g: pl.Out[T]) -> (T, T):
                x, y = self.k(f, g)
                return x, y
            @pl.function(type=pl.FunctionType.Orchestration)
            def n(self, f: pl.Out[T], g: pl.Out[T]) -> None:
                self.k(f=g, g=f)
        """
    )
    assert [len(function.results) for function in program.functions] == [2, 2, 0]


def test_a_notebook_cell_is_a_source(tmp_path):
    name = f"<ipython-input-1-{tmp_path.name}>"
    linecache.cache[name] = (len(PROGRAM), None, PROGRAM.splitlines(keepends=True), name)
    names: dict[str, object] = {}
    exec(compile(PROGRAM, name, "exec"), names)
    program = names["Copy"]
    assert isinstance(program, Program)
    assert program.span.file == name
    assert program.span.line == 5


def test_text_given_to_exec_is_an_error_that_says_what_to_do():
    with pytest.raises(SourceUnavailable, match=r"the source of Copy\.copy can't be read") as caught:
        exec(compile(PROGRAM, "<string>", "exec"), {})
    assert "write the program in a file or a notebook cell" in str(caught.value)
    assert caught.value.line == 8


def test_a_file_that_changed_since_it_was_imported_is_an_error(tmp_path):
    path = tmp_path / "changed.py"
    path.write_text(PROGRAM)
    code = compile(PROGRAM, str(path), "exec")
    path.write_text("import os\n" + PROGRAM)
    with pytest.raises(SourceUnavailable, match=r"changed\.py changed since Copy\.copy was imported"):
        exec(code, {})


@pytest.mark.parametrize("module", ["pypto", "pypto.language", "pypto.ir"])
def test_importing_is_light(module):
    heavy = ["torch", "numpy", "simpler", "simpler_runtime", "simpler_ipc", "typer", "rich"]
    text = f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
