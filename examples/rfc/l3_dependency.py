"""A chip adds two tensors, then a SubWorker checks the sum: host orchestrator → chip → SubWorker.

    python examples/rfc/l3_dependency.py           # called with numpy arrays
    python examples/rfc/l3_dependency.py --torch   # called with torch tensors

The SubWorker computes with torch, so torch must be installed; l3_dependency_numpy.py is the same without it.
"""

from __future__ import annotations

import argparse

import numpy as np
import pypto.language as pl
import torch
from pypto import ir
from pypto.ir.distributed_compiled_program import DistributedConfig


# fmt: off: as it is typed in the proposal
# --8<-- [start:program]
@pl.program
class L3DependencyProgram:
    """L3: HOST orch → CHIP worker (a + b) → SubWorker (verify)."""

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
        out_f = pl.store(tile_f, [0, 0], f)
        return out_f

    @pl.function(type=pl.FunctionType.Orchestration)
    def chip_orch(
        self,
        a: pl.Tensor[[128, 128], pl.FP32],
        b: pl.Tensor[[128, 128], pl.FP32],
        f: pl.Out[pl.Tensor[[128, 128], pl.FP32]],
    ) -> pl.Tensor[[128, 128], pl.FP32]:
        out_f = self.tile_add(a, b, f)
        return out_f

    @pl.function(level=pl.Level.HOST, role=pl.Role.Worker)
    def verify(self, f: pl.Tensor[[128, 128], pl.FP32]):
        expected = torch.full((128, 128), 5.0, dtype=torch.float32)
        if not torch.allclose(f, expected, rtol=1e-5, atol=1e-5):
            raise AssertionError(
                f"SubWorker verify failed: expected 5.0, got max={f.max().item()}, min={f.min().item()}"
            )

    @pl.function(level=pl.Level.HOST, role=pl.Role.Orchestrator)
    def host_orch(
        self,
        a: pl.Tensor[[128, 128], pl.FP32],
        b: pl.Tensor[[128, 128], pl.FP32],
        f: pl.Out[pl.Tensor[[128, 128], pl.FP32]],
    ) -> pl.Tensor[[128, 128], pl.FP32]:
        out_f: pl.Tensor[[128, 128], pl.FP32] = self.chip_orch(a, b, f)
        self.verify(out_f)
        return out_f


# --8<-- [end:program]
# fmt: on


def main() -> None:
    """Call the program in place and for a result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--torch", action="store_true", help="call with torch tensors")
    full, zeros = (torch.full, torch.zeros) if parser.parse_args().torch else (np.full, np.zeros)
    float32 = torch.float32 if full is torch.full else np.float32

    compiled = ir.compile(
        L3DependencyProgram,
        platform="a2a3sim",
        distributed_config=DistributedConfig(
            device_ids=[7],
            num_sub_workers=1,
            block_dim=3,
            aicpu_thread_num=4,
        ),
    )
    with compiled:
        a = full((128, 128), 2.0, dtype=float32)
        b = full((128, 128), 3.0, dtype=float32)
        f = zeros((128, 128), dtype=float32)

        compiled(a, b, f)  # in place
        print(f"in place: {type(f).__module__} {f.min()} to {f.max()}")
        f = compiled(a, b)  # for a result
        print(f"returned: {type(f).__module__} {f.min()} to {f.max()}")


if __name__ == "__main__":
    main()
