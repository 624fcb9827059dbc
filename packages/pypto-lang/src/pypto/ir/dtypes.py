"""Element types: one object each, with its name in every layer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class DType:
    """An element type.

    Attributes:
        name: what users write after ``pl.``, and what types print as.
        numpy: name of the numpy dtype, or None where numpy has none (BF16).
        cpp: spelling of the element type in generated C++.
        runtime: name of the member of ``simpler_runtime.DataType``.
        itemsize: bytes an element takes in a tensor.
    """

    name: str
    numpy: str | None
    cpp: str
    runtime: str
    itemsize: int

    @property
    def is_float(self) -> bool:
        """True for FP32, FP16 and BF16."""
        return self in (FP32, FP16, BF16)

    @property
    def is_int(self) -> bool:
        """True for signed and unsigned integers, INDEX too; false for BOOL."""
        return not self.is_float and self != BOOL

    @property
    def is_signed(self) -> bool:
        """True where a value may be negative."""
        return self.is_float or self.name.startswith("INT") or self == INDEX

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"pl.{self.name}"


FP32 = DType("FP32", "float32", "float", "FLOAT32", 4)
FP16 = DType("FP16", "float16", "simpler::Float16", "FLOAT16", 2)
BF16 = DType("BF16", None, "simpler::BFloat16", "BFLOAT16", 2)
INT8 = DType("INT8", "int8", "int8_t", "INT8", 1)
INT16 = DType("INT16", "int16", "int16_t", "INT16", 2)
INT32 = DType("INT32", "int32", "int32_t", "INT32", 4)
INT64 = DType("INT64", "int64", "int64_t", "INT64", 8)
UINT8 = DType("UINT8", "uint8", "uint8_t", "UINT8", 1)
UINT16 = DType("UINT16", "uint16", "uint16_t", "UINT16", 2)
UINT32 = DType("UINT32", "uint32", "uint32_t", "UINT32", 4)
UINT64 = DType("UINT64", "uint64", "uint64_t", "UINT64", 8)
BOOL = DType("BOOL", "bool", "bool", "BOOL", 1)
# What sizes, offsets and loop variables are counted in. Never the element type of a tensor.
INDEX = DType("INDEX", "int64", "int64_t", "INT64", 8)

ALL: tuple[DType, ...] = (FP32, FP16, BF16, INT8, INT16, INT32, INT64, UINT8, UINT16, UINT32, UINT64, BOOL)
