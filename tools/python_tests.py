"""Runs a suite's Python tests: pytest with what it is given.

With SIMPLER_TEST_ALL=1 it measures on the way what they cover of the package that the environment is for, in workers,
children and programs too, and prints it file by file; the suite's report has the sum.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import report
from native_tests import ALL

ROOT = Path(__file__).resolve().parent.parent


def covered(package: str, arguments: list[str]) -> int:
    """Run pytest under coverage; its exit status."""
    place = report.FOLDER / f"coverage-{package}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    environment = os.environ | {"COVERAGE_FILE": str(place / "data")}
    coverage = [sys.executable, "-m", "coverage"]
    status = subprocess.run([*coverage, "run", "-m", "pytest", *arguments], cwd=ROOT, env=environment).returncode
    subprocess.run([*coverage, "combine", "--quiet"], cwd=ROOT, env=environment, check=True)
    chosen = [*coverage, "report", f"--include=packages/{package}/src/*"]
    print(f"coverage of {package}", flush=True)
    subprocess.run(chosen, cwd=ROOT, env=environment, check=True)
    total = subprocess.run([*chosen, "--format=total"], cwd=ROOT, env=environment, check=True, capture_output=True)
    said = report.read()
    said.coverage = [f"coverage of {package}: {int(total.stdout)} % of lines and branches"]
    report.write(said)
    return status


def main(arguments: list[str]) -> int:
    # What crosses packages is not what a package's own tests cover.
    packages = os.environ["PACKAGES"].split()
    if ALL and os.environ["HATCH_ENV_ACTIVE"] != "house":
        return covered(packages[-1], arguments)
    return subprocess.run([sys.executable, "-P", "-m", "pytest", *arguments], cwd=ROOT).returncode


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
    except subprocess.CalledProcessError as error:
        print(error, file=sys.stderr)
        sys.exit(1)
