"""What a function is given to write, it writes: on every path, and not by giving the name another value."""

from __future__ import annotations

import pytest
from pypto.errors import PyptoError, SignatureError, TypeMismatch

HEAD = """
T = pl.Tensor[[16, 16], pl.FP32]
@pl.program
class P:
    @pl.function(type=pl.FunctionType.InCore)
    def kernel(self, a: T, n: pl.Scalar[pl.INT64], {}: pl.Out[T]):
        t = pl.load(a, [0, 0], [16, 16])
"""


def kernel(programs, body: str, out: str = "f"):
    return programs.program(HEAD.format(out) + "".join(f"        {line}\n" for line in body.split("\n")))


@pytest.mark.parametrize(
    "body",
    [
        "u = pl.exp(t)",
        "return f",
        "if n > 3:\n    pl.store(t, [0, 0], f)",
        "if n > 3:\n    pl.store(t, [0, 0], f)\nelse:\n    u = t",
        "if n > 3:\n    return f\nreturn pl.store(t, [0, 0], f)",
        "for i in pl.range(0):\n    pl.store(t, [0, 0], f)",
        "for i in pl.range(n):\n    if i > 2:\n        pl.store(t, [0, 0], f)",
        "if n < 3:\n    if n < 2:\n        pl.store(t, [0, 0], f)\n    else:\n        pl.store(t, [0, 0], f)",
    ],
)
def test_an_output_that_is_not_written_on_every_path_is_an_error(programs, body: str) -> None:
    with pytest.raises(SignatureError, match="Out parameter 'f' of kernel is not written on every path") as caught:
        kernel(programs, body)
    assert "def kernel" in str(caught.value)
    assert "hint: store to it (pl.store(tile, offsets, f))" in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        "pl.store(t, [0, 0], f)",
        "if n > 3:\n    pl.store(t, [0, 0], f)\nelse:\n    pl.store(-t, [0, 0], f)",
        "if n > 3:\n    return pl.store(t, [0, 0], f)\nreturn pl.store(-t, [0, 0], f)",
        "for i in pl.range(n):\n    pl.store(t, [0, 0], f)",
        "while n > 3:\n    pl.store(t, [0, 0], f)\n    n = n - 1",
        "if True:\n    pl.store(t, [0, 0], f)",
    ],
)
def test_an_output_that_is_written_on_every_path_is_all_right(programs, body: str) -> None:
    assert kernel(programs, body).functions[0].body


def test_an_orchestration_must_pass_its_output_on(programs) -> None:
    with pytest.raises(SignatureError, match="Out parameter 'g' of chip is not written on every path") as caught:
        programs.program(
            HEAD.format("f")
            + "        pl.store(t, [0, 0], f)\n"
            + "    @pl.function(type=pl.FunctionType.Orchestration)\n"
            + "    def chip(self, a: T, n: pl.Scalar[pl.INT64], f: pl.Out[T], g: pl.Out[T]):\n"
            + "        self.kernel(a, n, f)\n"
        )
    assert "hint: pass g to what writes it" in str(caught.value)


def test_a_tile_assigned_to_the_name_of_an_output_is_an_error(programs) -> None:
    text = HEAD.format("y") + "        «y» = pl.exp(t)\n"
    error = programs.fails(TypeMismatch, "'y' is an Out parameter", programs.program, text)
    assert "hint: pl.store(..., [0, 0], y)" in str(error)


def test_three_mistakes_are_told_in_one_go_in_the_order_they_stand(programs) -> None:
    with pytest.raises(PyptoError, match="name 'one' is not defined") as caught:
        kernel(programs, "u = t + one\nv = u + two\nw = pl.exp(pl.cast(t, pl.INT32))\nx = pl.lod(a)")
    others = caught.value.others
    assert [type(error).__name__ for error in others] == ["TypeMismatch", "UnknownOp"]  # `v` fails because `u` did
    assert [error.line for error in (caught.value, *others)] == [9, 11, 12]
    assert "did you mean 'load'" in str(caught.value)


def test_a_mistake_in_a_helper_is_told_with_the_calls_that_led_there(programs) -> None:
    text = (
        "def outer(t):\n    return inner(t) + 1.0\n"
        "def inner(t):\n    return pl.matmul(pl.row_max(t), t)\n" + HEAD.format("f") + "        u = outer(t)\n"
    )
    with pytest.raises(TypeMismatch, match="1 columns on the left, 16 rows") as caught:
        programs.program(text)
    assert [span.text.strip() for span in caught.value.calls] == ["return inner(t) + 1.0", "u = outer(t)"]
    assert str(caught.value).count("called at ") == 2


def test_a_helper_that_calls_itself_is_an_error(programs) -> None:
    text = "def again(t):\n    return again(t)\n" + HEAD.format("f") + "        u = again(t)\n"
    with pytest.raises(SignatureError, match="again calls itself"):
        programs.program(text)


def test_what_is_known_now_is_decided_now(programs) -> None:
    program = kernel(
        programs,
        "import_size = len([1, 2, 3])\n"
        "pl.static_assert(import_size == 3, 'three')\n"
        "for scale in [1.0, 2.0]:\n    t = t * scale\n"
        "for index, (x, y) in enumerate(zip([1, 2], [3, 4])):\n    t = t + (x * y + index)\n"
        "u = pl.full([2 ** 4, max(8, 16)], -1.5 if import_size > 5 else 2.5, dtype=pl.FP32)\n"
        "pl.store(t + u, [0, 0], f)",
    )
    values = [stmt.value for stmt in program.functions[0].body if getattr(getattr(stmt, "value", None), "op", "") != ""]
    assert [call.op for call in values].count("tile.mul") == 2
    assert [call.op for call in values].count("tile.add") == 3


def test_a_static_assertion_that_fails_is_an_error_at_its_line(programs) -> None:
    with pytest.raises(TypeMismatch, match="too small") as caught:
        kernel(programs, "pl.static_assert(a.shape[0] == 8, 'too small')")
    assert "pl.static_assert(a.shape" in str(caught.value)


def test_static_print_prints_values_and_types(programs, capsys) -> None:
    kernel(programs, "pl.static_print('shape', a.shape[0], t)\npl.store(t, [0, 0], f)")
    assert capsys.readouterr().out == "shape 16 Tile[[16, 16], FP32]\n"
