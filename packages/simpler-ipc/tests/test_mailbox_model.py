"""A mailbox against a model, by hypothesis: a list of requests, how far the server is, and what became of each."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from simpler_ipc import (
    CANCELLED,
    CONTROL,
    FAILED,
    OK,
    SHUTDOWN,
    TASK,
    FrameTooLarge,
    IpcError,
    Mailbox,
    Region,
    Reply,
    Request,
    RequestCancelled,
    RequestFailed,
    WaitTimeout,
)

FRAME_BYTES = 48
KINDS = st.sampled_from([TASK, CONTROL, SHUTDOWN])
PAYLOADS = st.binary(max_size=FRAME_BYTES)


@dataclass
class Entry:
    """A request in a frame."""

    ticket: int
    kind: int
    payload: bytes
    cancelled: bool = False
    reply: tuple[int, int, bytes] | None = None  # status, code, payload


class AgainstAModel(RuleBasedStateMachine):
    """Every request gets one reply, in order, with what the server said or that it was taken back."""

    @initialize(depth=st.integers(1, 6))
    def start(self, depth: int) -> None:
        self.depth = depth
        self.box = Mailbox(Region(Mailbox.required_bytes(depth, FRAME_BYTES)), depth=depth, frame_bytes=FRAME_BYTES)
        self.client, self.server = self.box.client(), self.box.server()
        self.entries: list[Entry] = []  # oldest first
        self.kept = 0  # how many of those the client has taken out of their frames, to make room
        self.ticket = 0  # the next
        self.next = self.oldest = 0  # tickets: what the server receives, and replies to, next
        self.announced = 0  # one more than the last ticket that any server received

    def entry(self, ticket: int) -> Entry | None:
        return next((entry for entry in self.entries if entry.ticket == ticket), None)

    def posted(self, kind: int, payload: bytes) -> None:
        self.entries.append(Entry(self.ticket, kind, payload))
        self.ticket += 1

    @property
    def free(self) -> int:
        return self.depth - (len(self.entries) - self.kept)

    @rule(kind=KINDS, payload=PAYLOADS)
    def send(self, kind: int, payload: bytes) -> None:
        assert self.client.send(kind, payload) == (self.ticket if self.free else None)
        if self.free:
            self.posted(kind, payload)

    @rule(kind=KINDS, payloads=st.lists(PAYLOADS, max_size=8))
    def send_many(self, kind: int, payloads: list[bytes]) -> None:
        fit = payloads[: self.free]
        assert self.client.send_many(kind, payloads) == len(fit)
        for payload in fit:
            self.posted(kind, payload)

    @rule(kind=KINDS, payload=PAYLOADS)
    def fill_in_place(self, kind: int, payload: bytes) -> None:
        if not self.free and self.replies > self.kept:
            self.kept += 1
        if not self.free:
            with pytest.raises(WaitTimeout), self.client.request(kind, timeout=0):
                raise AssertionError("no frame was free")
            return
        with self.client.request(kind, timeout=0) as frame:
            memoryview(frame)[: len(payload)] = payload
            frame.nbytes = len(payload)
        assert frame.ticket == self.ticket
        self.posted(kind, payload)

    @rule()
    def send_too_much(self) -> None:
        with pytest.raises(FrameTooLarge):
            self.client.send(TASK, bytes(FRAME_BYTES + 1))

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        ticket = data.draw(st.integers(max(0, self.ticket - self.depth - 1), self.ticket))
        entry = self.entry(ticket)
        if entry is None or entry in self.entries[: self.kept]:
            with pytest.raises(IpcError, match="in flight"):
                self.client.cancel(ticket)
            return
        in_time = self.announced <= ticket and not entry.cancelled and entry.reply is None
        assert self.client.cancel(ticket) == in_time
        entry.cancelled |= in_time

    def finish_cancelled(self) -> None:
        """Requests taken back that the server has come past are finished as soon as it is their turn."""
        while self.oldest < self.next and (entry := self.entry(self.oldest)) and entry.cancelled:
            entry.reply = (CANCELLED, 0, b"")
            self.oldest += 1

    def expected_request(self) -> Entry | None:
        while self.next - self.oldest < self.depth and (entry := self.entry(self.next)):
            self.next += 1
            if not entry.cancelled:
                self.announced = max(self.announced, self.next)
                return entry
            self.finish_cancelled()
        return None

    @staticmethod
    def check_request(request: Request, entry: Entry | None) -> None:
        assert entry is not None
        assert (request.ticket, request.kind, bytes(request)) == (entry.ticket, entry.kind, entry.payload)

    @rule()
    def recv(self) -> None:
        expected = self.expected_request()
        if expected is None:
            with pytest.raises(IpcError if self.next - self.oldest == self.depth else WaitTimeout):
                self.server.recv(timeout=0)
        else:
            self.check_request(self.server.recv(timeout=0), expected)

    @rule(limit=st.integers(1, 4))
    def recv_many(self, limit: int) -> None:
        expected = self.expected_request()
        if expected is None:
            with pytest.raises(IpcError if self.next - self.oldest == self.depth else WaitTimeout):
                self.server.recv_many(limit, timeout=0)
            return
        requests = self.server.recv_many(limit, timeout=0)
        self.check_request(requests[0], expected)
        for request in requests[1:]:
            self.check_request(request, self.expected_request())
        if len(requests) < limit:
            assert self.expected_request() is None

    def replied(self, status: int, code: int, payload: bytes) -> None:
        entry = self.entry(self.oldest)
        assert entry is not None
        entry.reply = (status, code, payload)
        self.oldest += 1
        self.finish_cancelled()

    @rule(code=st.integers(-(2**31), 2**31 - 1), payload=PAYLOADS)
    def reply(self, code: int, payload: bytes) -> None:
        if self.oldest == self.next:
            with pytest.raises(IpcError, match="without a request"):
                self.server.reply(code, payload)
            return
        with pytest.raises(FrameTooLarge):
            self.server.reply(code, bytes(FRAME_BYTES + 1))
        self.server.reply(code, payload)
        self.replied(OK, code, payload)

    @precondition(lambda self: self.oldest < self.next)
    @rule(code=st.integers(1, 100), message=st.text(max_size=FRAME_BYTES // 4))
    def fail(self, code: int, message: str) -> None:
        self.server.fail(message, code)
        self.replied(FAILED, code, message.encode())

    @rule(data=st.data())
    def reply_many(self, data: st.DataObject) -> None:
        taken = sum(not self.entry(ticket).cancelled for ticket in range(self.oldest, self.next))  # type: ignore[union-attr]
        payloads = data.draw(st.lists(PAYLOADS, max_size=taken))
        self.server.reply_many(payloads)
        for payload in payloads:
            self.replied(OK, 0, payload)

    def check_reply(self, reply: Reply) -> None:
        entry = self.entries.pop(0)
        self.kept = max(0, self.kept - 1)
        assert (reply.ticket, reply.kind) == (entry.ticket, entry.kind)
        assert (reply.status, reply.code, reply.payload) == entry.reply
        if reply.status == OK:
            assert reply.result() == reply.payload
        elif reply.status == FAILED:
            assert reply.message == reply.payload.decode()
            with pytest.raises(RequestFailed):
                reply.result()
        else:
            with pytest.raises(RequestCancelled):
                reply.result()

    @property
    def replies(self) -> int:
        waiting = (number for number, entry in enumerate(self.entries) if entry.reply is None)
        return next(waiting, len(self.entries))

    @rule()
    def poll(self) -> None:
        reply = self.client.poll()
        assert (reply is not None) == (self.replies > 0)
        if reply is not None:
            self.check_reply(reply)

    @rule(limit=st.none() | st.integers(0, 4))
    def poll_many(self, limit: int | None) -> None:
        replies = self.client.poll_many(limit)
        assert len(replies) == (self.replies if limit is None else min(self.replies, limit))
        for reply in replies:
            self.check_reply(reply)

    @rule()
    def wait(self) -> None:
        if self.replies:
            self.client.wait(timeout=0)
        else:
            with pytest.raises(WaitTimeout if self.entries else IpcError):
                self.client.wait(timeout=0)

    @rule()
    def another_client(self) -> None:
        del self.entries[: self.kept]  # gone with the one that took them
        self.kept = 0
        del self.client
        self.client = self.box.client()

    @rule()
    def another_server(self) -> None:
        del self.server
        self.server = self.box.server()
        self.next = self.oldest  # what was not replied to is received again

    @invariant()
    def counts_agree(self) -> None:
        if hasattr(self, "entries"):
            assert (self.client.in_flight, self.client.free) == (len(self.entries), self.free)


AgainstAModel.TestCase.settings = settings(max_examples=200, stateful_step_count=60, deadline=None)
TestAgainstAModel = AgainstAModel.TestCase
