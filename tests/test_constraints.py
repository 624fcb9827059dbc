"""dist/constraints.txt: whoever installs with it gets our packages, whatever an index says."""

from __future__ import annotations

import email
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tools"))

import constraints  # noqa: E402
import pythons  # noqa: E402
import strangers  # noqa: E402

VERSION = "0.1.0"
OURS = "Ours"
CORE = ("simpler-core", "simpler-ipc", "simpler-runtime")
PLATFORM = sysconfig.get_platform().replace("-", "_").replace(".", "_")
PYTHONS = pythons.found()
# The shape of the real ones: names, what they ask for, which Pythons their wheels are for.
REQUIRES = {
    "simpler-core": [f"simpler-ipc=={VERSION}", f"simpler-runtime=={VERSION}"],
    "pypto-lang": [f"simpler-core=={VERSION}"],
    "chia-flow": [f"simpler-core=={VERSION} ; extra == 'hosts'"],
}
TAGS = {
    "simpler-ipc": [f"cp311-abi3-{PLATFORM}"],
    "simpler-runtime": [f"cp311-cp311-{PLATFORM}", f"cp312-abi3-{PLATFORM}"],
}


@pytest.fixture(scope="module")
def dist() -> Iterator[Path]:
    """A folder as `hatch run wheels` leaves it, of wheels without code; its name wants quoting in a URL."""
    with tempfile.TemporaryDirectory(prefix="dist of #1 ") as temporary:
        make(Path(temporary), OURS)
        yield Path(temporary)


def make(folder: Path, summary: str) -> None:
    for name in constraints.NAMES:
        for tag in TAGS.get(name, ["py3-none-any"]):
            file, content = strangers.wheel(name, VERSION, summary=summary, requires=REQUIRES.get(name, ()), tag=tag)
            (folder / file).write_bytes(content)
    constraints.write(folder)


@pytest.fixture(scope="module")
def index() -> Iterator[str]:
    """Strangers by all our names, at a higher version, and at the version that siblings are pinned to."""
    with strangers.index(constraints.NAMES, [VERSION, strangers.HIGHER]) as address:
        yield address


def install(installer: str, python: Path, into: Path, *arguments: str | Path) -> dict[str, str]:
    """Install into an environment, made if there is none, from no place but those named.

    Returns the summaries of what it has then, by name.
    """
    # What a machine has configured for its installers would be another place.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))}
    environment |= {"PIP_CONFIG_FILE": os.devnull, "UV_NO_CONFIG": "1"}
    uv = Path(sys.executable).with_name("uv")
    if not into.exists():
        subprocess.run([uv, "venv", "-q", "--python", python, into], check=True, env=environment, timeout=120)
    there = into / "bin" / "python"
    command: list[str | Path] = (
        [sys.executable, "-m", "pip", "--python", there, "install", "--disable-pip-version-check", "-q"]
        if installer == "pip"
        else [there, "-m", "pip", "install", "--disable-pip-version-check", "-q"]
        if installer == "its own pip"
        else [uv, "pip", "install", "-q", "--no-cache", "--python", there]
    )
    done = subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {}
    for path in into.glob("lib/python*/site-packages/*.dist-info/METADATA"):
        metadata = email.message_from_string(path.read_text())
        found[metadata["Name"]] = metadata["Summary"]
    return found


@pytest.mark.parametrize("installer", ["pip", "uv"])
@pytest.mark.parametrize("version", PYTHONS)
def test_with_constraints_ours_are_installed_and_no_stranger(
    dist: Path, index: str, tmp_path: Path, installer: str, version: str
) -> None:
    found = install(
        installer,
        PYTHONS[version],
        tmp_path / "venv",
        *("--index-url", index, "-c", dist / "constraints.txt", "pypto-lang", "chia-flow[hosts]"),
    )
    assert found == dict.fromkeys(constraints.NAMES, OURS)


@pytest.mark.parametrize("version", PYTHONS)
def test_the_pip_that_comes_with_a_python_installs_ours_too(
    dist: Path, index: str, tmp_path: Path, version: str
) -> None:
    venv = tmp_path / "venv"
    subprocess.run([PYTHONS[version], "-m", "venv", venv], check=True, timeout=120)
    names = ["pypto-lang", "chia-flow", "simpler-core"]  # docs/install.md: an older pip takes no extra there
    found = install("its own pip", PYTHONS[version], venv, "--index-url", index, "-c", dist / "constraints.txt", *names)
    assert dict.fromkeys(constraints.NAMES, OURS).items() <= found.items()


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_without_constraints_a_stranger_is_installed(dist: Path, index: str, tmp_path: Path, installer: str) -> None:
    found = install(
        installer,
        Path(sys.executable),
        tmp_path / "venv",
        *("--index-url", index, "--find-links", dist.as_uri(), "pypto-lang"),
    )
    assert strangers.SUMMARY in found.values()


