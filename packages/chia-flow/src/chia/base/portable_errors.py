"""Bringing a worker's exception back as what it was.

Python pickles an exception as its class and ``args`` and calls the class again to restore it. That fails for every
exception whose ``__init__`` takes anything but its ``args``, and for those that hold a lock or an open file; the caller
would then get an error about pickling in place of the one to handle.
"""

from __future__ import annotations

from typing import Any

import ray.cloudpickle as cloudpickle
from ray.exceptions import RayTaskError


def make_portable(error: BaseException) -> None:
    """See to it that ``error``, about to leave this process, can be restored with its type, ``args`` and attributes.

    What it holds that cannot be pickled arrives as its ``repr``.
    """
    if isinstance(error, RayTaskError):  # one that came from another task goes on as what that task raised
        error = error.cause
    if isinstance(error, BaseExceptionGroup):
        for member in error.exceptions:
            make_portable(member)
    if not _survives(error):
        _send_in_parts(type(error))


def _send_in_parts(cls: type[BaseException]) -> None:
    cloudpickle.CloudPickler.dispatch_table[cls] = _reduce_in_parts


def _survives(value: object) -> bool:
    try:
        cloudpickle.loads(cloudpickle.dumps(value))
    except Exception:  # whatever the value's own pickling raises: the answer is no
        return False
    return True


def _reduce_in_parts(error: BaseException) -> tuple[Any, ...]:
    args = tuple(_portable(value) for value in error.args)
    attributes = {name: _portable(value) for name, value in vars(error).items()}
    return _restore, (type(error), args, attributes)


def _portable(value: object) -> object:
    if isinstance(value, BaseException):
        make_portable(value)
    return value if _survives(value) else repr(value)


def _restore(cls: type[BaseException], args: tuple[Any, ...], attributes: dict[str, Any]) -> BaseException:
    _send_in_parts(cls)  # from here too: Ray passes the error of a task on to the tasks that depend on it
    # Made by the builtin it descends from, so that no code of the class runs that would expect other arguments.
    builtin = next(base for base in cls.__mro__ if base.__module__ == "builtins")
    error: BaseException = builtin.__new__(cls, *args)
    error.__dict__.update(attributes)
    return error
