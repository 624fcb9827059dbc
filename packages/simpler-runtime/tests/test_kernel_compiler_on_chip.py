"""Kernels that include the tile library, compiled and run on a simulated chip, against numpy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from simpler_runtime import (
    IN,
    OUT,
    ChipCallable,
    ChipWorker,
    CompileUnit,
    ContinuousTensor,
    CoreType,
    DataType,
    Kernel,
    KernelCompiler,
    KernelError,
    TaskArgs,
)

ORCHESTRATION = """
#include "simpler/orchestration.h"
extern "C" void orchestrate(simpler::Graph &graph, simpler::TaskArgsView args) {
  graph.submit(simpler::Task(0).in(args.tensors[0]).in(args.tensors[1]).in(args.tensors[2]).out(args.tensors[3]));
}
"""

# softmax(x w + bias) in tiles of 16 rows; the last one has a tail.
KERNEL = """
#include "simpler/kernel.h"
#include "simpler/tile.h"
using namespace simpler;
extern "C" void kernel(Core &core, TaskArgsView args) {
  const ContinuousTensor &x = args.tensors[0], &w = args.tensors[1], &bias = args.tensors[2], &out = args.tensors[3];
  tile::Tile<float, 32, 10> weights(core);
  tile::Tile<float, 1, 10> biases(core);
  tile::load(core, weights, w, 0, 0, 32, 10, "net.py:1");
  tile::load(core, biases, bias, 0, 0, 1, 10, "net.py:2");
  for (int64_t row = 0; row < x.shapes[0]; row += 16) {
    const int64_t rows = ROWS_OF_TILE;
    tile::Tile<float, 16, 32> inputs(core);
    tile::Tile<float, 16, 10> logits(core), exps(core);
    tile::Tile<float, 16, 1> top(core), sum(core);
    tile::load(core, inputs, x, row, 0, rows, 32, "net.py:5");
    tile::matmul(logits, inputs, weights);
    tile::col_expand_add(logits, logits, biases);
    tile::row_max(top, logits);
    tile::row_expand_sub(logits, logits, top);
    tile::exp(exps, logits);
    tile::row_sum(sum, exps);
    tile::row_expand_div(exps, exps, sum);
    tile::store(core, out, exps, row, 0, "net.py:12");
  }
}
"""


def build(rows_of_tile: str, cache: Path) -> ChipCallable:
    kernel, orchestration = KernelCompiler(cache_dir=cache).compile(
        [
            CompileUnit("kernel.cpp", KERNEL.replace("ROWS_OF_TILE", rows_of_tile)),
            CompileUnit("orchestration.cpp", ORCHESTRATION),
        ]
    )
    return ChipCallable.build(
        name="net",
        orchestration=orchestration,
        signature=[IN, IN, IN, OUT],
        kernels=[Kernel(func_id=0, name="softmax", core_type=CoreType.AIV, object=kernel)],
    )


def args_of(*arrays: np.ndarray) -> TaskArgs:
    args = TaskArgs()
    for array, tag in zip(arrays, [IN, IN, IN, OUT], strict=True):
        args.add_tensor(ContinuousTensor.make(array.ctypes.data, array.shape, DataType.FLOAT32), tag)
    return args


@pytest.fixture
def arrays() -> list[np.ndarray]:
    random = np.random.default_rng(3)
    shapes = [(37, 32), (32, 10), (1, 10)]
    return [random.standard_normal(shape, dtype=np.float32) for shape in shapes] + [np.zeros((37, 10), np.float32)]


@pytest.mark.parametrize("platform", ["cpu", "a2a3sim", "a5sim"])
def test_a_kernel_of_tiles_computes_what_numpy_does(platform: str, arrays: list[np.ndarray], tmp_path: Path) -> None:
    x, w, bias, out = arrays
    with ChipWorker(platform=platform) as worker:
        worker.prepare_callable(
            callable_id=0, callable=build("x.shapes[0] - row < 16 ? x.shapes[0] - row : 16", tmp_path / "cache")
        )
        worker.run_prepared(callable_id=0, args=args_of(*arrays))
    logits = x.astype(np.float64) @ w + bias
    exps = np.exp(logits - logits.max(axis=1, keepdims=True))
    np.testing.assert_allclose(out, exps / exps.sum(axis=1, keepdims=True), rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("platform", ["cpu", "a2a3sim"])
def test_leaving_a_tensor_is_an_error_that_names_the_line(
    platform: str, arrays: list[np.ndarray], tmp_path: Path
) -> None:
    with ChipWorker(platform=platform) as worker:
        worker.prepare_callable(callable_id=0, callable=build("16", tmp_path / "cache"))
        with pytest.raises(KernelError, match=r"net\.py:5: load of 16x32 at \[32, 0\] leaves the tensor of 37x32"):
            worker.run_prepared(callable_id=0, args=args_of(*arrays))
