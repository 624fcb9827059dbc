"""A wrong kernel is an error at the place that is wrong."""

from __future__ import annotations

import numbers

import pytest
from pypto.errors import (
    OutOfBoundsError,
    SignatureError,
    SyntaxUnsupportedError,
    TypeMismatchError,
    UnboundVariableError,
    UnknownOpError,
)

TILE = "t = pl.load(a, [0, 0], [16, 16])\n"


@pytest.mark.parametrize(
    ("kind", "message", "body"),
    [
        (UnknownOpError, r"pl\.lod is no operation.*did you mean 'load'", "t = «pl.lod»(a, [0, 0], [16, 16])"),
        (UnknownOpError, r"pl\.at is no operation", "x = «pl.at»"),
        (UnboundVariableError, "name 'blok' is not defined", "t = pl.load(a, [0, 0], [«blok», 16])"),
        (UnboundVariableError, "'t' is used before it is assigned", "u = pl.neg(«t»)\nt = u"),
        (
            UnboundVariableError,
            "'t' is gone: it was first assigned inside the loop at line 7",
            "for i in pl.range(2):\n    t = pl.load(a, [0, 0], [16, 16])\npl.store(«t», [0, 0], f)",
        ),
        (UnboundVariableError, "has no attribute 'nothing'", "t = pl.load(a, [0, 0], [«numbers.nothing», 16])"),
        (UnboundVariableError, "the program has no 'width'", "t = pl.load(a, [0, 0], [«self.width», 16])"),
        # shapes and bounds
        (OutOfBoundsError, r"elements 8 to 24 of dimension 1 are outside", "t = pl.load(a, [0, «8»], [16, 16])"),
        (OutOfBoundsError, "elements 0 to 17 of dimension 0", "t = pl.load(a, [0, 0], «[17, 16]»)"),
        (OutOfBoundsError, "offset -1 in dimension 0 is negative", "t = pl.load(a, [«-1», 0], [1, 16])"),
        (OutOfBoundsError, r"pl\.store: elements 1 to 17", TILE + "pl.store(t, [«1», 0], f)"),
        (OutOfBoundsError, "elements 20 to 20 of dimension 0", "t = pl.load(a, [«20», 0], [4, 4], [pl.dim(a, 0), 4])"),
        (OutOfBoundsError, "has dimensions 0 to 1, not 2", "n = pl.dim(«a», 2)"),
        (TypeMismatchError, "expected a positive int", "n = pl.dim(a, 0)\nt = pl.load(a, [0, 0], [«n», 16])"),
        (TypeMismatchError, "expected a positive int", "t = pl.load(a, [0, 0], [«0», 16])"),
        (TypeMismatchError, "expected a positive int", "t = pl.load(a, [0, 0], [«2.0», 16])"),
        (TypeMismatchError, "expected 2 offsets.*found 1", "t = pl.load(a, «[0]», [16, 16])"),
        (TypeMismatchError, "expected a list of index", "t = pl.load(a, «0», [16, 16])"),
        (TypeMismatchError, "17 valid elements in a tile that has 16", "t = pl.load(a, [0, 0], [16, 16], [«17», 16])"),
        (TypeMismatchError, "an item is an integer, found Scalar", "t = pl.load(a, [«0.5», 0], [16, 16])"),
        # operands
        (TypeMismatchError, "expected a tile as lhs, found Tensor", "t = pl.add(«a», a)"),
        (TypeMismatchError, "expected a tensor as tensor, found Tile", TILE + "pl.store(t, [0, 0], «t»)"),
        (TypeMismatchError, "expected a tile or a number as rhs, found Tensor", TILE + "t = pl.add(t, «a»)"),
        (
            TypeMismatchError,
            r"pl\.add: expected Tile\[\[16, 16\], FP32\].*found Tile\[\[8, 16\], FP32\]",
            TILE + "u = pl.load(a, [0, 0], [8, 16])\nv = pl.add(t, «u»)",
        ),
        (TypeMismatchError, "found Tile.*INT32", TILE + "u = pl.cast(t, pl.INT32)\nv = t + «u»"),
        (
            TypeMismatchError,
            "the valid regions of the operands differ: 16×16 and 12×16",
            TILE + "u = pl.load(a, [0, 0], [16, 16], [12, 16])\nv = t + «u»",
        ),
        (TypeMismatchError, "FP32 number for INT8", TILE + "u = pl.add(pl.cast(t, pl.INT8), «0.5»)"),
        (TypeMismatchError, "300 does not fit INT8", TILE + "u = pl.add(pl.cast(t, pl.INT8), «300»)"),
        (TypeMismatchError, "-1 does not fit UINT8", "t = pl.full([4, 4], «-1», dtype=pl.UINT8)"),
        (
            TypeMismatchError,
            "expected a tile of floats, found INT32",
            TILE + "u = pl.cast(t, pl.INT32)\nv = pl.exp(«u»)",
        ),
        (TypeMismatchError, "signed numbers, found UINT8", TILE + "u = pl.cast(t, pl.UINT8)\nv = -«u»"),
        (TypeMismatchError, "16 columns on the left, 8 rows", TILE + "v = pl.matmul(t, «pl.load(a, [0, 0], [8, 16])»)"),
        (TypeMismatchError, "the dtypes differ", TILE + "v = pl.matmul(t, «pl.cast(t, pl.FP16)»)"),
        (
            TypeMismatchError,
            "12 valid columns on the left, 16 valid rows",
            TILE + "u = pl.load(a, [0, 0], [16, 16], [16, 12])\nv = pl.matmul(u, «t»)",
        ),
        (TypeMismatchError, "to add the product to", TILE + "v = pl.matmul_acc(«pl.row_max(t)», t, t)"),
        (TypeMismatchError, r"expected Tile\[\[16, 1\], FP32\] to repeat", TILE + "v = pl.row_expand_add(t, «t»)"),
        (TypeMismatchError, r"pl\.store.*the dtypes differ", TILE + "pl.store(«pl.cast(t, pl.FP16)», [0, 0], f)"),
        (TypeMismatchError, "expected a dtype as dtype", TILE + "u = pl.cast(t, «16»)"),
        (TypeMismatchError, "expected an int known", "n = pl.dim(a, «pl.dim(a, 0)»)"),
        (TypeMismatchError, "a Python str has no meaning", "t = pl.load(«word», [0, 0], [16, 16])"),
        (TypeMismatchError, "work on tiles and numbers, this is Tensor", "t = «a» + a"),
        (TypeMismatchError, "'x' is declared Scalar", "«x»: pl.Scalar[pl.FP32] = pl.dim(a, 0)"),
        (TypeMismatchError, "between INDEX and FP32", "n = «pl.dim(a, 0) // 2.0»"),
        (TypeMismatchError, "integer division or modulo by zero", "n = «one // 0»"),
        (
            TypeMismatchError,
            r"'t' is Tile\[\[16, 16\], FP32\] before the loop, and gets Tile\[\[16, 1\], FP32\] in it",
            TILE + "for i in pl.range(2):\n    «t» = pl.row_max(t)",
        ),
        (TypeMismatchError, "the step is 0", "for i in pl.range(0, 4, «0»):\n    pass"),
        (TypeMismatchError, "a bound of pl.range is an integer", "for i in pl.range(«1.5»):\n    pass"),
        (TypeMismatchError, "only tensors can be sliced", TILE + "u = «t»[0:2]"),
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
        (SyntaxUnsupportedError, "if has no meaning", "«if one:\n    pass»"),
        (SyntaxUnsupportedError, "while has no meaning", "«while one:\n    pass»"),
        (SyntaxUnsupportedError, "with has no meaning", "«with pl.at(level=pl.Level.CORE_GROUP):\n    pass»"),
        (SyntaxUnsupportedError, "augmented assignment", TILE + "«t += t»"),
        (SyntaxUnsupportedError, "goes over pl.range only", "for i in «range(4)»:\n    pass"),
        (SyntaxUnsupportedError, "else of a loop", "for i in pl.range(4):\n    pass\nelse:\n    «pass»"),
        (SyntaxUnsupportedError, "a comparison has no meaning", "n = «one < 2»"),
        (SyntaxUnsupportedError, "a comprehension has no meaning", "n = «[i for i in word]»"),
        (SyntaxUnsupportedError, r"\*\* has no meaning", "n = «one ** 2»"),
        (SyntaxUnsupportedError, "a string has no meaning", "n = «f'{one}'»"),
        (SyntaxUnsupportedError, "a constant that is no number", "n = «'x'»"),
        (SyntaxUnsupportedError, "print can't be called here", "«print»(a)"),
        (SyntaxUnsupportedError, "this statement has no effect", "«a»"),
        (SyntaxUnsupportedError, "two targets", "n = «m» = 1"),
        (SyntaxUnsupportedError, "only variables can be assigned", "«a[0]» = 1"),
        (SyntaxUnsupportedError, "a variable without a value", "«n: pl.Scalar[pl.INDEX]»"),
        (SyntaxUnsupportedError, "unpacked", "n, m = «1»"),
        (SyntaxUnsupportedError, "nothing can follow return", "return\n«n = 1»"),
        (SyntaxUnsupportedError, "at the end of a function only", "for i in pl.range(4):\n    «return»"),
        (SyntaxUnsupportedError, "loop variable 'i' can't be assigned", "for i in pl.range(4):\n    «i» = 1"),
        (SyntaxUnsupportedError, "must be called", "n = «pl.neg»"),
        (SyntaxUnsupportedError, "must be called", "n = «self.kernel»"),
        (SyntaxUnsupportedError, "self has no value here", "n = «self»"),
        (SyntaxUnsupportedError, "in a for statement only", "n = «pl.range(4)»"),
        (SyntaxUnsupportedError, "variables have no attributes", "n = «a.shape»"),
        (SyntaxUnsupportedError, "/ has no meaning between numbers", "n = «pl.dim(a, 0) / 2»"),
        (SyntaxUnsupportedError, "// has no meaning for tiles", TILE + "u = «t // 2»"),
        (SyntaxUnsupportedError, "a number can't be divided by a tile", TILE + "u = «1.0 / t»"),
        (SyntaxUnsupportedError, r"x\[begin:end\]", "u = «a[0:4, 0:4]»"),
        (SyntaxUnsupportedError, r"\* has no meaning", "t = pl.load(«*word»)"),
    ],
)
def test_points_at_what_is_wrong(programs, kind, message, body):
    programs.fails(kind, message, programs.kernel, body, numbers=numbers, word="abc", one=1)


def test_a_program_that_is_never_right_says_what_to_write_instead(programs):
    error = programs.fails(SyntaxUnsupportedError, "if has no meaning", programs.kernel, "«if True:\n    pass»")
    assert "hint: use pl.min and pl.max" in str(error)


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
    programs.fails(UnboundVariableError, "'größer'", programs.kernel, "größe = 3; n = größe + «größer»")
