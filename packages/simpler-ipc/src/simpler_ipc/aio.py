"""Calls that an asyncio event loop waits for: what `MailboxClient.acall` does."""

from __future__ import annotations

import asyncio
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from simpler_ipc._native import MailboxClient, Reply
from simpler_ipc.errors import WaitTimeout

if TYPE_CHECKING:
    from typing_extensions import Buffer


class _Calls:
    """The calls of one client in one event loop, with their tickets; and those that wait for a free frame. In order."""

    def __init__(self, client: MailboxClient, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.notifier = client.notifier()
        # Not dict: its first entry is far to find when many before it are gone.
        self.pending: OrderedDict[asyncio.Future[Reply], int] = OrderedDict()
        self.waiting: OrderedDict[asyncio.Future[Reply], tuple[int, Buffer]] = OrderedDict()
        self.listening = False

    def begin(self, client: MailboxClient, kind: int, payload: Buffer) -> asyncio.Future[Reply]:
        future: asyncio.Future[Reply] = self.loop.create_future()
        ticket = None if self.waiting else client.begin(kind, payload)
        if ticket is None:
            self.waiting[future] = kind, payload
        else:
            self.pending[future] = ticket
        self.listen(client)
        return future

    def end(self, client: MailboxClient, future: asyncio.Future[Reply]) -> None:
        """Forgets a call that nobody waits for any more."""
        self.waiting.pop(future, None)
        ticket = self.pending.pop(future, None)
        if ticket is not None:
            client.abandon(ticket)
        self.listen(client)

    def listen(self, client: MailboxClient) -> None:
        """Waits for the next reply as long as there is a call."""
        wanted = bool(self.pending or self.waiting)
        if wanted and not self.listening:
            self.loop.add_reader(self.notifier.fileno(), _on_reply(client))
        elif self.listening and not wanted:
            self.loop.remove_reader(self.notifier.fileno())
        self.listening = wanted
        if wanted:
            self.notifier.arm()

    def advance(self, client: MailboxClient) -> None:
        """Hands out the replies that are there, and sends what there is room for now."""
        try:
            self.notifier.clear()
            self.take_replies(client)
            self.send_waiting(client)
        except Exception as error:  # the peer is dead, the memory spoilt: every call ends with it
            self.fail(client, error)
        finally:
            self.listen(client)

    def take_replies(self, client: MailboxClient) -> None:
        while self.pending:  # in the order of their requests, which is that of the replies
            future, ticket = next(iter(self.pending.items()))
            reply = client.take(ticket)
            if reply is None:
                break
            del self.pending[future]
            if not future.done():
                future.set_result(reply)

    def send_waiting(self, client: MailboxClient) -> None:
        while self.waiting:
            future, (kind, payload) = next(iter(self.waiting.items()))
            try:
                ticket = client.begin(kind, payload)
            except Exception as error:  # of this one alone: its payload was released meanwhile, say
                del self.waiting[future]
                if not future.done():
                    future.set_exception(error)
                continue
            if ticket is None:
                break
            del self.waiting[future]
            self.pending[future] = ticket

    def fail(self, client: MailboxClient, error: Exception) -> None:
        futures, tickets = [*self.pending, *self.waiting], list(self.pending.values())
        self.pending.clear()
        self.waiting.clear()
        for future in futures:
            if not future.done():
                future.set_exception(error)
        for ticket in tickets:
            client.abandon(ticket)


def _on_reply(client: MailboxClient) -> Callable[[], None]:
    known = weakref.ref(client)  # the loop does not keep the client alive

    def on_reply() -> None:
        if (client := known()) is not None:
            client._aio.advance(client)

    return on_reply


def _calls_of(client: MailboxClient) -> _Calls:
    loop = asyncio.get_running_loop()
    calls: _Calls | None = client._aio
    if calls is None or calls.loop is not loop:
        if calls is not None and calls.listening and not calls.loop.is_closed():
            raise RuntimeError("the client has calls in another event loop, which still runs")
        calls = client._aio = _Calls(client, loop)
    return calls


async def call(client: MailboxClient, kind: int, payload: Buffer, timeout: float | None) -> Reply:
    """See `MailboxClient.acall`."""
    if timeout is not None and not timeout >= 0:
        raise ValueError(f"a timeout is None or not negative, not {timeout}")
    if memoryview(payload).nbytes > client.frame_bytes:
        client.send(kind, payload)  # raises, naming both sizes
    calls = _calls_of(client)
    future = calls.begin(client, kind, payload)
    try:
        async with asyncio.timeout(timeout):
            return await future
    except TimeoutError as error:
        if isinstance(error, WaitTimeout):
            raise
        raise WaitTimeout(f"waited {timeout:.3f} s for a reply") from None
    finally:
        if not future.done() or future.cancelled():
            calls.end(client, future)
