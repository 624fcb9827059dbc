"""What can be typed after `python -m simpler_ipc`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from simpler_ipc.errors import IpcError
from simpler_ipc.tools import bench, doctor, names


def run(arguments: Sequence[str]) -> int:
    """Parse, do, and say in one line what went wrong; the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m simpler_ipc", description="Looks at shared memory and at this host."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for tool in (names, bench, doctor):
        tool.add_to(commands)
    options = parser.parse_args(arguments)
    try:
        status: int = options.run(options)
        sys.stdout.flush()  # while a reader that has gone away can still be told from a failure
        return status
    except BrokenPipeError:
        raise
    except (IpcError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
