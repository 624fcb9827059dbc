"""One kernel in several programs, under any name; and how often a program is built."""

from __future__ import annotations

import pypto.language as pl
import pytest
from pypto import ir, passes
from pypto.builder import program as building
from pypto.errors import SignatureError

T = pl.Tensor[[16, 16], pl.FP32]


@pl.function(type=pl.FunctionType.InCore)
def double(self, a: T, f: pl.Out[T]):
    return pl.store(pl.load(a, [0, 0], [16, 16]) * 2.0, [0, 0], f)


@pl.program
class One:
    twice = double

    @pl.function(type=pl.FunctionType.Orchestration)
    def chip(self, a, f):
        return self.twice(a, f)


@pl.program
class Other:
    first = double
    second = One.twice
    both = One.chip

    @pl.function(type=pl.FunctionType.Orchestration)
    def chip(self, a, f):
        self.first(a, f)
        return self.second(a, f)

    twice = double


def test_a_kernel_that_stands_alone_is_a_function_of_every_program_that_names_it() -> None:
    assert [f.name for f in One.functions] == ["twice", "chip"]
    assert [f.name for f in Other.functions] == ["first", "second", "both", "chip", "twice"]
    assert One.function("twice").body == Other.function("first").body == Other.function("second").body


def test_a_function_a_program_does_not_have_is_an_error_that_says_so() -> None:
    with pytest.raises(AttributeError, match=r"no function 'thrice'; it has twice, chip"):
        One.thrice  # noqa: B018


def test_a_program_is_no_function(programs) -> None:
    with pytest.raises(SignatureError, match=r"P\.other is a program"):
        programs.program("@pl.program\nclass P:\n    other = OTHER", OTHER=One)


def test_a_program_is_built_and_lowered_once(monkeypatch, tmp_path) -> None:
    counts = {"build": 0, "passes": 0}
    build, run = building.build_class, passes.run_all

    def build_class(*args):
        counts["build"] += 1
        return build(*args)

    def run_all(*args, **kwargs):
        counts["passes"] += 1
        return run(*args, **kwargs)

    monkeypatch.setattr(building, "build_class", build_class)
    monkeypatch.setattr(passes, "run_all", run_all)

    @pl.program
    class Once:
        @pl.function(type=pl.FunctionType.InCore)
        def k(self, a: T, f: pl.Out[T]):
            return pl.store(pl.load(a, [0, 0], [16, 16]), [0, 0], f)

        @pl.function(type=pl.FunctionType.Orchestration)
        def chip(self, a, f):
            return self.k(a, f)

    assert counts == {"build": 1, "passes": 1}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    ir.compile(Once)
    ir.compile(Once)
    assert counts == {"build": 1, "passes": 1}
