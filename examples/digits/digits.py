"""Classify the 1,797 handwritten digits of scikit-learn with a two-layer perceptron, on two simulated chips.

    python examples/digits/digits.py
    pypto run examples/digits/digits.py

One program holds it all: kernels on tiles, an orchestration that runs them on a chip, a host orchestrator that gives
each chip half of the images, and a SubWorker that merges the halves and counts the digits that were recognised.
"""

from __future__ import annotations

import statistics

import numpy as np
import pypto.language as pl
from pypto import ir
from pypto.ir.distributed_compiled_program import DistributedConfig
from pypto.runtime.progress import display, report
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits

PIXELS, HIDDEN, CLASSES = 64, 48, 10
BLOCK = 128  # images a kernel takes at a time; the last block of a shard is smaller
LANES = 16  # columns of the tiles that hold the 10 classes; the last 6 stay unused

N = pl.dynamic("N")  # images in all
M = pl.dynamic("M")  # images of one chip
R = pl.dynamic("R")  # images of one block


@pl.program
class Digits:
    """softmax(relu(x w1 + b1) w2 + b2), the images sharded over two chips."""

    # --8<-- [start:kernels]
    @pl.function(type=pl.FunctionType.InCore)
    def linear_relu(
        self,
        x: pl.Tensor[[R, PIXELS], pl.FP32],
        w: pl.Tensor[[PIXELS, HIDDEN], pl.FP32],
        b: pl.Tensor[[1, HIDDEN], pl.FP32],
        h: pl.Out[pl.Tensor[[R, HIDDEN], pl.FP32]],
    ):
        tile_x = pl.load(x, [0, 0], [BLOCK, PIXELS], valid_shapes=[R, PIXELS])
        tile_w = pl.load(w, [0, 0], [PIXELS, HIDDEN])
        tile_b = pl.load(b, [0, 0], [1, HIDDEN])
        tile_h = pl.relu(pl.col_expand_add(pl.matmul(tile_x, tile_w), tile_b))
        return pl.store(tile_h, [0, 0], h)

    @pl.function(type=pl.FunctionType.InCore)
    def linear(
        self,
        h: pl.Tensor[[R, HIDDEN], pl.FP32],
        w: pl.Tensor[[HIDDEN, CLASSES], pl.FP32],
        b: pl.Tensor[[1, CLASSES], pl.FP32],
        z: pl.Out[pl.Tensor[[R, CLASSES], pl.FP32]],
    ):
        tile_h = pl.load(h, [0, 0], [BLOCK, HIDDEN], valid_shapes=[R, HIDDEN])
        tile_w = pl.load(w, [0, 0], [HIDDEN, LANES], valid_shapes=[HIDDEN, CLASSES])
        tile_b = pl.load(b, [0, 0], [1, LANES], valid_shapes=[1, CLASSES])
        return pl.store(pl.col_expand_add(pl.matmul(tile_h, tile_w), tile_b), [0, 0], z)

    @pl.function(type=pl.FunctionType.InCore)
    def softmax(self, z: pl.Tensor[[R, CLASSES], pl.FP32], p: pl.Out[pl.Tensor[[R, CLASSES], pl.FP32]]):
        tile_z = pl.load(z, [0, 0], [BLOCK, LANES], valid_shapes=[R, CLASSES])
        tile_e = pl.exp(pl.row_expand_sub(tile_z, pl.row_max(tile_z)))
        return pl.store(pl.row_expand_div(tile_e, pl.row_sum(tile_e)), [0, 0], p)

    # --8<-- [end:kernels]

    # --8<-- [start:chip]
    @pl.function(type=pl.FunctionType.Orchestration)
    def classify(
        self,
        x: pl.Tensor[[M, PIXELS], pl.FP32],
        w1: pl.Tensor[[PIXELS, HIDDEN], pl.FP32],
        b1: pl.Tensor[[1, HIDDEN], pl.FP32],
        w2: pl.Tensor[[HIDDEN, CLASSES], pl.FP32],
        b2: pl.Tensor[[1, CLASSES], pl.FP32],
        p: pl.Out[pl.Tensor[[M, CLASSES], pl.FP32]],
    ):
        for row in pl.range(0, M, BLOCK):
            rows = pl.min(BLOCK, M - row)
            h = pl.create_tensor([rows, HIDDEN], dtype=pl.FP32)
            z = pl.create_tensor([rows, CLASSES], dtype=pl.FP32)
            self.linear_relu(x[row : row + rows], w1, b1, h)
            self.linear(h, w2, b2, z)
            self.softmax(z, p[row : row + rows])
        return p

    # --8<-- [end:chip]

    # --8<-- [start:host]
    @pl.function(level=pl.Level.HOST, role=pl.Role.Worker)
    def merge(
        self,
        first: pl.Tensor[[M, CLASSES], pl.FP32],
        second: pl.Tensor[[R, CLASSES], pl.FP32],
        labels: pl.Tensor[[N], pl.INT64],
        probabilities: pl.Out[pl.Tensor[[N, CLASSES], pl.FP32]],
        correct: pl.Out[pl.Tensor[[1], pl.INT64]],
    ):
        np.concatenate([first, second], out=probabilities)
        correct[0] = np.count_nonzero(probabilities.argmax(axis=1) == labels)

    @pl.function(level=pl.Level.HOST, role=pl.Role.Orchestrator)
    def host_orch(
        self,
        images: pl.Tensor[[N, PIXELS], pl.FP32],
        labels: pl.Tensor[[N], pl.INT64],
        w1: pl.Tensor[[PIXELS, HIDDEN], pl.FP32],
        b1: pl.Tensor[[1, HIDDEN], pl.FP32],
        w2: pl.Tensor[[HIDDEN, CLASSES], pl.FP32],
        b2: pl.Tensor[[1, CLASSES], pl.FP32],
        probabilities: pl.Out[pl.Tensor[[N, CLASSES], pl.FP32]],
        correct: pl.Out[pl.Tensor[[1], pl.INT64]],
    ):
        half = (N + 1) // 2
        first = pl.create_tensor([half, CLASSES], dtype=pl.FP32)
        second = pl.create_tensor([N - half, CLASSES], dtype=pl.FP32)
        self.classify(images[0:half], w1, b1, w2, b2, first, device=0)
        self.classify(images[half:N], w1, b1, w2, b2, second, device=1)
        self.merge(first, second, labels, probabilities, correct)
        return probabilities, correct

    # --8<-- [end:host]


