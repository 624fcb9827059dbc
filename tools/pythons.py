"""The Pythons of this machine that packages are built for and tested with."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

WANTED = ("3.11", "3.12", "3.13", "3.14")
"""What the packages are meant for. Free-threaded ones are not: the wheels keep to the stable ABI, which lacks them."""

_PROBE = """
import sys, sysconfig
print("%d.%d" % sys.version_info[:2] + "t" * bool(sysconfig.get_config_var("Py_GIL_DISABLED")))
"""


def version_of(python: Path) -> str | None:
    """3.14, or 3.14t if it is free-threaded; None if it does not run (pyenv's shims for what is not chosen)."""
    try:
        done = subprocess.run([python, "-c", _PROBE], capture_output=True, text=True, timeout=60)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def found() -> dict[str, Path]:
    """The interpreters by version, in the order of `WANTED`: this one for its own version, then PATH, then pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    interpreters = {}
    for wanted in WANTED:
        candidates = [Path(sys.executable)]
        if on_path := shutil.which(f"python{wanted}"):
            candidates.append(Path(on_path))
        candidates += sorted(pyenv.glob(f"{wanted}.*/bin/python{wanted}"), reverse=True)
        usable = next((python for python in candidates if version_of(python) == wanted), None)
        if usable is not None:
            interpreters[wanted] = usable
    return interpreters