# What docs/install.md says of an environment that is not new: only uv looks where the version that is there came from.
REPLACES = [("pip", [], False), ("pip", ["--force-reinstall"], True), ("uv", [], True)]


@pytest.mark.parametrize(("installer", "options", "replaced"), REPLACES)
def test_a_stranger_of_our_version_that_is_there_already(
    dist: Path, index: str, tmp_path: Path, installer: str, options: list[str], replaced: bool
) -> None:
    venv, wanted = tmp_path / "venv", "simpler-core"
    there = install("uv", Path(sys.executable), venv, "--index-url", index, *(f"{n}=={VERSION}" for n in CORE))
    assert there == dict.fromkeys(CORE, strangers.SUMMARY)
    arguments = ["--index-url", index, *options, "-c", str(dist / "constraints.txt"), wanted]
    found = install(installer, Path(sys.executable), venv, *arguments)
    assert found == dict.fromkeys(CORE, OURS if replaced else strangers.SUMMARY)


@pytest.mark.parametrize(("installer", "options", "replaced"), REPLACES)
def test_files_that_were_made_again_at_the_same_version(
    tmp_path: Path, installer: str, options: list[str], replaced: bool
) -> None:
    dist, venv = tmp_path / "dist", tmp_path / "venv"
    dist.mkdir()
    arguments = ["--no-index", *options, "-c", str(dist / "constraints.txt"), "simpler-core"]
    for summary in ("First", "Second"):
        make(dist, summary)
        found = install(installer, Path(sys.executable), venv, *arguments)
    assert found == dict.fromkeys(CORE, "Second" if replaced else "First")


def test_what_is_documented_for_an_environment_that_is_not_new() -> None:
    assert (
        "pip install --force-reinstall -c dist/constraints.txt simpler-core" in (ROOT / "docs/install.md").read_text()
    )


def named(folder: Path, *files: str) -> dict[str, list[str]]:
    """For each Python the files that constraints name for simpler-runtime, if `files` of it are in `folder`."""
    for file in files:
        (folder / file).touch()
    lines = [line for line in constraints.write(folder).read_text().splitlines() if not line.startswith("#")]
    found: dict[str, list[str]] = {}
    for minor in (11, 12, 13, 14):
        python = f"3.{minor}"
        chosen = [
            r for r in map(Requirement, lines) if r.marker is None or r.marker.evaluate({"python_version": python})
        ]
        found[python] = [str(r.url).rsplit("/", 1)[1] for r in chosen]
    return found


SDIST = "simpler_runtime-0.1.0.tar.gz"
EXACT = "simpler_runtime-0.1.0-cp311-cp311-linux_x86_64.whl"
STABLE = "simpler_runtime-0.1.0-cp312-abi3-linux_x86_64.whl"
OLDEST_STABLE = "simpler_runtime-0.1.0-cp311-abi3-linux_x86_64.whl"
PURE = "simpler_runtime-0.1.0-py3-none-any.whl"


@pytest.mark.parametrize(
    ("files", "first", "later"),
    [
        ([SDIST, EXACT, STABLE], EXACT, STABLE),
        ([SDIST, STABLE], SDIST, STABLE),
        ([SDIST, EXACT], EXACT, SDIST),
        ([SDIST], SDIST, SDIST),
        ([SDIST, PURE], PURE, PURE),
        ([SDIST, OLDEST_STABLE], OLDEST_STABLE, OLDEST_STABLE),
    ],
)
def test_each_python_is_given_one_file_and_the_sdist_where_there_is_no_wheel(
    tmp_path: Path, files: list[str], first: str, later: str
) -> None:
    assert named(tmp_path, *files) == {"3.11": [first]} | {minor: [later] for minor in ("3.12", "3.13", "3.14")}


def test_a_folder_without_packages_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="hatch run wheels"):
        constraints.write(tmp_path)


def test_a_folder_with_two_versions_of_a_package_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"simpler-runtime in several versions: 0\.1\.0, 0\.2\.0"):
        named(tmp_path, SDIST, "simpler_runtime-0.2.0.tar.gz")
