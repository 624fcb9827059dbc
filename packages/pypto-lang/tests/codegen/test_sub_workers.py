"""SubWorker modules: what is captured comes back equal in a module of its own."""

from __future__ import annotations

import collections
import math
import threading

import cloudpickle
import numpy as np
import pytest
from pypto.codegen.sub_worker import SubWorkerModule, generate
from pypto.errors import SignatureError
from pypto.ir.nodes import Function, FunctionKind, Span, SubWorkerSource

HERE = Span("user.py", 7, 4, 7, 9, "    use lock")


def module_of(source: str, **captured: object) -> SubWorkerModule:
    names = tuple(sorted(captured.items()))
    sub = SubWorkerSource(source, globals=names, free=tuple((name, HERE) for name in captured))
    return generate(Function("f", FunctionKind.SUB_WORKER, (), (), (), HERE, sub), "Program")


def run(module: SubWorkerModule) -> object:
    """Load a module as its reader does, and call ``f``."""
    names: dict[str, object] = cloudpickle.loads(module.pickled) if module.pickled is not None else {}
    exec(compile(module.text, "f.py", "exec"), names)
    function = names["f"]
    assert callable(function)
    return function()


def helper() -> str:
    return "helped"


def test_the_source_stands_in_the_module_as_the_user_wrote_it() -> None:
    source = "def f():\n    # a comment\n    return 1\n"
    assert source in module_of(source).text


def test_modules_are_imported() -> None:
    module = module_of("def f():\n    return m.sqrt(4), np.ones(1)[0]\n", m=math, np=np)
    assert "import math as m\n" in module.text
    assert "import numpy as np\n" in module.text
    assert module.pickled is None
    assert run(module) == (2.0, 1.0)


def test_importable_objects_are_imported() -> None:
    module = module_of("def f():\n    return Count('aab')['a']\n", Count=collections.Counter)
    assert "from collections import Counter as Count\n" in module.text
    assert run(module) == 2


@pytest.mark.parametrize(
    "value", [1, True, None, -2.5, "text", b"bytes", [1, (2, "x")], {"k": [1.5]}, {1, 2}, set(), 10**30, "quote'\"\\\n"]
)
def test_plain_values_are_literals(value: object) -> None:
    module = module_of("def f():\n    return value\n", value=value)
    assert module.pickled is None
    found = run(module)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("value", [math.inf, range(3), "x" * 5000, collections.OrderedDict(a=1), [math.inf]])
def test_values_without_a_literal_are_pickled(value: object) -> None:
    module = module_of("def f():\n    return value\n", value=value)
    assert module.pickled is not None
    found = run(module)
    assert found == value
    assert type(found) is type(value)


def test_nan_stays_nan() -> None:
    assert math.isnan(run(module_of("def f():\n    return value\n", value=math.nan)))  # type: ignore[arg-type]


def test_arrays_are_pickled() -> None:
    array = np.arange(5)
    module = module_of("def f():\n    return weights.sum()\n", weights=array)
    assert run(module) == 10


def test_functions_that_no_import_finds_are_pickled() -> None:
    module = module_of("def f():\n    return help_me() + local()\n", help_me=helper, local=lambda: "!")
    assert module.pickled is not None
    assert run(module) == "helped!"


def test_what_cannot_be_sent_is_named_where_it_is_used() -> None:
    with pytest.raises(SignatureError, match=r"'lock'.*can't be sent to another process") as caught:
        module_of("def f():\n    lock.acquire()\n", lock=threading.Lock())
    assert caught.value.line == 7
