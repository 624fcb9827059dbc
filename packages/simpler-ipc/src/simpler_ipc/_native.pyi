"""The Rust side of simpler_ipc. Import these names from `simpler_ipc`.

Timeouts are in seconds: None waits without limit, 0 only looks. Every wait releases the GIL and ends at once with
KeyboardInterrupt on Ctrl-C (with whatever a Python signal handler raises). Sizes and offsets are in bytes.
"""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
from typing_extensions import Buffer

from simpler_ipc.errors import PeerDied
from simpler_ipc.heap_ring import HeapRingStats

__version__: str

TASK: Final = 1
"""Frame kind: run something."""
CONTROL: Final = 2
"""Frame kind: change something in the server."""
SHUTDOWN: Final = 3
"""Frame kind: reply, then leave."""

class Region:
    """Anonymous shared memory, all zero at first.

    It is sealed: no process can shrink it, so no access to it faults. It is sparse: a page costs nothing until it is
    touched. A fork inherits it at the same address; another process maps it from its file descriptor. Supports the
    buffer protocol, writable.
    """

    def __init__(self, nbytes: int, *, name: str = "simpler-ipc") -> None:
        """Make `nbytes` of it. `name` is for humans, it shows in /proc/PID/maps.

        Raises ValueError for zero bytes, OSError when the system refuses, NotImplementedError where it is not Linux.
        """

    @staticmethod
    def from_fd(fd: int) -> Region:
        """Map another process's region from its file descriptor, which is duplicated: close yours when you like.

        Raises ValueError if the descriptor is not sealed against shrinking, OSError if it is none.
        """

    @property
    def nbytes(self) -> int: ...
    @property
    def address(self) -> int:
        """Where it starts in this process."""

    @property
    def fd(self) -> int:
        """The file descriptor to hand to another process. It is the region's own: do not close it."""

    def numpy(
        self, dtype: npt.DTypeLike = "uint8", shape: int | Sequence[int] | None = None, offset: int = 0
    ) -> np.ndarray[Any, Any]:
        """A writable array over the region from `offset`; it keeps the region mapped.

        `shape` defaults to one dimension of all that fits. Raises ValueError if it does not fit.
        """

    def contains(self, address: int, nbytes: int = 1) -> bool:
        """Whether all of `nbytes` at `address` lie in the region."""

    def discard(self, offset: int, nbytes: int) -> None:
        """Give pages back to the system. The range reads as zero afterwards, in every process.

        Raises ValueError if it leaves the region.
        """

    def close(self) -> None:
        """Unmap it, once no mailbox, doorbell or ring lies in it any more. Closing twice is fine.

        Raises BufferError while memoryviews or arrays of it exist. Using a closed region raises ValueError.
        """

    def __enter__(self) -> Self: ...
    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None: ...
    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

class Doorbell:
    """A "something changed" counter in shared memory, on which processes can sleep."""

    NBYTES: Final = 128
    """What to set aside for one."""

    def __init__(self, region: Region, offset: int = 0) -> None:
        """The doorbell at `offset`, a multiple of 4 (of 128 for speed). Zeroed memory is a doorbell.

        Raises ValueError if it is misaligned or does not lie in the region.
        """

    def ring(self) -> None:
        """Count a change and wake every sleeper. No system call when nobody sleeps."""

    @property
    def value(self) -> int:
        """The count, modulo 2**32."""

    def wait(self, seen: int, timeout: float | None = None) -> int:
        """Wait until the count is other than `seen`; the count then. Raises WaitTimeout."""

class Peer:
    """Another process. It means that process for ever, never a later one with the same id."""

    def __init__(self, pid: int) -> None:
        """The process that has this id now. Raises PeerDied if there is none.

        To hold one's parent without a race, make `Peer(os.getpid())` before forking.
        """

    @property
    def pid(self) -> int: ...
    def alive(self) -> bool:
        """Whether it runs. Reaps it if it is a child that has ended."""

    def died(self) -> PeerDied | None:
        """The error to raise for its end, with exit status or signal; None while it runs.

        Reaps it if it is a child, and remembers.
        """

    def wait(self, timeout: float | None = None) -> PeerDied:
        """Sleep until it ends; as `died()`. Raises WaitTimeout."""

    def kill(self, signal: int = 9) -> None:
        """Send it a signal. Nothing happens if it has ended. Raises PermissionError, ValueError for no signal."""

