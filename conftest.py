"""What the tests of all packages share: compiled kernels, and saying what was skipped."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent
# What one suite compiled the next one finds; and nothing of it goes to the user's cache, or comes from there.
os.environ["SIMPLER_CACHE_DIR"] = str(ROOT / "build" / "kernels")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A test that is skipped on this machine is told of at the end of its suite, by name."""
    sys.path.append(str(ROOT / "tools"))
    import report

    for skipped in terminalreporter.stats.get("skipped", []):
        reason = skipped.longrepr[2] if isinstance(skipped.longrepr, tuple) else str(skipped.longrepr)
        report.not_run(skipped.nodeid, reason.removeprefix("Skipped: "))
