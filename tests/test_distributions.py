"""What is published is complete, says who made it, and asks for nothing that only this checkout has."""

from __future__ import annotations

import importlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hatchling.metadata.core import ProjectMetadata
from hatchling.plugin.manager import PluginManager
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tools"))

import constraints  # noqa: E402
import contents  # noqa: E402
import cpp_build  # noqa: E402
import distributions  # noqa: E402

SIBLINGS = {"simpler-core": {"simpler-ipc", "simpler-runtime"}, "pypto-lang": {"simpler-core"}}
VERSION = tomllib.loads((ROOT / "crates" / "Cargo.toml").read_text())["workspace"]["package"]["version"]
GOOD = {
    "Metadata-Version": "2.4",
    "Name": "simpler-ipc",
    "Version": VERSION,
    "Summary": "Shared memory",
    "Author": "The simpler developers",
    "Keywords": "ipc",
    "Classifier": "Typing :: Typed",
    "License-Expression": "Apache-2.0",
    "License-File": "LICENSE",
    "Requires-Python": ">=3.11",
    "Requires-Dist": "numpy>=1.26",
}
README = "# simpler-ipc\n\nSee [Ray](https://docs.ray.io), and [below](#below).\n"


def project(package: str) -> dict[str, Any]:
    return tomllib.loads((ROOT / "packages" / package / "pyproject.toml").read_text())["project"]


def metadata_text(readme: str = README, **changes: str | None) -> str:
    fields = GOOD | {name.replace("_", "-"): value for name, value in changes.items()}
    return "".join(f"{name}: {value}\n" for name, value in fields.items() if value is not None) + "\n" + readme


def made_wheel(folder: Path, metadata: str, *files: str, tag: str = "cp311-abi3-manylinux_2_17_x86_64") -> Path:
    path = folder / f"simpler_ipc-{VERSION}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"simpler_ipc-{VERSION}.dist-info/METADATA", metadata)
        for file in files:
            wheel.writestr(file, "")
    return path


LICENSE = f"simpler_ipc-{VERSION}.dist-info/licenses/LICENSE"
MODULE = "simpler_ipc/_native.abi3.so"


def test_a_complete_wheel_has_no_faults(tmp_path: Path) -> None:
    assert contents.faults(made_wheel(tmp_path, metadata_text(), LICENSE, MODULE)) == []


@pytest.mark.parametrize(
    ("changes", "files", "fault"),
    [
        ({"Author": None}, [LICENSE, MODULE], "no Author"),
        ({"Classifier": None}, [LICENSE, MODULE], "no Classifier"),
        ({"License_Expression": None}, [LICENSE, MODULE], "no License-Expression"),
        ({"readme": "See [the core](../simpler-core)."}, [LICENSE, MODULE], r"links to \.\./simpler-core"),
        ({"readme": ""}, [LICENSE, MODULE], "no README"),
        (
            {"Requires_Dist": "simpler-core @ file:///home/me/simpler-core"},
            [LICENSE, MODULE],
            "asks for simpler-core @",
        ),
        ({}, [MODULE], "no LICENSE"),
        ({}, [LICENSE], "0 compiled modules, not 1: none"),
        ({}, [LICENSE, MODULE, "simpler_ipc/_native.cpython-311-x86_64-linux-gnu.so"], "2 compiled modules, not 1"),
    ],
)
def test_what_a_wheel_lacks_is_named(tmp_path: Path, changes: dict[str, str], files: list[str], fault: str) -> None:
    found = contents.faults(made_wheel(tmp_path, metadata_text(**changes), *files))
    assert len(found) == 1
    with pytest.raises(AssertionError, match=fault):
        raise AssertionError(found[0])


def test_a_wheel_for_this_machine_alone_is_refused(tmp_path: Path) -> None:
    path = made_wheel(tmp_path, metadata_text(), LICENSE, MODULE, tag="cp311-abi3-linux_x86_64")
    (fault,) = contents.faults(path)
    assert "not manylinux" in fault


