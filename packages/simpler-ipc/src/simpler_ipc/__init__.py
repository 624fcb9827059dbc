"""Shared memory between processes: mailboxes, doorbells, ring allocators, and notice of a peer's death.

Start with `Region`, put a `Mailbox` in it, fork, and give one side to each process.
"""

from __future__ import annotations

from importlib.metadata import version

import simpler_ipc._supported  # noqa: F401  # first: it says why the next line could not work
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
    NamedRegion,
    Notifier,
    Peer,
    Region,
    Reply,
    Request,
    RequestFrame,
    WaitSet,
    clean_names,
    exit_with,
    named_regions,
)
from simpler_ipc.errors import (
    Corrupted,
    FrameTooLarge,
    HeapRingFull,
    IpcError,
    Misused,
    PeerDied,
    RegionExists,
    RegionNotFound,
    RequestCancelled,
    RequestFailed,
    UnsupportedPlatform,
    WaitTimeout,
)
from simpler_ipc.heap_ring import HeapRingStats

__version__ = version("simpler-ipc")

__all__ = [
    "CANCELLED",
    "CONTROL",
    "FAILED",
    "OK",
    "SHUTDOWN",
    "TASK",
    "Corrupted",
    "Doorbell",
    "FrameTooLarge",
    "HeapRing",
    "HeapRingFull",
    "HeapRingStats",
    "IpcError",
    "Mailbox",
    "MailboxClient",
    "MailboxServer",
    "Misused",
    "NamedRegion",
    "Notifier",
    "Peer",
    "PeerDied",
    "Region",
    "RegionExists",
    "RegionNotFound",
    "Reply",
    "Request",
    "RequestCancelled",
    "RequestFailed",
    "RequestFrame",
    "UnsupportedPlatform",
    "WaitSet",
    "WaitTimeout",
    "__version__",
    "clean_names",
    "exit_with",
    "named_regions",
]
