"""Spellings whose meaning depends on types: the parser leaves them as these calls, ``infer_types`` replaces them.

Operators between tiles are sugar too: they are ``Binary`` until then.
"""

from __future__ import annotations

NEGATE = "sugar.negate"  # -x: tile.neg of a tile, 0 - x of a number
ROWS = "sugar.rows"  # x[begin:end]: args (x, begin or None, end or None), where None is an empty ExprTuple
