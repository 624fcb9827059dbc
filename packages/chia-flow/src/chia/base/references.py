"""References among the arguments of a call: replaced by the values behind them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray
from ray import ObjectRef

_Found = list["ObjectRef[Any]"]


def resolved(
    args: tuple[Any, ...], kwargs: dict[str, Any], deep: bool = False
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments with values in place of references, waited for together.

    At top level; with ``deep`` also in lists, tuples, dictionaries (their values) and sets, to any depth. Containers
    that hold a reference are copied, all others are passed on as they are.
    """
    replace = _replacer(deep)
    found: _Found = []
    for value in (*args, *kwargs.values()):
        replace(value, found.append)
    if not found:
        return args, kwargs
    values = dict(zip(found, ray.get(found), strict=True))
    return (
        tuple(replace(value, values.__getitem__) for value in args),
        {name: replace(value, values.__getitem__) for name, value in kwargs.items()},
    )


def _replacer(deep: bool) -> Callable[[Any, Callable[[ObjectRef[Any]], Any]], Any]:
    return _replaced_deep if deep else _replaced


def _replaced(value: Any, by: Callable[[ObjectRef[Any]], Any]) -> Any:
    return by(value) if isinstance(value, ObjectRef) else value


def _replaced_deep(value: Any, by: Callable[[ObjectRef[Any]], Any]) -> Any:
    if isinstance(value, ObjectRef):
        return by(value)
    kind = type(value)  # a subclass may mean something else by what it holds
    if kind in (list, tuple, set, frozenset):
        items = [_replaced_deep(item, by) for item in value]
        return value if all(new is old for new, old in zip(items, value, strict=True)) else kind(items)
    if kind is dict:
        pairs = {name: _replaced_deep(item, by) for name, item in value.items()}
        return value if all(pairs[name] is value[name] for name in value) else pairs
    return value
