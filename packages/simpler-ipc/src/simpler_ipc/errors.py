"""What simpler_ipc raises, beside ValueError for arguments that cannot be right and OSError from the system."""

from __future__ import annotations


class IpcError(Exception):
    """Base of the errors below; itself raised for calls that do not fit an object's state and for corrupted memory."""


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


for _error in (IpcError, PeerDied, HeapRingFull, WaitTimeout, FrameTooLarge):
    _error.__module__ = "simpler_ipc"  # where users find them, and what tracebacks and pickles say
del _error
