"""The type stub of the native module names exactly what the module has."""

from __future__ import annotations

import ast
from pathlib import Path

import simpler_runtime
from simpler_runtime import _native


def _public(names: set[str]) -> set[str]:
    return {name for name in names if not name.startswith("_")}


def _members(body: list[ast.stmt]) -> set[str]:
    names = set()
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.Assign):
            names.update(target.id for target in node.targets if isinstance(target, ast.Name))
    return _public(names)


def test_the_stub_names_what_the_module_has() -> None:
    stub = ast.parse((Path(simpler_runtime.__file__).parent / "_native.pyi").read_text())
    assert _members(stub.body) == _public(set(dir(_native)))
    for node in stub.body:
        if isinstance(node, ast.ClassDef):
            cls = getattr(_native, node.name)
            assert _members(node.body) == _public(set(vars(cls))), node.name


def test_everything_public_can_be_imported() -> None:
    for name in simpler_runtime.__all__:
        assert getattr(simpler_runtime, name) is not None
