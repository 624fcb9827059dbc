"""@ChiaFunction before anything is dispatched: no Ray runs here."""

from __future__ import annotations

import abc
import asyncio
import copy
import functools
import inspect
import pickle
import typing
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
import ray
from chia.base.ChiaFunction import ChiaCallRemote, ChiaFunction, ChiaNode
from chia.errors import InstanceMissing, NodeError, OptionError


@ChiaFunction(num_cpus=2)
def scaled(value: float, by: float = 2.0, *, plus: float = 0.0) -> float:
    """Scale a value."""
    return value * by + plus


class Counter:
    def __init__(self, start: int) -> None:
        self.start = start

    @ChiaFunction(resources={"fpga": 1})
    def count(self, steps: int = 1) -> int:
        """Count on."""
        return self.start + steps

    @staticmethod
    @ChiaFunction
    def double(value: int) -> int:
        return 2 * value

    @classmethod
    @ChiaFunction
    def named(cls, suffix: str) -> str:
        return cls.__name__ + suffix


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise AssertionError("nothing here needs Ray")

    monkeypatch.setattr("chia.base.node.ensure_ray", refuse)


@pytest.mark.usefixtures("no_ray")
def test_a_call_runs_here_like_the_plain_function() -> None:
    assert scaled(3.0) == 6.0
    assert scaled(3.0, 4.0, plus=1.0) == 13.0


def test_a_bound_call_gets_its_instance() -> None:
    assert Counter(5).count() == 6
    assert Counter(5).count(steps=3) == 8
    assert Counter.count(Counter(1)) == 2


def test_static_and_class_methods_are_called_like_plain_ones() -> None:
    assert Counter.double(4) == Counter(0).double(4) == 8
    assert Counter.named("!") == Counter(0).named("!") == "Counter!"


def test_name_docstring_signature_and_annotations_are_those_of_the_function() -> None:
    assert scaled.__name__ == scaled.__qualname__ == "scaled"
    assert scaled.__module__ == __name__
    assert scaled.__doc__ == "Scale a value."
    assert inspect.isfunction(scaled.__wrapped__)
    assert inspect.signature(scaled) == inspect.signature(scaled.__wrapped__)
    assert typing.get_type_hints(scaled) == {"value": float, "by": float, "plus": float, "return": float}


def test_a_method_looks_bound_on_an_instance() -> None:
    counter = Counter(1)
    assert list(inspect.signature(counter.count).parameters) == ["steps"]
    assert list(inspect.signature(Counter.count).parameters) == ["self", "steps"]
    assert counter.count.__doc__ == "Count on."
    assert counter.count == counter.count
    assert counter.count != Counter(1).count


def test_what_dispatches_shows_name_docstring_and_signature_of_the_function() -> None:
    for shown in (scaled.chia_remote_blocking, scaled.options(num_cpus=1), scaled.options().chia_remote_blocking):
        assert inspect.signature(shown) == inspect.signature(scaled.__wrapped__)
        assert (shown.__name__, shown.__doc__) == ("scaled", "Scale a value.")
        assert typing.get_type_hints(shown)["by"] is float
    for bound in (Counter(1).count.chia_remote_blocking, Counter(1).count.options().chia_remote_blocking):
        assert list(inspect.signature(bound).parameters) == ["steps"]
        assert bound.__doc__ == "Count on."


def test_the_text_of_a_node_names_function_and_options() -> None:
    assert repr(scaled) == f"<ChiaFunction {__name__}.scaled(num_cpus=2)>"
    assert "Counter.count" in repr(Counter(1).count)


def test_options_can_be_read_but_not_changed() -> None:
    options = Counter.count.ray_options
    options["resources"]["fpga"] = 7
    assert Counter.count.ray_options == {"resources": {"fpga": 1}}


def test_options_given_as_a_dictionary_are_taken_as_they_were() -> None:
    needs = {"fpga": 1}
    node = ChiaFunction(resources=needs)(lambda: None)
    needs["fpga"] = 9
    assert node.ray_options == {"resources": {"fpga": 1}}


def test_empty_parentheses_decorate_too() -> None:
    assert ChiaFunction()(abs_of)(-3) == 3


def abs_of(value: int) -> int:
    return abs(value)


def test_the_standard_pickle_stores_the_import_path() -> None:
    assert pickle.loads(pickle.dumps(scaled)) is scaled
    assert pickle.loads(pickle.dumps(Counter.count)) is Counter.count
    assert copy.copy(scaled) is copy.deepcopy(scaled) is scaled


def test_a_bound_node_pickles_like_a_bound_method() -> None:
    restored = pickle.loads(pickle.dumps(Counter(7).count))
    assert restored(1) == 8


def test_ray_gets_a_node_by_value_and_it_comes_back_whole() -> None:
    factor = 3

    @ChiaFunction(num_cpus=1, max_retries=0)
    def times(value: int) -> int:
        """Multiply."""
        return value * factor

    restored = ray.cloudpickle.loads(ray.cloudpickle.dumps(times))
    assert restored is not times
    assert restored(5) == 15
    assert restored.__name__ == "times"
    assert restored.__doc__ == "Multiply."
    assert restored.ray_options == {"num_cpus": 1, "max_retries": 0}


def test_a_node_that_calls_itself_can_be_pickled() -> None:
    @ChiaFunction
    def factorial(n: int) -> int:
        return 1 if n < 2 else n * factorial(n - 1)

    restored = ray.cloudpickle.loads(ray.cloudpickle.dumps(factorial))
    assert restored(5) == 120


