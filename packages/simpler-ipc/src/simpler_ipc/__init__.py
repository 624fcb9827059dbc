"""Shared memory between processes: mailboxes, doorbells, ring allocators, and notice of a peer's death.

Start with `Region`, put a `Mailbox` in it, fork, and give one side to each process.
"""

from __future__ import annotations

from simpler_ipc._native import (
    CANCELLED,
    CONTROL,
    FAILED,
    OK,
    SHUTDOWN,
    TASK,
    Doorbell,
    HeapRing,
    Mailbox,
    MailboxClient,
    MailboxServer,
    Notifier,
    Peer,
    Region,
    Reply,
    Request,
    RequestFrame,
    WaitSet,
    __version__,
    exit_with,
)
from simpler_ipc.errors import (
    FrameTooLarge,
    HeapRingFull,
    IpcError,
    PeerDied,
    RequestCancelled,
    RequestFailed,
    WaitTimeout,
)

__all__ = [
    "CANCELLED",
    "CONTROL",
    "FAILED",
    "OK",
    "SHUTDOWN",
    "TASK",
    "Doorbell",
    "FrameTooLarge",
    "HeapRing",
    "HeapRingFull",
    "IpcError",
    "Mailbox",
    "MailboxClient",
    "MailboxServer",
    "Notifier",
    "Peer",
    "PeerDied",
    "Region",
    "Reply",
    "Request",
    "RequestCancelled",
    "RequestFailed",
    "RequestFrame",
    "WaitSet",
    "WaitTimeout",
    "__version__",
    "exit_with",
]
