"""What simpler_ipc raises, beside ValueError for arguments that cannot be right and OSError from the system."""

from __future__ import annotations

import errno
from typing import Any


class IpcError(Exception):
    """Base of the errors below; itself raised for what a heap ring or a name holds and fits none.

    Attributes:
        explains_itself: its message is written for the user; a command line shows that, without a traceback.
    """

    explains_itself = True


class Misused(IpcError):
    """A call that does not fit the state the object is in, or the process that makes it.

    A reply without a request; a second client while the first lives; what a forked child does with its parent's client.
    Nothing has changed.
    """


class Corrupted(IpcError):
    """Shared memory holds what no correct peer writes. Start both sides on fresh memory."""


class PeerDied(IpcError):
    """A process exited or was killed.

    `exit_status` is what it passed to `exit`, `signal` the number of the signal that killed it. Both are None when the
    process is not a child of this one, or when other code has reaped it.
    """

    def __init__(self, pid: int, exit_status: int | None = None, signal: int | None = None) -> None:
        super().__init__(pid, exit_status, signal)
        self.pid = pid
        self.exit_status = exit_status
        self.signal = signal

    def __str__(self) -> str:
        return f"process {self.pid} died (exit status {self.exit_status}, signal {self.signal})"


class HeapRingFull(IpcError, MemoryError):
    """A heap ring had no room for a block in time.

    Space comes back in the order it was allocated: whoever holds the oldest block keeps it from all.

    Attributes:
        ring: the ring's name.
        nbytes: its size.
        requested: bytes asked for. More than `nbytes` never fit.
        live_blocks: blocks allocated and not released.
        live_bytes: their bytes, rounded up to the ring's alignment.
        oldest: address in this process of the oldest of them; None if all were released meanwhile.
        oldest_nbytes: its bytes, rounded up.
    """

    def __init__(
        self,
        message: str,
        ring: str,
        nbytes: int,
        requested: int,
        live_blocks: int,
        live_bytes: int,
        oldest: int | None,
        oldest_nbytes: int,
    ) -> None:
        super().__init__(message, ring, nbytes, requested, live_blocks, live_bytes, oldest, oldest_nbytes)
        self.ring = ring
        self.nbytes = nbytes
        self.requested = requested
        self.live_blocks = live_blocks
        self.live_bytes = live_bytes
        self.oldest = oldest
        self.oldest_nbytes = oldest_nbytes

    def __str__(self) -> str:
        return str(self.args[0])


class WaitTimeout(IpcError, TimeoutError):
    """What was waited for did not happen within the timeout."""


class FrameTooLarge(IpcError, ValueError):
    """A payload does not fit into a frame of the mailbox; nothing was sent."""


class RequestFailed(IpcError):
    """The server could not do what was asked: `Reply.result()` of a reply with status FAILED.

    `ticket` is the request's, `code` and `message` are the server's.
    """

    def __init__(self, ticket: int, code: int, message: str) -> None:
        super().__init__(ticket, code, message)
        self.ticket = ticket
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"request {self.ticket} failed with code {self.code}: {self.message}"


class RequestCancelled(IpcError):
    """The request was taken back before the server took it: `Reply.result()` of a reply with status CANCELLED."""

    def __init__(self, ticket: int) -> None:
        super().__init__(ticket)
        self.ticket = ticket

    def __str__(self) -> str:
        return f"request {self.ticket} was cancelled"


class RegionExists(IpcError, FileExistsError):
    """A named region cannot be created: `name` is owned by `pid`, a process that is alive."""

    def __init__(self, message: str, name: str, pid: int) -> None:
        super().__init__(errno.EEXIST, message)
        self.name = name
        self.pid = pid

    def __str__(self) -> str:
        return str(self.strerror)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.name, self.pid), self.__dict__


class RegionNotFound(IpcError, FileNotFoundError):
    """There is no region `name`, or its owner is gone. The message tells which, and what to do."""

    def __init__(self, message: str, name: str) -> None:
        super().__init__(errno.ENOENT, message)
        self.name = name

    def __str__(self) -> str:
        return str(self.strerror)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (str(self), self.name), self.__dict__


class UnsupportedPlatform(IpcError, NotImplementedError):
    """The operating system lacks what a call needs. `python -m simpler_ipc doctor` tells what a machine lacks."""


for _error in (
    IpcError,
    Misused,
    Corrupted,
    PeerDied,
    HeapRingFull,
    WaitTimeout,
    FrameTooLarge,
    RegionExists,
    RegionNotFound,
    RequestFailed,
    RequestCancelled,
    UnsupportedPlatform,
):
    _error.__module__ = "simpler_ipc"  # where users find them, and what tracebacks and pickles say
del _error
