"""Compiling kernels: objects, cache, failures. A shell script that logs what it is asked stands before the compiler."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from diskcache import Cache
from simpler_runtime import (
    ChipError,
    CompileFailed,
    CompilerNotFound,
    CompileUnit,
    KernelCompiler,
    cxx,
    include_dir,
    kernel_cache,
    kernel_compiler,
)

REAL = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")


def answering(number: int, name: str = "unit") -> CompileUnit:
    return CompileUnit(f"{name}{number}.cpp", f'extern "C" int answer() {{ return {number}; }}\n')


class Script:
    """A compiler that logs its command lines; a source with the word PAUSE makes it wait until it is ended."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "cxx"
        self.log = folder / "log"
        self.log.touch()
        self.started = folder / "started"
        os.mkfifo(self.started)
        self.write(f"""#!/bin/sh
echo "$*" >> {self.log}
if [ "$1" = --version ]; then exec {REAL} --version; fi
source=$(cat)
case "$source" in
  *PAUSE*) sleep 1000 & echo $$ $! > {self.started}; wait ;;
  *BROKEN*) read pids < {self.started}; echo $pids > {folder}/pids ;;
esac
printf '%s\\n' "$source" | exec {REAL} "$@"
""")

    def write(self, text: str) -> None:
        self.path.write_text(text)
        self.path.chmod(self.path.stat().st_mode | stat.S_IXUSR)

    def calls(self, *, versions: bool = False) -> int:
        """How often it compiled; with ``versions``, how often it was asked for its version."""
        return sum(("--version" in line) == versions for line in self.log.read_text().splitlines())


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    folder = tmp_path / "compiler"
    folder.mkdir()
    made = Script(folder)
    monkeypatch.setenv("CXX", str(made.path))
    return made


@pytest.fixture
def two_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)


@pytest.fixture
def compiler(tmp_path: Path) -> KernelCompiler:
    return KernelCompiler(cache_dir=tmp_path / "cache")


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go, for looking at what is left."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", None)
    return folder


def run_answer(content: bytes, folder: Path) -> int:
    path = folder / f"{abs(hash(content))}.so"
    path.write_bytes(content)
    return ctypes.CDLL(str(path)).answer()


def all_gone(pids: list[int]) -> bool:
    """Whether these processes end; they were killed, so only their reaping may still be under way."""
    _, alive = psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=60)
    return all(process.status() == psutil.STATUS_ZOMBIE for process in alive)


# ---- objects ---------------------------------------------------------------------------------------------------------


def test_objects_come_in_the_order_of_the_units_and_can_be_loaded(compiler: KernelCompiler, tmp_path: Path) -> None:
    objects = compiler.compile([answering(number) for number in (3, 1, 2)])
    assert [run_answer(content, tmp_path) for content in objects] == [3, 1, 2]


def test_no_units_are_compiled_to_no_objects(compiler: KernelCompiler) -> None:
    assert compiler.compile([]) == []


def test_flags_of_a_unit_reach_the_compiler(compiler: KernelCompiler, tmp_path: Path) -> None:
    source = 'extern "C" int answer() { return NUMBER; }\n'
    objects = compiler.compile([CompileUnit(f"{n}.cpp", source, (f"-DNUMBER={n}",)) for n in (4, 5)])
    assert [run_answer(content, tmp_path) for content in objects] == [4, 5]


def test_the_same_source_gives_the_same_bytes_wherever_headers_and_output_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = '#include "simpler/tile.h"\nextern "C" const char *answer() { return __FILE__; }\n'
    first = KernelCompiler(cache_dir=tmp_path / "a").compile([CompileUnit("x.cpp", source)])
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(include_dir(), elsewhere)
    monkeypatch.setattr(kernel_compiler, "include_dir", lambda: elsewhere)
    second = KernelCompiler(cache_dir=tmp_path / "b").compile([CompileUnit("y.cpp", source)])
    assert first == second


