"""Shared memory between processes: mailboxes, doorbells, ring allocators, and notice of a peer's death.

Start with `Region`, put a `Mailbox` in it, fork, and give one side to each process.
"""

from __future__ import annotations

from simpler_ipc._native import (
    CONTROL,
    SHUTDOWN,
    TASK,
    Doorbell,
    HeapRing,
    Mailbox,
    MailboxClient,
    MailboxServer,
    Peer,
    Region,
    Reply,
    Request,
    WaitSet,
    __version__,
    exit_with,
)
from simpler_ipc.errors import FrameTooLarge, HeapRingFull, IpcError, PeerDied, WaitTimeout
from simpler_ipc.heap_ring import HeapRingStats

__all__ = [
    "CONTROL",
    "SHUTDOWN",
    "TASK",
    "Doorbell",
    "FrameTooLarge",
    "HeapRing",
    "HeapRingFull",
    "HeapRingStats",
    "IpcError",
    "Mailbox",
    "MailboxClient",
    "MailboxServer",
    "Peer",
    "PeerDied",
    "Region",
    "Reply",
    "Request",
    "WaitSet",
    "WaitTimeout",
    "__version__",
    "exit_with",
]
