"""Ray options as one hashable value, so that what was made for them can be found again."""

from __future__ import annotations

import copy
import difflib
import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any

from chia.errors import OptionError


def unknown_option(error: ValueError, names: Iterable[str]) -> OptionError | None:
    """What to raise instead of Ray's ``error``, if that is because one of ``names`` is no option of a Ray task."""
    _, _, known = str(error).partition("Valid ones are")
    options = re.findall(r"'(\w+)'", known)
    for name in names:
        if options and name not in options:
            near = difflib.get_close_matches(name, options, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(sorted(options))}"
            return OptionError(f"{name} is no option of a Ray task: {hint}")
    return None


class OptionSet:
    """Keyword options that compare and hash by content, dictionaries and lists included.

    Equal means: same names, same values, of the same types. Later changes to a dictionary or list that was given do
    not reach the set. ``hash`` raises ``TypeError`` when some value cannot be hashed.
    """

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.values: dict[str, Any] = {
            name: copy.deepcopy(value) if isinstance(value, (dict, list)) else value for name, value in options.items()
        }

    @functools.cached_property
    def _key(self) -> Any:
        return _hashable(self.values)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OptionSet) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __str__(self) -> str:
        return ", ".join(f"{name}={value!r}" for name, value in self.values.items())


def _hashable(value: Any) -> Any:
    # The type is part of it: 1, 1.0 and True are equal in Python but not to Ray, which refuses a float for a count.
    if isinstance(value, Mapping):
        return type(value), frozenset((name, _hashable(item)) for name, item in value.items())
    if isinstance(value, (list, tuple)):
        return type(value), tuple(_hashable(item) for item in value)
    return type(value), value
