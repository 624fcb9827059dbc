"""The package as users meet it: its names, its stubs, its README, its speed script."""

from __future__ import annotations

import ast
import pathlib
import re
import subprocess
import sys

import pytest
import simpler_ipc
from simpler_ipc import _native

PACKAGE = pathlib.Path(__file__).parents[1]


def test_the_readme_example_runs() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (PACKAGE / "README.md").read_text(), re.DOTALL)
    printed = subprocess.run([sys.executable, "-c", example], check=True, capture_output=True, text=True, timeout=60)
    assert printed.stdout == "5.0\n"


def annotated(statements: list[ast.stmt]) -> list[str]:
    return [
        item.target.id for item in statements if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    ]


def stub_names() -> dict[str, set[str]]:
    stub = pathlib.Path(_native.__file__).with_name("_native.pyi")
    names: dict[str, set[str]] = {}
    tree = ast.parse(stub.read_text())
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            members = [item for item in node.body if isinstance(item, ast.FunctionDef)]
            constants = [
                i.target.id for i in node.body if isinstance(i, ast.AnnAssign) and isinstance(i.target, ast.Name)
            ]
            names[node.name] = {item.name for item in members} | set(constants)
        elif isinstance(node, ast.FunctionDef):
            names[node.name] = set()
    for name in annotated(tree.body):
        names[name] = set()
    return names


def test_the_stubs_name_what_there_is() -> None:
    public = {name for name in dir(_native) if not name.startswith("__")} | {"__version__"}
    assert set(stub_names()) == public


@pytest.mark.parametrize("name", [name for name, members in stub_names().items() if members])
def test_the_stubs_name_every_member(name: str) -> None:
    cls = getattr(_native, name)
    members = {member for member in vars(cls) if not member.startswith("_")}
    assert {member for member in stub_names()[name] if not member.startswith("_")} == members


def test_every_public_name_is_exported() -> None:
    assert set(simpler_ipc.__all__) >= {name for name in dir(_native) if not name.startswith("__")}
    for name in simpler_ipc.__all__:
        assert getattr(simpler_ipc, name) is not None


def test_the_benchmark_prints_both_and_their_ratio() -> None:
    command = [sys.executable, str(PACKAGE / "benchmarks" / "round_trip.py"), "--rounds", "3", "--messages", "200"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    assert re.search(r"simpler_ipc\s+[\d.]+ µs", printed)
    assert re.search(r"multiprocessing\.Pipe\s+[\d.]+ µs\s+[\d.]+×", printed)
