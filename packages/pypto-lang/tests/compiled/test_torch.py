"""Calls with torch tensors, and SubWorkers that compute with torch."""

from __future__ import annotations

import numpy as np
import pypto.language as pl
import torch
from pypto import ir
from pypto.ir.distributed_compiled_program import DistributedConfig

SHAPE = (32, 48)


def test_torch_tensors_give_a_torch_tensor(add) -> None:
    f = add(torch.full(SHAPE, 2.0), torch.full(SHAPE, 3.0))
    assert isinstance(f, torch.Tensor)
    assert torch.equal(f, torch.full(SHAPE, 5.0))


def test_torch_tensors_are_written_in_place(add) -> None:
    f = torch.zeros(SHAPE)
    add(torch.full(SHAPE, 2.0, requires_grad=True), np.full(SHAPE, 3, np.float32), f)
    assert torch.equal(f, torch.full(SHAPE, 5.0))


@pl.program
class Kinds:
    """Tells what its SubWorkers were given: 1 for numpy, 2 for torch."""

    @pl.function(level=pl.Level.HOST, role=pl.Role.Worker)
    def any_kind(self, f: pl.Out[pl.Tensor[[4], pl.INT64]]):
        f[0] = {"numpy": 1, "torch": 2}[type(f).__module__]

    @pl.function(level=pl.Level.HOST, role=pl.Role.Worker)
    def numpy_kind(self, f: pl.InOut[pl.Tensor[[4], pl.INT64]]):
        f[1] = {np.ndarray: 1}.get(type(f), 2)

    @pl.function(level=pl.Level.HOST, role=pl.Role.Orchestrator)
    def host(self, f: pl.Out[pl.Tensor[[4], pl.INT64]]):
        self.any_kind(f)
        self.numpy_kind(f)
        return f


def test_a_sub_worker_that_uses_numpy_gets_numpy_arrays_any_other_the_callers_kind() -> None:
    with ir.compile(Kinds, distributed_config=DistributedConfig(num_sub_workers=1)) as compiled:
        assert compiled()[:2].tolist() == [1, 1]
        f = torch.zeros(4, dtype=torch.int64)
        compiled(f)
        assert f[:2].tolist() == [2, 1]


@pl.program
class TorchKind:
    @pl.function(level=pl.Level.HOST, role=pl.Role.Worker)
    def torch_kind(self, f: pl.Out[pl.Tensor[[4], pl.FP32]]):
        f.copy_(torch.arange(4))

    @pl.function(level=pl.Level.HOST, role=pl.Role.Orchestrator)
    def host(self, f: pl.Out[pl.Tensor[[4], pl.FP32]]):
        self.torch_kind(f)
        return f


def test_a_sub_worker_that_uses_torch_gets_torch_tensors_from_numpy_callers() -> None:
    with ir.compile(TorchKind, distributed_config=DistributedConfig(num_sub_workers=1)) as compiled:
        f = compiled()
        assert type(f) is np.ndarray
        assert f.tolist() == [0, 1, 2, 3]


@pl.program
class Halves:
    """bfloat16, which numpy lacks."""

    @pl.function(type=pl.FunctionType.InCore)
    def double(self, a: pl.Tensor[[4, 8], pl.BF16], f: pl.Out[pl.Tensor[[4, 8], pl.BF16]]):
        tile = pl.load(a, [0, 0], [4, 8])
        return pl.store(pl.add(tile, tile), [0, 0], f)

    @pl.function(type=pl.FunctionType.Orchestration)
    def chip(self, a: pl.Tensor[[4, 8], pl.BF16], f: pl.Out[pl.Tensor[[4, 8], pl.BF16]]):
        return self.double(a, f)

    @pl.function(level=pl.Level.HOST, role=pl.Role.Worker)
    def add_one(self, f: pl.InOut[pl.Tensor[[4, 8], pl.BF16]]):
        f += torch.ones(1, dtype=torch.bfloat16)

    @pl.function(level=pl.Level.HOST, role=pl.Role.Orchestrator)
    def host(self, a: pl.Tensor[[4, 8], pl.BF16], f: pl.Out[pl.Tensor[[4, 8], pl.BF16]]):
        f = self.chip(a, f)
        self.add_one(f)
        return f


def test_bfloat16_goes_through_chips_and_sub_workers() -> None:
    with ir.compile(Halves, distributed_config=DistributedConfig(num_sub_workers=1)) as compiled:
        a = torch.arange(32, dtype=torch.bfloat16).reshape(4, 8)
        f = compiled(a)
    assert f.dtype == torch.bfloat16
    assert torch.equal(f, a + a + 1)
