"""`python -m simpler_ipc ls | clean | bench | doctor`."""

from __future__ import annotations

import sys


def main() -> int:
    """Run one of the tools; its exit status."""
    try:
        from simpler_ipc.tools.command_line import run

        return run(sys.argv[1:])
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `| head` has seen enough
        sys.stdout = None  # nothing is left to be said there, at exit neither
        return 141


if __name__ == "__main__":
    sys.exit(main())