def test_objects_carry_a_build_id(compiler: KernelCompiler) -> None:
    (content,) = compiler.compile([answering(1)])
    assert b"GNU\0" in content


def test_an_object_with_the_tile_library_can_be_closed(compiler: KernelCompiler) -> None:
    # A symbol of the type "unique in the process" would keep it loaded for ever.
    source = """#include "simpler/tile.h"
    extern "C" const char *answer(int type) { return simpler::name_of(static_cast<simpler::DataType>(type)); }
    """
    (content,) = compiler.compile([CompileUnit("x.cpp", source)])
    table = subprocess.run(["nm", "-D", "-"], input=content, capture_output=True, timeout=60)
    kinds = {line.split()[-2] for line in table.stdout.decode().splitlines() if line}
    assert "u" not in kinds


# ---- the cache -------------------------------------------------------------------------------------------------------


def test_what_is_compiled_once_comes_from_the_cache(compiler: KernelCompiler, script: Script) -> None:
    seen: list[tuple[str, bool]] = []

    def done(name: str, cached: bool, seconds: float) -> None:
        assert seconds >= 0
        seen.append((name, cached))

    cold = compiler.compile([answering(1), answering(2)], done)
    warm = compiler.compile([answering(2), answering(1)], done)
    assert cold == warm[::-1]
    assert sorted(seen[:2]) == [("unit1.cpp", False), ("unit2.cpp", False)]
    assert seen[2:] == [("unit2.cpp", True), ("unit1.cpp", True)]
    assert script.calls() == 2
    assert script.calls(versions=True) == 1


def test_another_compiler_object_shares_the_cache(tmp_path: Path, script: Script) -> None:
    KernelCompiler(cache_dir=tmp_path / "cache").compile([answering(1)])
    KernelCompiler(cache_dir=tmp_path / "cache").compile([answering(1)])
    assert script.calls() == 1


def test_equal_units_are_compiled_once_and_each_is_reported(compiler: KernelCompiler, script: Script) -> None:
    seen: list[str] = []
    first, second = compiler.compile(
        [answering(1, "a"), answering(1, "b")], lambda name, cached, seconds: seen.append(name)
    )
    assert first == second
    assert sorted(seen) == ["a1.cpp", "b1.cpp"]
    assert script.calls() == 1


def change_source(unit: CompileUnit, monkeypatch: pytest.MonkeyPatch, script: Script, folder: Path) -> CompileUnit:
    return CompileUnit(unit.name, unit.source + "\n")


def change_flags(unit: CompileUnit, monkeypatch: pytest.MonkeyPatch, script: Script, folder: Path) -> CompileUnit:
    return CompileUnit(unit.name, unit.source, ("-DSOMETHING",))


def change_header(unit: CompileUnit, monkeypatch: pytest.MonkeyPatch, script: Script, folder: Path) -> CompileUnit:
    headers = folder / "headers"
    shutil.copytree(include_dir(), headers)
    with (headers / "simpler" / "tile" / "math.h").open("a") as header:
        header.write("// a word\n")
    monkeypatch.setattr(kernel_compiler, "include_dir", lambda: headers)
    return unit


def add_header(unit: CompileUnit, monkeypatch: pytest.MonkeyPatch, script: Script, folder: Path) -> CompileUnit:
    headers = folder / "headers"
    shutil.copytree(include_dir(), headers)
    (headers / "simpler" / "new.h").touch()
    monkeypatch.setattr(kernel_compiler, "include_dir", lambda: headers)
    return unit


def replace_compiler(unit: CompileUnit, monkeypatch: pytest.MonkeyPatch, script: Script, folder: Path) -> CompileUnit:
    script.write(script.path.read_text() + "# another version\n")
    return unit


def change_processor(unit: CompileUnit, monkeypatch: pytest.MonkeyPatch, script: Script, folder: Path) -> CompileUnit:
    monkeypatch.setattr(cxx, "_processor", lambda: "another one")
    return unit


