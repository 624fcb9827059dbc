"""What signatures are written in: tensors, scalars, directions, levels and roles."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from enum import Enum

from pypto.errors import SignatureError, TypeMismatch
from pypto.ir.dtypes import INDEX, DType
from pypto.ir.nodes import ANY_DIM, Dim, DimVar, Direction, ScalarType, TensorType, TileType
from pypto.source.files import caller_span

_MAX_DIMS = 5


class FunctionType(Enum):
    """What a function of a chip is: ``@pl.function(type=...)``."""

    InCore = "InCore"
    Orchestration = "Orchestration"


class Level(Enum):
    """Levels of the hierarchy, from a core to a cluster of clusters."""

    CORE = "CORE"
    CORE_GROUP = "CORE_GROUP"
    DIE = "DIE"
    CHIP = "CHIP"
    HOST = "HOST"
    POD = "POD"
    SUPERNODE = "SUPERNODE"
    CLUSTER = "CLUSTER"


class Role(Enum):
    """What a function does at its level: build the graph, or work as a task of it."""

    Orchestrator = "Orchestrator"
    Worker = "Worker"


@dataclass(frozen=True, slots=True)
class Directed:
    """A parameter's type with its direction: ``pl.Out[...]``, ``pl.InOut[...]``."""

    type: TensorType
    direction: Direction


class Tensor:
    """``pl.Tensor[[rows, columns], pl.FP32]``: a tensor in memory.

    The shape has 1 to 5 dimensions, each a positive int or a ``pl.dynamic("M")``. Used in annotations only.
    Raises TypeMismatch for another shape or dtype.
    """

    def __class_getitem__(cls, item: object) -> TensorType:
        shape, dtype = _shape_and_dtype("Tensor", item)
        if not 1 <= len(shape) <= _MAX_DIMS:
            raise TypeMismatch(f"pl.Tensor: expected 1 to {_MAX_DIMS} dimensions, found {len(shape)}", caller_span())
        return TensorType(tuple(_dim("Tensor", extent) for extent in shape), dtype)


class Tile:
    """``pl.Tile[[rows, columns], pl.FP32]``: a tile in a core's local memory, to annotate a variable of a kernel with.

    Raises TypeMismatch unless the shape is two positive ints.
    """

    def __class_getitem__(cls, item: object) -> TileType:
        shape, dtype = _shape_and_dtype("Tile", item)
        dims = [_dim("Tile", extent) for extent in shape]
        if len(dims) != 2 or not isinstance(dims[0], int) or not isinstance(dims[1], int):
            raise TypeMismatch("pl.Tile: expected the shape as two positive ints", caller_span())
        return TileType((dims[0], dims[1]), dtype)


class Scalar:
    """``pl.Scalar[pl.INT64]``: a parameter that is one number."""

    def __class_getitem__(cls, dtype: object) -> ScalarType:
        if not isinstance(dtype, DType):
            raise TypeMismatch(f"pl.Scalar: expected a dtype such as pl.INT64, found {dtype!r}", caller_span())
        return ScalarType(dtype)


class Out:
    """``pl.Out[pl.Tensor[...]]``: a parameter that the function writes. What it doesn't write keeps its value."""

    def __class_getitem__(cls, item: object) -> Directed:
        return _directed("Out", item, Direction.OUT)


class InOut:
    """``pl.InOut[pl.Tensor[...]]``: a parameter that the function reads and writes."""

    def __class_getitem__(cls, item: object) -> Directed:
        return _directed("InOut", item, Direction.INOUT)


def dynamic(name: str) -> DimVar:
    """A dimension known when the program runs: ``ROWS = pl.dynamic("ROWS")``.

    In a signature it takes the size of the argument; where one name stands twice, both sizes must be equal.
    In a body it is that size.

    Raises TypeMismatch unless ``name`` is an identifier.
    """
    if not isinstance(name, str) or not name.isidentifier():
        raise TypeMismatch(f"pl.dynamic: expected a name such as 'ROWS', found {name!r}", caller_span())
    return DimVar(name)


def _directed(word: str, item: object, direction: Direction) -> Directed:
    if not isinstance(item, TensorType):
        raise SignatureError(f"pl.{word} takes a pl.Tensor, found {item!r}", caller_span())
    return Directed(item, direction)


def _shape_and_dtype(word: str, item: object) -> tuple[list[object], DType]:
    if not isinstance(item, tuple) or len(item) != 2 or not isinstance(item[0], (list, tuple)):
        raise TypeMismatch(f"pl.{word}: expected pl.{word}[[rows, columns], dtype], found {item!r}", caller_span())
    shape, dtype = item
    if not isinstance(dtype, DType) or dtype == INDEX:
        raise TypeMismatch(f"pl.{word}: expected a dtype such as pl.FP32, found {dtype!r}", caller_span())
    return list(shape), dtype


def _dim(word: str, extent: object) -> Dim:
    if isinstance(extent, DimVar) and extent != ANY_DIM:
        return extent
    try:
        number = operator.index(extent)  # type: ignore[arg-type]  # raises TypeError for anything else
    except TypeError:
        number = 0
    if number <= 0 or isinstance(extent, bool):
        raise TypeMismatch(
            f"pl.{word}: expected a positive int or a pl.dynamic, found {extent!r}", caller_span()
        ) from None
    return number
