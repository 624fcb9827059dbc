"""Whether arguments can be meant for a method: which of two readings of a call is the one."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints


def fits_method(function: Callable[..., Any], kwargs: dict[str, Any], args: tuple[Any, ...]) -> bool:
    """Whether ``args``, the instance first, and ``kwargs`` can be a method's: by number and names, and for the argument
    behind the instance, which may be an instance, too, by its annotation."""
    own = {name: value for name, value in kwargs.items() if not name.startswith("_chia_")}
    signature = inspect.signature(function)
    try:
        signature.bind(*args, **own)
    except TypeError:
        return False
    names = list(signature.parameters)
    return len(args) < 2 or len(names) < 2 or _may_be(args[1], names[1], function)


def _may_be(value: object, parameter: str, function: Callable[..., Any]) -> bool:
    try:
        hint = get_type_hints(function).get(parameter, Any)
    except Exception:  # it names what is not to be found from here: then it says nothing
        return True
    is_union = get_origin(hint) in (Union, UnionType)
    kinds = tuple(get_origin(kind) or kind for kind in (get_args(hint) if is_union else (hint,)))
    if Any in kinds:
        return True
    try:
        return isinstance(value, kinds)
    except TypeError:  # a type that instances do not tell
        return True
