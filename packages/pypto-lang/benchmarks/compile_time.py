"""How long a user waits before anything runs: importing pypto, compiling a first program and compiling it again.

python packages/pypto-lang/benchmarks/compile_time.py
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROUNDS = 5

# A process of its own for each: imports and caches of one measurement must not help the next.
COMPILE = """
import time
import pypto.language as pl
from pypto import ir
from pypto.ir.distributed_compiled_program import DistributedConfig

Matrix = pl.Tensor[[128, 128], pl.FP32]

@pl.program
class L3Dependency:
    @pl.function(type=pl.FunctionType.InCore)
    def tile_add(self, a: Matrix, b: Matrix, f: pl.Out[Matrix]) -> Matrix:
        tile_a = pl.load(a, [0, 0], [128, 128])
        tile_b = pl.load(b, [0, 0], [128, 128])
        tile_f = pl.add(tile_a, tile_b)
        return pl.store(tile_f, [0, 0], f)

    @pl.function(type=pl.FunctionType.Orchestration)
    def chip_orch(self, a: Matrix, b: Matrix, f: pl.Out[Matrix]) -> Matrix:
        return self.tile_add(a, b, f)

    @pl.function(level=pl.Level.HOST, role=pl.Role.Worker)
    def verify(self, f: Matrix):
        if not (f == 5).all():
            raise AssertionError("expected 5")

    @pl.function(level=pl.Level.HOST, role=pl.Role.Orchestrator)
    def host_orch(self, a: Matrix, b: Matrix, f: pl.Out[Matrix]) -> Matrix:
        out_f = self.chip_orch(a, b, f)
        self.verify(out_f)
        return out_f

config = DistributedConfig(device_ids=[7], num_sub_workers=1)
for _ in range(2):
    began = time.perf_counter()
    ir.compile(L3Dependency, platform="a2a3sim", distributed_config=config)
    print(time.perf_counter() - began)
"""


def python(*arguments: str, **environment: str) -> tuple[float, str]:
    """Seconds a fresh interpreter takes, and what it prints."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    return time.perf_counter() - began, done.stdout


def import_seconds(module: str) -> float:
    """Median seconds of importing ``module``, the interpreter's own start taken off."""
    pairs = [(python("-c", f"import {module}")[0], python("-c", "")[0]) for _ in range(ROUNDS)]
    return statistics.median(total - empty for total, empty in pairs)


def compile_seconds() -> tuple[float, float, float]:
    """Median seconds of compiling L3Dependency: caches empty, caches full in a new process, and once more there."""
    cold, warm, again = [], [], []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            script = Path(folder, "l3_dependency.py")
            script.write_text(COMPILE)
            first, _ = map(float, python(str(script), XDG_CACHE_HOME=folder)[1].split())
            second, third = map(float, python(str(script), XDG_CACHE_HOME=folder)[1].split())
        cold.append(first)
        warm.append(second)
        again.append(third)
    return statistics.median(cold), statistics.median(warm), statistics.median(again)


def main() -> None:
    """Measure and print."""
    numpy = import_seconds("numpy")
    cold, warm, again = compile_seconds()
    table = Table("pypto-lang", "median", "goal", "peer", "ratio", title=f"compile time, {ROUNDS} rounds")
    for name, seconds, goal, peer in (
        ("import pypto", import_seconds("pypto"), "200 ms", f"import numpy {numpy * 1e3:.0f} ms"),
        ("import pypto.language", import_seconds("pypto.language"), "200 ms", f"import numpy {numpy * 1e3:.0f} ms"),
        ("compile L3Dependency, cold", cold, "1500 ms", ""),
        ("compile L3Dependency, warm, a new process with its imports", warm, "", f"cold {cold * 1e3:.0f} ms"),
        ("compile L3Dependency, warm", again, "50 ms", f"cold {cold * 1e3:.0f} ms"),
    ):
        base = numpy if "import" in peer else cold
        ratio = f"{seconds / base:.2f}" if peer else ""
        table.add_row(name, f"{seconds * 1e3:.0f} ms", goal, peer, ratio)
    Console().print(table)


if __name__ == "__main__":
    main()
