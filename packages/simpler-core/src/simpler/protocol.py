"""What the parent and its children say to each other inside mailbox frames.

A TASK frame is a header of ``HEADER_NBYTES``, what ``simpler_runtime.write_task`` wrote, and notes. The header:

    byte 0    how many tickets there are
    byte 4    where the notes begin, 32 bits; 0 if there are none
    byte 8    bit i: tensor i must not be written, 64 bits
    byte 16   tickets, 64 bits each: tasks ahead of this one in the same mailbox whose results it needs. If one of them
              failed, this one is not run and answered with POISONED.

Notes tell of arrays that no ContinuousTensor describes; ``arguments.bound`` writes and reads them.

A CONTROL frame is a pickled :class:`Control`. Any answer that is not OK carries a pickled :class:`Failure`.
"""

from __future__ import annotations

import pickle
import struct
import traceback
from dataclasses import dataclass
from typing import Any

import cloudpickle

from simpler.errors import RemoteError

DEPTH = 32  # frames a mailbox holds: tasks that can be handed ahead to a child
FRAME_NBYTES = 64 * 1024

HEADER_NBYTES = 80
MAX_NEEDS = (HEADER_NBYTES - 16) // 8
HEADERS = [struct.Struct(f"<B3xIQ{count}Q") for count in range(MAX_NEEDS + 1)]

# Codes of replies. The first three mean success and say how long the task took: below 1 ms, below 50 ms, longer.
OK, OK_MEDIUM, OK_SLOW, FAILED, POISONED = range(5)
MEDIUM_NS = 1_000_000
SLOW_NS = 50_000_000


@dataclass(frozen=True)
class Control:
    """``op``: ``"hello"`` (are you up?), ``"register"``, ``"unregister"``. The content of a callable is not in the
    frame but at ``address`` in the shared region."""

    op: str
    digest: bytes = b""
    kind: str = ""
    name: str = ""
    address: int = 0
    nbytes: int = 0


@dataclass(frozen=True)
class Failure:
    """An exception on its way to another process."""

    exception: bytes  # pickled
    remote_traceback: str


def pack_failure(error: BaseException, limit: int) -> bytes:
    """``error`` in at most ``limit`` bytes: itself if it pickles and fits, else a RemoteError with its repr."""
    text = "".join(traceback.format_exception(error))
    try:
        exception = cloudpickle.dumps(error)
        pickle.loads(exception)  # some exceptions pickle and then cannot be rebuilt
    except BaseException:  # whatever a user's __reduce__ or constructor raises; Ctrl-C is for the parent
        exception = _substitute(error)
    packed = pickle.dumps(Failure(exception, text))
    if len(packed) > limit:
        room = max(0, limit - 4096) // 4  # a character takes at most 4 bytes
        packed = pickle.dumps(Failure(_substitute(error, 1024), "[…]\n" + text[-room:] if room else ""))
    return packed


def unpack_failure(payload: bytes) -> tuple[BaseException, str]:
    """The exception and its traceback text. An exception that cannot be rebuilt here becomes a RemoteError."""
    failure: Failure = pickle.loads(payload)
    try:
        error = pickle.loads(failure.exception)
    except KeyboardInterrupt:
        raise
    except BaseException as problem:  # whatever a user's constructor raises
        last_line = failure.remote_traceback.rstrip().rpartition("\n")[2]
        error = RemoteError(f"{last_line} (could not be rebuilt here: {type(problem).__qualname__})")
    if not isinstance(error, BaseException):
        error = RemoteError(repr(error))
    return error, failure.remote_traceback


def _substitute(error: BaseException, limit: int | None = None) -> bytes:
    try:
        text = repr(error)
    except BaseException as problem:  # a user's __repr__ may raise, too
        text = f"{type(error).__qualname__} (its repr raised {type(problem).__qualname__})"
    return pickle.dumps(RemoteError(text[:limit]))


def dumps(message: Any) -> bytes:
    return pickle.dumps(message)
