"""Random nested loops and branches compute what Python computes from the same text, on numpy arrays.

Tiles hold small whole numbers and are clipped, so that floats are exact; numbers are kept small by ``%``.
"""

from __future__ import annotations

import textwrap
import types
from pathlib import Path
from random import Random

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pypto import ir

TILES = ["a", "b", "c"]
NUMBERS = ["m", "n"]


class Writer:
    """Makes up the body of a kernel."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._count = 0

    def number(self) -> str:
        pick = self._random.choice
        return pick(["m", "n", "k", "1", "2", "m + n", "n - m", "n * 3", "m // 2", "(n if m > n else 2)", "max(m, n)"])

    def condition(self) -> str:
        pick = self._random.choice
        simple = f"{self.number()} {pick(['<', '>=', '==', '!='])} {self.number()}"
        return pick([simple, simple, f"not {simple}", f"{simple} and m < 5", f"n % 2 == 0 or {simple}"])

    def statement(self, depth: int, loops: int) -> list[str]:
        kinds = ["tile", "tile", "tile", "number", "swap", "if", "if", "for", "while"]
        kind = self._random.choice(kinds if depth < 3 else kinds[:5])
        pick = self._random.choice
        if kind == "tile":
            target, x, y = (pick(TILES) for _ in range(3))
            value = pick([f"{x} + {y}", f"{x} - {y}", f"-{x}", f"{x} * 2", f"{x} + {self.number()}", x])
            return [f"{target} = clip({value})"] if value != x else [f"{target} = {x}"]
        if kind == "number":
            return [pick([f"{pick(NUMBERS)} = ({self.number()}) % 7", f"{pick(NUMBERS)} += 1"])]
        if kind == "swap":
            return [pick(["a, b = b, a", "a, b, c = c, a, b", "m, n = n % 9, m % 9"])]
        if kind == "if":
            lines = [f"if {self.condition()}:", *self.block(depth + 1, loops)]
            if self._random.random() < 0.3:
                lines += [f"elif {self.condition()}:", *self.block(depth + 1, loops)]
            if self._random.random() < 0.6:
                lines += ["else:", *self.block(depth + 1, loops)]
            return lines
        self._count += 1
        if kind == "for":
            return [f"for i{self._count} in range({self._random.randint(0, 3)}):", *self.block(depth + 1, loops + 1)]
        turns = f"turns{self._count}"
        body = [f"    {turns} += 1", *self.block(depth + 1, loops + 1)]
        return [f"{turns} = 0", f"while {turns} < 3 and ({self.condition()}):", *body]

    def block(self, depth: int, loops: int) -> list[str]:
        lines: list[str] = []
        for _ in range(self._random.randint(1, 4)):
            lines += self.statement(depth, loops)
        if loops and self._random.random() < 0.3:
            lines += [f"if {self.condition()}:", f"    {self._random.choice(['break', 'continue'])}"]
            lines += self.statement(depth, loops) if depth < 3 else []
        return ["    " + line for line in lines]


PROGRAM = """
import pypto.language as pl
T = pl.Tensor[[8, 8], pl.FP32]
X = pl.Tensor[[24, 8], pl.FP32]

def clip(t):
    return pl.maximum(pl.minimum(t, 50.0), -50.0)

@pl.program
class P:
    @pl.function(type=pl.FunctionType.InCore)
    def kernel(self, x: X, k: pl.Scalar[pl.INT64], y: pl.Out[X]):
        a = pl.load(x, [0, 0], [8, 8])
        b = pl.load(x, [8, 0], [8, 8])
        c = pl.load(x, [16, 0], [8, 8])
        m, n = k, 3
{body}
        pl.store(a, [0, 0], y)
        pl.store(b + m, [8, 0], y)
        return pl.store(c + n, [16, 0], y)
    @pl.function(type=pl.FunctionType.Orchestration)
    def chip(self, x, k, y):
        return self.kernel(x, k, y)
"""


def in_python(body: str, x: np.ndarray, k: int) -> np.ndarray:
    a, b, c = x[:8], x[8:16], x[16:]
    names = {
        "a": a,
        "b": b,
        "c": c,
        "k": k,
        "m": k,
        "n": 3,
        "clip": lambda t: np.clip(t, np.float32(-50), np.float32(50)),
    }
    exec(body, names)
    return np.concatenate([names["a"], names["b"] + names["m"], names["c"] + names["n"]])  # type: ignore[operator]


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32 - 1))
def test_random_control_flow_means_what_it_means_in_python(seed: int, tmp_path: Path) -> None:
    random = Random(seed)
    body = textwrap.dedent("\n".join(Writer(random).block(0, 0) + Writer(random).block(0, 0)))
    text = PROGRAM.format(body=textwrap.indent(body, " " * 8))
    place = tmp_path / f"program_{seed}.py"
    place.write_text(text)
    module = types.ModuleType(place.stem)
    exec(compile(text, str(place), "exec"), module.__dict__)
    x = np.random.default_rng(seed).integers(-9, 10, (24, 8)).astype(np.float32)
    with ir.compile(module.P) as compiled:
        for k in (0, 1, 4):
            np.testing.assert_array_equal(compiled(x, k), in_python(body, x, k), err_msg=body)
