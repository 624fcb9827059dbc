"""Chip orchestrations in C++, host orchestrators in Python, and what stands beside them."""

from __future__ import annotations

import ast
import json

import pypto.language as pl

N = pl.dynamic("N")
Row = pl.Tensor[[N, 8], pl.FP32]


@pl.program
class Blocks:
    @pl.function(type=pl.FunctionType.InCore)
    def double(self, a: pl.Tensor[[N, 8], pl.FP32], f: pl.Out[pl.Tensor[[N, 8], pl.FP32]]):
        x = pl.load(a, [0, 0], [16, 8], valid_shapes=[N, 8])
        return pl.store(pl.add(x, x), [0, 0], f)

    @pl.function(type=pl.FunctionType.Orchestration)
    def chip(self, a: Row, f: pl.Out[Row]):
        for row in pl.range(0, N, 16):
            rows = pl.min(16, N - row)
            once = pl.create_tensor([rows, 8], dtype=pl.FP32)
            once = self.double(a[row : row + rows], once)
            self.double(once, f[row : row + rows])
        return f

    @pl.function(level=pl.Level.HOST, role=pl.Role.Worker)
    def check(self, a: Row, f: Row):
        assert a.shape == f.shape

    @pl.function(level=pl.Level.HOST, role=pl.Role.Orchestrator)
    def host(self, config: Row, f: pl.Out[Row]):
        half = N // 2
        self.chip(config[0:half], f[0:half], device=0)
        self.chip(config[half:N], f[half:N], device=1)
        self.check(config, f)
        return f


def host_of(files: dict[str, str]) -> str:
    return files["orchestration/host_orch.py"]


def chip_of(files: dict[str, str]) -> str:
    return files["next_levels/chip/orchestration/chip.cpp"]


def test_the_layout_is_that_of_the_proposal(generate) -> None:
    assert set(generate(Blocks)) == {
        "program.json",
        "orchestration/host_orch.py",
        "next_levels/chip/kernel_config.py",
        "next_levels/chip/kernels/double.cpp",
        "next_levels/chip/orchestration/chip.cpp",
        "sub_workers/check.py",
    }


def test_a_chip_orchestration_submits_kernels_with_tags(generate) -> None:
    text = chip_of(generate(Blocks))
    assert '#include "simpler/orchestration.h"' in text
    assert 'extern "C" void orchestrate(simpler::Graph &graph, simpler::TaskArgsView args) {' in text
    assert text.count("graph.submit(simpler::Task(0 /* double */).in(") == 2
    assert ".out(once));" in text


def test_intermediates_come_from_the_chips_ring(generate) -> None:
    text = chip_of(generate(Blocks))
    assert "simpler::ContinuousTensor once = graph.alloc(simpler::DataType::FLOAT32, {rows, 8});" in text


def test_slices_name_their_line(generate) -> None:
    text = chip_of(generate(Blocks))
    assert text.count("simpler::slice(graph, ") == 2
    assert '"test_orchestrations.py:' in text


def test_the_host_orchestrator_is_python_that_parses(generate) -> None:
    tree = ast.parse(host_of(generate(Blocks)))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    assert [f.name for f in functions] == ["host_orch"]
    assert [a.arg for a in functions[0].args.args] == ["orch", "args", "config", "calls"]


def test_device_becomes_worker(generate) -> None:
    text = host_of(generate(Blocks))
    assert text.count(", config, worker=0)") == 1
    assert text.count(", config, worker=1)") == 1


def test_sub_workers_are_submitted_with_tags(generate) -> None:
    assert "orch.submit_sub(calls.sub['check'], simpler.TaskArgs().inp(config_2).inp(f))" in host_of(generate(Blocks))


def test_a_parameter_called_like_something_the_module_needs_is_renamed(generate) -> None:
    assert "config_2, f = args" in host_of(generate(Blocks))


def test_program_json_holds_the_signature(generate) -> None:
    manifest = json.loads(generate(Blocks)["program.json"])
    assert [(p["name"], p["shape"], p["dtype"], p["direction"]) for p in manifest["parameters"]] == [
        ("config", ["N", 8], "float32", "In"),
        ("f", ["N", 8], "float32", "Out"),
    ]
    assert manifest["results"] == ["f"]
    assert manifest["chips"] == ["chip"]


def test_equal_programs_give_equal_files(generate) -> None:
    assert generate(Blocks) == generate(Blocks)


def test_nothing_names_a_folder_of_this_machine(generate) -> None:
    folder = __file__.rpartition("/")[0]
    assert folder
    assert not any(folder in text for text in generate(Blocks).values())