def exit_with(peer: Peer) -> None:
    """End this process with status 1 as soon as `peer` has ended, even while Python is busy.

    For forked children, that they end with their parent. A thread sleeps until then; children forked later do not
    inherit it.
    """

class Mailbox:
    """An ordered lane of request/reply frames between one client and one server.

    Up to `depth` requests are in flight; each frame holds `frame_bytes` of payload, the request's and then its
    reply's.
    """

    @staticmethod
    def required_bytes(depth: int, frame_bytes: int) -> int:
        """What to set aside for one, a multiple of 128. Raises ValueError for an impossible shape."""

    def __init__(self, region: Region, *, offset: int = 0, depth: int = 1, frame_bytes: int = 65536) -> None:
        """Make the mailbox at `offset`, a multiple of 128, where the memory is zero; join it where it already is.

        Raises ValueError if it does not lie in the region, or something else lies there.
        """

    @property
    def depth(self) -> int: ...
    @property
    def frame_bytes(self) -> int: ...
    def client(self, doorbell: Doorbell | None = None) -> MailboxClient:
        """The side that posts requests; the server rings `doorbell` for each reply (the mailbox's own if None).

        A client made anew goes on where the one before it stopped.
        """

    def server(self, doorbell: Doorbell | None = None) -> MailboxServer:
        """The side that answers; the client rings `doorbell` for each request (the mailbox's own if None).

        A server made anew goes on where the one before it stopped: what was not replied to is received again.
        """

class MailboxClient:
    """Posts requests, takes replies in the same order."""

    @property
    def in_flight(self) -> int:
        """Requests posted whose reply has not been polled."""

    @property
    def free(self) -> int:
        """Frames that are free."""

    def reserve(self) -> memoryview | None:
        """The whole payload of the next free frame, writable; None when all are in flight.

        Fill it, then `post`. Until then it is the same frame again. Do not write to it after posting.
        """

    def post(self, kind: int, nbytes: int) -> int:
        """Hand the reserved frame, its first `nbytes` the request, to the server; its ticket: 0, 1, 2, …

        Raises FrameTooLarge, IpcError if nothing is reserved, ValueError for no kind.
        """

    def send(self, kind: int, payload: Buffer) -> int | None:
        """Reserve, copy, post: the ticket; None when all frames are in flight. Raises FrameTooLarge."""

    def poll(self) -> Reply | None:
        """The reply to the oldest request if it is there, freeing its frame."""

    def call(self, kind: int, payload: Buffer, timeout: float | None = None) -> Reply:
        """Send a request and wait for its reply; replies to older requests are kept for `poll`.

        Raises FrameTooLarge, WaitTimeout, PeerDied if a watched peer is gone. After one of the last two the request
        stays in flight.
        """

    def watch(self, peer: Peer) -> None:
        """From now on waits end with PeerDied as soon as `peer` is gone and no reply is left."""

    def wait(self, timeout: float | None = None) -> None:
        """Wait until `poll` gives something.

        Raises WaitTimeout, PeerDied if a watched peer is gone, IpcError if nothing is in flight.
        """

class MailboxServer:
    """Receives requests in order, replies to them in order."""

    def recv(self, timeout: float | None = None) -> Request:
        """The next request. Several may be received before the first is replied to.

        Raises WaitTimeout, PeerDied if a watched peer is gone and no request is left, IpcError if every frame is
        received and none replied to.
        """

    def reply(self, code: int = 0, payload: Buffer | None = None) -> None:
        """Reply to the oldest request received and not replied to. `payload` may be the request's own bytes.

        Raises FrameTooLarge (the request stays unanswered), IpcError if there is no request.
        """

    def watch(self, peer: Peer) -> None:
        """From now on `recv` ends with PeerDied as soon as `peer` is gone and no request is left."""

class Reply:
    """A reply, copied out of its frame."""

    @property
    def ticket(self) -> int:
        """That of the request."""

    @property
    def kind(self) -> int:
        """The kind of the request."""

    @property
    def code(self) -> int:
        """32 bits, signed; 0 for success."""

    @property
    def payload(self) -> bytes: ...

