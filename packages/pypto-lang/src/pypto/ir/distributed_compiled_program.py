"""Where programs import what ``ir.compile`` takes and returns from; it is defined in ``pypto.driver``."""

from __future__ import annotations

from pypto.driver.compiled_program import DistributedCompiledProgram, Timings
from pypto.driver.config import DistributedConfig

__all__ = ["DistributedCompiledProgram", "DistributedConfig", "Timings"]
