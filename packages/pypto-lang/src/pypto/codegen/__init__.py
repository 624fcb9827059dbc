"""From IR to what runs: C++ kernels and chip orchestrations, Python host orchestrators and SubWorkers."""

from __future__ import annotations

from pypto.codegen.files import GeneratedProgram, generate

__all__ = ["GeneratedProgram", "generate"]
