"""The error function. All that an operation takes: a file of its own, which ``pypto.ops`` finds."""

from __future__ import annotations

from typing import Any

from pypto.ops.elementwise import is_float, unary


def _erf(tile: Any) -> Any:
    import math

    import numpy

    return numpy.vectorize(math.erf, otypes=[numpy.float32])(tile).astype(tile.dtype)


unary(
    "erf",
    _erf,
    "The error function of each element: `x * 0.5 * (1 + erf(x / sqrt(2)))` is GELU.",
    is_float,
    "floats",
    scalar="__builtin_erff(x)",
    rounded=True,
)
