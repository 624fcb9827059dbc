"""Option sets: equal content is found again, anything else is not."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from chia.base.ChiaFunction import ChiaFunction
from chia.base.node import DISPATCHES_KEPT
from chia.base.options import OptionSet
from hypothesis import given, settings
from hypothesis import strategies as st

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, 1.0, 2.0]) | st.text(max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=6,
)
OPTIONS = st.dictionaries(st.text(max_size=2), VALUES, max_size=3)


def typed(value: Any) -> Any:
    """The model: content and types written out, dictionaries in one order."""
    if isinstance(value, dict):
        return "dict", sorted((key, repr(typed(item))) for key, item in value.items())
    if isinstance(value, list):
        return "list", [typed(item) for item in value]
    return type(value).__name__, value


@settings(deadline=None)  # a busy machine is no failure
@given(OPTIONS, OPTIONS)
def test_equality_and_hash_follow_content_and_types(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert (OptionSet(one) == OptionSet(other)) == (typed(one) == typed(other))
    reordered = dict(reversed(copy.deepcopy(one).items()))
    assert OptionSet(reordered) == OptionSet(one)
    assert hash(OptionSet(reordered)) == hash(OptionSet(one))


def test_one_true_and_one_point_zero_are_different_options() -> None:
    assert len({OptionSet({"a": 1}), OptionSet({"a": 1.0}), OptionSet({"a": True})}) == 3


def test_later_changes_do_not_reach_the_set() -> None:
    resources = {"fpga": 1}
    options = OptionSet({"resources": resources})
    resources["fpga"] = 2
    assert options.values == {"resources": {"fpga": 1}}
    assert options != OptionSet({"resources": resources})


@ChiaFunction(num_cpus=1)
def nothing() -> None: ...


def test_the_same_overrides_give_the_same_dispatch() -> None:
    assert nothing.options(num_cpus=2, resources={"a": 1}) is nothing.options(resources={"a": 1}, num_cpus=2)
    assert nothing.options(num_cpus=2) is not nothing.options(num_cpus=3)


def test_dispatches_do_not_pile_up() -> None:
    first = nothing.options(name="task 0")
    for number in range(1, DISPATCHES_KEPT + 1):
        nothing.options(name=f"task {number}")
    assert nothing.options(name="task 0") is not first


def test_a_value_that_cannot_be_hashed_makes_a_new_dispatch() -> None:
    class Unhashable(str):
        __hash__ = None  # type: ignore[assignment]

    name = Unhashable("task")
    with pytest.raises(TypeError, match="unhashable"):
        hash(OptionSet({"name": name}))
    assert nothing.options(name=name) is not nothing.options(name=name)