def test_a_class_pickled_by_value_keeps_its_nodes_and_super() -> None:
    class Base:
        @ChiaFunction
        def value(self) -> int:
            return 1

    class Child(Base):
        @ChiaFunction
        def value(self) -> int:
            return super().value() + 1

    restored = ray.cloudpickle.loads(ray.cloudpickle.dumps(Child()))
    assert restored.value() == 2
    assert isinstance(type(restored).value, ChiaNode)


def test_an_abstract_node_stays_abstract() -> None:
    class Step(abc.ABC):
        @ChiaFunction
        @abc.abstractmethod
        def run(self) -> int: ...

    with pytest.raises(TypeError, match="abstract"):
        Step()


def test_a_wrapped_function_can_be_decorated() -> None:
    def twice(function: Any) -> Any:
        @functools.wraps(function)
        def run(*args: Any) -> Any:
            return function(function(*args))

        return run

    assert ChiaFunction(twice(abs_of))(-3) == 3


@pytest.mark.parametrize(
    ("options", "error", "names"),
    [
        ({"resorces": {"fpga": 1}}, ValueError, "resorces"),
        ({"max_restarts": 1}, ValueError, "max_restarts"),  # an option of actors
        ({"num_cpus": "two"}, TypeError, "num_cpus"),
        ({"num_cpus": -1}, ValueError, "num_cpus"),
        ({"max_retries": -2}, ValueError, "max_retries"),
        ({"resources": {"CPU": 1}}, ValueError, "CPU"),
        ({"num_returns": "streaming"}, ValueError, "num_returns"),
    ],
)
def test_a_wrong_option_is_refused_at_the_decorator(options: dict[str, Any], error: type, names: str) -> None:
    with pytest.raises(error, match=names) as caught:

        @ChiaFunction(**options)
        def compile_program() -> None: ...

    assert "compile_program" in caught.value.__notes__[0]


@pytest.mark.parametrize("options", [{"resorces": {}}, {"max_calls": 1}, {"num_cpus": "two"}])
def test_a_wrong_option_is_refused_at_the_override(options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=next(iter(options))) as caught:
        scaled.options(**options)
    assert "scaled" in caught.value.__notes__[0]


def test_a_wrong_option_gets_the_nearest_name() -> None:
    with pytest.raises(OptionError, match=r"resorces is no option of a Ray task: did you mean resources\?"):
        ChiaFunction(resorces={"fpga": 1})(abs_of)
    with pytest.raises(OptionError, match=r"quux is no option of a Ray task: there are: .*num_cpus"):
        scaled.options(quux=1)


def test_an_async_node_called_here_is_a_coroutine_or_an_async_generator() -> None:
    @ChiaFunction
    async def fetch(value: int) -> int:
        return value

    @ChiaFunction
    async def count(n: int) -> AsyncIterator[int]:
        for number in range(n):
            yield number

    async def main() -> tuple[int, list[int]]:
        return await fetch(3), [number async for number in count(2)]

    assert asyncio.run(main()) == (3, [0, 1])


@pytest.mark.parametrize("kind", [staticmethod, classmethod])
def test_the_wrong_order_of_decorators_is_named(kind: Any) -> None:
    with pytest.raises(NodeError, match=rf"@{kind.__name__} goes above @ChiaFunction"):

        class Wrong:
            @ChiaFunction
            @kind
            def build() -> None: ...


def test_classes_builtins_and_nodes_are_refused() -> None:
    with pytest.raises(NodeError, match="decorate the methods of Counter"):
        ChiaFunction(Counter)
    with pytest.raises(NodeError, match="Python functions"):
        ChiaFunction(len)
    with pytest.raises(NodeError, match="already"):
        ChiaFunction(scaled)
    with pytest.raises(NodeError, match="Python functions"):
        ChiaFunction(functools.partial(abs_of, 1))


def test_function_and_options_in_one_call_are_refused() -> None:
    with pytest.raises(NodeError, match="options alone"):
        ChiaFunction(abs_of, num_cpus=1)  # type: ignore[call-overload]
    with pytest.raises(NodeError, match="one function"):
        ChiaFunction(abs_of, abs_of)  # type: ignore[call-overload]


@pytest.mark.parametrize("other", [len, abs_of, 3, None, "scaled", Counter(1), Counter(1).__init__])
def test_chia_call_remote_refuses_what_is_no_node(other: Any) -> None:
    with pytest.raises(NodeError, match="needs a @ChiaFunction"):
        ChiaCallRemote(other, 1)


@dataclass(slots=True)
class Slotted:
    size: int

    @ChiaFunction
    def doubled(self) -> int:
        return 2 * self.size


def test_an_argument_may_be_named_self() -> None:
    @ChiaFunction
    def describe(self: str) -> str:
        return f"<{self}>"

    assert describe(self="me") == "<me>"


@pytest.mark.usefixtures("no_ray")
def test_a_forgotten_instance_is_named_before_ray_is_asked() -> None:
    for dispatch in (Counter.count.chia_remote, Counter.count.options(num_cpus=1).chia_remote):
        with pytest.raises(
            InstanceMissing, match=r"Counter.count.*instance as its first argument.*count.chia_remote\(node"
        ):
            dispatch()
        with pytest.raises(InstanceMissing, match="not int"):
            dispatch(3)
    with pytest.raises(InstanceMissing, match="instance"):
        Slotted.doubled.chia_remote_blocking()
