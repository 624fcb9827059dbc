"""Builds what is published, and proves it.

`wheels`  fills dist/ with every package's wheel and sdist.
`sdists`  builds, from each sdist alone and outside the checkout, a wheel; installs it with nothing but what it stands
          on, and runs a smoke test of it.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"

# In the order in which they stand on each other; each with what it imports as, the siblings an installation of it
# brings, and a smoke test: a few lines that use it, not merely import it.
PACKAGES: dict[str, tuple[str, set[str], str]] = {
    "simpler-ipc": (
        "simpler_ipc",
        set(),
        """
import simpler_ipc as ipc
region = ipc.Region(1 << 20)
ring = ipc.HeapRing(region, nbytes=1 << 16)
address = ring.alloc(100)
assert region.contains(address, 100) and ring.live == 1
ring.release(address)
""",
    ),
    "simpler-runtime": (
        "simpler_runtime",
        set(),
        """
import simpler_runtime as rt
assert {"a2a3sim", "a5sim", "cpu"} <= set(rt.platforms())
assert (rt.include_dir() / "simpler" / "kernel.h").exists() and (rt.include_dir() / "simpler" / "tile.h").exists()
with rt.ChipWorker(platform="a2a3sim") as chip:
    address = chip.malloc(16)
    chip.copy_to(address, b"0123456789abcdef")
    back = bytearray(16)
    chip.copy_from(back, address)
    assert back == b"0123456789abcdef"
""",
    ),
    "simpler-core": (
        "simpler",
        {"simpler-ipc", "simpler-runtime"},
        """
import simpler
worker = simpler.Worker(level=3, device_ids=[], num_sub_workers=1)
def double(args):
    args.array(0)[:] *= 2
handle = worker.register(double)
with worker:
    data = worker.zeros((4,), "float32")
    data[:] = 21
    worker.run(lambda orch, args, config: orch.submit_sub(handle, simpler.TaskArgs().inout(data)))
    assert data.tolist() == [42.0] * 4
""",
    ),
    "pypto-lang": (
        "pypto",
        {"simpler-ipc", "simpler-runtime", "simpler-core"},
        """
import pypto.language as pl
from pypto import ir
assert callable(ir.compile) and pl.FP32 and pl.add
""",
    ),
    "chia-flow": (
        "chia",
        {"simpler-ipc", "simpler-runtime", "simpler-core"},
        """
from chia.base.ChiaFunction import ChiaFunction
@ChiaFunction(num_cpus=1)
def double(value):
    return 2 * value
assert double(21) == 42
""",
    ),
}


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a command; its output, or SystemExit with that output when it fails."""
    done = subprocess.run([str(part) for part in command], cwd=cwd, text=True, capture_output=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}\nexit status {done.returncode}")
    return done.stdout


def build(source: Path, kind: str, into: Path) -> None:
    run(sys.executable, "-m", "build", "--installer", "uv", f"--{kind}", "--outdir", into, source)


def one(folder: Path, pattern: str) -> Path:
    found = list(folder.glob(pattern))
    if len(found) != 1:
        raise SystemExit(f"{folder}: expected one {pattern}, found {[path.name for path in found]}")
    return found[0]


def wheels() -> None:
    """Fill dist/ anew."""
    shutil.rmtree(DIST, ignore_errors=True)
    for number, package in enumerate(PACKAGES, 1):
        print(f"[{number}/{len(PACKAGES)}] {package}: sdist and wheel", flush=True)
        for kind in ("sdist", "wheel"):
            build(ROOT / "packages" / package, kind, DIST)


def installed(python: Path) -> set[str]:
    listing = run("uv", "pip", "list", "--python", python, "--format", "freeze")
    return {line.split("==")[0] for line in listing.splitlines()}


def sdists() -> None:
    """From each sdist a wheel, from that wheel an environment, in it the smoke test."""
    with tempfile.TemporaryDirectory(prefix="sdists-") as temporary:
        outside = Path(temporary)
        links = outside / "wheels"
        for number, (package, (module, siblings, smoke)) in enumerate(PACKAGES.items(), 1):
            print(f"[{number}/{len(PACKAGES)}] {package}: sdist, its wheel, an installation", flush=True)
            place = outside / package
            build(ROOT / "packages" / package, "sdist", place)
            with tarfile.open(one(place, "*.tar.gz")) as archive:
                archive.extractall(place / "source", filter="data")
            build(one(place / "source", "*"), "wheel", links)
            python = place / "venv" / "bin" / "python"
            run("uv", "venv", "--python", sys.executable, place / "venv")
            run("uv", "pip", "install", "--python", python, "--find-links", links, package)
            brought = installed(python) & set(PACKAGES)
            if brought != siblings | {package}:
                raise SystemExit(f"installing {package} brought {sorted(brought)}, not {sorted(siblings | {package})}")
            script = place / "smoke.py"
            script.write_text(smoke + f"\nimport {module}\nassert 'venv' in {module}.__file__, {module}.__file__\n")
            run(python, script, cwd=place)
        print(f"sdists: {len(PACKAGES)} passed, 0 failed")


if __name__ == "__main__":
    {"wheels": wheels, "sdists": sdists}[sys.argv[1]]()
