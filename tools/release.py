"""Says whether this commit can be released, and what would be published; publishes when told to.

    python tools/release.py              every check, then the commands that would publish
    python tools/release.py --publish    the same checks, then runs those commands

A check that was not made counts as one that failed. Credentials are those that twine, cargo and git find by themselves;
none is read here.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import constraints
import contents
import distributions
import record

ROOT = Path(__file__).resolve().parent.parent
CRATE = "simpler-ipc"
LIMIT_S = distributions.LIMIT_S
PUBLIC = ("pypi.org", "python.org", "pythonhosted.org")
"""Where the public indexes are, that for tests, too."""


@dataclass(frozen=True)
class State:
    """What is to be released: a version, at a commit of a checkout, as files in a folder."""

    root: Path
    version: str
    commit: str | None  # None: the working tree differs from every commit

    @property
    def tag(self) -> str:
        return f"v{self.version}"

    @property
    def files(self) -> list[Path]:
        return sorted([*(self.root / "dist").glob("*.whl"), *(self.root / "dist").glob("*.tar.gz")])


def here() -> State:
    manifest = tomllib.loads((ROOT / "crates" / "Cargo.toml").read_text())
    return State(ROOT, manifest["workspace"]["package"]["version"], record.commit())


# A check gives what is missing, with what to do about it; nothing, if all is there.


def clean_tree(state: State) -> Iterable[str]:
    if state.commit is None:
        yield "the working tree differs from its commit. Commit or remove what `git status` shows"


def changelog(state: State) -> Iterable[str]:
    heading = re.compile(rf"^## \[{re.escape(state.version)}\] - \d{{4}}-\d\d-\d\d$", re.MULTILINE)
    path = state.root / "CHANGELOG.md"
    if not path.exists() or not heading.search(path.read_text()):
        yield f"CHANGELOG.md has no heading `## [{state.version}] - YYYY-MM-DD`. Date the release there"


def citation(state: State) -> Iterable[str]:
    path = state.root / "CITATION.cff"
    if not path.exists() or not re.search(rf"^version: {re.escape(state.version)}$", path.read_text(), re.MULTILINE):
        yield f"CITATION.cff does not say `version: {state.version}`"


def repository(state: State) -> Iterable[str]:
    for package in constraints.NAMES:
        project = tomllib.loads((state.root / "packages" / package / "pyproject.toml").read_text())["project"]
        if "Repository" not in project.get("urls", {}):
            yield f"packages/{package}/pyproject.toml names no [project.urls] Repository. Say where the project is"
    manifest = tomllib.loads((state.root / "crates" / CRATE / "Cargo.toml").read_text())["package"]
    if "repository" not in manifest:
        yield f"crates/{CRATE}/Cargo.toml names no repository. Say where the project is"


def passed_tests(state: State) -> Iterable[str]:
    for name, command in (("tests", "hatch run test"), ("lint", "hatch run lint")):
        if record.of(name, state.commit) is None:
            yield f"no record that {name} passed on this commit. Run: {command}"


def distributions_of_this_commit(state: State) -> Iterable[str]:
    recorded = record.of("wheels", state.commit)
    if recorded is None:
        yield "no record that wheels and sdists were made and installed on this commit. Run: hatch run wheels"
    elif recorded.files != distributions.digests(state.files):
        yield "dist/ holds other files than `hatch run wheels` left there. Run it again"
    committed = _contents_of(state)
    for file in state.files:
        yield from contents.faults(file)
        yield from (f"{file.name} holds {name}, which the commit has not" for name in contents.not_of(file, committed))
    for name in constraints.NAMES:
        stem = f"{name.replace('-', '_')}-{state.version}"
        if not (state.root / "dist" / f"{stem}.tar.gz").exists():
            yield f"dist/ has no {stem}.tar.gz. Run: hatch run wheels"
        if not list((state.root / "dist").glob(f"{stem}-*.whl")):
            yield f"dist/ has no wheel of {name} {state.version}. Run: hatch run wheels"


def _contents_of(state: State) -> set[str]:
    """The ids that git has for the contents of the commit's files."""
    command = ["git", "ls-tree", "-r", "--format=%(objectname)", state.commit or "HEAD"]
    return set(subprocess.run(command, cwd=state.root, capture_output=True, text=True).stdout.split())


def is_tagged(state: State) -> bool:
    command = ["git", "tag", "--list", state.tag]
    return bool(subprocess.run(command, cwd=state.root, capture_output=True, text=True, check=True).stdout.strip())


