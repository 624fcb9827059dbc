"""What the compiler core costs: definitions, large kernels, compiling again, calls, arrays that are used in place.

python packages/pypto-lang/benchmarks/core.py

Ratios are between things measured in one run, in turns; the best of several rounds counts: others may use the machine.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

ROUNDS = 7

HEAD = "import pypto.language as pl\nT = pl.Tensor[[16, 16], pl.FP32]\n"
CHIP = """
    @pl.function(type=pl.FunctionType.Orchestration)
    def chip(self, a, b, f):
        return self.add(a, b, f)
"""
HELLO = (
    "import numpy as np\n"
    + HEAD
    + """
from pypto import ir

@pl.program
class Add:
    @pl.function(type=pl.FunctionType.InCore)
    def add(self, a: T, b: T, f: pl.Out[T]):
        return pl.store(pl.load(a, [0, 0], [16, 16]) + pl.load(b, [0, 0], [16, 16]), [0, 0], f)
"""
    + CHIP
    + """
x = np.ones((16, 16), np.float32)
assert (ir.compile(Add)(x, x) == 2).all()
"""
)
DEFINITIONS = """
import time
import pypto.language as pl

ROWS = pl.dynamic("ROWS")
M = pl.Tensor[[ROWS, 10], pl.FP32]

def define():
    began = time.perf_counter()

    @pl.program
    class Softmax:
        @pl.function(type=pl.FunctionType.InCore)
        def softmax(self, x: M, y: pl.Out[M]):
            tile = pl.load(x, [0, 0], [64, 10], valid_shapes=[ROWS, 10])
            tile = pl.exp(pl.row_expand_sub(tile, pl.row_max(tile)))
            return pl.store(pl.row_expand_div(tile, pl.row_sum(tile)), [0, 0], y)

        @pl.function(type=pl.FunctionType.Orchestration)
        def blocks(self, x: M, y: pl.Out[M]):
            for row in pl.range(0, ROWS, 64):
                end = pl.min(row + 64, ROWS)
                self.softmax(x[row:end], y[row:end])
            return y

    return time.perf_counter() - began

print(define())
print(min(define() for _ in range(20)))
"""


def best(action: Callable[[], object], number: int = 1, rounds: int = ROUNDS) -> float:
    """The least seconds that one of ``number`` runs of ``action`` took."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(number):
            action()
        times.append((time.perf_counter() - began) / number)
    return min(times)


def script(text: str, folder: str, **environment: str) -> tuple[float, list[float]]:
    """Least seconds that a program takes in a process of its own, and the least of each number it prints."""
    place = Path(folder, "program.py")
    place.write_text(text)
    times, printed = [], []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, str(place)], env={**os.environ, **environment}, capture_output=True, text=True, check=True
        )
        times.append(time.perf_counter() - began)
        printed.append([float(line) for line in done.stdout.split()])
    return min(times), [min(column) for column in zip(*printed, strict=True)]


def starting(table: Table) -> None:
    """Imports, the first program, definitions."""
    with tempfile.TemporaryDirectory() as folder:
        bare, _ = script("", folder)
        language, _ = script("import pypto.language", folder)
        numpy, _ = script("import numpy", folder)
        table.add_row("import pypto.language over bare Python", f"{(language - bare) * 1e3:.0f} ms", "60 ms")
        warm, _ = script(HELLO, folder, XDG_CACHE_HOME=folder, SIMPLER_CACHE_DIR=f"{folder}/kernels")
        cold = []
        for number in range(3):
            began = time.perf_counter()
            caches = {"XDG_CACHE_HOME": f"{folder}/{number}", "SIMPLER_CACHE_DIR": f"{folder}/{number}/kernels"}
            subprocess.run([sys.executable, f"{folder}/program.py"], env={**os.environ, **caches}, check=True)
            cold.append(time.perf_counter() - began)
        table.add_row("hello over import numpy, cold cache", f"{(min(cold) - numpy) * 1e3:.0f} ms", "350 ms")
        table.add_row("hello over import numpy, warm cache", f"{(warm - numpy) * 1e3:.0f} ms", "100 ms")
        _, (first, again) = script(DEFINITIONS, folder)
        table.add_row("the first definition in a process", f"{first * 1e3:.1f} ms", "10 ms")
        table.add_row("definition of softmax", f"{again * 1e3:.1f} ms", "4 ms")


def large(table: Table) -> None:
    """A kernel of many statements, through passes and into C++."""
    with tempfile.TemporaryDirectory() as folder:
        sys.path.insert(0, folder)
        seconds = {}
        for count in (800, 1600):
            body = "        u = u * t\n        v = u + t\n        u = v - u\n" * (count // 3)
            Path(folder, f"kernel_{count}.py").write_text(
                HEAD
                + "@pl.program\nclass P:\n    @pl.function(type=pl.FunctionType.InCore)\n"
                + "    def add(self, a: T, b: T, f: pl.Out[T]):\n"
                + "        t = pl.load(a, [0, 0], [16, 16])\n        u = t\n"
                + body
                + "        return pl.store(u, [0, 0], f)\n"
                + CHIP
            )

            def generate(name: str = f"kernel_{count}") -> None:
                from pypto import codegen, passes

                sys.modules.pop(name, None)
                program = __import__(name).P
                codegen.generate(passes.lowered(program), "cpu", {"device_ids": [0]})

            seconds[count] = best(generate, rounds=3)
        table.add_row("a kernel of 800 statements: built, passes, C++", f"{seconds[800]:.2f} s", "0.4 s")
        table.add_row("the same of 1600 over 800", f"{seconds[1600] / seconds[800]:.2f} ×", "2.3 ×")


def calling(table: Table) -> None:
    """Compiling again, calls, arrays in place, results."""
    with tempfile.TemporaryDirectory() as folder:
        sys.path.insert(0, folder)
        Path(folder, "hello_program.py").write_text(HELLO)
        from pypto import ir
        from pypto.runtime.session import Session

        Add = __import__("hello_program").Add
        compiled = ir.compile(Add)
        table.add_row(
            "compile again in the same process", f"{best(lambda: ir.compile(Add), 20) * 1e3:.3f} ms", "0.2 ms"
        )
        x = np.ones((16, 16), np.float32)
        f = np.zeros_like(x)
        with compiled:
            seconds = best(lambda: compiled(x, x, f), 2000)
        table.add_row("a call with 16×16 arrays, cpu, in this process", f"{seconds * 1e6:.1f} µs", "10 µs")
        session = Session(compiled._output, compiled._chips)
        try:
            from pypto.runtime.arguments import Bound

            shared = [session.worker.array(x), session.worker.array(x), session.worker.array(f)]
            bound = Bound(tuple(shared), None, "numpy")
            seconds = best(lambda: session.run(bound), 300)
        finally:
            session.close()
        table.add_row("the same across processes, shared arrays", f"{seconds * 1e6:.0f} µs", "60 µs")


def main() -> None:
    """Measure and print."""
    table = Table("pypto-lang", "best", "goal", title=f"compiler core, {ROUNDS} rounds")
    for part in (starting, large, calling):
        part(table)
    Console().print(table)


if __name__ == "__main__":
    main()
