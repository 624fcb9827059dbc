"""The Rust side of simpler_ipc. Import these names from `simpler_ipc`.

Timeouts are in seconds: None waits without limit, 0 only looks. Every wait releases the GIL and ends at once with
KeyboardInterrupt on Ctrl-C (with whatever a Python signal handler raises). Sizes and offsets are in bytes.
"""

from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
from typing_extensions import Buffer

from simpler_ipc.errors import PeerDied
from simpler_ipc.heap_ring import HeapRingStats

TASK: Final = 1
"""Frame kind: run something."""
CONTROL: Final = 2
"""Frame kind: change something in the server."""
SHUTDOWN: Final = 3
"""Frame kind: reply, then leave."""

OK: Final = 0
"""Status of a reply: the server replied."""
FAILED: Final = 1
"""Status of a reply: the server could not do it; the payload is its message."""
CANCELLED: Final = 2
"""Status of a reply: the request was taken back before the server took it."""

class Region:
    """Shared memory, all zero at first: anonymous, or with a name.

    It is sealed: no process can shrink it, so no access to it faults. It is sparse: a page costs nothing until it is
    touched. A fork inherits it at the same address; another process maps it from its file descriptor, attaches to it by
    its name, or gets it pickled by multiprocessing. Supports the buffer protocol, writable.
    """

    def __init__(self, nbytes: int, *, label: str = "simpler-ipc") -> None:
        """Make `nbytes` of it, anonymous. `label` is for humans, it shows in /proc/PID/maps.

        Raises ValueError for zero bytes, OSError when the system refuses, UnsupportedPlatform where it is not Linux.
        """

    @staticmethod
    def create(name: str, nbytes: int) -> Region:
        """Make `nbytes` of it under a name, by which other processes of this user can attach to it.

        This process owns the name: it goes when the region is closed or collected here, or Python exits; if the process
        is killed, the next to create it takes it over. The memory stays until nobody uses it any more. A name is 1 to
        200 letters, digits, `.`, `_` or `-`, and begins with no dot.

        Raises RegionExists if a living process owns the name; IpcError if it is taken by something that may not be
        replaced (of another user, of another version); ValueError, OSError, UnsupportedPlatform. Waits two seconds at
        most, for a stopped process that is creating the same name, then raises WaitTimeout.
        """

    @staticmethod
    def attach(name: str) -> Region:
        """Map the region that a living process of this user has created under that name.

        Raises RegionNotFound if there is none or its owner has ended; IpcError if this process may not have it (it says
        why); ValueError, OSError, UnsupportedPlatform.
        """

    @staticmethod
    def from_fd(fd: int) -> Region:
        """Map another process's region from its file descriptor, which is duplicated: close yours when you like.

        Raises ValueError if the descriptor is not sealed against shrinking, OSError if it is none.
        """

    @staticmethod
    def _join(fd: int, name: str | None) -> Region: ...
    @property
    def name(self) -> str | None:
        """What it was created under, or attached to by; None if anonymous."""

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

    def prefault(self, offset: int = 0, nbytes: int | None = None) -> None:
        """Make the pages of a range (by default all from `offset`) now, so that no later access waits for one.

        Bytes stay as they are. Raises ValueError if it leaves the region, OSError when there is no memory for it.
        """

    def punch(self, offset: int, nbytes: int) -> None:
        """Give pages back to the system. The range reads as zero afterwards, in every process.

        Raises ValueError if it leaves the region, Misused if this process has a mailbox or a doorbell there.
        """

    def close(self) -> None:
        """Unmap it, once no mailbox, doorbell or ring lies in it any more; its name goes at once. Twice is fine.

        Raises BufferError while memoryviews or arrays of it exist. Using a closed region raises ValueError. It cannot
        see `np.ndarray(shape, buffer=region)`, nor what else takes the buffer otherwise than memoryview does and may
        keep this object alone: after such a one the memory goes with this object, not before.
        """

    def __enter__(self) -> Self: ...
    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None: ...
    def __len__(self) -> int: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

class NamedRegion:
    """A name of a region and what is known of it. None stands for what cannot be known from here."""

    @property
    def name(self) -> str: ...
    @property
    def nbytes(self) -> int | None: ...
    @property
    def resident(self) -> int | None:
        """How many of its bytes hold pages."""

    @property
    def pid(self) -> int | None:
        """The process that created it."""

    @property
    def start_time(self) -> int | None:
        """When that process started, in clock ticks since boot."""

    @property
    def created(self) -> float:
        """When the name was given: seconds since 1970."""

    @property
    def alive(self) -> bool | None:
        """Whether the owner lives and holds the memory."""

    @property
    def note(self) -> str:
        """Why it is not alive, or why that cannot be told."""

