"""The operations of the language: ``pypto.ops.get("tile.add")``. Importing this registers them, a family a module."""

from __future__ import annotations

from pypto.ops import broadcasts, elementwise, matrix, memory, reductions, tensor
from pypto.ops.registry import Op, OpParam, Takes, all_ops, get, register, spelled

__all__ = [
    "Op",
    "OpParam",
    "Takes",
    "all_ops",
    "broadcasts",
    "elementwise",
    "get",
    "matrix",
    "memory",
    "reductions",
    "register",
    "spelled",
    "tensor",
]
