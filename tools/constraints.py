"""Writes constraints.txt into a folder of distributions: where each package of the workspace comes from.

    python tools/constraints.py [FOLDER]      (dist, if none is named)

An index may know a stranger by the name of one of ours, at a higher version, and pip prefers the higher version
wherever it finds it. In a new environment a direct reference leaves no choice: `pip install -c dist/constraints.txt
NAME`, or the same with uv, takes that file, for NAME as for whatever NAME asks for.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("simpler-ipc", "simpler-runtime", "simpler-core", "pypto-lang", "chia-flow")
OLDEST = 11  # Python 3.11

HEADER = """\
# Where simpler's packages come from: an index may know strangers by the same names.
#   pip install -c {place} simpler-core
# Written by tools/constraints.py for this folder; where it is moved, it has to be written again.
"""


def _minor(tag: str) -> int:
    """12 for cp312."""
    return int(tag.removeprefix("cp3"))


def _for_wheels(wheels: list[Path], sdist: Path | None) -> list[tuple[Path, str]]:
    """Each file with the environment marker of the Pythons that it is for; empty: all of them."""
    exact: dict[int, Path] = {}
    stable: dict[int, Path] = {}
    for wheel in wheels:
        python, abi, _platform = wheel.stem.split("-")[-3:]
        if python == "py3":
            return [(wheel, "")]
        (stable if abi == "abi3" else exact)[_minor(python)] = wheel
    since = min(stable, default=None)
    if since is not None and since <= OLDEST:
        return [(stable[since], "")]
    entries = [
        (exact[minor], f"python_version == '3.{minor}'") for minor in sorted(exact) if not since or minor < since
    ]
    if since is not None:
        entries.append((stable[since], f"python_version >= '3.{since}'"))
        left = [f"python_version == '3.{minor}'" for minor in range(OLDEST, since) if minor not in exact]
        rest = " or ".join(left)
    else:
        rest = " and ".join(f"python_version != '3.{minor}'" for minor in sorted(exact))
    if sdist is not None and (rest or not entries):
        entries.append((sdist, rest))
    return entries


def _one(folder: Path, name: str) -> list[str]:
    stem = name.replace("-", "_")
    wheels, sdists = sorted(folder.glob(f"{stem}-*.whl")), sorted(folder.glob(f"{stem}-*.tar.gz"))
    versions = {path.name.removesuffix(".tar.gz").split("-")[1] for path in (*wheels, *sdists)}
    if len(versions) > 1:
        raise SystemExit(f"{folder}: {name} in several versions: {', '.join(sorted(versions))}. Keep one of them")
    entries = _for_wheels(wheels, sdists[0] if sdists else None)
    return [f"{name} @ {path.as_uri()}{f' ; {marker}' if marker else ''}" for path, marker in entries]


def write(folder: Path) -> Path:
    """Write `folder`/constraints.txt for the packages that lie there, and return its path.

    Raises SystemExit where there are none, or one has two versions.
    """
    folder = folder.resolve()
    lines = [line for name in NAMES for line in _one(folder, name)]
    if not lines:
        raise SystemExit(f"{folder}: no wheel and no sdist of {', '.join(NAMES)}. Make them with: hatch run wheels")
    place = folder / "constraints.txt"
    place.write_text(HEADER.format(place=place) + "\n".join(lines) + "\n")
    return place


if __name__ == "__main__":
    print(write(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist"))
