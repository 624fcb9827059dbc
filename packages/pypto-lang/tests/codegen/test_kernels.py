"""The C++ of kernels: what is where, not how it is laid out."""

from __future__ import annotations

import re

import pypto.language as pl

Square = pl.Tensor[[64, 64], pl.FP32]
TILE = "simpler::tile::Tile<float, 64, 64>"


@pl.program
class Kernels:
    @pl.function(type=pl.FunctionType.InCore)
    def add(self, a: Square, b: Square, f: pl.Out[Square]):
        x = pl.load(a, [0, 0], [64, 64])
        y = pl.load(b, [0, 0], [64, 64])
        z = pl.add(x, y)
        return pl.store(z, [0, 0], f)

    @pl.function(type=pl.FunctionType.InCore)
    def keep(self, a: Square, b: Square, f: pl.Out[Square]):
        x = pl.load(a, [0, 0], [64, 64])
        y = pl.load(b, [0, 0], [64, 64])
        z = pl.add(x, y)
        w = pl.mul(z, x)
        v = pl.mul(w, y)
        return pl.store(v, [0, 0], f)

    @pl.function(type=pl.FunctionType.InCore)
    def nested(self, a: Square, b: Square, f: pl.Out[Square]):
        return pl.store(pl.add(pl.load(a, [0, 0], [64, 64]), pl.load(b, [0, 0], [64, 64])), [0, 0], f)

    @pl.function(type=pl.FunctionType.InCore)
    def powers(self, a: Square, b: Square, f: pl.Out[Square]):
        x = pl.load(a, [0, 0], [64, 64])
        power = pl.load(b, [0, 0], [64, 64])
        for _ in pl.range(0, 3, 1):
            power = pl.matmul(power, x)
        return pl.store(power, [0, 0], f)

    @pl.function(type=pl.FunctionType.InCore)
    def sums(self, a: Square, b: Square, f: pl.Out[Square]):
        total = pl.full([64, 64], 0.0, dtype=pl.FP32)
        for _ in pl.range(0, 3, 1):
            total = pl.matmul_acc(total, pl.load(a, [0, 0], [64, 64]), pl.load(b, [0, 0], [64, 64]))
        return pl.store(total, [0, 0], f)

    @pl.function(type=pl.FunctionType.InCore)
    def copied(self, a: Square, b: Square, f: pl.Out[Square]):
        x = pl.load(a, [0, 0], [64, 64])
        y = x
        x = pl.add(x, 1.0)
        return pl.store(pl.sub(x, y), [0, 0], f)

    @pl.function(type=pl.FunctionType.InCore)
    def refilled(self, a: Square, b: Square, f: pl.Out[Square]):
        x = pl.load(a, [0, 0], [64, 64], valid_shapes=[8, 8])
        pl.store(x, [0, 0], f)
        ones = pl.full([64, 64], 1.0, dtype=pl.FP32)
        return pl.store(ones, [0, 0], f)

    @pl.function(type=pl.FunctionType.InCore)
    def names(self, template: Square, core: Square, args: pl.Out[Square]):
        namespace = pl.load(template, [0, 0], [64, 64])
        été = pl.load(core, [0, 0], [64, 64])
        return pl.store(pl.add(namespace, été), [0, 0], args)

    @pl.function(type=pl.FunctionType.Orchestration)
    def chip(self, a: Square, b: Square, f: pl.Out[Square]):
        self.add(a, b, f)
        self.keep(a, b, f)
        self.nested(a, b, f)
        self.powers(a, b, f)
        self.sums(a, b, f)
        self.copied(a, b, f)
        self.refilled(a, b, f)
        self.names(a, b, f)
        return f

    @pl.function(level=pl.Level.HOST, role=pl.Role.Orchestrator)
    def host(self, a: Square, b: Square, f: pl.Out[Square]):
        return self.chip(a, b, f)


N = pl.dynamic("N")


@pl.program
class Tails:
    @pl.function(type=pl.FunctionType.InCore)
    def rows(self, a: pl.Tensor[[N, 10], pl.FP32], f: pl.Out[pl.Tensor[[N, 10], pl.FP32]]):
        for row in pl.range(0, N, 32):
            count = pl.min(32, N - row)
            f = pl.store(pl.exp(pl.load(a, [row, 0], [32, 16], valid_shapes=[count, 10])), [row, 0], f)
        return f

    @pl.function(type=pl.FunctionType.InCore)
    def halves(self, a: pl.Tensor[[N, 10], pl.FP32], f: pl.Out[pl.Tensor[[N, 10], pl.FP32]]):
        half = (N + 1) // 2
        x = pl.load(a, [half % N, 0], [32, 16], valid_shapes=[1, 10])
        return pl.store(x, [0, 0], f)

    @pl.function(type=pl.FunctionType.Orchestration)
    def chip(self, a: pl.Tensor[[N, 10], pl.FP32], f: pl.Out[pl.Tensor[[N, 10], pl.FP32]]):
        self.rows(a, f)
        self.halves(a, f)
        return f

    @pl.function(level=pl.Level.HOST, role=pl.Role.Orchestrator)
    def host(self, a: pl.Tensor[[N, 10], pl.FP32], f: pl.Out[pl.Tensor[[N, 10], pl.FP32]]):
        return self.chip(a, f)


