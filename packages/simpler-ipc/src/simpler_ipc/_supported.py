"""Refuses an interpreter that simpler_ipc is not made for, before anything of it is loaded."""

from __future__ import annotations

import sysconfig

if sysconfig.get_config_var("Py_GIL_DISABLED"):
    raise ImportError(
        "simpler_ipc does not support free-threaded Python: it relies on the global interpreter lock, and was never "
        "tested without; use a build of Python that has it (python3.13, not python3.13t)"
    )
