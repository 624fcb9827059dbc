"""A wrong kernel is an error at the place that is wrong."""

from __future__ import annotations

import numbers

import pytest
from pypto.errors import (
    OutOfBounds,
    SignatureError,
    SyntaxUnsupported,
    TypeMismatch,
    UnboundVariable,
    UnknownOp,
)

TILE = "t = pl.load(a, [0, 0], [16, 16])\n"


@pytest.mark.parametrize(
    ("kind", "message", "body"),
    [
        (UnknownOp, r"pl\.lod is no operation.*did you mean 'load'", "t = «pl.lod»(a, [0, 0], [16, 16])"),
        (UnknownOp, r"pl\.at is no operation", "x = «pl.at»"),
        (UnboundVariable, "name 'blok' is not defined", "t = pl.load(a, [0, 0], [«blok», 16])"),
        (UnboundVariable, "'t' is used before it is assigned", "u = pl.neg(«t»)\nt = u"),
        (
            UnboundVariable,
            "'t' is gone: it was first assigned inside the loop at line 7",
            "for i in pl.range(2):\n    t = pl.load(a, [0, 0], [16, 16])\npl.store(«t», [0, 0], f)",
        ),
        (UnboundVariable, "has no attribute 'nothing'", "t = pl.load(a, [0, 0], [«numbers.nothing», 16])"),
        (UnboundVariable, "the program has no 'width'", "t = pl.load(a, [0, 0], [«self.width», 16])"),
        # shapes and bounds
        (OutOfBounds, r"elements 8 to 24 of dimension 1 are outside", "t = pl.load(a, [0, «8»], [16, 16])"),
        (OutOfBounds, "elements 0 to 17 of dimension 0", "t = pl.load(a, [0, 0], «[17, 16]»)"),
        (OutOfBounds, "offset -1 in dimension 0 is negative", "t = pl.load(a, [«-1», 0], [1, 16])"),
        (OutOfBounds, r"pl\.store: elements 1 to 17", TILE + "pl.store(t, [«1», 0], f)"),
        (OutOfBounds, "elements 20 to 20 of dimension 0", "t = pl.load(a, [«20», 0], [4, 4], [pl.dim(a, 0), 4])"),
        (OutOfBounds, "has dimensions 0 to 1, not 2", "n = pl.dim(«a», 2)"),
        (TypeMismatch, "expected a positive int", "n = pl.dim(a, 0)\nt = pl.load(a, [0, 0], [«n», 16])"),
        (TypeMismatch, "expected a positive int", "t = pl.load(a, [0, 0], [«0», 16])"),
        (TypeMismatch, "expected a positive int", "t = pl.load(a, [0, 0], [«2.0», 16])"),
        (TypeMismatch, "expected 2 offsets.*found 1", "t = pl.load(a, «[0]», [16, 16])"),
        (TypeMismatch, "expected a list of index", "t = pl.load(a, «0», [16, 16])"),
        (TypeMismatch, "17 valid elements in a tile that has 16", "t = pl.load(a, [0, 0], [16, 16], [«17», 16])"),
        (TypeMismatch, "an item is an integer, found Scalar", "t = pl.load(a, [«0.5», 0], [16, 16])"),
        # operands
        (TypeMismatch, "expected a tile as lhs, found Tensor", "t = pl.add(«a», a)"),
        (TypeMismatch, "expected a tensor as tensor, found Tile", TILE + "pl.store(t, [0, 0], «t»)"),
        (TypeMismatch, "expected a tile or a number as rhs, found Tensor", TILE + "t = pl.add(t, «a»)"),
        (
            TypeMismatch,
            r"pl\.add: expected Tile\[\[16, 16\], FP32\].*found Tile\[\[8, 16\], FP32\]",
            TILE + "u = pl.load(a, [0, 0], [8, 16])\nv = pl.add(t, «u»)",
        ),
        (TypeMismatch, "found Tile.*INT32", TILE + "u = pl.cast(t, pl.INT32)\nv = t + «u»"),
        (
            TypeMismatch,
            "the valid regions of the operands differ: 16×16 and 12×16",
            TILE + "u = pl.load(a, [0, 0], [16, 16], [12, 16])\nv = t + «u»",
        ),
        (TypeMismatch, "FP32 number for INT8", TILE + "u = pl.add(pl.cast(t, pl.INT8), «0.5»)"),
        (TypeMismatch, "300 does not fit INT8", TILE + "u = pl.add(pl.cast(t, pl.INT8), «300»)"),
        (TypeMismatch, "-1 does not fit UINT8", "t = pl.full([4, 4], «-1», dtype=pl.UINT8)"),
        (
            TypeMismatch,
            "expected a tile of floats, found INT32",
            TILE + "u = pl.cast(t, pl.INT32)\nv = pl.exp(«u»)",
        ),
        (TypeMismatch, "signed numbers, found UINT8", TILE + "u = pl.cast(t, pl.UINT8)\nv = -«u»"),
        (TypeMismatch, "16 columns on the left, 8 rows", TILE + "v = pl.matmul(t, «pl.load(a, [0, 0], [8, 16])»)"),
        (TypeMismatch, "the dtypes differ", TILE + "v = pl.matmul(t, «pl.cast(t, pl.FP16)»)"),
        (
            TypeMismatch,
            "12 valid columns on the left, 16 valid rows",
            TILE + "u = pl.load(a, [0, 0], [16, 16], [16, 12])\nv = pl.matmul(u, «t»)",
        ),
        (TypeMismatch, "to add the product to", TILE + "v = pl.matmul_acc(«pl.row_max(t)», t, t)"),
        (TypeMismatch, r"expected Tile\[\[16, 1\], FP32\] to repeat", TILE + "v = pl.row_expand_add(t, «t»)"),
        (TypeMismatch, r"pl\.store.*the dtypes differ", TILE + "pl.store(«pl.cast(t, pl.FP16)», [0, 0], f)"),
        (TypeMismatch, "expected a dtype as dtype", TILE + "u = pl.cast(t, «16»)"),
        (TypeMismatch, "expected an int known", "n = pl.dim(a, «pl.dim(a, 0)»)"),
        (TypeMismatch, "a Python str has no meaning", "t = pl.load(«word», [0, 0], [16, 16])"),
        (TypeMismatch, "work on tiles and numbers, this is Tensor", "t = «a» + a"),
        (TypeMismatch, "'x' is declared Scalar", "«x»: pl.Scalar[pl.FP32] = pl.dim(a, 0)"),
        (TypeMismatch, "between INDEX and FP32", "n = «pl.dim(a, 0) // 2.0»"),
        (TypeMismatch, "integer division or modulo by zero", "n = «one // 0»"),
        (
            TypeMismatch,
            r"'t' is Tile\[\[16, 16\], FP32\] before the loop, and gets Tile\[\[16, 1\], FP32\] in it",
            TILE + "for i in pl.range(2):\n    «t» = pl.row_max(t)",
        ),
        (TypeMismatch, "the step is 0", "for i in pl.range(0, 4, «0»):\n    pass"),
        (TypeMismatch, "a bound of pl.range is an integer", "for i in pl.range(«1.5»):\n    pass"),
        (TypeMismatch, "only tensors can be sliced", TILE + "u = «t»[0:2]"),
        # calls
        (SignatureError, r"pl\.load takes 4 arguments .*; missing: offsets, shapes", "t = «pl.load(a)»"),
        (SignatureError, r"pl\.neg takes 1 argument \(tile\), found 2", TILE + "u = pl.neg(t, «t»)"),
        (SignatureError, "no parameter 'shape'; did you mean 'shapes'", "t = pl.load(a, [0, 0], shape=«[16, 16]»)"),
        (SignatureError, "argument 'tensor' is given twice", "t = pl.load(a, [0, 0], [16, 16], tensor=«a»)"),
        (SignatureError, r"pl\.min takes two numbers or more", "n = «pl.min(4)»"),
        (SignatureError, r"pl\.range takes stop", "for i in «pl.range()»:\n    pass"),
        (SignatureError, "can't be used in InCore kernel kernel", "t = «pl.create_tensor([4], dtype=pl.FP32)»"),
        (SignatureError, "can't be used in InCore kernel kernel", "t = «pl.slice(a, [4, 16], [0, 0])»"),
        (SignatureError, "the program has no function 'kernal'; did you mean 'kernel'", "«self.kernal»(a, f)"),
        (SignatureError, "functions call each other in a circle: kernel → kernel", "«self.kernel(a, f)»"),
        (SignatureError, "'a' is written here, but it is an In parameter", TILE + "pl.store(t, [0, 0], «a»)"),
        (SignatureError, "returns a Tile.*: functions return tensors", TILE + "return «t»"),
        (SignatureError, "returns the In parameter 'a'", "return «a»"),
        # syntax
        (TypeMismatch, "a condition is true or false, found Tile", TILE + "if «t»:\n    pass"),
        (SyntaxUnsupported, "this loop never ends", "«while one:\n    pass»"),
        (SyntaxUnsupported, "with has no meaning", "«with pl.at(level=pl.Level.CORE_GROUP):\n    pass»"),
        (SyntaxUnsupported, "only variables can be assigned", "«a[0]» += 1"),
        (SyntaxUnsupported, "goes over pl.range only", "for i in «a»:\n    pass"),
        (SyntaxUnsupported, "else of a loop", "for i in pl.range(4):\n    pass\nelse:\n    «pass»"),
        (TypeMismatch, "this can't be computed: '<' not supported", "n = «word < 2»"),
        (SyntaxUnsupported, "a comprehension has no meaning", "n = «[i for i in word]»"),
        (SyntaxUnsupported, r"\*\* has no meaning", "n = «pl.dim(a, 0) ** 2»"),
        (SyntaxUnsupported, "a string has no meaning", "n = «f'{one}'»"),
        (SyntaxUnsupported, "a constant that is no number", "n = «b'x'»"),
        (SyntaxUnsupported, "print can't be called here", "«print»(a)"),
        (SyntaxUnsupported, "this statement has no effect", "«a»"),
        (SyntaxUnsupported, "two targets", "n = «m» = 1"),
        (SyntaxUnsupported, "only variables can be assigned", "«a[0]» = 1"),
        (SyntaxUnsupported, "a variable without a value", "«n: pl.Scalar[pl.INDEX]»"),
        (SyntaxUnsupported, "unpacked", "n, m = «1»"),
        (SyntaxUnsupported, "nothing can follow return", "return\n«n = 1»"),
        (SyntaxUnsupported, "at the end of a function only", "for i in pl.range(4):\n    «return»"),
        (SyntaxUnsupported, "loop variable 'i' can't be assigned", "for i in pl.range(4):\n    «i» = 1"),
        (SyntaxUnsupported, "must be called", "n = «pl.neg»"),
        (SyntaxUnsupported, "must be called", "n = «self.kernel»"),
        (SyntaxUnsupported, "self has no value here", "n = «self»"),
        (SyntaxUnsupported, "in a for statement only", "n = «pl.range(4)»"),
        (SyntaxUnsupported, "variables have no attributes", "n = «a.device»"),
        (SyntaxUnsupported, "/ has no meaning between numbers", "n = «pl.dim(a, 0) / 2»"),
        (SyntaxUnsupported, "// has no meaning for tiles", TILE + "u = «t // 2»"),
        (SyntaxUnsupported, "takes a tile and a whole number from 1 to 16", TILE + "u = «t ** -1»"),
        (SyntaxUnsupported, r"x\[begin:end\]", "u = «a[0:4, 0:4]»"),
        (SyntaxUnsupported, r"\* has no meaning", "t = pl.load(«*word»)"),
    ],
)
def test_points_at_what_is_wrong(programs, kind, message, body):
    programs.fails(kind, message, programs.kernel, body, numbers=numbers, word="abc", one=1)


def test_a_program_that_is_never_right_says_what_to_write_instead(programs):
    error = programs.fails(SyntaxUnsupported, "raise has no meaning", programs.kernel, "«raise ValueError»")
    assert "hint: raise in a SubWorker" in str(error)


def test_a_tail_may_be_stored_where_the_whole_tile_would_not_fit(programs):
    program = programs.kernel(
        """
        t = pl.load(a, [12, 0], [16, 16], [4, 16])
        pl.store(pl.relu(pl.add(t, t)), [12, 0], f)
        """
    )
    assert program.name == "P"


def test_the_valid_region_of_a_loop_carried_tile_is_unknown(programs):
    program = programs.kernel(
        """
        t = pl.load(a, [0, 0], [16, 16])
        for i in pl.range(2):
            pl.store(t, [8, 0], f)
            t = pl.load(a, [8, 0], [16, 16], [8, 16])
        """
    )
    assert program.name == "P"


def test_columns_count_characters_not_bytes(programs):
    programs.fails(UnboundVariable, "'größer'", programs.kernel, "größe = 3; n = größe + «größer»")
