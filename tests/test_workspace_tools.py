"""The workspace's own commands: turns, what is built once, what is run again, and what is said at the end."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cpp_build
import develop
import pytest
import report
import suites
import toolchain
from turns import turn

ROOT = Path(__file__).resolve().parent.parent
HOLDER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from turns import turn
with turn("a build", Path(sys.argv[2])):
    print("built", flush=True)
    sys.stdin.read(1)
"""


def holder(lock: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLDER, str(ROOT / "tools"), str(lock)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


class TestTurns:
    def test_a_second_command_waits_and_says_for_whom(self, tmp_path: Path) -> None:
        lock = tmp_path / "lock"
        with holder(lock) as first:
            assert first.stdout.readline() == "built\n"
            with holder(lock) as second:
                assert (
                    second.stdout.readline()
                    == f"waiting for a build (pid {first.pid}), which builds in this checkout\n"
                )
                first.communicate("x")
                assert second.stdout.readline() == "built\n"
                second.communicate("x")

    def test_a_build_that_outlives_its_killed_command_keeps_the_turn(self, tmp_path: Path) -> None:
        lock, building = tmp_path / "lock", tmp_path / "building"
        os.mkfifo(building)
        start = f"import subprocess, turns; subprocess.Popen(['cat', {str(building)!r}], pass_fds=turns.HELD)"
        command = HOLDER.replace('    print("built"', f'    {start}\n    print("built"')
        arguments = [sys.executable, "-c", command, str(ROOT / "tools"), str(lock)]
        with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
            assert first.stdout.readline() == "built\n"
            first.kill()
        with holder(lock) as second:
            assert second.stdout.readline().startswith("waiting for a build")
            building.open("w").close()  # the build ends
            assert second.stdout.readline() == "built\n"
            second.communicate("x")

    def test_a_killed_command_has_no_turn(self, tmp_path: Path) -> None:
        lock = tmp_path / "lock"
        with holder(lock) as first:
            assert first.stdout.readline() == "built\n"
            first.kill()
        with turn("next", lock):
            assert lock.read_text() == f"next (pid {os.getpid()})"

    def test_ctrl_c_ends_the_waiting(self, tmp_path: Path) -> None:
        lock = tmp_path / "lock"
        with turn("this", lock), holder(lock) as second:
            assert second.stdout.readline().startswith("waiting for this")
            second.send_signal(signal.SIGINT)
            assert second.wait() != 0

    def test_who_builds_for_ever_is_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("turns.LIMIT_S", 0)
        lock = tmp_path / "lock"
        said = pytest.raises(SystemExit, match=r"this \(pid \d+\) has been building for an hour")
        with turn("this", lock), said, turn("that", lock):
            pytest.fail("both have a turn")


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A checkout with a line of each kind of source, under git."""
    for name, text in {
        "pyproject.toml": (ROOT / "pyproject.toml").read_text(),
        "crates/Cargo.toml": "[workspace]",
        "crates/simpler-ipc/src/lib.rs": "// Rust",
        "crates/simpler-ipc/tests/loom.rs": "// its test",
        "cpp/src/chip.cpp": "// C++",
        "packages/simpler-ipc/pyproject.toml": "[project]",
        "packages/simpler-runtime/pyproject.toml": "[project]",
        "packages/simpler-core/src/simpler/worker.py": "# Python",
        "packages/chia-flow/src/chia/flow.py": "# Python",
        "tools/cpp_build.py": "# a tool",
        "tests/test_house.py": "# a test",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    for module in (develop, suites):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(develop, "PACKAGES", tmp_path / "packages")
    return tmp_path


class TestWhatIsRunAgain:
    @pytest.mark.parametrize(
        ("changed", "again"),
        [
            ("crates/simpler-ipc/src/lib.rs", {"ipc", "core", "lang", "house"}),
            ("cpp/src/chip.cpp", {"runtime", "core", "lang", "house"}),
            ("packages/simpler-core/src/simpler/worker.py", {"core", "lang", "house"}),
            ("packages/chia-flow/src/chia/flow.py", {"chia", "house"}),
            ("packages/chia-flow/src/chia/new.py", {"chia", "house"}),
            ("tests/test_house.py", {"house"}),
            ("pyproject.toml", set(suites.SUITES)),
        ],
    )
    def test_a_suite_whose_sources_changed(self, checkout: Path, changed: str, again: set[str]) -> None:
        before = suites.states()
        path = checkout / changed
        path.write_text((path.read_text() if path.exists() else "") + "\n# changed")
        after = suites.states()
        assert {suite for suite in suites.SUITES if before[suite] != after[suite]} == again

    def test_everything_if_another_compiler_is_in_use(self, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        before = suites.states()
        monkeypatch.setattr(suites, "machine", lambda: "another")
        after = suites.states()
        assert all(before[suite] != after[suite] for suite in suites.SUITES)

    @pytest.mark.parametrize(
        "name", ["pytest.ini", "packages/conftest.py", ".cargo/config.toml", "packages/simpler-core/tests/test_new.py"]
    )
    def test_suites_whose_configuration_or_tests_are_ignored_by_somebodys_git_alone(
        self, checkout: Path, name: str
    ) -> None:
        before = suites.states()
        (checkout / ".git" / "info" / "exclude").write_text(f"/{name}\n")
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text("# there all the same")
        assert suites.states()["core"] != before["core"]

    def test_nothing_fails_for_a_name_that_is_no_text(self, checkout: Path) -> None:
        before = suites.states()
        Path(os.fsdecode(os.fsencode(checkout / "packages/simpler-core/notes-") + b"\xe9")).touch()
        assert suites.states()["core"] != before["core"]

    @pytest.mark.parametrize(
        "variable", ["CXXFLAGS", "RUSTFLAGS", "CC", "SIMPLER_IPC_KILLS", "PYTHONPATH", "CARGO_PROFILE_TEST_DEBUG"]
    )
    def test_everything_if_other_flags_are_set(
        self, checkout: Path, monkeypatch: pytest.MonkeyPatch, variable: str
    ) -> None:
        before = suites.states()
        monkeypatch.setenv(variable, "another")
        after = suites.states()
        assert all(before[suite] != after[suite] for suite in suites.SUITES)

    def test_everything_where_an_outer_repository_ignores_the_checkout(self, checkout: Path) -> None:
        shutil.rmtree(checkout / ".git")
        assert suites.states() == {}
        subprocess.run(["git", "init", "-q"], cwd=checkout.parent, check=True)
        (checkout.parent / ".gitignore").write_text("*\n")
        assert suites.states() == {}

    def test_everything_for_the_full_product(self, checkout: Path) -> None:
        before, full = suites.states(), suites.states(full=True)
        assert all(before[suite] != full[suite] for suite in suites.SUITES)

    def test_everything_where_no_git_tells_what_the_sources_are(
        self, checkout: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", str(checkout))
        assert suites.states() == {}


class TestWhatIsRemembered:
    class Runner:
        """Runs nothing: a suite passes, after something has happened."""

        def __init__(self, meanwhile: Callable[[], object] = lambda: None) -> None:
            self._meanwhile = meanwhile

        def prepare(self, names: list[str]) -> None: ...

        def beforehand(self, suite: str) -> float:
            return 0.0

        def run(self, suite: str) -> int:
            self._meanwhile()
            return 0

    @pytest.fixture(autouse=True)
    def _records(self, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(suites, "PASSED", checkout / "build" / "passed.json")
        monkeypatch.setattr(report, "FOLDER", checkout / "build")
        (checkout / ".gitignore").write_text("build/\n")

    def test_a_suite_that_passed(self) -> None:
        suites.run_all(self.Runner(), ["core"], full=False, remember=True)
        assert suites.remembered()["core"]["states"][0] == suites.states()["core"]

    @pytest.mark.parametrize(
        "change",
        [
            lambda prefix: (prefix / "lib/python3.11/site-packages/numpy-1.26.4.dist-info").mkdir(parents=True),
            lambda prefix: (prefix / "pyvenv.cfg").write_text("version = 3.12.1"),
            shutil.rmtree,
        ],
        ids=["another package", "another Python", "no environment"],
    )
    def test_not_one_whose_environment_is_another_since(
        self, checkout: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object]
    ) -> None:
        prefix = checkout / "build" / "core"
        prefix.mkdir(parents=True)
        (prefix / "pyvenv.cfg").write_text("version = 3.11.7")
        report.write(report.Report(0.0, prefix=str(prefix)), "core")
        suites.run_all(self.Runner(), ["core"], full=False, remember=True)
        now = suites.states()["core"]
        assert suites.has_passed(suites.remembered()["core"], now)
        change(prefix)
        assert not suites.has_passed(suites.remembered()["core"], now)

    @pytest.mark.parametrize("text", ["null", "[]", '{"core": []}', '{"core": {"states": 5}}', '{"core"', "\xff"])
    def test_nothing_of_a_record_that_cannot_be_read(self, text: str) -> None:
        suites.PASSED.parent.mkdir(parents=True, exist_ok=True)
        suites.PASSED.write_bytes(text.encode("latin-1"))
        assert suites.remembered() == {}

    def test_not_one_whose_sources_changed_while_it_ran(self, checkout: Path) -> None:
        source = checkout / "packages/simpler-core/src/simpler/worker.py"
        runner = self.Runner(lambda: source.write_text("# mended meanwhile"))
        suites.run_all(runner, ["core", "chia"], full=False, remember=True)
        assert set(suites.remembered()) == {"chia"}

    def test_not_one_that_ran_in_part(self) -> None:
        suites.run_all(self.Runner(), ["core"], full=False, remember=False)
        assert suites.remembered() == {}

    def test_one_that_passed_in_full_as_one_that_passed(self) -> None:
        suites.run_all(self.Runner(), ["core"], full=True, remember=True)
        assert suites.states()["core"] in suites.remembered()["core"]["states"]
        assert suites.states(full=True)["core"] in suites.remembered()["core"]["states"]


class TestWhatIsBuiltAgain:
    def test_a_module_whose_sources_changed(self, checkout: Path) -> None:
        rust, cpp = develop.sources("simpler-ipc"), develop.sources("simpler-runtime")
        (checkout / "crates/simpler-ipc/src/lib.rs").write_text("// changed")
        assert develop.sources("simpler-ipc") != rust
        assert develop.sources("simpler-runtime") == cpp

    def test_not_one_whose_tests_changed(self, checkout: Path) -> None:
        before = develop.sources("simpler-ipc")
        (checkout / "crates/simpler-ipc/tests/loom.rs").write_text("// changed")
        assert develop.sources("simpler-ipc") == before

    @pytest.fixture
    def built(self, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A module of simpler-ipc that is of these sources."""
        monkeypatch.setattr(develop, "BUILT", checkout / "built.json")
        module = checkout / "packages/simpler-ipc/src/simpler_ipc/_native.abi3.so"
        module.parent.mkdir(parents=True)
        module.write_text("machine code")
        develop.BUILT.write_text(json.dumps(develop.built_as("simpler-ipc", develop.sources("simpler-ipc"))))
        assert develop.is_built("simpler-ipc")
        return module

    def test_a_module_that_was_cleaned_away(self, built: Path) -> None:
        built.unlink()
        assert not develop.is_built("simpler-ipc")

    def test_a_module_that_another_command_has_replaced(self, built: Path) -> None:
        built.write_text("machine code of other sources")
        assert not develop.is_built("simpler-ipc")

    def test_a_module_that_another_compiler_would_build(self, built: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("CXXFLAGS", "-O1")
        assert not develop.is_built("simpler-ipc")

    def test_a_folder_that_another_compiler_was_configured_in(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / cpp_build.CONFIGURED).write_text(cpp_build.configuration())
        assert cpp_build.is_configured(tmp_path)
        with monkeypatch.context() as other:
            other.setenv("CXX", "another")
            assert not cpp_build.is_configured(tmp_path)
        with monkeypatch.context() as newer:
            newer.setattr(toolchain, "versions", lambda: "the same command, another version")
            assert not cpp_build.is_configured(tmp_path)

    def test_nothing_for_what_an_editor_leaves_beside_the_sources(self, checkout: Path) -> None:
        before = develop.sources("simpler-runtime")
        (checkout / "cpp/src/.#chip.cpp").symlink_to("me@host.1:2")
        assert develop.sources("simpler-runtime") == before

    def test_a_package_that_was_taken_out_by_hand_is_not_installed(self) -> None:
        assert develop.is_installed("simpler-ipc")
        assert not develop.is_installed("simpler-of-nobody")

    def test_a_package_that_came_from_elsewhere_is_not_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert not develop.is_installed("numpy"), "it came from an index, as a wheel in place of ours would"
        monkeypatch.setattr(develop, "PACKAGES", ROOT / "elsewhere")
        assert not develop.is_installed("simpler-ipc")

    def test_everything_after_a_record_that_was_cut_short(
        self, checkout: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(develop, "BUILT", checkout / "built.json")
        develop.BUILT.write_text('{"simpler-ipc cpython')
        assert not develop.is_built("simpler-ipc")

    def test_this_checkout_runs_on_modules_that_all_environments_share(self) -> None:
        import simpler_ipc._native
        import simpler_runtime._native

        for module in (simpler_ipc._native, simpler_runtime._native):
            assert Path(module.__file__).is_relative_to(ROOT / "packages")


class TestOrphans:
    LEAVES_ONE = "import os, sys; os.fork() or os.execlp('cat', 'cat', sys.argv[1]); os._exit(7)"

    def test_what_a_command_leaves_behind_is_buried_when_it_ends(self, tmp_path: Path) -> None:
        # The command's child leaves a process and ends; the command goes on until that process is gone, not a zombie.
        command = """
import os, subprocess, sys
group = subprocess.Popen([sys.executable, "-c", sys.argv[2], sys.argv[1]], start_new_session=True)
assert group.wait() == 7
open(sys.argv[1], "w").close()  # what is left behind ends
while True:
    try:
        os.killpg(group.pid, 0)
    except ProcessLookupError:
        sys.exit(5)
"""
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        arguments = [str(ROOT / "tools" / "orphans.py"), sys.executable, "-c", command, str(pipe), self.LEAVES_ONE]
        assert subprocess.run([sys.executable, *arguments], timeout=120).returncode == 5

    @pytest.mark.parametrize("kill", ["the one that started it", "itself"])
    def test_a_command_ends_with_who_started_it_killed_even(self, tmp_path: Path, kill: str) -> None:
        starter = """
import subprocess, sys
subprocess.Popen(sys.argv[1:], start_new_session=True).wait()
"""
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        # It holds the pipe open, in a session of its own below, and says who it is there.
        command = """
import os, signal, sys
with open(sys.argv[1], "w") as pipe:
    print(os.getppid(), file=pipe, flush=True)
    signal.pause()
"""
        held = [sys.executable, "-c", command, str(pipe)]
        arguments = [sys.executable, str(ROOT / "tools" / "orphans.py"), *held]
        with subprocess.Popen([sys.executable, "-c", starter, *arguments]) as started, pipe.open() as end:
            its_parent = int(end.readline())
            if kill == "itself":
                os.kill(its_parent, signal.SIGTERM)
            else:
                started.kill()
            assert end.read() == "", "nobody has the pipe any more"

    def test_a_command_that_a_signal_ends_has_a_shells_status(self) -> None:
        arguments = [str(ROOT / "tools" / "orphans.py"), "sh", "-c", "kill -9 $$"]
        assert subprocess.run([sys.executable, *arguments], timeout=120).returncode == 137


class TestReports:
    @pytest.fixture(autouse=True)
    def _apart(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(report, "FOLDER", tmp_path)
        monkeypatch.setenv("HATCH_ENV_ACTIVE", "ipc")
        monkeypatch.delenv("SIMPLER_TEST_ALL", raising=False)  # this suite itself may run in full

    def test_what_was_not_run_is_the_last_thing_said(self, capsys: pytest.CaptureFixture[str]) -> None:
        report.begin()
        report.not_run("tests under Miri", "it is not installed")
        report.not_run("compiling for a toaster", "its library is not installed")
        capsys.readouterr()
        assert report.main() == 0
        assert capsys.readouterr().out.endswith(
            "not run here:\n  ipc: tests under Miri: it is not installed\n"
            "  ipc: compiling for a toaster: its library is not installed\n"
        )

    def test_a_new_run_forgets_the_one_before(self, capsys: pytest.CaptureFixture[str]) -> None:
        report.not_run("tests under Miri", "it is not installed")
        report.begin()
        capsys.readouterr()
        report.main()
        assert "not run" not in capsys.readouterr().out

    def test_a_suite_over_its_budget_says_so(self, capsys: pytest.CaptureFixture[str]) -> None:
        report.write(report.Report(started=0.0))
        report.main()
        assert "EXCEEDED" in capsys.readouterr().out

    def test_the_full_product_has_no_budget(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SIMPLER_TEST_ALL", "1")
        report.write(report.Report(started=0.0))
        report.main()
        assert capsys.readouterr().out.endswith("s (the full product)\n")

    def test_the_summary_of_the_full_product_has_no_budget(self, capsys: pytest.CaptureFixture[str]) -> None:
        results = dict.fromkeys(suites.SUITES, (0, 2.0 * report.BUDGET_S))
        reports = {suite: report.read(suite) for suite in suites.SUITES}
        assert suites.summary(results, reports, {}) == 0
        assert capsys.readouterr().out.count("EXCEEDS") == len(suites.SUITES)
        assert suites.summary(results, reports, {}, full=True) == 0
        assert "EXCEEDS" not in capsys.readouterr().out

    def test_the_summary_tells_what_failed_what_is_unchanged_and_last_what_was_not_run(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        report.not_run("tests under Miri", "it is not installed")
        results = {"ipc": (1, 10.0), "runtime": (0, 200.0)}
        unchanged = dict.fromkeys(["core", "lang", "chia", "house"], 0.0)
        capsys.readouterr()
        assert suites.summary(results, {suite: report.read(suite) for suite in suites.SUITES}, unchanged) == 1
        lines = capsys.readouterr().out.splitlines()
        assert any(line.split()[:3] == ["FAILED", "(1)", "ipc"] for line in lines)
        assert any("runtime" in line and "EXCEEDS its budget of 180 s" in line for line in lines)
        assert sum("unchanged" in line for line in lines) == 4
        assert lines[-3:] == [
            "suites: 5 passed, 1 failed",
            "not run here:",
            "  ipc: tests under Miri: it is not installed",
        ]
