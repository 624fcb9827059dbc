"""pypto: one Python program for kernels, chip orchestrations and hosts.

``import pypto.language as pl`` to write programs, ``from pypto import ir`` to compile them.
"""

from __future__ import annotations

from importlib.metadata import version

from pypto.errors import PyptoError

__version__ = version("pypto-lang")

__all__ = ["PyptoError", "__version__"]
