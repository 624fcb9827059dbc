"""Every op of the registry: type rule, numpy meaning, emitted C++ and Python agree with each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pypto import ops
from pypto.errors import OutOfBounds
from pypto.ir.dtypes import ALL, BF16, BOOL, FP16, FP32, INDEX, INT8, INT32, UINT8, DType
from pypto.ir.nodes import Call, Const, ExprTuple, ScalarType, Span, TensorType, TileType, Type, Var
from pypto.ops import host, registry
from pypto.ops.registry import Takes

WHERE = Span('/home/me/"odd".py', 12, 4, 12, 9)


def operand(takes: Takes, value):
    """The expression that stands for a numpy value."""
    if takes in (Takes.INDICES, Takes.SHAPE):
        items = tuple(Const(int(item), ScalarType(INDEX)) for item in value)
        return ExprTuple(items, ScalarType(INDEX))
    if isinstance(value, np.ndarray):
        (dtype,) = (dtype for dtype in ALL if dtype.numpy == str(value.dtype))
        return Var("x", TensorType(value.shape, dtype) if takes is Takes.TENSOR else TileType(value.shape, dtype))
    return Const(value, ScalarType(FP32 if isinstance(value, float) else INDEX))


def inferred(name: str, args: list, attrs: dict) -> Type:
    """What the type rule says of a call with these numpy values."""
    op = ops.get(name)
    params = [param for param in op.params if not param.takes.is_attribute]
    return op.infer(tuple(operand(p.takes, arg) for p, arg in zip(params, args, strict=True)), attrs)


def tile(*shape: int, dtype: str = "float32") -> np.ndarray:
    """A tile of small numbers, none zero."""
    return (np.arange(np.prod(shape)).reshape(shape) % 7 + 1).astype(dtype)


CALLS = [
    *((f"tile.{n}", [tile(4, 6), tile(4, 6)], {}) for n in ("add", "sub", "mul", "div", "maximum", "minimum")),
    *((f"tile.{n}", [tile(4, 6, dtype="int32"), 3], {}) for n in ("add", "sub", "mul", "div", "maximum", "minimum")),
    *((f"tile.{n}", [tile(4, 6)], {}) for n in ("neg", "abs", "exp", "log", "sqrt", "rsqrt", "recip", "relu")),
    *(
        (f"tile.{n}", [tile(4, 6, dtype="float16")], {})
        for n in ("exp", "rsqrt", "recip", "relu", "row_sum", "col_sum")
    ),
    *((f"tile.{a}_{n}", [tile(4, 6, dtype="int8")], {}) for a in ("row", "col") for n in ("max", "min", "sum")),
    *((f"tile.row_expand_{n}", [tile(4, 6), tile(4, 1)], {}) for n in ("add", "sub", "mul", "div")),
    *((f"tile.col_expand_{n}", [tile(4, 6), tile(1, 6)], {}) for n in ("add", "sub", "mul", "div")),
    ("tile.matmul", [tile(4, 6, dtype="float16"), tile(6, 2, dtype="float16")], {}),
    ("tile.matmul", [tile(4, 6, dtype="int8"), tile(6, 2, dtype="int8")], {}),
    ("tile.matmul_acc", [tile(4, 2), tile(4, 6), tile(6, 2)], {}),
    ("tile.transpose", [tile(4, 6)], {}),
    ("tile.cast", [tile(4, 6)], {"dtype": INT8}),
    ("tile.load", [tile(8, 8), [2, 0], [4, 6], [4, 6]], {}),
    ("tile.store", [tile(4, 6), [2, 0], tile(8, 8)], {}),
    ("tile.full", [[4, 6], 2.5], {"dtype": FP32}),
    ("tile.copy", [tile(4, 6)], {}),
    ("tensor.create", [[4, 6, 2]], {"dtype": FP16}),
    ("tensor.slice", [tile(8, 8), [2, 8], [3, 0]], {}),
    ("tensor.dim", [tile(8, 9)], {"axis": 1}),
]
# Operations on each element of one tile need no line here.
_LISTED = {name for name, *_ in CALLS}
CALLS += [
    (op.name, [tile(4, 6)], {})
    for op in ops.all_ops()
    if op.name not in _LISTED and [param.takes for param in op.params] == [ops.Takes.TILE]
]


@pytest.mark.parametrize(("name", "args", "attrs"), CALLS)
def test_the_numpy_meaning_has_the_inferred_type(name, args, attrs):
    before = [np.copy(arg) if isinstance(arg, np.ndarray) else arg for arg in args]
    result = ops.get(name).numpy(*args, **attrs)
    expected = inferred(name, args, attrs)
    if isinstance(expected, ScalarType):
        assert isinstance(result, int)
        return
    assert isinstance(expected, (TensorType, TileType))
    assert result.shape == expected.shape
    assert result.dtype == np.dtype(expected.dtype.numpy)
    if name != "tile.store":
        assert all(np.array_equal(old, new) for old, new in zip(before, args, strict=True))


def test_every_op_is_called_above():
    assert {name for name, _, _ in CALLS} == {op.name for op in ops.all_ops()}


@pytest.mark.parametrize(
    ("name", "args", "attrs", "out", "text"),
    [
        ("tile.add", ["a", "b"], {}, "t", "simpler::tile::add(t, a, b);"),
        ("tile.relu", ["a"], {}, "t", "simpler::tile::relu(t, a);"),
        ("tile.row_sum", ["a"], {}, "t", "simpler::tile::row_sum(t, a);"),
        ("tile.col_expand_div", ["a", "b"], {}, "t", "simpler::tile::col_expand_div(t, a, b);"),
        ("tile.matmul_acc", ["c", "a", "b"], {}, "t", "simpler::tile::matmul_acc(t, c, a, b);"),
        ("tile.cast", ["a"], {"dtype": INT8}, "t", "simpler::tile::cast(t, a);"),
        ("tile.full", ["4, 6", "2.0f"], {"dtype": FP32}, "t", "simpler::tile::full(t, 2.0f);"),
        (
            "tile.load",
            ["x", "r, 0", "4, 6", "n, 6"],
            {},
            "t",
            'simpler::tile::load(core, t, x, r, 0, n, 6, "\\"odd\\".py:12");',
        ),
        ("tile.store", ["t", "r, 0", "x"], {}, None, 'simpler::tile::store(core, x, t, r, 0, "\\"odd\\".py:12");'),
        ("tensor.create", ["n, 6"], {"dtype": BF16}, None, "graph.alloc(simpler::DataType::BFLOAT16, {n, 6})"),
        (
            "tensor.slice",
            ["x", "n, 6", "r, 0"],
            {},
            None,
            'simpler::slice(graph, x, {n, 6}, {r, 0}, "\\"odd\\".py:12")',
        ),
        ("tensor.dim", ["x"], {"axis": 1}, None, "static_cast<int64_t>(x.shapes[1])"),
    ],
)
def test_emitted_cpp(name, args, attrs, out, text):
    call = Call(name, (), tuple(attrs.items()), ScalarType(INDEX), WHERE)
    assert ops.get(name).cpp(call, args, out) == text


def test_emitted_python_of_hosts():
    def emitted(name, args, attrs):
        emit = ops.get(name).host
        assert emit is not None
        return emit(Call(name, (), tuple(attrs.items()), ScalarType(INDEX), WHERE), args)

    x = np.zeros((8, 4))
    assert emitted("tensor.create", ["n, 6"], {"dtype": BF16}) == 'orch.alloc([n, 6], "bfloat16")'
    assert eval(emitted("tensor.dim", ["x"], {"axis": 1})) == 4
    text = emitted("tensor.slice", ["x", "3, 4", "r, 0"], {})
    part = eval(text, {"host_ops": host, "x": x, "r": 2})
    part[:] = 1
    assert np.array_equal(x.sum(axis=1), [0, 0, 4, 4, 4, 0, 0, 0])
    with pytest.raises(OutOfBounds, match=r'"odd"\.py:12: slice out of bounds in dimension 0: offset 6, extent 3'):
        eval(text, {"host_ops": host, "x": x, "r": 6})


def test_orchestration_ops_have_a_meaning_on_hosts_and_tile_ops_have_none():
    for op in ops.all_ops():
        assert (op.host is not None) == op.name.startswith("tensor.")


@pytest.mark.parametrize(("shape", "offset"), [([2, 3], [0, 0]), ([9, 4], [0, 0]), ([1, 4], [8, 0]), ([1], [0])])
def test_slices_on_hosts_must_be_inside_and_contiguous(shape, offset):
    with pytest.raises(OutOfBounds):
        host.slice_tensor(np.zeros((8, 4)), shape, offset)


def test_a_slice_of_one_row_may_be_narrow():
    assert host.slice_tensor(np.zeros((8, 4)), [1, 3], [7, 1]).shape == (1, 3)


@given(hnp.arrays(np.int8, 12), hnp.arrays(np.int8, 12, elements=st.integers(-128, 127).filter(bool)))
def test_integers_are_divided_towards_zero(a, b):
    pairs = zip(a.tolist(), b.tolist(), strict=True)
    expected = [int(x / y) if (x, y) != (-128, -1) else -128 for x, y in pairs]  # the one that wraps
    with np.errstate(all="ignore"):
        assert ops.get("tile.div").numpy(a, b).tolist() == expected


def test_division_of_integers_by_zero_is_an_error():
    with pytest.raises(ZeroDivisionError):
        ops.get("tile.div").numpy(tile(2, 2, dtype="int32"), 0)


@given(st.floats(width=32), st.sampled_from([d for d in ALL if d.is_int]))
def test_casts_to_integers_cut_off_and_saturate(value, dtype):
    info = np.iinfo(dtype.numpy)
    expected = (
        0 if np.isnan(value) else info.max if value >= info.max else info.min if value <= info.min else int(value)
    )
    assert ops.get("tile.cast").numpy(np.array([[value]], np.float32), dtype).item() == expected


def test_casts_between_integers_wrap_and_to_bool_compare_with_zero():
    cast = ops.get("tile.cast").numpy
    assert cast(np.array([[300, -1]], np.int32), INT8).tolist() == [[44, -1]]
    assert cast(np.array([[0.5, 0.0]], np.float32), BOOL).tolist() == [[True, False]]


def test_sums_of_halves_are_rounded_once():
    ones = np.full((1, 4096), 1, np.float16)
    ones[0, 0] = 2048
    assert ops.get("tile.row_sum").numpy(ones).item() == np.float16(2048 + 4095)


def test_tile_types_carry_what_is_known_of_their_valid_region():
    part = Var("t", TileType((8, 6), FP32, (5, None)))
    whole = Var("t", TileType((8, 6), FP32, (None, 6)))
    assert ops.get("tile.add").infer((part, whole), {}).valid == (5, 6)
    assert ops.get("tile.transpose").infer((part,), {}).valid == (None, 5)
    assert ops.get("tile.row_max").infer((part,), {}).valid == (5, 1)
    assert ops.get("tile.matmul").infer((part, ops_transposed(part)), {}).valid == (5, 5)
    assert part.type == replace(whole.type, valid=(1, 1))


def ops_transposed(var: Var) -> Var:
    """A variable of the transposed type."""
    return Var("u", ops.get("tile.transpose").infer((var,), {}))


def test_names_of_dtypes_are_those_of_every_layer():
    floats = ["FLOAT32", "FLOAT16", "BFLOAT16"]
    integers = [f"{sign}{bits}" for sign in ("INT", "UINT") for bits in (8, 16, 32, 64)]
    assert [d.runtime for d in ALL] == [*floats, *integers, "BOOL"]
    for dtype in ALL:
        assert dtype.numpy is None or np.dtype(dtype.numpy).itemsize == dtype.itemsize


def test_the_registry_refuses_what_would_be_ambiguous(monkeypatch):
    monkeypatch.setattr(registry, "_OPS", dict(registry._OPS))
    add = ops.get("tile.add")
    with pytest.raises(ValueError, match=r"'tile\.add' is registered already"):
        registry.register(add)
    with pytest.raises(ValueError, match=r"'tile\.add' and 'tensor\.add' are spelled alike"):
        registry.register(replace(add, name="tensor.add", params=add.params[:1]))
    with pytest.raises(KeyError, match=r"no op 'tile\.ad'; did you mean 'tile\.add'"):
        ops.get("tile.ad")


def test_ops_say_what_code_generation_needs():
    assert {op.name for op in ops.all_ops() if op.cube} == {"tile.matmul", "tile.matmul_acc"}
    assert ops.get("tile.matmul").in_place is False
    assert ops.get("tile.matmul_acc").in_place == (0,)
    assert ops.get("tile.add").in_place is True
    assert ops.get("tile.store").writes == 2
    assert ops.get("tensor.slice").part_of == 0


def test_dtypes_know_their_kind():
    def kinds(dtype: DType) -> tuple[bool, bool, bool]:
        return dtype.is_float, dtype.is_int, dtype.is_signed

    assert kinds(BF16) == (True, False, True)
    assert kinds(INT32) == kinds(INDEX) == (False, True, True)
    assert kinds(UINT8) == (False, True, False)
    assert kinds(BOOL) == (False, False, False)
