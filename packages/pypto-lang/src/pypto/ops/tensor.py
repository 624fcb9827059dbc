"""Ops on whole tensors: create, slice, dim."""

from __future__ import annotations

from typing import Any

from pypto.errors import OutOfBounds, TypeMismatch
from pypto.ir.dtypes import INDEX, DType
from pypto.ir.nodes import Call, Expr, ScalarType, TensorType
from pypto.ops import host
from pypto.ops.memory import cpp_string
from pypto.ops.registry import ANYWHERE, ORCHESTRATION, Op, OpParam, Takes, register
from pypto.ops.rules import Attrs, check_count, check_region, extent, items_of, static, tensor_of

MAX_DIMS = 5


def _infer_create(args: tuple[Expr, ...], attrs: Attrs) -> TensorType:
    dtype = attrs["dtype"]
    assert isinstance(dtype, DType)
    items = items_of(args[0])
    if not 1 <= len(items) <= MAX_DIMS:
        raise TypeMismatch(f"pl.create_tensor: a tensor has 1 to {MAX_DIMS} dimensions, not {len(items)}", args[0].span)
    for item in items:
        count = static(item)
        if count is not None and count <= 0:
            raise TypeMismatch(f"pl.create_tensor: extent {count} is not positive", item.span)
    return TensorType(tuple(extent(item) for item in items), dtype)


def _numpy_create(shape: list[int], dtype: DType) -> Any:
    import numpy

    return numpy.zeros(shape, dtype.numpy or "float32")


def _dtype(call: Call) -> DType:
    dtype = call.attr("dtype")
    assert isinstance(dtype, DType)
    return dtype


def _cpp_create(call: Call, args: list[str], out: str | None) -> str:
    return f"graph.alloc(simpler::DataType::{_dtype(call).runtime}, {{{args[0]}}})"


def _host_create(call: Call, args: list[str]) -> str:
    return f'orch.alloc([{args[0]}], "{_dtype(call).runtime.lower()}")'


def _infer_slice(args: tuple[Expr, ...], attrs: Attrs) -> TensorType:
    tensor, shape, offset = args
    dims = tensor_of(tensor).shape
    check_count("slice", "extents", shape, len(dims))
    check_count("slice", "offsets", offset, len(dims))
    extents = [static(item) for item in items_of(shape)]
    check_region("slice", tensor, offset, extents, at=shape)
    several = False  # more than one index is taken in a dimension before this one
    for axis, (count, dim) in enumerate(zip(extents, dims, strict=True)):
        if several and count is not None and isinstance(dim, int) and count != dim:
            raise TypeMismatch(
                f"pl.slice: the part is not contiguous: it takes {count} of {dim} in dimension {axis}",
                items_of(shape)[axis].span,
                "after the first dimension of which several are taken, take every dimension whole",
            )
        several = several or (count is not None and count > 1)
    return TensorType(tuple(extent(item) for item in items_of(shape)), tensor_of(tensor).dtype)


def _cpp_slice(call: Call, args: list[str], out: str | None) -> str:
    tensor, shape, offset = args
    return f"simpler::slice(graph, {tensor}, {{{shape}}}, {{{offset}}}, {cpp_string(call.span.where)})"


def _host_slice(call: Call, args: list[str]) -> str:
    tensor, shape, offset = args
    return f"host_ops.slice_tensor({tensor}, [{shape}], [{offset}], {call.span.where!r})"


def _axis(call: Call) -> int:
    axis = call.attr("axis")
    assert isinstance(axis, int)
    return axis


def _infer_dim(args: tuple[Expr, ...], attrs: Attrs) -> ScalarType:
    axis, shape = attrs["axis"], tensor_of(args[0]).shape
    assert isinstance(axis, int)
    if not 0 <= axis < len(shape):
        raise OutOfBounds(
            f"pl.dim: {tensor_of(args[0])} has dimensions 0 to {len(shape) - 1}, not {axis}", args[0].span
        )
    return ScalarType(INDEX)


def _cpp_dim(call: Call, args: list[str], out: str | None) -> str:
    return f"static_cast<int64_t>({args[0]}.shapes[{_axis(call)}])"


def _host_dim(call: Call, args: list[str]) -> str:
    return f"{args[0]}.shape[{_axis(call)}]"


register(
    Op(
        name="tensor.create",
        spelling="create_tensor",
        params=(OpParam("shape", Takes.INDICES), OpParam("dtype", Takes.DTYPE)),
        infer=_infer_create,
        numpy=_numpy_create,
        cpp=_cpp_create,
        host=_host_create,
        kinds=ORCHESTRATION,
        doc="A tensor for intermediate results, valid until the run ends. Its elements are undefined until written.",
    )
)
register(
    Op(
        name="tensor.slice",
        may_fail=True,
        params=(OpParam("tensor", Takes.TENSOR), OpParam("shape", Takes.INDICES), OpParam("offset", Takes.INDICES)),
        infer=_infer_slice,
        numpy=host.slice_tensor,
        cpp=_cpp_slice,
        host=_host_slice,
        part_of=0,
        kinds=ORCHESTRATION,
        doc="A part of a tensor, without copying: of extents `shape`, from `offset` on. It must be contiguous: after "
        "the first dimension of which several indices are taken, every dimension is taken whole. "
        "`x[begin:end]` is the slice of the first dimension.",
    )
)
register(
    Op(
        name="tensor.dim",
        params=(OpParam("tensor", Takes.TENSOR), OpParam("axis", Takes.INT)),
        infer=_infer_dim,
        numpy=lambda tensor, axis: tensor.shape[axis],
        cpp=_cpp_dim,
        host=_host_dim,
        kinds=ANYWHERE,
        doc="The extent of a tensor in dimension `axis`, counted from 0.",
    )
)