class Request:
    """A request in its frame. Its bytes are valid until it is replied to; the memory stays mapped even then."""

    @property
    def ticket(self) -> int: ...
    @property
    def kind(self) -> int: ...
    @property
    def payload(self) -> memoryview:
        """The request's bytes, in place and writable."""

    @property
    def address(self) -> int:
        """Where they start in this process."""

    @property
    def nbytes(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

class WaitSet:
    """One wait for any of many mailboxes, through the doorbell they share, and for the peers behind them."""

    def __init__(self, doorbell: Doorbell) -> None:
        """`doorbell` is the one the clients were made with."""

    def watch(self, peer: Peer) -> None:
        """From now on its death rings the doorbell and ends a wait."""

    def forget(self, peer: Peer) -> None:
        """End that. Nothing happens if it is not watched."""

    def wait(self, seen: int, timeout: float | None = None) -> int:
        """Wait until the doorbell's count is other than `seen`, or a peer has died since the last wait; the count.

        Ask the peers which one. Each death ends one wait at least, whatever `seen` is. Raises WaitTimeout.
        """

    def close(self) -> None:
        """Forget every peer. The watcher thread ends with the process's last watch. Closing twice is fine."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None: ...

class HeapRing:
    """A ring allocator: one process allocates, any process releases, space is reclaimed first-in-first-out.

    Nothing of it costs memory until it is used. Pages once used stay with the ring; `Region.discard` gives them back.

    Blocks are known by their address in the process that asks. A process that inherited the region by a fork sees them
    at the same place. To any other send `address - region.address`; it adds its own `region.address`.

    Pickles to where its region does: the same ring in another process.
    """

    @staticmethod
    def required_bytes(nbytes: int, alignment: int = 1024) -> int:
        """What to set aside for a ring of `nbytes`: control block, table and arena. Raises ValueError."""

    def __init__(
        self,
        region: Region,
        *,
        offset: int = 0,
        nbytes: int,
        name: str = "heap",
        alignment: int = 1024,
        poison: bool = False,
    ) -> None:
        """Make the ring at `offset`, a multiple of 128, where the memory is zero; join it where it already is.

        `nbytes` is rounded up to `alignment`, a power of two from 64 to 4096.

        With `poison`, to find bugs: whoever releases a block overwrites it with 0xdd, and a byte that somebody writes
        after that is an error when its space is allocated again. Each release then costs a write of the block, each
        allocation a read. Whoever makes the ring decides for all who join it.

        Raises ValueError; also for `poison` where a ring is that does not poison.
        """

    @property
    def nbytes(self) -> int: ...
    @property
    def used(self) -> int:
        """Bytes of live blocks, each rounded up to the alignment. Counted block by block, as `live` is."""

    @property
    def live(self) -> int:
        """Live blocks."""

    @property
    def name(self) -> str: ...
    @property
    def alignment(self) -> int: ...
    @property
    def poisons(self) -> bool:
        """Whether it overwrites what is released."""

    def stats(self) -> HeapRingStats:
        """What it holds and has seen, from any process.

        Keeping it costs next to nothing, asking goes through the blocks that are held. While others allocate and
        release, each number is of some recent moment. Raises IpcError if the ring's memory is spoilt.
        """

    def watch(self, peer: Peer) -> None:
        """From now on an `alloc` that waits ends with PeerDied as soon as `peer` is gone and there is still no space.

        For those who hold blocks: what they hold stays live when they die.
        """

    def alloc(self, nbytes: int, timeout: float | None = 0.0) -> int:
        """The address of a new block, a multiple of the alignment. When full, waits for space up to `timeout`.

        The bytes are what the last user left there (0xdd or zero in a ring that poisons). The first to call it is the
        ring's allocator; its threads take turns. Another process follows when that object is gone or its process has
        ended, and finds all blocks as they were.

        Raises HeapRingFull, PeerDied if a watched peer is gone; IpcError if another process allocates here, or
        something wrote to the block's bytes after they were released (once, in a ring that poisons).
        """

    def release(self, address: int) -> None:
        """Give a block back, in any order, from any process; `address` is that in this one.

        Raises ValueError naming the address if no live block starts there: never allocated, or released already.
        """
