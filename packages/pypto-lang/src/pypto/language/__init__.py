"""The language: ``import pypto.language as pl``.

A program is a class marked with ``@pl.program`` whose methods are marked with ``@pl.function``: kernels on tiles, chip
orchestrations that submit kernels, a host orchestrator that submits chip tasks, and SubWorkers in plain Python. The
operations (``pl.load``, ``pl.add``, …) come from the op registry; ``help(pl.load)`` shows what it knows.
"""

from __future__ import annotations

from typing import Any

from pypto.ir.dtypes import (
    BF16,
    BOOL,
    FP16,
    FP32,
    INDEX,
    INT8,
    INT16,
    INT32,
    INT64,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    DType,
)
from pypto.language.annotations import FunctionType, InOut, Level, Out, Role, Scalar, Tensor, Tile, dynamic
from pypto.language.decorators import function, program
from pypto.language.operations import find, names, unknown

__all__ = [
    "BF16",
    "BOOL",
    "FP16",
    "FP32",
    "INDEX",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "DType",
    "FunctionType",
    "InOut",
    "Level",
    "Out",
    "Role",
    "Scalar",
    "Tensor",
    "Tile",
    "dynamic",
    "function",
    "program",
]
__all__ += names()


def __getattr__(name: str) -> Any:
    """An operation of the registry; AttributeError with the nearest name otherwise."""
    operation = find(name)
    if operation is not None:
        return operation
    error = unknown(name, __all__)
    raise AttributeError(f"{error.message}. {error.hint}" if error.hint else error.message)


def __dir__() -> list[str]:
    return sorted(__all__)