def tag_is_new(state: State) -> Iterable[str]:
    if is_tagged(state):
        at = ["git", "rev-parse", f"{state.tag}^{{commit}}"]
        commit = subprocess.run(at, cwd=state.root, capture_output=True, text=True, check=True).stdout.strip()
        if commit != state.commit:
            yield f"the tag {state.tag} is that of another commit. Raise the version in crates/Cargo.toml"


def accepted(state: State, *command: str | Path) -> Iterable[str]:
    done = subprocess.run(
        [str(part) for part in command], cwd=state.root, capture_output=True, text=True, timeout=LIMIT_S
    )
    if done.returncode != 0:
        yield f"{' '.join(map(str, command[:4]))} refuses:\n{(done.stdout + done.stderr).strip()}"


def index_is_ours(state: State) -> Iterable[str]:
    """An address is asked for: a name, of TWINE_REPOSITORY, stands for one that only twine's configuration tells."""
    address = urlsplit(os.environ.get("TWINE_REPOSITORY_URL", "").strip())
    host = (address.hostname or "").rstrip(".")
    if address.scheme not in ("http", "https") or not host:
        said = "names no index"
    elif any(host == public or host.endswith(f".{public}") for public in PUBLIC):
        said = f"names {host}, where simpler-core is a stranger's"
    else:
        return
    yield f"TWINE_REPOSITORY_URL {said}. Set it to the address of an index that is ours"


def twine_accepts(state: State) -> Iterable[str]:
    if state.files:
        yield from accepted(state, sys.executable, "-m", "twine", "check", "--strict", *state.files)


def cargo_accepts(state: State) -> Iterable[str]:
    yield from accepted(state, "cargo", "publish", "--dry-run", "--quiet", *_crate(state))


CHECKS: tuple[tuple[str, Callable[[State], Iterable[str]]], ...] = (
    ("the working tree is at a commit", clean_tree),
    ("CHANGELOG.md dates this version", changelog),
    ("CITATION.cff names this version", citation),
    ("packages and crate name the repository", repository),
    ("tests and lint passed on this commit", passed_tests),
    ("wheels and sdists are those of this commit", distributions_of_this_commit),
    ("the tag is new, or this commit's", tag_is_new),
    ("an index of ours is named", index_is_ours),
    ("twine check --strict", twine_accepts),
    ("cargo publish --dry-run", cargo_accepts),
)


def _crate(state: State) -> tuple[str, ...]:
    return ("--manifest-path", str(state.root / "crates" / "Cargo.toml"), "--package", CRATE)


def commands(state: State) -> list[list[str]]:
    """What publishes, in this order: what can't be taken back comes last."""
    tag = ["git", "tag", "--annotate", state.tag, "--message", f"simpler {state.version}"]
    return [
        *([] if is_tagged(state) else [tag]),  # it is there where a publication ended half-way, and goes on
        ["git", "push", "origin", state.tag],
        ["cargo", "publish", *_crate(state)],
        [sys.executable, "-m", "twine", "upload", *map(str, state.files)],
    ]


def missing(state: State, checks: Iterable[tuple[str, Callable[[State], Iterable[str]]]] = CHECKS) -> list[str]:
    """What keeps a state from being released, check by check; prints each as it goes."""
    found = []
    for title, check in checks:
        lines = list(check(state))
        print(f"{'missing' if lines else 'ok':>8}  {title}", flush=True)
        for line in lines:
            print("          " + line.replace("\n", "\n          "), flush=True)
        found += lines
    return found


def not_run(state: State) -> list[str]:
    """What the checks that passed on this commit could not run where they ran."""
    records = {name: record.of(name, state.commit) for name in ("tests", "lint", "wheels")}
    return [f"{name}: {line}" for name, found in records.items() if found is not None for line in found.not_run]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--publish", action="store_true", help="publish, if every check passes")
    publish = parser.parse_args().publish
    state = here()
    print(f"simpler {state.version} at {state.commit or 'no commit'}")
    lines = missing(state)
    for line in not_run(state):
        print(f" not run  {line}")
    print(f"\n{'this publishes' if publish and not lines else 'would publish'}:")
    for command in commands(state):
        print("    " + shlex.join(command))
    if lines:
        print(f"\nnot to be released: {len(lines)} missing", file=sys.stderr)
        return 1
    if not publish:
        print("\nready. Nothing was published: add --publish")
        return 0
    for command in commands(state):
        code = subprocess.run(command, cwd=state.root).returncode
        if code != 0:
            print(f"\n{shlex.join(command)}\nended with {code}: what comes before it is published", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
