"""SubWorkers stay Python; what they capture is looked up when the program is compiled."""

from __future__ import annotations

import types

import pytest
from pypto.errors import SyntaxUnsupported, UnboundVariable
from pypto.passes.capture import resolve_program

HEAD = """
T = pl.Tensor[[4, 4], pl.FP32]
@pl.program
class P:
    @pl.function(level=pl.Level.HOST, role=pl.Role.Worker)
    def check(self, a: T, f: pl.Out[T]):
"""


def worker(programs, body, after="", **names):
    """The SubWorker of this body in a module that goes on with ``after``, resolved."""
    lines = "".join(f"        {line}\n" if line else "\n" for line in body.split("\n"))
    return resolve_program(programs.program(HEAD + lines + after, **names)).functions[0].sub_worker


def run(captured, *args):
    """Calls the captured source as generated code does."""
    names = dict(captured.globals)
    exec(captured.source, names)
    return names["check"](*args)


def test_the_source_is_the_body_as_it_is_written(programs):
    body = "# copies\n\nf[:] = a  # all of it\nif True:\n    pass"
    captured = worker(programs, body)
    assert captured.source == (
        "def check(a, f):\n    # copies\n\n    f[:] = a  # all of it\n    if True:\n        pass\n"
    )
    assert captured.globals == ()


def test_text_over_several_lines_keeps_its_content(programs):
    captured = worker(programs, 'f.append("""one\n  two\nthree""")')
    said: list[str] = []
    run(captured, None, said)
    assert said == ["one\n          two\n        three"]


def test_a_body_on_the_line_of_its_def_is_captured(programs):
    text = HEAD.rstrip() + " f.append(a)\n"
    captured = resolve_program(programs.program(text)).functions[0].sub_worker
    said: list[int] = []
    run(captured, 3, said)
    assert said == [3]


def test_globals_below_the_class_are_found(programs):
    captured = worker(programs, "f.append(helper(a) + LIMIT)", "LIMIT = 5\ndef helper(x):\n    return 2 * x\n")
    assert [name for name, _ in captured.globals] == ["LIMIT", "helper"]
    said: list[int] = []
    run(captured, 3, said)
    assert said == [11]


def test_closures_are_captured(programs):
    text = HEAD.replace("\n", "\n    ") + "        f.append(a + bias)\n    return P\n"
    text = "def make(bias):" + text + "\nPROGRAM = make(40)\n"
    captured = resolve_program(programs.program(text)).functions[0].sub_worker
    said: list[int] = []
    run(captured, 2, said)
    assert said == [42]


def test_builtins_and_own_names_are_not_captured(programs):
    body = (
        "import json as own\nlocal = [x for x in range(3)]\ndef inner(y):\n    return len(local) + y\n"
        "f.append((inner(a), own.dumps(local), (lambda z: z)(1)))"
    )
    captured = worker(programs, body)
    assert captured.globals == ()
    said: list[tuple[int, str, int]] = []
    run(captured, 1, said)
    assert said == [(4, "[0, 1, 2]", 1)]


def test_a_name_that_exists_nowhere_is_an_error_at_its_first_use(programs):
    body = "b = a\nf[:] = b * «scale» + scale"
    error = programs.fails(
        UnboundVariable, "SubWorker check uses 'scale', which is not defined; did you mean 'scales'",
        lambda text: worker(programs, text, "scales = 3\n"), body,
    )  # fmt: skip
    assert "hint: define or import scale in the module, or make it a parameter" in str(error)


def test_defining_the_class_does_not_look_names_up(programs):
    program = programs.program(HEAD + "        f[:] = missing\n")
    with pytest.raises(UnboundVariable, match="'missing'"):
        resolve_program(program)


def test_a_closure_variable_that_is_never_assigned_is_an_error(programs):
    text = HEAD.replace("\n", "\n    ") + "        f.append(late)\n    return P\n    late = 1\n"
    program = programs.program("def make():" + text + "\nPROGRAM = make()\n")
    with pytest.raises(UnboundVariable, match="'late'"):
        resolve_program(program)


@pytest.mark.parametrize(
    ("message", "body"),
    [
        ("has no self", "f[:] = «self».scale"),
        ("has no super", "«super»().check()"),
        ("is a generator", "«yield a»"),
        ("gives no result", "«return a»"),
    ],
)
def test_what_can_not_run_in_a_process_of_its_own_is_refused(programs, message, body):
    programs.fails(SyntaxUnsupported, message, lambda text: worker(programs, text), body)


def test_inner_functions_may_return_and_yield(programs):
    captured = worker(programs, "def numbers():\n    yield 1\n    return\nf.append(list(numbers()))\nreturn None")
    said: list[list[int]] = []
    run(captured, 0, said)
    assert said == [[1]]


def fake(name):
    """A module that looks like torch or numpy, with a function of its own."""
    module = types.ModuleType(name)
    function = types.FunctionType((lambda x: x).__code__, {}, "allclose")
    function.__module__ = name
    module.allclose = function
    return module


@pytest.mark.parametrize("library", ["torch", "numpy"])
@pytest.mark.parametrize(
    ("body", "after"),
    [
        ("library.allclose(a)", ""),
        ("import {name}", ""),
        ("from {name}.linalg import norm", ""),
        ("allclose(a)", ""),
        ("inner.zeros(3)", ""),
        ("helper(a)", "def make(used):\n    return lambda x: used(x)\nhelper = make(library.allclose)\n"),
        ("helper(a)", "def helper(x):\n    return second(x)\ndef second(x):\n    return library.allclose(x)\n"),
    ],
)
def test_use_of_torch_and_numpy_is_seen(programs, library, body, after):
    module = fake(library)
    names = {"library": module, "allclose": module.allclose, "inner": types.ModuleType(f"{library}.linalg")}
    captured = worker(programs, body.format(name=library), after, **names)
    assert captured.uses_torch == (library == "torch")
    assert captured.uses_numpy == (library == "numpy")


def test_plain_python_uses_neither(programs):
    captured = worker(programs, "result = a + a\nf[:] = result")
    assert not captured.uses_torch
    assert not captured.uses_numpy


def test_equality_is_that_of_the_source(programs):
    first, second = worker(programs, "f[:] = a"), worker(programs, "f[:] = a")
    assert first == second
    assert first != worker(programs, "f[:] = 2 * a")
