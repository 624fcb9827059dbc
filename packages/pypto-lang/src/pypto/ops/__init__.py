"""The operations of the language: ``pypto.ops.get("tile.add")``. Importing this registers those of every module."""

from __future__ import annotations

import importlib
import pkgutil

from pypto.ops.registry import Op, OpParam, Takes, all_ops, get, register, spelled

__all__ = ["Op", "OpParam", "Takes", "all_ops", "get", "register", "spelled"]

for _module in sorted(info.name for info in pkgutil.iter_modules(__path__)):
    importlib.import_module(f"{__name__}.{_module}")