def change_environment(unit: CompileUnit, monkeypatch: pytest.MonkeyPatch, script: Script, folder: Path) -> CompileUnit:
    monkeypatch.setenv("CPLUS_INCLUDE_PATH", str(folder))
    return unit


@pytest.mark.parametrize(
    "change",
    [change_source, change_flags, change_header, add_header, replace_compiler, change_processor, change_environment],
)
def test_what_makes_an_object_makes_its_key(
    change: Callable[..., CompileUnit],
    compiler: KernelCompiler,
    script: Script,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    unit = answering(1)
    compiler.compile([unit])
    compiler.compile([change(unit, monkeypatch, script, tmp_path)])
    assert script.calls() == 2


def test_a_name_is_no_part_of_the_key(compiler: KernelCompiler, script: Script) -> None:
    compiler.compile([answering(1, "a")])
    compiler.compile([answering(1, "b")])
    assert script.calls() == 1


def test_units_with_headers_of_their_own_are_always_compiled(
    compiler: KernelCompiler, script: Script, tmp_path: Path
) -> None:
    own = tmp_path / "own.h"
    unit = CompileUnit("x.cpp", '#include "own.h"\nextern "C" int answer() { return OWN; }\n', (f"-I{tmp_path}",))
    answers = []
    for number in (1, 2):
        own.write_text(f"#define OWN {number}\n")
        answers += [run_answer(content, tmp_path) for content in compiler.compile([unit])]
    assert answers == [1, 2]


def test_a_damaged_object_is_compiled_again(compiler: KernelCompiler, script: Script, tmp_path: Path) -> None:
    compiler.compile([answering(1)])
    with Cache(str(tmp_path / "cache" / "kernels")) as cache:
        for key in cache:
            cache[key] = cache[key][:-1] + b"!"
    (content,) = compiler.compile([answering(1)])
    assert run_answer(content, tmp_path) == 1
    compiler.compile([answering(1)])
    assert script.calls() == 2


def test_a_lost_file_of_the_cache_is_compiled_again(compiler: KernelCompiler, script: Script, tmp_path: Path) -> None:
    large = CompileUnit("x.cpp", 'extern "C" char answer[100000] = "large";\n')
    (cold,) = compiler.compile([large])
    files = list((tmp_path / "cache").rglob("*.val"))
    assert files
    for file in files:
        file.unlink()
    assert compiler.compile([large]) == [cold]
    assert script.calls() == 2


@pytest.fixture
def no_warnings_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel_cache, "_warned", set())


