"""Runs every package's tests, each in its own environment, and what crosses packages last.

python tools/suites.py           what changed since it passed here
python tools/suites.py --again   everything
python tools/suites.py --all     the full product: also every type, fuzzing, what is covered

Further arguments go to each suite's pytest; a run with any is never remembered. Ctrl-C ends all of it at once: whatever
the running suite started is killed, wherever it hangs in the process tree.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import FrameType
from typing import Any

import develop
import orphans
import record
import report
import toolchain

ROOT = Path(__file__).resolve().parent.parent
SUITES = ("ipc", "runtime", "core", "lang", "chia", "house")
PREBUILT = ("runtime",)  # those that compile for minutes
PASSED = report.FOLDER / "passed.json"
# What any suite may read besides the packages of its environment.
COMMON = (
    *("pyproject.toml", "README.md", "tools/", "docs/", "examples/", "conftest.py", "packages/conftest.py"),
    *(".cargo/", "pytest.ini", ".pytest.ini", "tox.ini", "setup.cfg"),  # there are none yet
)
# Variables that reach compilers, Python or pytest. Those of ours, and compilers' flags (toolchain.py), come on top.
VARIABLES = (
    *("PYTHONPATH", "PYTHONOPTIMIZE", "PYTEST_PLUGINS", "CPATH", "CPLUS_INCLUDE_PATH", "LIBRARY_PATH"),
    *("LD_LIBRARY_PATH", "LD_PRELOAD", "CMAKE_BUILD_TYPE", "CARGO_ENCODED_RUSTFLAGS"),
)
BEGINNINGS = ("SIMPLER_", "PROPTEST_", "HYPOTHESIS_", "CARGO_PROFILE_", "CARGO_BUILD_")


# --- what has passed already -----------------------------------------------------------------------------------------


def inputs(suite: str) -> tuple[str, ...]:
    """Beginnings of the paths that a suite depends on; one that crosses packages depends on everything."""
    environment = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["envs"][suite]
    packages = environment["env-vars"]["PACKAGES"].split()
    if suite == "house":
        return ("",)
    compiled = [f"{develop.COMPILED[package][0]}/" for package in packages if package in develop.COMPILED]
    return (*COMMON, *(f"packages/{package}/" for package in packages), *compiled, "crates/Cargo.toml")


def files() -> list[str] | None:
    """The files of the checkout but those that it ignores itself; None where no git says so, of this folder.

    What somebody's own configuration ignores is there all the same: pytest runs it.
    """
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-per-directory=.gitignore"]
    try:
        listed = subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = sorted(set(os.fsdecode(listed).split("\0")) - {""})
    return found if "pyproject.toml" in found else None  # an outer repository that ignores all of this


def machine() -> str:
    """What a result depends on besides the sources: compilers, what is installed beside them, what is set for us."""
    nightly = (["rustc", "+nightly", "--version"], ["rustup", "+nightly", "component", "list", "--installed"])
    targets = ["rustup", "target", "list", "--installed"]
    return "\n".join([sys.version, toolchain.versions(), *map(said, (*nightly, targets)), *variables(VARIABLES)])


def variables(names: tuple[str, ...] = ()) -> list[str]:
    """Variables that change what a suite does: those, and all that ours and the tests' libraries look for."""
    found = sorted(os.environ.items())
    return [f"{name}={value}" for name, value in found if name in names or name.startswith(BEGINNINGS)]


def environment(prefix: str) -> str:
    """A digest of what is installed in a suite's environment, and of its Python; empty where there is none any more."""
    configuration = Path(prefix) / "pyvenv.cfg"
    if not prefix or not configuration.is_file():
        return ""
    distributions = sorted(path.name for path in Path(prefix).glob("lib/python*/site-packages/*.dist-info"))
    return hashlib.sha256("\n".join([configuration.read_text(), *distributions]).encode()).hexdigest()


def said(command: list[str]) -> str:
    """What a command prints; nothing where there is no such command."""
    if shutil.which(command[0]) is None:
        return ""
    return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout


def state(suite: str, all_files: list[str], machine: str) -> str:
    """A digest of all that a suite's result depends on."""
    digest = hashlib.sha256(machine.encode())
    beginnings = inputs(suite)
    for name in all_files:
        path = ROOT / name
        if name.startswith(beginnings) and path.is_file():
            digest.update(os.fsencode(f"{name}\n") + path.read_bytes() + b"\n")
    return digest.hexdigest()


def states(full: bool = False) -> dict[str, str]:
    """The state of each suite's inputs, and of what is asked of it; none where that can't be told."""
    listed = files()
    if listed is None:
        return {}
    this = machine() + ", in full" * full
    return {suite: state(suite, listed, this) for suite in SUITES}


# --- processes -------------------------------------------------------------------------------------------------------


def interrupted(signum: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt(signal.Signals(signum).name)


# --- running ---------------------------------------------------------------------------------------------------------


class Runner:
    """Runs suites one after the other. Meanwhile makes ready those that follow, with what CPU time is left over."""

    def __init__(self, hatch: str, full: bool, arguments: list[str]) -> None:
        self._hatch = hatch
        self._arguments = arguments
        # The suites' environments are others than the one this runs in.
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith("HATCH_ENV")}
        if full:
            self._environment["SIMPLER_TEST_ALL"] = "1"
        self._pool = ThreadPoolExecutor(2)  # one downloads, one compiles
        self._ready: dict[str, Future[float]] = {}

    def prepare(self, suites: list[str]) -> None:
        """Begin to make all but the first ready; what goes wrong is seen when they run, and mended or told there."""
        for suite in suites[1:]:
            command = ["run", f"{suite}:prebuild"] if suite in PREBUILT else ["env", "create", suite]
            self._ready[suite] = self._pool.submit(self._quietly, command)

    def _quietly(self, command: list[str]) -> float:
        """Run a hatch command; how long it would have kept all CPUs busy, in seconds."""
        process = subprocess.Popen(
            [sys.executable, orphans.__file__, "nice", "-n", "15", self._hatch, *command],
            cwd=ROOT,
            env=self._environment,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        return (used.ru_utime + used.ru_stime) / (os.cpu_count() or 1)

    def beforehand(self, suite: str) -> float:
        """What making a suite ready took of its time, in seconds."""
        ready = self._ready.get(suite)
        return ready.result() if ready is not None else 0.0

    def run(self, suite: str) -> int:
        """The exit status of a suite."""
        ready = self._ready.get(suite)
        if ready is not None and not ready.done():
            print(f"making {suite} ready", flush=True)
            ready.result()
        # A session of its own: Ctrl-C comes here alone, and what is below is killed, not asked.
        command = [sys.executable, orphans.__file__, self._hatch, "run", f"{suite}:test", *self._arguments]
        return subprocess.Popen(command, cwd=ROOT, env=self._environment, start_new_session=True).wait()

    def close(self) -> None:
        orphans.kill_descendants()
        self._pool.shutdown(cancel_futures=True)
        orphans.kill_descendants()  # what the pool had just begun


def remembered() -> dict[str, dict[str, Any]]:
    """What has passed, by suite; what cannot be read has not."""
    try:
        found = json.loads(PASSED.read_text())
        return {suite: dict(known) for suite, known in found.items() if set(known["states"]) and known["prefix"]}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):  # none yet, or its writer was killed
        return {}


def has_passed(known: dict[str, Any], state: str) -> bool:
    """Whether a suite has passed in this state, in the environment that it still has."""
    return state in known["states"] and known["environment"] == environment(known["prefix"])