def test_a_kernel_is_one_file_with_one_entry(kernel) -> None:
    text = kernel(Kernels, "add")
    assert text.startswith('#include "simpler/tile.h"')
    assert text.count('extern "C" void kernel(simpler::Core &core, simpler::TaskArgsView args) {') == 1


def test_parameters_are_the_tensors_in_order(kernel) -> None:
    text = kernel(Kernels, "add")
    positions = [text.index(f"&{name} = args.tensors[{i}];") for i, name in enumerate(["a", "b", "f"])]
    assert positions == sorted(positions)


def test_each_line_of_source_stands_above_what_it_became(generate) -> None:
    (text,) = [text for path, text in generate(Kernels).items() if path.endswith("kernels/add.cpp")]
    lines = [line.strip() for line in text.split("\n")]
    index = next(i for i, line in enumerate(lines) if line.endswith("z = pl.add(x, y)"))
    assert lines[index].startswith("// test_kernels.py:")
    assert "simpler::tile::add" in "".join(lines[index : index + 3])


def test_a_tile_that_is_not_needed_any_more_lends_its_memory(kernel) -> None:
    text = kernel(Kernels, "add")
    assert text.count(f"{TILE} ") == 2
    assert "auto &z = x;" in text


def test_a_tile_that_is_still_needed_keeps_its_memory(kernel) -> None:
    text = kernel(Kernels, "keep")
    assert f"{TILE} z(core);" in text  # x and y are used after it is computed
    assert "auto &w = x;" in text
    assert text.count(f"{TILE} ") == 3


def test_nested_operations_need_no_more_memory_than_named_ones(kernel) -> None:
    assert kernel(Kernels, "nested").count(f"{TILE} ") == kernel(Kernels, "add").count(f"{TILE} ")


def test_a_variable_assigned_in_a_loop_keeps_its_tile(kernel) -> None:
    text = kernel(Kernels, "powers")
    assert text.count(f"{TILE} power(core);") == 1
    before_loop, loop = text.split("for (")
    assert f"{TILE} power(core);" in before_loop
    assert "power" in loop


def test_a_product_is_never_written_over_its_factors(kernel) -> None:
    text = kernel(Kernels, "powers")
    assert "simpler::tile::matmul(power, power" not in text
    assert f"{TILE} power_2(core);" in text
    assert "simpler::tile::matmul(power_2, power, x);" in text
    assert re.search(r"auto &(\w+) = power;\s+simpler::tile::copy\(\1, power_2\);", text)


def test_a_product_is_added_to_its_accumulator_in_place(kernel) -> None:
    text = kernel(Kernels, "sums")
    assert re.search(r"auto &(\w+) = total;\s+simpler::tile::matmul_acc\(\1, total, ", text)
    assert "simpler::tile::copy" not in text


def test_a_tile_keeps_its_value_under_another_name_without_a_copy(kernel) -> None:
    text = kernel(Kernels, "copied")
    assert f"{TILE} x_1(core);" in text
    assert re.search(r"auto &(\w+) = x;\s+simpler::tile::sub\(\1, x_1, x\);", text)
    assert "simpler::tile::copy" not in text


def test_a_tile_in_lent_memory_is_whole_again(kernel) -> None:
    text = kernel(Kernels, "refilled")
    assert "auto &ones = x;" in text
    assert text.index("ones.rows = 64, ones.cols = 64;") < text.index("simpler::tile::full(ones, ")


def test_names_that_cpp_or_the_file_needs_are_changed(kernel) -> None:
    text = kernel(Kernels, "names")
    for name in ("template", "core", "args"):
        assert f"&{name} = " not in text
    assert f"{TILE} namespace(core);" not in text
    assert text.isascii()


def test_dynamic_dimensions_are_read_from_the_arguments(kernel) -> None:
    text = kernel(Tails, "rows")
    assert "const int64_t N = a.shapes[0];" in text
    assert "row += 32" in text


def test_valid_regions_are_passed_to_loads(kernel) -> None:
    text = kernel(Tails, "rows")
    assert "count = smaller<int64_t>(32, N - row);" in text
    assert ", row, 0, count, 10, " in text


def test_bounds_errors_will_name_the_line(kernel) -> None:
    text = kernel(Tails, "rows")
    loads = [line for line in text.split("\n") if "tile::load" in line or "tile::store" in line]
    assert len(loads) == 2
    assert all('"test_kernels.py:' in line for line in loads)


def test_division_rounds_as_in_python_and_is_written_only_where_it_is_used(kernel) -> None:
    halves = kernel(Tails, "halves")
    assert "floor_div(core, N + 1, 2, " in halves
    assert "floor_mod(core, half, N, " in halves
    assert "floor_div" not in kernel(Tails, "rows")


def test_kernels_with_matrix_products_run_on_the_cube_core(generate) -> None:
    config = next(text for path, text in generate(Kernels).items() if path.endswith("kernel_config.py"))
    cores = {
        line.split('"name": "')[1].split('"')[0]: "AIC" in line for line in config.split("\n") if "core_type" in line
    }
    assert [name for name, cube in cores.items() if cube] == ["powers", "sums"]
