"""The errors of all packages together: one root each, one naming rule, and a page that tells of every class."""

from __future__ import annotations

import builtins
import importlib
import inspect
import pickle
import pkgutil
import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
HOMES = {
    "simpler_ipc": "simpler-ipc",
    "simpler_runtime": "simpler-runtime",
    "simpler": "simpler-core",
    "pypto": "pypto-lang",
    "chia": "chia-flow",
}
ROOTS = {
    "simpler_ipc": "IpcError",
    "simpler_runtime": "ChipError",
    "simpler": "SimplerError",
    "pypto": "PyptoError",
    "chia": "ChiaError",
}
BUGS = {"VerificationFailed", "IllegalTransition"}  # they say of a bug of ours: the traceback is wanted

# A word for what happened: names with one of them need no suffix. A name with none is that of a thing.
HAPPENED = {
    "Ambiguous",
    "Cancelled",
    "Corrupted",
    "Died",
    "Exists",
    "Failed",
    "Found",
    "Full",
    "Illegal",
    "Large",
    "Mismatch",
    "Missing",
    "Misused",
    "No",
    "Not",
    "Nothing",
    "Out",
    "Timeout",
    "Unavailable",
    "Unbound",
    "Unknown",
    "Unsupported",
    "Wrong",
}

# What each class is made of that takes more than a message.
ARGUMENTS = {
    "PeerDied": (1234, None, 9),
    "HeapRingFull": ("full", "ring", 8192, 4096, 2, 6144, 0x7F00, 2048),
    "RequestFailed": (7, 3, "no such key"),
    "RequestCancelled": (7,),
    "RegionExists": ("taken", "weights", 1234),
    "RegionNotFound": ("nobody has created it", "weights"),
    "RingFull": ("heap ring 0", "the heap ring 0 is full"),
    "KernelError": ("add", 3, "tile_add", 17, "outside of a"),
    "CompileFailed": ("tile_add", "g++ -O3", "error: no_such_operation", "int main() {}"),
    "TaskFailed": ("square", 3, "sub worker 0"),
    "WorkerDied": ("square", 3, "sub worker 0"),
}
KEYWORDS = {
    "TaskFailed": {"original": KeyError("x"), "remote_traceback": "Traceback …"},
    "WorkerDied": {"pid": 1234, "exit_status": None, "signal": 9},
}


def modules(package: str) -> Iterator[ModuleType]:
    """A package and every module in it."""
    root = importlib.import_module(package)
    yield root
    for info in pkgutil.walk_packages(root.__path__, f"{package}."):
        if not info.name.endswith("__main__"):  # it would run
            yield importlib.import_module(info.name)


def defined(package: str) -> dict[str, type[BaseException]]:
    """The exception classes a package defines, by name; those with an underscore never leave it."""
    found = {}
    for module in modules(package):
        for value in vars(module).values():
            is_error = isinstance(value, type) and issubclass(value, BaseException)
            if not is_error or value.__module__.partition(".")[0] != package or value.__name__.startswith("_"):
                continue
            found[value.__name__] = value
    return found


ERRORS = {package: defined(package) for package in HOMES}
ALL = [pytest.param(package, cls, id=name) for package, found in ERRORS.items() for name, cls in found.items()]


def words(name: str) -> list[str]:
    return re.findall("[A-Z][a-z]*", name)


def made(cls: type[BaseException]) -> BaseException:
    arguments = ARGUMENTS.get(cls.__name__, ("what happened, where, and what to do",))
    return cls(*arguments, **KEYWORDS.get(cls.__name__, {}))


@pytest.mark.parametrize("package", HOMES)
def test_a_package_has_one_root_that_all_its_errors_derive_from(package: str) -> None:
    found = ERRORS[package]
    root = found[ROOTS[package]]
    assert root.__bases__ == (Exception,)
    assert [name for name, cls in found.items() if not issubclass(cls, root)] == []


@pytest.mark.parametrize("package", HOMES)
def test_a_packages_errors_stand_in_its_errors_module(package: str) -> None:
    errors = vars(importlib.import_module(f"{package}.errors"))
    assert {name for name, cls in ERRORS[package].items() if errors.get(name) is not cls} == set()


def test_no_two_errors_share_a_name() -> None:
    homes = defaultdict(list)
    for package, found in ERRORS.items():
        for name in found:
            homes[name].append(package)
    assert {name: where for name, where in homes.items() if len(where) > 1} == {}
    assert [name for name in homes if hasattr(builtins, name)] == []


