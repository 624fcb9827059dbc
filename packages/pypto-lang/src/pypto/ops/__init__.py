"""The operations of the language: ``pypto.ops.get("tile.add")``."""

from __future__ import annotations

from pypto.ops.registry import Op, OpParam, Takes, all_ops, get, register, spelled

__all__ = ["Op", "OpParam", "Takes", "all_ops", "get", "register", "spelled"]