def named_regions() -> list[NamedRegion]:
    """All names of this user's regions, sorted. Raises OSError, UnsupportedPlatform."""

def clean_names(names: Sequence[str] | None = None) -> list[NamedRegion]:
    """Remove the names (of those given, or of all) whose owner is gone: which ones.

    Names of living owners, of owners that cannot be judged from here, and names that another process is busy with stay.
    """

class Doorbell:
    """A "something changed" counter in shared memory, on which processes can sleep."""

    NBYTES: Final = 128
    """What to set aside for one."""

    def __init__(self, region: Region, offset: int = 0) -> None:
        """The doorbell at `offset`, a multiple of 4 (of 128 for speed). Zeroed memory is a doorbell.

        A process rings for a mailbox only at doorbells that were opened so, here or before it was forked.

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

    def __init__(self, pid: int, *, reap: bool = True) -> None:
        """The process that has this id now. Raises PeerDied if there is none.

        A child of this process is reaped when it is found dead. Pass `reap=False` for one that other code started and
        waits for, as multiprocessing and subprocess do: their objects learn of its end only by reaping it themselves.

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

        A client made anew goes on where the one before it stopped. Raises Misused, with the process id, while another
        one lives, in this process or elsewhere; Corrupted.
        """

    def server(self, doorbell: Doorbell | None = None) -> MailboxServer:
        """The side that answers; the client rings `doorbell` for each request (the mailbox's own if None).

        A server made anew goes on where the one before it stopped: what was not replied to is received again. Raises
        Misused, with the process id, while another one lives, in this process or elsewhere; Corrupted.
        """

class MailboxClient:
    """Posts requests, takes replies in the same order.

    Several threads may use it at a time. It belongs to the process that made it: in a forked child its calls raise
    Misused.
    A client made elsewhere when this one is gone goes on where it stopped.
    """

    _aio: Any  # what simpler_ipc.aio keeps of its calls

    @property
    def in_flight(self) -> int:
        """Requests posted whose reply has not been taken."""

    @property
    def free(self) -> int:
        """Frames that are free."""

    @property
    def frame_bytes(self) -> int: ...
    def call(self, kind: int, payload: Buffer, timeout: float | None = None) -> Reply:
        """Send a request and wait for its reply, also for a free frame. Several threads may call at a time.

        Replies to other requests that come meanwhile are kept for `poll`. Raises FrameTooLarge, WaitTimeout, PeerDied
        if a watched peer is gone. After one of the last two the request is cancelled or, if the server has taken it
        already, its reply dropped when it comes.
        """

    def call_large(self, ring: HeapRing, kind: int, payload: Buffer, timeout: float | None = None) -> Reply:
        """As `call`, of a payload that may be larger than a frame: it goes through a block of `ring`, from which this
        process allocates; `ring.received(request)` on the other side. A frame has 24 bytes at least.

        The block is released after the reply; if the call gives up, when the reply comes that nobody waits for. Late
        replies to earlier calls are taken while it waits for space: they give theirs back. Raises HeapRingFull if no
        space comes free in time, and as `call`.
        """

    def acall(self, kind: int, payload: Buffer, timeout: float | None = None) -> Coroutine[Any, Any, Reply]:
        """As `call`, awaited in an asyncio event loop; any number at a time. Cancelling the task abandons the request.

        `payload` is copied when a frame is free for it: do not change it before. Raises RuntimeError if the client has
        calls in another running event loop.
        """

    def request(self, kind: int = 1, timeout: float | None = None) -> RequestFrame:
        """A frame to be filled in place: `with client.request() as frame:`; posted when the block ends.

        Waits for a free frame at the beginning of the block. Its reply comes to `poll`. The end of the block raises
        BufferError while an array or another view made of the frame exists: nothing is sent then.
        """

    def reserve(self) -> memoryview | None:
        """The whole payload of the next free frame, writable; None when all are in flight.

        Fill it, then `post`. Until then it is the same frame again, and the one that `send` and `call` use. Posting
        releases the view, as the frame is the server's then: using it raises ValueError. For one thread, without the
        cost of a `with` block; see `request`. The view's own `obj` counts as another view of the frame.
        """

    def post(self, kind: int, nbytes: int) -> int:
        """Hand the reserved frame, its first `nbytes` the request, to the server; its ticket: 0, 1, 2, …

        Raises FrameTooLarge, Misused if nothing is reserved, ValueError for no kind; BufferError while an array, a
        slice or another view made of the reserved one exists: delete it, and post again.
        """

    def send(self, kind: int, payload: Buffer) -> int | None:
        """Reserve, copy, post: the ticket; None when all frames are in flight. Raises FrameTooLarge."""

    def send_many(self, kind: int, payloads: Sequence[Buffer]) -> int:
        """Send payloads until all frames are in flight: how many went. One look for a sleeping server serves all.

        Raises FrameTooLarge; those before the one that is too large are sent.
        """

    def poll(self) -> Reply | None:
        """The reply to the oldest request if it is there, freeing its frame. Not those that calls wait for."""

    def poll_many(self, limit: int | None = None) -> list[Reply]:
        """The replies that are there, oldest first, at most `limit`."""

    def cancel(self, ticket: int) -> bool:
        """Take a request back: True if it is certain that the server has not taken it and never will.

        Its reply, with status CANCELLED, comes in its turn. False if it is too late or cannot be told: the reply tells.
        Raises Misused if no such request is in flight.
        """

    def begin(self, kind: int, payload: Buffer) -> int | None:
        """The first of the three steps of `call`, for other ways of waiting: send; the ticket, None if none is free.

        Replies that are in the way are kept for `poll`.
        """

    def take(self, ticket: int) -> Reply | None:
        """The second: the reply if it is there. Raises Misused if nothing with that ticket was begun."""

    def abandon(self, ticket: int) -> None:
        """Instead of the second: cancel the request, or drop its reply when it comes.

        Raises Misused in a forked child, which has inherited the client; nothing if the server cannot be woken.
        """

    def notifier(self) -> Notifier:
        """A file descriptor for event loops that wait for replies.

        Raises Misused in a forked child, which has inherited the client.
        """

    def watch(self, peer: Peer) -> None:
        """From now on waits end with PeerDied as soon as `peer` is gone and no reply is left."""

    def forget(self, peer: Peer) -> None:
        """End that: when a successor has taken its place. Nothing happens if it is not watched."""

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the oldest request's reply is there: `poll` gives it, unless a call waits for it.

        Raises WaitTimeout, PeerDied if a watched peer is gone, Misused if nothing is in flight.
        """

class RequestFrame:
    """A frame that is filled in place in a `with` block and posted at its end; after an exception nothing is sent.

    Supports the buffer protocol, writable, inside the block only. Others may send meanwhile: the server gets requests
    in the order in which their blocks began, so finish soon. `np.ndarray(shape, buffer=frame)`, whose end is not known,
    raises BufferError: take `frame.numpy()`, or the buffer of `frame.payload`.
    """

    nbytes: int
    """How much of the frame is the request: all of it unless set. Raises FrameTooLarge."""

    @property
    def payload(self) -> memoryview:
        """The whole payload of the frame. Released at the end of the block: using it raises ValueError then."""

    def numpy(
        self, dtype: npt.DTypeLike = "uint8", shape: int | Sequence[int] | None = None, offset: int = 0
    ) -> np.ndarray[Any, Any]:
        """A writable array over the frame, as `Region.numpy`. Gone before the block ends: keep no variable of it.

        `shape` defaults to one dimension of all that fits. Raises ValueError if it does not fit.
        """

    @property
    def ticket(self) -> int | None:
        """The request's, once it is posted."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None: ...
    def __buffer__(self, flags: int, /) -> memoryview: ...

class Notifier:
    """An eventfd that becomes readable when a client has a reply to take; for event loops other than asyncio's too.

    A thread waits for the server's ring while the notifier is armed, and passes it on. It ends with this object.
    """

    def fileno(self) -> int: ...
    def arm(self) -> None:
        """Make the descriptor readable once, at the next reply or a watched peer's death. Requests are in flight."""

    def clear(self) -> None:
        """Make it unreadable again. Raises PeerDied if that was what happened."""

class MailboxServer:
    """Receives requests in order, replies to them in order."""

    def serve(self, handler: Callable[[Request], Buffer | None], timeout: float | None = None) -> None:
        """Reply to each request with what `handler(request)` returns, until one of kind SHUTDOWN, replied to by itself.

        An exception of the handler, or a reply that does not fit, becomes a reply with status FAILED, code 1 and its
        type and message; KeyboardInterrupt and SystemExit end the loop. Raises as `recv`; `timeout` is for each
        request.
        """

    def recv(self, timeout: float | None = None) -> Request:
        """The next request. Several may be received before the first is replied to.

        Raises WaitTimeout, PeerDied if a watched peer is gone and no request is left, Misused if every frame is
        received and none replied to.
        """

    def recv_many(self, limit: int | None = None, timeout: float | None = None) -> list[Request]:
        """Waits for one as `recv`, and takes what else is there, at most `limit`."""

    def reply(self, code: int = 0, payload: Buffer | None = None) -> None:
        """Reply to the oldest request received and not replied to. `payload` may be the request's own bytes.

        Raises FrameTooLarge (the request stays unanswered), Misused if there is no request.
        """

    def reply_many(self, payloads: Sequence[Buffer]) -> None:
        """Reply to as many of the oldest requests, each with code 0. One look for a sleeping client serves all."""

    def fail(self, message: str, code: int = 1) -> None:
        """Reply with status FAILED to the oldest request. A message that does not fit into the frame is cut."""

    def watch(self, peer: Peer) -> None:
        """From now on `recv` ends with PeerDied as soon as `peer` is gone and no request is left."""

    def forget(self, peer: Peer) -> None:
        """End that: when a successor has taken its place. Nothing happens if it is not watched."""

class Reply:
    """A reply, copied out of its frame."""

    @property
    def ticket(self) -> int:
        """That of the request."""

    @property
    def kind(self) -> int:
        """The kind of the request."""

    @property
    def status(self) -> int:
        """OK, FAILED or CANCELLED."""

    @property
    def code(self) -> int:
        """32 bits, signed; what it means is between client and server."""

    @property
    def payload(self) -> bytes: ...
    @property
    def message(self) -> str:
        """What the server says of a failure; empty if there is none."""

    def result(self) -> bytes:
        """The payload. Raises RequestFailed, RequestCancelled."""

class Request:
    """A request in its frame. Its bytes are valid until it is replied to; the memory stays mapped even then."""

    @property
    def ticket(self) -> int: ...
    @property
    def kind(self) -> int: ...
    @property
    def payload(self) -> memoryview:
        """The request's bytes, in place and writable."""

    def numpy(
        self, dtype: npt.DTypeLike = "uint8", shape: int | Sequence[int] | None = None, offset: int = 0
    ) -> np.ndarray[Any, Any]:
        """An array over the payload in its frame, as `Region.numpy`; valid until it is replied to.

        `shape` defaults to one dimension of all that fits. Raises ValueError if it does not fit.
        """

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

    def add(self, client: MailboxClient) -> None:
        """From now on `harvest` takes its replies. Raises ValueError if it waits at another doorbell."""

    def remove(self, client: MailboxClient) -> None:
        """End that. Nothing happens if it was not added."""

    def harvest(self, timeout: float | None = None, limit: int | None = None) -> list[tuple[MailboxClient, Reply]]:
        """Replies of any clients, at most `limit`; waits until there is one.

        Fair: clients are asked in turn for one reply each, beginning behind the one that was last served. Raises
        WaitTimeout; ValueError for a limit of 0; PeerDied once for each watched peer that dies, when no reply is left.
        """

    def watch(self, peer: Peer) -> None:
        """From now on its death rings the doorbell and ends a wait."""

    def forget(self, peer: Peer) -> None:
        """End that. Nothing happens if it is not watched."""

    def wait(self, seen: int, timeout: float | None = None) -> int:
        """Wait until the doorbell's count is other than `seen`, or a peer has died since the last wait; the count.

        Ask the peers which one. Each death ends one wait, whatever `seen` is. Raises WaitTimeout.
        """

    def close(self) -> None:
        """Forget every peer and client. The watcher thread ends with the process's last watch. Twice is fine."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None: ...

class HeapRing:
    """A ring allocator: one process allocates, any process releases, space is reclaimed first-in-first-out.

    Nothing of it costs memory until it is used. Pages once used stay with the ring; `Region.punch` gives them back.

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
        release, each number is of some recent moment. Raises Corrupted if the ring's memory is spoilt.
        """

    def watch(self, peer: Peer) -> None:
        """From now on an `alloc` that waits ends with PeerDied as soon as `peer` is gone and there is still no space.

        For those who hold blocks: what they hold stays live when they die.
        """

    def forget(self, peer: Peer) -> None:
        """End that: when nothing is left of what it held. Nothing happens if it is not watched."""

    def alloc(self, nbytes: int, timeout: float | None = 0.0) -> int:
        """The address of a new block, a multiple of the alignment. When full, waits for space up to `timeout`.

        The bytes are what the last user left there (0xdd or zero in a ring that poisons). The first to call it is the
        ring's allocator; its threads take turns. Another process follows when that object is gone or its process has
        ended, and finds all blocks as they were.

        Raises HeapRingFull, PeerDied if a watched peer is gone; Misused if another process allocates here, or the
        ring's processes are of another pid or time namespace; IpcError if something wrote to the block's bytes after
        they were released (once, in a ring that poisons).
        """

    def received(self, request: Request) -> Request:
        """The request with the payload that it refers to, where it lies in the ring: the other side of `call_large`.

        Valid until it is replied to. Raises ValueError if the request is no reference, Corrupted if it refers to what
        is no live block of this ring.
        """

    def release(self, address: int) -> None:
        """Give a block back, in any order, from any process; `address` is that in this one.

        Raises ValueError naming the address if no live block starts there: never allocated, or released already.
        """