@pytest.mark.usefixtures("no_warnings_yet")
def test_a_directory_that_cannot_be_used_costs_one_warning(script: Script, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    compiler = KernelCompiler(cache_dir=blocked / "cache")
    with pytest.warns(RuntimeWarning, match=r"compiled kernels are not kept.*SIMPLER_CACHE_DIR") as caught:
        objects = compiler.compile([answering(1), answering(2)])
    assert len(caught) == 1
    assert [run_answer(content, tmp_path) for content in objects] == [1, 2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compiler.compile([answering(1)]) == objects[:1]


@pytest.mark.usefixtures("no_warnings_yet")
def test_a_damaged_cache_costs_a_warning(compiler: KernelCompiler, tmp_path: Path) -> None:
    compiler.compile([answering(1)])
    (database,) = (tmp_path / "cache").rglob("cache.db")
    for file in database.parent.glob("cache.db*"):
        file.write_bytes(b"no database" * 1000)
    with pytest.warns(RuntimeWarning, match="compiled kernels are not kept"):
        (content,) = compiler.compile([answering(1)])
    assert run_answer(content, tmp_path) == 1


@pytest.mark.usefixtures("no_warnings_yet")
@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "full"), sqlite3.OperationalError("disk is full")])
def test_a_full_disk_costs_a_warning(
    compiler: KernelCompiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise failure

    monkeypatch.setattr(Cache, "set", refuse)
    with pytest.warns(RuntimeWarning, match="full") as caught:
        objects = compiler.compile([answering(1), answering(2)])
    assert len(caught) == 1
    assert [run_answer(content, tmp_path) for content in objects] == [1, 2]


def test_the_environment_says_where_the_cache_is(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SIMPLER_CACHE_DIR", str(tmp_path / "chosen"))
    KernelCompiler().compile([answering(1)])
    assert any((tmp_path / "chosen").rglob("cache.db"))


def test_two_processes_compiling_the_same_are_both_right(tmp_path: Path) -> None:
    program = """
import hashlib, sys
from pathlib import Path
from simpler_runtime import CompileUnit, KernelCompiler
units = [CompileUnit(f"{n}.cpp", f'extern "C" int answer() {{ return {n}; }}') for n in range(4)]
for content in KernelCompiler(cache_dir=Path(sys.argv[1])).compile(units):
    print(hashlib.sha256(content).hexdigest())
"""
    command = [sys.executable, "-W", "error", "-c", program, str(tmp_path / "cache")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(set(outputs)) == 1
    assert len(outputs[0].split()) == 4


# ---- finding a compiler ----------------------------------------------------------------------------------------------


@pytest.fixture
def empty_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing on it, no $CXX and no ziglang."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    return folder


@pytest.mark.usefixtures("empty_path")
def test_without_a_compiler_the_error_says_how_to_install_one(compiler: KernelCompiler) -> None:
    with pytest.raises(CompilerNotFound) as caught:
        compiler.compile([answering(1)])
    assert isinstance(caught.value, ChipError)
    text = str(caught.value)
    for part in ("$CXX", "c++, g++, clang++", "ziglang", "sudo apt-get install -y g++", "xcode-select --install"):
        assert part in text


def test_a_compiler_that_is_named_but_missing_is_an_error(
    compiler: KernelCompiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler -O1")
    with pytest.raises(CompilerNotFound, match=r"'no-such-compiler' \(\$CXX names it"):
        compiler.compile([answering(1)])
    with pytest.raises(CompilerNotFound, match=r"'another' \(argument cxx names it"):
        KernelCompiler("another", tmp_path / "cache").compile([answering(1)])


def test_a_compiler_that_does_not_run_is_an_error(compiler: KernelCompiler, script: Script) -> None:
    script.write("#!/bin/sh\necho broken installation >&2\nexit 3\n")
    with pytest.raises(CompilerNotFound, match="broken installation"):
        compiler.compile([answering(1)])


def test_the_argument_goes_before_the_environment(
    script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    KernelCompiler(str(script.path), tmp_path / "cache").compile([answering(1)])
    assert script.calls() == 1


def test_a_compiler_may_come_with_arguments(
    script: Script, compiler: KernelCompiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", f"env NUMBER=1 {script.path} -DNUMBER=77")
    (content,) = compiler.compile([CompileUnit("x.cpp", 'extern "C" int answer() { return NUMBER; }\n')])
    assert run_answer(content, tmp_path) == 77


@pytest.mark.parametrize("name", ["c++", "g++", "clang++"])
def test_compilers_are_found_on_the_path(name: str, empty_path: Path) -> None:
    (empty_path / name).symlink_to(str(REAL))
    found = cxx.find_compiler(None, lambda question, ask: "version")
    assert found.command == (str(empty_path / name),)


def test_the_ziglang_package_is_the_last_resort(empty_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Spec:
        origin = str(empty_path / "ziglang" / "__init__.py")

    monkeypatch.setattr("importlib.util.find_spec", lambda name: Spec if name == "ziglang" else None)
    found = cxx.find_compiler(None, lambda question, ask: "clang version 20 (ziglang)")
    zig = str(empty_path / "ziglang" / "zig")
    assert found.command == (zig, "c++")
    # Compiled as C++, linked with the C++ library and unwinder of this process: an exception must find only one.
    monkeypatch.setattr(cxx, "_loaded_libraries", lambda: ["/lib/libgcc_s.so.1", "/lib/libstdc++.so.6"])
    compiling, linking = found.build_commands(Path("/headers"), ("-DX",), Path("/out/0.so"))
    assert compiling[:2] == [zig, "c++"]
    assert compiling[-6:] == ["-c", "-x", "c++", "-", "-o", "/out/0.o"]
    assert linking[:2] == [zig, "cc"]
    assert linking[-5:] == ["/out/0.o", "/lib/libgcc_s.so.1", "/lib/libstdc++.so.6", "-o", "/out/0.so"]
    assert "-fno-gnu-unique" not in compiling


def test_the_libraries_in_use_are_found() -> None:
    assert any("libstdc++.so" in path for path in cxx._loaded_libraries())


# ---- failures --------------------------------------------------------------------------------------------------------


def test_a_source_that_does_not_compile_is_shown_with_the_compilers_words(
    compiler: KernelCompiler, temporary: Path
) -> None:
    unit = CompileUnit("kernels/bad.cpp", 'extern "C" int answer() {\n  return missing;\n}\n')
    with pytest.raises(CompileFailed) as caught:
        compiler.compile([answering(1), unit])
    error = caught.value
    assert isinstance(error, ChipError)
    assert error.name == "kernels/bad.cpp"
    assert error.source == unit.source
    assert "kernels/bad.cpp:2:10: error:" in error.output
    assert "missing" in error.output
    assert "-std=c++20" in error.command
    assert "kernels/bad.cpp" in error.command
    assert error.output in str(error)
    assert list(temporary.iterdir()) == []


def test_a_failed_compilation_is_tried_again(compiler: KernelCompiler, script: Script) -> None:
    unit = CompileUnit("bad.cpp", "no C++\n")
    for _ in range(2):
        with pytest.raises(CompileFailed):
            compiler.compile([unit])
    assert script.calls() == 2


def test_a_compiler_that_dies_in_silence_is_reported_by_its_exit_status(
    compiler: KernelCompiler, script: Script
) -> None:
    script.write("#!/bin/sh\n[ $1 = --version ] && exit 0\nexit 9\n")
    with pytest.raises(CompileFailed, match="exit status 9"):
        compiler.compile([answering(1)])
    script.write("#!/bin/sh\n[ $1 = --version ] && exit 0\nkill -6 $$\n")
    with pytest.raises(CompileFailed, match="signal 6"):
        compiler.compile([answering(1)])


def test_a_compiler_that_writes_nothing_is_reported(compiler: KernelCompiler, script: Script) -> None:
    script.write("#!/bin/sh\nexit 0\n")
    with pytest.raises(CompileFailed, match="the compiler left no output"):
        compiler.compile([answering(1)])


@pytest.mark.usefixtures("two_at_a_time")
def test_a_failure_ends_the_other_compilations(compiler: KernelCompiler, script: Script, temporary: Path) -> None:
    # The broken one fails when the other has said that it runs, with a child of its own.
    with pytest.raises(CompileFailed, match=r"broken\.cpp"):
        compiler.compile([CompileUnit("paused.cpp", "// PAUSE\n"), CompileUnit("broken.cpp", "BROKEN\n")])
    pids = [int(pid) for pid in (script.path.parent / "pids").read_text().split()]
    assert len(pids) == 2
    assert all_gone(pids)
    assert list(temporary.iterdir()) == []


@pytest.mark.usefixtures("two_at_a_time")
def test_an_exception_in_the_callers_progress_ends_the_compilations(
    compiler: KernelCompiler, script: Script, temporary: Path
) -> None:
    def done(name: str, cached: bool, seconds: float) -> None:
        pids.extend(int(pid) for pid in script.started.read_text().split())
        raise RuntimeError("enough")

    pids: list[int] = []
    with pytest.raises(RuntimeError, match="enough"):
        compiler.compile([CompileUnit("paused.cpp", "// PAUSE\n"), answering(1)], done)
    assert len(pids) == 2
    assert all_gone(pids)
    assert list(temporary.iterdir()) == []


def test_a_compiler_that_never_ends_is_ended(
    compiler: KernelCompiler, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_compiler, "COMPILE_TIMEOUT", 0.1)
    started: list[subprocess.Popen[bytes]] = []
    original = subprocess.Popen

    def popen(*args: object, **kwargs: object) -> subprocess.Popen[bytes]:
        started.append(original(*args, **kwargs))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", popen)
    with pytest.raises(CompileFailed, match="did not finish within"):
        compiler.compile([CompileUnit("paused.cpp", "// PAUSE\n")])
    assert all_gone([process.pid for process in started])


@pytest.mark.usefixtures("two_at_a_time")
def test_units_are_compiled_in_parallel(compiler: KernelCompiler, script: Script, tmp_path: Path) -> None:
    # Each waits for the other: opening a FIFO returns when both ends are open.
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    meet = f"  *LEFT*) : > {fifo} ;;\n  *RIGHT*) : < {fifo} ;;\n"
    script.write(script.path.read_text().replace("  *PAUSE*)", f"{meet}  *PAUSE*)"))
    left = CompileUnit("left.cpp", '// LEFT\nextern "C" int answer() { return 1; }\n')
    right = CompileUnit("right.cpp", '// RIGHT\nextern "C" int answer() { return 2; }\n')
    assert len(compiler.compile([left, right])) == 2


def test_ctrl_c_leaves_no_process_and_no_file(script: Script, temporary: Path, tmp_path: Path) -> None:
    program = """
import sys
from pathlib import Path
from simpler_runtime import CompileUnit, KernelCompiler
KernelCompiler(cache_dir=Path(sys.argv[1])).compile([CompileUnit("paused.cpp", "// PAUSE")])
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "cache")], stderr=subprocess.PIPE, text=True
    )
    pids = [int(pid) for pid in script.started.read_text().split()]
    process.send_signal(signal.SIGINT)
    _, words = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "KeyboardInterrupt" in words
    assert all_gone(pids)
    assert list(temporary.iterdir()) == []


# ---- costs -----------------------------------------------------------------------------------------------------------

KERNEL = """
#include "simpler/kernel.h"
#include "simpler/tile.h"
using namespace simpler;
extern "C" void kernel(Core &core, TaskArgsView args) {
  tile::Tile<float, 64, 64> x(core), w(core), y(core);
  tile::load(core, x, args.tensors[0], 0, 0, 64, 64, "kernel.py:1");
  tile::load(core, w, args.tensors[1], 0, 0, 64, 64, "kernel.py:2");
  tile::matmul(y, x, w);
  tile::relu(y, y);
  tile::store(core, args.tensors[2], y, 0, 0, "kernel.py:5");
}
"""


def test_a_kernel_includes_nothing_that_is_slow_to_compile() -> None:
    # Only the three headers that define integers and va_list, and what configures the library.
    allowed = {"cstddef", "cstdint", "cstdarg", "__config", "__config_site"}
    listed = subprocess.run(
        [str(REAL), "-std=c++20", f"-I{include_dir()}", "-M", "-x", "c++", "-"],
        input=KERNEL,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    files = [Path(word) for word in listed.replace("\\\n", " ").split()[1:]]
    library = {file.name for file in files if "c++" in file.parts}
    assert {file for file in files if file.name == "tile.h"}
    assert {name for name in library if not name.endswith(("config.h", "_defines.h"))} <= allowed


def test_importing_the_package_imports_none_of_what_compiling_needs() -> None:
    program = "import sys, simpler_runtime; print(*sys.modules)"
    # Where coverage is measured, not of this one: coverage imports sqlite3 itself.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    modules = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, timeout=60, check=True
    )
    assert not {"diskcache", "platformdirs", "sqlite3", "simpler_runtime.kernel_compiler"} & set(modules.stdout.split())
