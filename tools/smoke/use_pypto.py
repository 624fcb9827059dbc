"""A program that is compiled, and run on a chip."""

import numpy as np
import pypto.language as pl
from pypto import ir
from pypto.ir.distributed_compiled_program import DistributedConfig

Matrix = pl.Tensor[[16, 16], pl.FP32]


@pl.program
class Double:
    @pl.function(type=pl.FunctionType.InCore)
    def double(self, a: Matrix, b: pl.Out[Matrix]):
        tile = pl.load(a, [0, 0], [16, 16])
        return pl.store(pl.add(tile, tile), [0, 0], b)

    @pl.function(type=pl.FunctionType.Orchestration)
    def chip(self, a, b):
        return self.double(a, b)

    @pl.function(level=pl.Level.HOST, role=pl.Role.Orchestrator)
    def host(self, a, b):
        return self.chip(a, b)


if __name__ == "__main__":
    config = DistributedConfig(device_ids=[0], num_sub_workers=0)
    with ir.compile(Double, platform="a2a3sim", distributed_config=config) as compiled:
        a = np.ones((16, 16), dtype=np.float32)
        np.testing.assert_array_equal(compiled(a), a + a)
