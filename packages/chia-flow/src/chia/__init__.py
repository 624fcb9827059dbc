"""chia: flows of Python functions on Ray clusters. Start at ``chia.base.ChiaFunction``."""

from __future__ import annotations

from importlib.metadata import version

__version__ = version("chia-flow")

__all__ = ["__version__"]