@pytest.mark.parametrize(
    ("member", "fault"),
    [(MODULE, "1 compiled modules, not 0"), ("README.md -> ../../README.md", "it holds a link")],
)
def test_an_sdist_holds_sources_and_no_links(tmp_path: Path, member: str, fault: str) -> None:
    path = tmp_path / f"simpler_ipc-{VERSION}.tar.gz"
    with tarfile.open(path, "w:gz") as sdist:
        text = metadata_text().encode()
        for name in ("PKG-INFO", "LICENSE", member):
            info = tarfile.TarInfo(f"simpler_ipc-{VERSION}/{name.split(' -> ')[0]}")
            if " -> " in name:
                info.type, info.linkname = tarfile.SYMTYPE, name.split(" -> ")[1]
            content = text if name == "PKG-INFO" else b""
            info.size = len(content)
            sdist.addfile(info, io.BytesIO(content))
    (found,) = contents.faults(path)
    assert fault in found


@pytest.mark.parametrize("package", constraints.NAMES)
def test_every_package_says_who_made_it_under_which_licence(package: str) -> None:
    described = project(package)
    first = project(constraints.NAMES[0])
    for shared in ("authors", "license", "license-files", "requires-python"):
        assert described[shared] == first[shared]
    assert described.get("urls") == first.get("urls")
    assert described["keywords"]
    assert "Typing :: Typed" in described["classifiers"]
    assert (ROOT / "packages" / package / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert contents.RELATIVE_LINK.findall((ROOT / "packages" / package / "README.md").read_text()) == []


def test_the_crate_says_it_too() -> None:
    crate = ROOT / "crates" / "simpler-ipc"
    workspace = tomllib.loads((ROOT / "crates" / "Cargo.toml").read_text())["workspace"]["package"]
    assert workspace["authors"] == [author["name"] for author in project("simpler-ipc")["authors"]]
    assert workspace["license"] == project("simpler-ipc")["license"]
    assert (crate / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert contents.RELATIVE_LINK.findall((crate / "README.md").read_text()) == []


@pytest.mark.parametrize("package", distributions.PACKAGES, ids=lambda package: package.name)
def test_every_module_knows_its_version(package: distributions.Package) -> None:
    module = importlib.import_module(package.module)
    assert module.__version__ == VERSION
    assert "__version__" in module.__all__


def asks_for(folder: Path) -> dict[str, str]:
    """What a package asks for, its extras included: requirement by name, as hatchling writes it into a wheel."""
    core = ProjectMetadata(str(folder), PluginManager()).core
    requirements = [*core.dependencies, *(one for extra in core.optional_dependencies.values() for one in extra)]
    return {requirement.split("=")[0].split("@")[0].split(">")[0].strip(): requirement for requirement in requirements}


@pytest.mark.parametrize("package", ["simpler-core", "pypto-lang", "chia-flow"])
def test_in_a_checkout_siblings_are_the_folders_beside(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIMPLER_SIBLINGS", raising=False)
    found = {name: text for name, text in asks_for(ROOT / "packages" / package).items() if name in constraints.NAMES}
    siblings = SIBLINGS.get(package, {"simpler-core"})
    assert found == {name: f"{name} @ {(ROOT / 'packages' / name).as_uri()}/." for name in siblings}


@pytest.mark.parametrize("package", ["simpler-core", "pypto-lang", "chia-flow"])
def test_older_pips_do_not_keep_what_they_built_of_a_sibling(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIMPLER_SIBLINGS", raising=False)
    references = [Requirement(text).url for text in asks_for(ROOT / "packages" / package).values() if "@" in text]
    assert references
    for reference in references:
        last = str(reference).rstrip("/").rsplit("/", 1)[1]
        assert re.search("([a-z0-9_.]+)-([a-z0-9_.!+-]+)", last) is None  # NAME-VERSION, as pip 23.2.1 and 24.2 look
        assert (Path(str(reference).removeprefix("file://")) / "pyproject.toml").exists()


@pytest.mark.parametrize("package", ["simpler-core", "pypto-lang", "chia-flow"])
def test_what_is_published_asks_for_siblings_of_its_own_version(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMPLER_SIBLINGS", "pinned")
    found = {name: text for name, text in asks_for(ROOT / "packages" / package).items() if name in constraints.NAMES}
    assert found == {name: f"{name}=={VERSION}" for name in SIBLINGS.get(package, {"simpler-core"})}


def test_a_package_with_no_checkout_around_it_keeps_to_versions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SIMPLER_SIBLINGS", raising=False)
    shutil.copytree(ROOT / "packages" / "pypto-lang", tmp_path / "packages" / "pypto-lang")
    (tmp_path / "crates").mkdir()
    shutil.copy(ROOT / "crates" / "Cargo.toml", tmp_path / "crates")
    assert asks_for(tmp_path / "packages" / "pypto-lang")["simpler-core"] == f"simpler-core=={VERSION}"


def test_a_word_that_is_unknown_for_siblings_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SIMPLER_SIBLINGS", "exact")
    with pytest.raises(ValueError, match="expected 'pinned' or nothing"):
        asks_for(ROOT / "packages" / "pypto-lang")


@pytest.mark.parametrize(
    ("package", "expected"),
    [("simpler-ipc", ["3.11"]), ("simpler-runtime", ["3.11", "3.12"]), ("pypto-lang", ["3.11"])],
)
def test_one_wheel_is_built_for_all_pythons_that_can_share_it(package: str, expected: list[str]) -> None:
    interpreters = {version: Path(version) for version in ("3.11", "3.12", "3.13")}
    (chosen,) = (one for one in distributions.PACKAGES if one.name == package)
    assert list(distributions.builders(chosen, interpreters)) == expected


def test_what_can_not_be_tried_is_named() -> None:
    said = distributions.closing("all passed", {"3.11": Path("python3.11"), "3.13": Path("python3.13")})
    *missing, free_threaded = said.splitlines()[1:]
    assert said.startswith("all passed\n")
    assert missing == [f"not run: Python {version}: not on this machine" for version in ("3.12", "3.14")]
    assert free_threaded.startswith("not run: free-threaded")


@pytest.mark.parametrize("ending", [KeyboardInterrupt, SystemExit])
def test_dist_stays_as_it_was_where_making_it_anew_is_ended(tmp_path: Path, ending: type[BaseException]) -> None:
    folder, fresh = tmp_path / "dist", tmp_path / "build" / "dist"
    folder.mkdir()
    (folder / "old").touch()

    def ended() -> None:
        with distributions.replacing(folder, fresh):
            (fresh / "new").touch()
            raise ending

    with pytest.raises(ending):
        ended()
    assert [path.name for path in folder.iterdir()] == ["old"]
    assert list(fresh.parent.iterdir()) == []


def test_dist_comes_back_where_making_it_anew_was_killed_between_its_last_steps(tmp_path: Path) -> None:
    folder, fresh = tmp_path / "dist", tmp_path / "build" / "dist"
    before = fresh.with_name("dist-before")
    before.mkdir(parents=True)
    (before / "old").touch()
    with pytest.raises(KeyboardInterrupt), distributions.replacing(folder, fresh):
        raise KeyboardInterrupt
    assert [path.name for path in folder.iterdir()] == ["old"]


@pytest.mark.parametrize("there", [True, False])
def test_dist_is_replaced_as_a_whole(tmp_path: Path, there: bool) -> None:
    folder, fresh = tmp_path / "dist", tmp_path / "build" / "dist"
    if there:
        folder.mkdir()
        (folder / "old").touch()
    fresh.mkdir(parents=True)
    (fresh / "left by one that was killed").touch()
    with distributions.replacing(folder, fresh):
        (fresh / "new").touch()
        assert [path.name for path in folder.glob("*")] == ["old"] * there
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert list(fresh.parent.iterdir()) == []


def test_a_missing_compiler_is_said_with_what_to_type(tmp_path: Path) -> None:
    tools = cpp_build.build_tools()
    command = [tools / "cmake", "-S", ROOT / "packages" / "simpler-runtime", "-B", tmp_path, "-G", "Ninja"]
    command.append(f"-DCMAKE_MAKE_PROGRAM={tools / 'ninja'}")
    environment = os.environ | {"CXX": str(tmp_path / "none")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert "missing: a C++ compiler." in done.stderr
    assert "    sudo apt-get install -y g++ " in done.stderr
