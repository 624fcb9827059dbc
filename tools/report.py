"""What a suite says when it ends: how long it took, what its tests cover, and what could not be run here, by name.

    python tools/report.py begin    the first step of a suite: what is said from now on is said of this run
    python tools/report.py          the last one, which prints it
Runs with nothing but the standard library.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "build" / "reports"
BUDGET_S = 180
"""How long a package's suite may take on two CPUs from a fresh clone. More is said, and is to be mended."""


@dataclass
class Report:
    """One run of a suite.

    Attributes:
        started: seconds since the epoch.
        not_run: what could not be run here, and why.
        coverage: lines for people, from the coverage tool; empty where it was not measured.
        prefix: where the environment is that it runs in.
    """

    started: float
    not_run: dict[str, str] = field(default_factory=dict)
    coverage: list[str] = field(default_factory=list)
    prefix: str = sys.prefix


def path(suite: str | None = None) -> Path:
    """Where a suite's report is; of the hatch environment this runs in, if none is named."""
    return FOLDER / f"{suite or os.environ.get('HATCH_ENV_ACTIVE', 'default')}.json"


def read(suite: str | None = None) -> Report:
    try:
        return Report(**json.loads(path(suite).read_text()))
    except (OSError, ValueError, TypeError):  # there is none yet, or its writer was killed
        return Report(time.time())


def write(report: Report, suite: str | None = None) -> None:
    path(suite).parent.mkdir(parents=True, exist_ok=True)
    path(suite).write_text(json.dumps(asdict(report)))


def begin() -> None:
    write(Report(time.time()))


def not_run(what: str, why: str) -> None:
    """Say what is passed over, now and at the end."""
    print(f"not run: {what}: {why}", flush=True)
    report = read()
    report.not_run[what] = why
    write(report)


def not_run_lines(reports: dict[str, Report]) -> list[str]:
    """What the suites could not run, a line each; none where everything was run."""
    lines = [f"  {suite}: {what}: {why}" for suite, report in reports.items() for what, why in report.not_run.items()]
    return ["not run here:", *lines] if lines else []


def main(arguments: Sequence[str] = ()) -> int:
    if list(arguments) == ["begin"]:
        begin()
        return 0
    suite = os.environ.get("HATCH_ENV_ACTIVE", "default")
    report = read()
    seconds = time.time() - report.started
    for line in report.coverage:
        print(line)
    full = os.environ.get("SIMPLER_TEST_ALL") == "1"  # takes what it takes
    budget = "the full product" if full else f"budget: {BUDGET_S} s{', EXCEEDED' if seconds > BUDGET_S else ''}"
    print(f"suite {suite}: {seconds:.0f} s ({budget})")
    for line in not_run_lines({suite: report}):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
