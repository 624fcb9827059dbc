"""pypto: one Python program for kernels, chip orchestrations and hosts.

``import pypto.language as pl`` to write programs, ``from pypto import ir`` to compile them.
"""

from __future__ import annotations

from pypto.errors import PyptoError

__all__ = ["PyptoError", "__version__"]


def __getattr__(name: str) -> str:
    """``__version__``; reading it from the installation takes longer than the rest of the import."""
    if name == "__version__":
        from importlib.metadata import version

        return version("pypto-lang")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
