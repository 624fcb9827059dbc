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
    NamedRegion,
    Peer,
    Region,
    Reply,
    Request,
    WaitSet,
    __version__,
    clean_names,
    exit_with,
    named_regions,
)
from simpler_ipc.errors import (
    FrameTooLarge,
    HeapRingFull,
    IpcError,
    PeerDied,
    RegionExists,
    RegionNotFound,
    UnsupportedPlatform,
    WaitTimeout,
)

__all__ = [
    "CONTROL",
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
    "NamedRegion",
    "Peer",
    "PeerDied",
    "Region",
    "RegionExists",
    "RegionNotFound",
    "Reply",
    "Request",
    "UnsupportedPlatform",
    "WaitSet",
    "WaitTimeout",
    "__version__",
    "clean_names",
    "exit_with",
    "named_regions",
]
