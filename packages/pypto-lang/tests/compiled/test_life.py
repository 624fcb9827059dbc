"""When processes begin and end, what is kept on disk, what is told on the way."""

from __future__ import annotations

import gc
import json
import os
import select
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import psutil
import pytest
from pypto import ir
from pypto.errors import OutputDirectoryError
from pypto.ir.distributed_compiled_program import DistributedCompiledProgram, DistributedConfig
from pypto.runtime.manifest import Manifest
from pypto.runtime.output_directory import OutputDirectory
from pypto.runtime.progress import Progress

A = np.ones((32, 48), np.float32)
ONE_SUB = DistributedConfig(num_sub_workers=1)


def pids() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


def test_compiling_starts_no_process_and_the_first_call_does(add_program) -> None:
    before = pids()
    compiled = ir.compile(add_program, distributed_config=DistributedConfig(device_ids=[0, 5], num_sub_workers=2))
    assert pids() == before
    compiled(A, A)
    assert len(pids() - before) >= 4
    compiled.close()
    assert pids() == before


def test_later_calls_use_the_same_processes(add_program) -> None:
    with ir.compile(add_program, distributed_config=ONE_SUB) as compiled:
        running = pids()
        for _ in range(3):
            compiled(A, A)
        assert pids() == running


def test_prepare_starts_the_processes(add_program) -> None:
    before = pids()
    compiled = ir.compile(add_program, distributed_config=ONE_SUB)
    assert compiled.prepare() is compiled
    assert pids() > before
    compiled.close()


def test_a_closed_program_starts_again_when_it_is_called(add_program) -> None:
    compiled = ir.compile(add_program, distributed_config=ONE_SUB)
    compiled(A, A)
    compiled.close()
    compiled.close()
    assert (compiled(A, A) == 2).all()
    compiled.close()


def test_a_forgotten_program_ends_its_processes(add_program) -> None:
    before = pids()
    compiled = ir.compile(add_program, distributed_config=ONE_SUB)
    compiled(A, A)
    del compiled
    gc.collect()
    assert pids() == before


def test_processes_that_were_killed_between_calls_are_replaced(add_program) -> None:
    before = psutil.Process().children()
    with ir.compile(add_program, distributed_config=ONE_SUB) as compiled:
        killed = [child for child in psutil.Process().children() if child not in before]
        assert len(killed) == 2
        for child in killed:
            death = os.pidfd_open(child.pid)
            child.kill()
            assert select.select([death], [], [], 60)[0]
            os.close(death)
        assert (compiled(A, A) == 2).all()