def run_all(runner: Runner, suites: list[str], full: bool, remember: bool) -> dict[str, tuple[int, float]]:
    """Run suites; exit status and seconds of each.

    What passed is remembered, unless something that it depends on changed meanwhile.
    """
    before, plain = states(full), states()  # what passes in full has passed
    known = remembered()
    results = {}
    runner.prepare(suites)
    for number, suite in enumerate(suites, 1):
        print(f"\n━━ {number}/{len(suites)} {suite}", flush=True)
        start = time.time()
        code = runner.run(suite)
        results[suite] = code, time.time() - start + runner.beforehand(suite)
        known.pop(suite, None)
        if code == 0 and remember and suite in before and states(full).get(suite) == before[suite]:
            of_it = report.read(suite)
            known[suite] = {
                "states": [before[suite], plain[suite]],
                "at": start,
                "not_run": of_it.not_run,
                "prefix": of_it.prefix,
                "environment": environment(of_it.prefix),
            }
        PASSED.parent.mkdir(parents=True, exist_ok=True)
        PASSED.write_text(json.dumps(known))
    return results


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--again", action="store_true", help="also what did not change since it passed")
    parser.add_argument("--all", action="store_true", help="the full product of everything")
    chosen, arguments = parser.parse_known_args()
    lines = toolchain.missing(toolchain.BUILD + toolchain.TEST)
    if lines:
        print("\n".join(lines), file=sys.stderr)
        return 1
    hatch = shutil.which("hatch")
    if hatch is None:
        print("missing: hatch. Install it with:\n    pip install hatch", file=sys.stderr)
        return 1
    whole = not arguments and not os.environ.get("PYTEST_ADDOPTS")
    reduced = variables()  # it may be a smaller product: it is remembered as such, and is nothing to release on
    now, known, began = states(chosen.all), remembered(), record.commit()
    record.forget("tests")
    unchanged = [suite for suite in SUITES if suite in now and suite in known and has_passed(known[suite], now[suite])]
    if chosen.again or not whole:
        unchanged = []
    orphans.adopt()  # of suites that are killed
    for asked in (signal.SIGTERM, signal.SIGHUP):  # by somebody; by a terminal that is gone
        signal.signal(asked, interrupted)
    runner = Runner(hatch, chosen.all, arguments)
    try:
        todo = [suite for suite in SUITES if suite not in unchanged]
        results = run_all(runner, todo, chosen.all, remember=whole)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130
    finally:
        runner.close()
    reports = {suite: report.read(suite) for suite in SUITES}
    for suite in unchanged:  # what other commands have written there since is of another run
        reports[suite].not_run = known[suite]["not_run"]
    failed = summary(results, reports, {suite: known[suite]["at"] for suite in unchanged}, chosen.all)
    if not failed and whole and reduced:
        print(f"not recorded for a release: {', '.join(reduced)} is set")
    elif not failed and whole and began is not None:
        record.passed("tests", began, not_run=report.not_run_lines(reports)[1:])  # `hatch run release` asks for it
    return failed


def summary(
    results: dict[str, tuple[int, float]],
    reports: dict[str, report.Report],
    unchanged: dict[str, float],
    full: bool = False,
) -> int:
    """Print what became of each suite, and last what could not be run here; the exit status of it all.

    Args:
        results: exit status and seconds of those that ran.
        unchanged: when those that did not run again passed, in seconds since the epoch.
        full: whether it was the full product, which takes what it takes.
    """
    print("\n━━ summary")
    for suite in results:
        for line in reports[suite].coverage:
            print(f"  {line}")
    for suite in SUITES:
        if suite in results:
            code, seconds = results[suite]
            over = f"  EXCEEDS its budget of {report.BUDGET_S} s" if seconds > report.BUDGET_S and not full else ""
            print(f"{'passed' if code == 0 else f'FAILED ({code})':>12}  {suite:8} {seconds:6.0f} s{over}")
        elif suite in unchanged:
            at = time.strftime("%Y-%m-%d %H:%M", time.localtime(unchanged[suite]))
            print(f"{'unchanged':>12}  {suite:8} passed at {at}; hatch run test --again runs it once more")
    failed = sum(code != 0 for code, _ in results.values())
    print(f"suites: {len(SUITES) - failed} passed, {failed} failed")
    for line in report.not_run_lines(reports):
        print(line)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
