"""Every benchmark of the workspace, ours beside our peers', in one run.

Machines are noisy: two CPUs may sit near each other or far apart from one second to the next, so a probe of the machine
is printed before and after each part. Compare ratios within a part, not microseconds between runs.

    hatch run bench            all of it
    hatch run bench goals      only the parts whose name contains a word
"""

from __future__ import annotations

import subprocess
import sys
import time
from multiprocessing import Pipe, Process
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent.parent
SAMPLES = 300


def _echo(connection: Connection) -> None:
    while (message := connection.recv_bytes()) != b"end":
        connection.send_bytes(message)


def probe() -> str:
    """How fast the machine is just now: a Python loop, and a wake-up of another process and back."""
    start = time.perf_counter()
    for _ in range(1_000_000):
        pass
    loop = time.perf_counter() - start
    ours, theirs = Pipe()
    child = Process(target=_echo, args=(theirs,), daemon=True)
    child.start()
    trips = []
    for _ in range(SAMPLES):
        start = time.perf_counter()
        ours.send_bytes(b"x")
        ours.recv_bytes()
        trips.append(time.perf_counter() - start)
    ours.send_bytes(b"end")
    child.join()
    return f"probe: a loop of a million takes {loop * 1e3:.1f} ms, a pipe round trip {median(trips) * 1e6:.0f} µs"


def parts() -> dict[str, Path]:
    """The benchmark scripts by name: each package's, then those that cross packages."""
    scripts = [*sorted(ROOT.glob("packages/*/benchmarks/*.py")), Path(__file__).with_name("goals.py")]
    return {f"{path.parent.parent.name}/{path.stem}".removeprefix("tests/"): path for path in scripts}


def run(path: Path) -> int:
    """The exit status of a script. Ctrl-C comes to it too: it has the time to end what it started."""
    with subprocess.Popen([sys.executable, path], cwd=ROOT) as process:
        try:
            return process.wait()
        except KeyboardInterrupt:
            process.wait()
            raise


def main(words: list[str]) -> int:
    chosen = {name: path for name, path in parts().items() if not words or any(word in name for word in words)}
    if not chosen:
        print(f"no benchmark matches {words}; there are: {', '.join(parts())}", file=sys.stderr)
        return 2
    failed = []
    for number, (name, path) in enumerate(chosen.items(), 1):
        print(f"\n━━ {number}/{len(chosen)} {name}\n{probe()}", flush=True)
        if run(path) != 0:
            failed.append(name)
    print(f"\n{probe()}")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