def test_no_two_public_names_mean_two_things() -> None:
    surfaces = [*HOMES, "pypto.language", "chia.base.ChiaFunction", *(f"{package}.errors" for package in HOMES)]
    meanings = defaultdict(set)
    for surface in surfaces:
        module = importlib.import_module(surface)
        for name in getattr(module, "__all__", ()):
            if inspect.isclass(getattr(module, name)):
                meanings[name].add(getattr(module, name))
    doubles = {name for name, classes in meanings.items() if len(classes) > 1}
    # The one word for what users of either layer build: of a chip's tensors there, of any arrays here.
    assert doubles == {"TaskArgs"}


@pytest.mark.parametrize(("package", "cls"), ALL)
def test_a_name_says_what_happened_or_ends_in_error(package: str, cls: type[BaseException]) -> None:
    parts = words(cls.__name__)
    assert "".join(parts) == cls.__name__
    assert "Exception" not in parts
    happened = HAPPENED.intersection(parts)
    if parts[-1] == "Error":
        assert not happened, "it says what happened: leave the suffix out"
    else:
        assert happened, "is it named after a thing? End it in Error. Else add its word for what happened to HAPPENED"


def test_every_word_for_what_happened_is_in_use() -> None:
    used = set(chain.from_iterable(words(name) for found in ERRORS.values() for name in found))
    assert HAPPENED - used == set()


@pytest.mark.parametrize(("package", "cls"), ALL)
def test_errors_explain_themselves_unless_they_say_of_a_bug(package: str, cls: type[BaseException]) -> None:
    assert cls.explains_itself is (cls.__name__ not in BUGS)


@pytest.mark.parametrize(("package", "cls"), ALL)
def test_an_error_crosses_processes_whole(package: str, cls: type[BaseException]) -> None:
    error = made(cls)
    error.add_note("on the way")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is cls
    assert str(copy) == str(error)
    assert repr(copy.args) == repr(error.args)
    assert repr(vars(copy)) == repr(vars(error))  # exceptions among them are equal to themselves only
    assert repr(copy.__cause__) == repr(error.__cause__)


@pytest.mark.parametrize("package", HOMES)
def test_the_page_tells_of_every_error_and_of_no_other(package: str) -> None:
    page = (ROOT / "docs" / "errors.md").read_text()
    section = re.search(rf"^## {package}\n(.*?)(?=^## |\Z)", page, re.M | re.S)
    rows = re.findall(r"^\| `(\w+)`(?: \((?:a )?`(\w+)`\))? \|", section[1], re.M)
    told = dict(rows)
    assert len(told) == len(rows), "a class has two rows"
    assert told == {name: other_base(package, cls) for name, cls in ERRORS[package].items()}
    assert rows[0][0] == ROOTS[package]


def other_base(package: str, cls: type[BaseException]) -> str:
    """The base of a class beside its package's root, which the page has in parentheses."""
    plain = (Exception, ERRORS[package][ROOTS[package]])
    return next((base.__name__ for base in cls.__bases__ if base not in plain), "")


@pytest.mark.parametrize(("package", "cls"), ALL)
def test_an_error_has_words_of_its_own(package: str, cls: type[BaseException]) -> None:
    assert cls.__doc__
    assert all(cls.__doc__ != base.__doc__ for base in cls.__mro__[1:])


@pytest.mark.parametrize(("package", "cls"), [p for p in ALL if p.id not in ROOTS.values()])
def test_an_error_is_raised_and_a_test_of_its_package_says_where(package: str, cls: type[BaseException]) -> None:
    name = cls.__name__
    home = ROOT / "packages" / HOMES[package]
    python = [path for path in (home / "src").rglob("*.py") if path.name != "errors.py"]
    native = [*(ROOT / "cpp" / "src").rglob("*.cpp"), *(ROOT / "crates" / "simpler-ipc-python" / "src").rglob("*.rs")]
    raised = mentions(python, rf"\b{name}\(") or mentions(native, rf'\b{name}\(|"{name}"')
    assert raised, f"nothing raises {name}"
    assert mentions((home / "tests").rglob("*.py"), rf"\b{name}\b"), f"no test of {HOMES[package]} meets {name}"


def mentions(paths: Iterator[Path] | list[Path], pattern: str) -> bool:
    return any(re.search(pattern, path.read_text()) for path in paths)


def test_the_chips_errors_have_the_same_names_in_cpp() -> None:
    header = (ROOT / "cpp" / "include" / "simpler" / "errors.h").read_text()
    in_cpp = set(re.findall(r"^struct (\w+) :", header, re.M))
    translated = set(re.findall(r'raise\("(\w+)"', (ROOT / "cpp" / "bindings" / "errors.cpp").read_text()))
    only_python = {"CompilerNotFound", "CompileFailed"}  # the kernel compiler is Python
    assert in_cpp == translated == set(ERRORS["simpler_runtime"]) - only_python