def test_calls_from_several_threads_come_one_after_the_other(add_program) -> None:
    with ir.compile(add_program, distributed_config=ONE_SUB) as compiled:
        results: list[np.ndarray] = []
        threads = [threading.Thread(target=lambda: results.append(compiled(A, A))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(results) == 4
    assert all((r == 2).all() for r in results)


def test_a_process_that_ends_without_close_leaves_nothing(add_program, tmp_path) -> None:
    ir.compile(add_program, distributed_config=ONE_SUB, output_dir=tmp_path / "out")
    script = f"""
import numpy as np, psutil
from pypto.ir.distributed_compiled_program import DistributedCompiledProgram
compiled = DistributedCompiledProgram.load({str(tmp_path / "out")!r})
a = np.ones((32, 48), np.float32)
assert (compiled(a, a) == 2).all()
print(*[child.pid for child in psutil.Process().children(recursive=True)])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stderr == ""
    started = [int(pid) for pid in done.stdout.split()]
    assert len(started) >= 2
    assert not any(psutil.pid_exists(pid) for pid in started)


def test_timings_are_kept(add_program) -> None:
    compiled = ir.compile(add_program, distributed_config=ONE_SUB)
    timings = compiled.timings
    assert timings.compile > 0
    assert (timings.start, timings.first_run, timings.last_run) == (None, None, None)
    with compiled:
        compiled(A, A)
        first = timings.first_run
        compiled(A, A)
        assert timings.start is not None
        assert timings.first_run == first
        assert timings.last_run is not None


def test_the_compiler_says_how_far_it_is(add_program) -> None:
    heard: list[Progress] = []
    with ir.compile(add_program, distributed_config=ONE_SUB, progress=heard.append) as compiled:
        compiled(A, A)
    steps = list(dict.fromkeys(p.step for p in heard))
    assert steps == ["generate code", "compile kernels", "start"]
    for step in steps:
        counts = [p.done for p in heard if p.step == step]
        assert counts == sorted(counts)
        assert counts[-1] == heard[[p.step for p in heard].index(step)].total


# --- output directories ----------------------------------------------------------------------------------------------


def test_equal_programs_share_a_directory_in_the_cache(add_program) -> None:
    one = ir.compile(add_program, distributed_config=ONE_SUB)
    two = ir.compile(add_program, distributed_config=ONE_SUB)
    assert one.output_dir == two.output_dir
    assert one.output_dir.parent.name == "programs"
    assert not [path for path in one.output_dir.parent.iterdir() if path.name.startswith(".")]


def test_a_program_can_be_loaded_from_its_directory(add_program, tmp_path) -> None:
    ir.compile(add_program, distributed_config=ONE_SUB, output_dir=tmp_path / "out")
    moved = shutil.move(tmp_path / "out", tmp_path / "moved")
    with DistributedCompiledProgram.load(moved) as loaded:
        assert loaded.name == "Add"
        assert loaded.config == ONE_SUB
        assert (loaded(A, A) == 2).all()


def test_cpp_edited_by_hand_is_what_runs_after_load(add_program, tmp_path) -> None:
    ir.compile(add_program, distributed_config=ONE_SUB, output_dir=tmp_path / "out")
    source = tmp_path / "out/next_levels/chip_add/kernels/tile_add.cpp"
    text = source.read_text()
    assert text.count("simpler::tile::add(") == 1
    source.write_text(text.replace("simpler::tile::add(", "simpler::tile::mul("))
    with DistributedCompiledProgram.load(tmp_path / "out") as loaded:
        assert (loaded(A * 3, A * 4) == 12).all()


def test_an_earlier_program_in_the_directory_is_replaced(add_program, tmp_path) -> None:
    out = tmp_path / "out"
    ir.compile(add_program, distributed_config=ONE_SUB, output_dir=out)
    (out / "stale").write_text("")
    ir.compile(add_program, distributed_config=DistributedConfig(num_sub_workers=2), output_dir=out)
    assert json.loads((out / "program.json").read_text())["config"]["num_sub_workers"] == 2
    assert not (out / "stale").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_directory_with_other_files_is_left_alone(add_program, tmp_path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputDirectoryError, match="holds files that are no compiled program"):
        ir.compile(add_program, distributed_config=ONE_SUB, output_dir=tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_what_a_killed_compile_left_is_swept(add_program, tmp_path) -> None:
    stale, recent = tmp_path / ".out-killed", tmp_path / ".out-at-work"
    for place in (stale, recent):
        place.mkdir()
    os.utime(stale, (0, 0))
    ir.compile(add_program, distributed_config=ONE_SUB, output_dir=tmp_path / "out")
    assert not stale.exists()
    assert recent.exists()


def test_an_output_dir_that_cannot_be_written_is_refused(add_program, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputDirectoryError, match="can't be written"):
        ir.compile(add_program, distributed_config=ONE_SUB, output_dir=tmp_path / "file" / "out")


def test_an_output_dir_that_is_a_file_is_refused(add_program, tmp_path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputDirectoryError, match="is a file"):
        ir.compile(add_program, distributed_config=ONE_SUB, output_dir=tmp_path / "file")


def test_compiles_into_one_directory_at_the_same_time_are_all_right(add_program, tmp_path) -> None:
    out = tmp_path / "out"
    ready = threading.Barrier(6)
    errors: list[BaseException] = []

    def compile_with(count: int) -> None:
        ready.wait()
        try:
            ir.compile(add_program, distributed_config=DistributedConfig(num_sub_workers=count), output_dir=out)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=compile_with, args=(1 + i % 2,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    with DistributedCompiledProgram.load(out) as loaded:
        assert (loaded(A, A) == 2).all()


def test_a_directory_that_many_write_at_once_is_always_one_of_theirs(tmp_path) -> None:
    versions = []
    for number in range(3):
        manifest = Manifest("P", "here", "cpu", {"number": number}, (), (), (), ())
        versions.append((manifest, {"text.py": b"%d" % number, "program.json": manifest.to_json().encode()}))
    errors: list[BaseException] = []

    def write_all(first: int) -> None:
        try:
            for turn in range(60):
                OutputDirectory.write(*versions[(first + turn) % 3], tmp_path / "out")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write_all, args=(first,)) for first in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    found = OutputDirectory.load(tmp_path / "out")
    assert (found.manifest, dict(found.files)) in versions


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "holds no compiled program"), ("{", "can't be read"), ("{}", "format None"), ('{"format": 1}', "damaged")],
)
def test_what_is_no_output_directory_is_refused(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "program.json").write_text(content)
    with pytest.raises(OutputDirectoryError, match=message):
        DistributedCompiledProgram.load(tmp_path)


def test_a_directory_that_lacks_a_file_is_refused(add_program, tmp_path) -> None:
    out = tmp_path / "out"
    ir.compile(add_program, distributed_config=ONE_SUB, output_dir=out)
    (out / "next_levels/chip_add/kernels/tile_add.cpp").unlink()
    with pytest.raises(OutputDirectoryError, match=r"tile_add\.cpp is missing"):
        DistributedCompiledProgram.load(out)
