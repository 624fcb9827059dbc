"""Two independent chip tasks, whose results a SubWorker puts together: f = (a + b) + (a - b).

Run it as it is:

    python examples/rfc/l3_parallel_reduce.py           # with numpy arrays
    python examples/rfc/l3_parallel_reduce.py --torch   # with torch tensors
"""

from __future__ import annotations

import argparse

import numpy as np
import pypto.language as pl
from pypto import ir
from pypto.ir.distributed_compiled_program import DistributedConfig


@pl.program
class L3ParallelReduceProgram:
    """L3: HOST orch → 2 independent chip workers → SubWorker (reduce)."""

    @pl.function(type=pl.FunctionType.InCore)
    def tile_add(
        self,
        a: pl.Tensor[[128, 128], pl.FP32],
        b: pl.Tensor[[128, 128], pl.FP32],
        f: pl.Out[pl.Tensor[[128, 128], pl.FP32]],
    ) -> pl.Tensor[[128, 128], pl.FP32]:
        tile_a = pl.load(a, [0, 0], [128, 128])
        tile_b = pl.load(b, [0, 0], [128, 128])
        tile_f = pl.add(tile_a, tile_b)
        return pl.store(tile_f, [0, 0], f)

    @pl.function(type=pl.FunctionType.InCore)
    def tile_sub(
        self,
        a: pl.Tensor[[128, 128], pl.FP32],
        b: pl.Tensor[[128, 128], pl.FP32],
        f: pl.Out[pl.Tensor[[128, 128], pl.FP32]],
    ) -> pl.Tensor[[128, 128], pl.FP32]:
        tile_a = pl.load(a, [0, 0], [128, 128])
        tile_b = pl.load(b, [0, 0], [128, 128])
        tile_f = pl.sub(tile_a, tile_b)
        return pl.store(tile_f, [0, 0], f)

    @pl.function(type=pl.FunctionType.Orchestration)
    def chip_orch_add(self, a, b, f):
        return self.tile_add(a, b, f)

    @pl.function(type=pl.FunctionType.Orchestration)
    def chip_orch_sub(self, a, b, f):
        return self.tile_sub(a, b, f)

    @pl.function(level=pl.Level.HOST, role=pl.Role.Worker)
    def reduce_sum(
        self,
        sum_ab: pl.Tensor[[128, 128], pl.FP32],
        diff_ab: pl.Tensor[[128, 128], pl.FP32],
        f: pl.Out[pl.Tensor[[128, 128], pl.FP32]],
    ):
        result = sum_ab + diff_ab  # f = (a+b) + (a-b) = 2a
        f[:] = result

    @pl.function(level=pl.Level.HOST, role=pl.Role.Orchestrator)
    def host_orch(self, a, b, f):
        sum_ab = pl.create_tensor([128, 128], dtype=pl.FP32)
        diff_ab = pl.create_tensor([128, 128], dtype=pl.FP32)
        out_sum = self.chip_orch_add(a, b, sum_ab)
        out_diff = self.chip_orch_sub(a, b, diff_ab)
        self.reduce_sum(out_sum, out_diff, f)
        return f


def main() -> None:
    """Run it on two chips and compare with 2 a."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", action="store_true", help="call with torch tensors")
    use_torch = parser.parse_args().torch

    a = np.random.default_rng(0).standard_normal((128, 128), dtype=np.float32)
    b = np.random.default_rng(1).standard_normal((128, 128), dtype=np.float32)
    if use_torch:
        import torch

        a, b = torch.from_numpy(a), torch.from_numpy(b)

    config = DistributedConfig(device_ids=[0, 1], num_sub_workers=1)
    with ir.compile(L3ParallelReduceProgram, platform="a2a3sim", distributed_config=config) as compiled:
        f = compiled(a, b)
    print(f"{type(f).__module__} result, at most {abs(f - 2 * a).max():.2g} from 2 a")


if __name__ == "__main__":
    main()