def softmax(z: np.ndarray) -> np.ndarray:
    """Row softmax in numpy."""
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def classify(images: np.ndarray, w1: np.ndarray, b1: np.ndarray, w2: np.ndarray, b2: np.ndarray) -> np.ndarray:
    """What the program computes, in numpy: probabilities, [images, 10]."""
    return softmax(np.maximum(images @ w1 + b1, 0) @ w2 + b2)


def train(images: np.ndarray, labels: np.ndarray, epochs: int = 120) -> list[np.ndarray]:
    """Weights of the two layers, from gradient descent with momentum on batches of 64."""
    random = np.random.default_rng(0)
    shapes = [(PIXELS, HIDDEN), (1, HIDDEN), (HIDDEN, CLASSES), (1, CLASSES)]
    weights = [(random.standard_normal(s) * np.sqrt(2 / s[0]) * (s[0] > 1)).astype(np.float32) for s in shapes]
    speed = [np.zeros_like(w) for w in weights]
    targets = np.eye(CLASSES, dtype=np.float32)[labels]
    for epoch in range(epochs):
        for batch in np.array_split(random.permutation(len(images)), len(images) // 64):
            w1, b1, w2, b2 = weights
            x = images[batch]
            h = np.maximum(x @ w1 + b1, 0)
            error = (softmax(h @ w2 + b2) - targets[batch]) / len(batch)
            back = error @ w2.T * (h > 0)
            slopes = [x.T @ back, back.sum(axis=0, keepdims=True), h.T @ error, error.sum(axis=0, keepdims=True)]
            for weight, v, slope in zip(weights, speed, slopes, strict=True):
                v *= 0.9
                v -= 0.05 * slope
                weight += v
        report("train", epoch + 1, epochs)
    return weights


def main() -> None:
    """Train, compile, run on two chips, and compare with numpy."""
    console = Console()
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype(np.float32)
    labels = labels.astype(np.int64)
    with display():
        weights = train(images[:1200], labels[:1200])
        # --8<-- [start:run]
        config = DistributedConfig(device_ids=[0, 1], num_sub_workers=1)
        with ir.compile(Digits, platform="a2a3sim", distributed_config=config) as compiled:
            probabilities, correct = compiled(images, labels, *weights)
            # --8<-- [end:run]
            repeated = []
            for count in range(20):
                compiled(images, labels, *weights, probabilities, correct)
                repeated.append(compiled.timings.last_run)
                report("run again", count + 1, 20)

    expected = classify(images, *weights)
    recognised = np.count_nonzero(expected.argmax(axis=1) == labels)
    timings = compiled.timings
    table = Table("digits, two chips of a2a3sim", "", title=f"{len(images):,} images")
    table.add_row("accuracy", f"{correct[0] / len(images):.4%} ({correct[0]:,} correct)")
    table.add_row("accuracy of numpy", f"{recognised / len(images):.4%} ({recognised:,} correct)")
    table.add_row("max abs difference of the probabilities", f"{np.abs(probabilities - expected).max():.2g}")
    table.add_row("compile", f"{timings.compile * 1e3:,.0f} ms")
    table.add_row("start of chips and SubWorker", f"{timings.start * 1e3:,.0f} ms")
    table.add_row("first run", f"{timings.first_run * 1e3:,.1f} ms")
    table.add_row("repeated run, median of 20", f"{statistics.median(repeated) * 1e3:,.1f} ms")
    console.print(table)
    if correct[0] != recognised:
        raise SystemExit(f"the program recognised {correct[0]} digits, numpy {recognised}")


if __name__ == "__main__":
    main()
