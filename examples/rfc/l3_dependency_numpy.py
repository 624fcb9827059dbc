"""l3_dependency.py without torch: a chip adds two arrays, then a SubWorker checks the sum with numpy.

Run it as it is:

    python examples/rfc/l3_dependency_numpy.py
"""

from __future__ import annotations

import numpy as np
import pypto.language as pl
from pypto import ir
from pypto.ir.distributed_compiled_program import DistributedConfig

Matrix = pl.Tensor[[128, 128], pl.FP32]


@pl.program
class L3DependencyNumpyProgram:
    """Host orchestrator → chip (a + b) → SubWorker (verify)."""

    @pl.function(type=pl.FunctionType.InCore)
    def tile_add(self, a: Matrix, b: Matrix, f: pl.Out[Matrix]) -> Matrix:
        return pl.store(pl.add(pl.load(a, [0, 0], [128, 128]), pl.load(b, [0, 0], [128, 128])), [0, 0], f)

    @pl.function(type=pl.FunctionType.Orchestration)
    def chip_orch(self, a: Matrix, b: Matrix, f: pl.Out[Matrix]) -> Matrix:
        return self.tile_add(a, b, f)

    @pl.function(level=pl.Level.HOST, role=pl.Role.Worker)
    def verify(self, f: Matrix):
        np.testing.assert_allclose(f, 5.0, rtol=1e-5)

    @pl.function(level=pl.Level.HOST, role=pl.Role.Orchestrator)
    def host_orch(self, a: Matrix, b: Matrix, f: pl.Out[Matrix]) -> Matrix:
        out_f = self.chip_orch(a, b, f)
        self.verify(out_f)
        return out_f


def main() -> None:
    """Call the program in place and for a result."""
    config = DistributedConfig(num_sub_workers=1)
    with ir.compile(L3DependencyNumpyProgram, distributed_config=config) as compiled:
        a = np.full((128, 128), 2.0, dtype=np.float32)
        b = np.full((128, 128), 3.0, dtype=np.float32)
        f = np.zeros((128, 128), dtype=np.float32)

        compiled(a, b, f)  # in place
        print(f"in place: {f.min()} to {f.max()}")
        f = compiled(a, b)  # for a result
        print(f"returned: {f.min()} to {f.max()}")


if __name__ == "__main__":
    main()
