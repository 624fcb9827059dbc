"""One version, written once; siblings pinned to it; imports in one direction."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
SIBLINGS = {
    "simpler-ipc": set(),
    "simpler-runtime": set(),
    "simpler-core": {"simpler-ipc", "simpler-runtime"},
    "pypto-lang": {"simpler-core"},
    "chia-flow": {"simpler-core"},  # as its extra `hosts`
}


@pytest.fixture(scope="module")
def version() -> str:
    return tomllib.loads((ROOT / "crates" / "Cargo.toml").read_text())["workspace"]["package"]["version"]


@pytest.mark.parametrize("package", SIBLINGS)
def test_every_package_has_the_version_of_the_cargo_workspace(package: str, version: str) -> None:
    assert importlib.metadata.version(package) == version


@pytest.mark.parametrize("package", SIBLINGS)
def test_siblings_are_pinned_to_exactly_that_version(package: str, version: str) -> None:
    requirements = map(Requirement, importlib.metadata.requires(package) or [])
    siblings = {r.name: str(r.specifier) for r in requirements if r.name in SIBLINGS}
    assert siblings == dict.fromkeys(SIBLINGS[package], f"=={version}")


def test_flows_ask_for_hosts_only_where_their_extra_does() -> None:
    requirements = map(Requirement, importlib.metadata.requires("chia-flow") or [])
    (core,) = (r for r in requirements if r.name in SIBLINGS)
    assert core.marker is not None
    assert core.marker.evaluate({"extra": "hosts"})
    assert not core.marker.evaluate({"extra": ""})


@pytest.mark.parametrize("package", SIBLINGS)
def test_no_package_writes_the_version_down_again(package: str, version: str) -> None:
    project = tomllib.loads((ROOT / "packages" / package / "pyproject.toml").read_text())["project"]
    assert "version" in project["dynamic"]
    assert "version" not in project


def test_crates_take_their_version_from_the_workspace() -> None:
    members = tomllib.loads((ROOT / "crates" / "Cargo.toml").read_text())["workspace"]["members"]
    assert sorted(members) == ["simpler-ipc", "simpler-ipc-python"]
    for member in members:
        manifest = tomllib.loads((ROOT / "crates" / member / "Cargo.toml").read_text())
        assert manifest["package"]["version"] == {"workspace": True}


def test_imports_point_one_way() -> None:
    checked = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports")], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert re.search(r"Contracts: 2 kept, 0 broken", checked.stdout)
