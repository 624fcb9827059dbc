"""The package as users meet it: its names, its stubs, its README, its speed script."""

from __future__ import annotations

import ast
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import psutil
import pytest
import simpler_ipc
from simpler_ipc import _native

PACKAGE = pathlib.Path(__file__).parents[1]


def test_the_readme_example_runs() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", (PACKAGE / "README.md").read_text(), re.DOTALL)
    printed = subprocess.run([sys.executable, "-c", example], check=True, capture_output=True, text=True, timeout=60)
    assert printed.stdout == "5.0\n"


WITHOUT_THE_LOCK = """
import sysconfig
sysconfig.get_config_vars()["Py_GIL_DISABLED"] = 1
try:
    import simpler_ipc
except ImportError as error:
    print(error)
"""


def test_a_python_without_the_global_lock_is_refused_by_name() -> None:
    printed = subprocess.run([sys.executable, "-c", WITHOUT_THE_LOCK], check=True, capture_output=True, text=True)
    assert "simpler_ipc does not support free-threaded Python" in printed.stdout


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
    public = {name for name in dir(_native) if not name.startswith("__")}
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


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="the benchmarks put two sides on two CPUs")
@pytest.mark.parametrize("script", sorted(path.name for path in (PACKAGE / "benchmarks").glob("*.py")))
def test_a_benchmark_measures_everything_and_judges_it(script: str, tmp_path: pathlib.Path) -> None:
    found = tmp_path / "found.json"
    command = [sys.executable, str(PACKAGE / "benchmarks" / script), "--rounds", "2", "--messages", "100"]
    printed = subprocess.run([*command, "--json", str(found)], check=True, capture_output=True, text=True).stdout
    results = json.loads(found.read_text())
    for name, samples in results["samples"].items():
        assert len(samples) == 2
        assert all(sample["seconds"] > 0 for sample in samples)
        assert re.search(rf"^{re.escape(name)} +[\d.e+]+ [nµm]s", printed, re.MULTILINE)
    for name, what in results["missing"].items():
        assert re.search(rf"^{re.escape(name)} +not measured: {what} is missing", printed, re.MULTILINE)
    judged = printed.partition("\ngoal ")[2].splitlines()
    for goal in results["goals"]:
        (line,) = (line for line in judged if line.startswith(goal["what"] + " "))
        assert {True: "  met", False: "NOT MET", None: "not judged"}[goal["met"]] in line
    assert results["samples"]
    assert results["goals"]


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="the benchmarks put two sides on two CPUs")
def test_a_benchmark_leaves_nothing_on_ctrl_c(tmp_path: pathlib.Path) -> None:
    command = [
        sys.executable,
        str(PACKAGE / "benchmarks" / "round_trips.py"),
        "--only",
        "python",
        "--rounds",
        "1000000",
    ]
    with subprocess.Popen(command, env=os.environ | {"TMPDIR": str(tmp_path)}) as process:
        below = psutil.Process(process.pid)
        while len(children := below.children(recursive=True)) < 4:  # three of the machine's own pace and our server
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait() == 130
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
    assert not list(tmp_path.iterdir())
