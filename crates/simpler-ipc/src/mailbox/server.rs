//! The side of a mailbox that receives requests and replies to them.

use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::Arc;

use super::ringer::Ringer;
use super::side::{Role, Side};
use super::waiters::{check_room, LaneWaiter, RequestWaiter};
use super::Lane;
use crate::doorbell::Doorbell;
use crate::error::{Error, Result};
use crate::peer::Peer;
use crate::protocol::frame::{Kind, Next, State, Status};
use crate::protocol::progress::Progress;
use crate::protocol::turn::{scan_as_server, Found, Turn};
use crate::region::Window;
use crate::spin::Spin;
use crate::wait::Patience;

/// A request in its frame: valid until it is replied to, after which the bytes may be those of a later one.
#[derive(Debug, Clone)]
pub struct Request {
    /// 0, 1, 2… in the order of posting.
    pub ticket: u64,
    /// What it is.
    pub kind: Kind,
    /// What the client sent, in place.
    pub payload: Window,
}

/// The code of a failed reply that no server gave: it was killed when it had half replaced the request by its reply.
pub const LOST: i32 = i32::MIN;
const LOST_MESSAGE: &str = "the server was killed while it wrote its reply over the request: neither is left";

/// See the module's text.
#[derive(Debug)]
pub struct MailboxServer {
    lane: Arc<Lane>,
    /// The next request to receive.
    next: Turn,
    /// The oldest request not replied to.
    oldest: Turn,
    /// Requests between the two that are not for the caller, and how they are finished in their turn.
    skipped: VecDeque<(u64, Status)>,
    client: Ringer,
    waiter: Arc<RequestWaiter>,
    side: Side,
}

impl MailboxServer {
    pub(super) fn new(lane: Arc<Lane>, doorbell: Option<&Doorbell>) -> Result<Self> {
        let side = Side::claim(&lane, Role::Server)?;
        let Found { turn: next, state } = scan_as_server(lane.depth, |frame| lane.frame(frame).word())?;
        let waiter = LaneWaiter::new(lane.clone(), Role::Server, doorbell, Spin::moving())?;
        let waiter = Arc::new(RequestWaiter { waiter, progress: Progress::at(next.ticket, next.ticket) });
        let client = Ringer::new(Role::Server.other());
        let mut server = MailboxServer { lane, next, oldest: next, skipped: VecDeque::new(), client, waiter, side };
        let torn = server.lane.header().taking.is_overwritten(next.ticket);
        if torn && state == Some(State::TaskReady) {
            server.skip(Status::Failed)?;
        }
        // A predecessor was killed between replying and ringing: the client sleeps. What is wrong with its doorbell, the
        // first reply tells.
        if server.side.follows_dead() {
            let _ = server.flush();
        }
        Ok(server)
    }

    /// Requests received and not replied to.
    pub fn unreplied(&self) -> usize {
        (self.next.ticket - self.oldest.ticket) as usize - self.skipped.len()
    }

    /// Whether another request may be received before one is replied to.
    pub fn has_room(&self) -> bool {
        self.next.ticket - self.oldest.ticket < self.lane.depth as u64
    }

    /// Payload bytes of a frame.
    pub fn frame_bytes(&self) -> usize {
        self.lane.frame_bytes
    }

    /// The next request, waiting for it.
    ///
    /// # Errors
    /// [`Error::Misused`] if every frame is received and none replied to; [`Error::PeerDied`] if a watched peer is
    /// gone; [`Error::WaitTimeout`]; [`Error::Interrupted`]; [`Error::Corrupted`].
    pub fn recv(&mut self, patience: &mut Patience<'_>) -> Result<Request> {
        loop {
            if let Some(request) = self.try_recv()? {
                return Ok(request);
            }
            self.waiter.wait(patience)?;
        }
    }

    /// The next request, if it is there.
    ///
    /// # Errors
    /// [`Error::Misused`] if every frame is received and none replied to; [`Error::Corrupted`].
    #[inline]
    pub fn try_recv(&mut self) -> Result<Option<Request>> {
        self.side.check()?;
        loop {
            if !self.has_room() && !self.skipped.is_empty() {
                return Ok(None); // it is not the caller who has taken all frames
            }
            check_room(&self.lane, self.next.ticket, self.oldest.ticket)?;
            let Turn { ticket, frame, generation } = self.next;
            let header = self.lane.frame(frame);
            match header.peek(generation, self.lane.frame_bytes)? {
                Next::Nothing => return Ok(None),
                Next::Request(posted) if self.lane.header().taking.take(ticket, header, generation) => {
                    let payload = self.lane.window(frame, posted.nbytes)?;
                    self.advance();
                    return Ok(Some(Request { ticket, kind: posted.kind, payload }));
                }
                Next::Request(_) | Next::Cancelled => self.skip(Status::Cancelled)?,
            }
        }
    }

    fn advance(&mut self) {
        self.next = self.next.next(self.lane.depth);
        self.waiter.progress.set_begun(self.next.ticket);
    }

    fn skip(&mut self, status: Status) -> Result<()> {
        self.skipped.push_back((self.next.ticket, status));
        self.advance();
        self.finish_skipped()?;
        self.flush()
    }

    /// Finishes the skipped requests whose turn it is.
    fn finish_skipped(&mut self) -> Result<()> {
        while let Some(&(_, status)) = self.skipped.front().filter(|(ticket, _)| *ticket == self.oldest.ticket) {
            self.skipped.pop_front();
            let (code, message) = match status {
                Status::Failed => (LOST, LOST_MESSAGE),
                _ => (0, ""),
            };
            let message = fitting(message, self.lane.frame_bytes);
            // SAFETY: a string slice is valid for its length.
            unsafe { self.lane.fill(self.oldest.frame, message.as_ptr(), message.len())? };
            self.finish_oldest(status, code, message.len());
        }
        Ok(())
    }

    fn finish_oldest(&mut self, status: Status, code: i32, nbytes: usize) {
        let Turn { frame, generation, .. } = self.oldest;
        self.lane.frame(frame).finish(generation, status, code, nbytes);
        self.oldest = self.oldest.next(self.lane.depth);
        self.waiter.progress.set_ended(self.oldest.ticket);
    }

    /// Replies to the oldest request received and not replied to. On an error it is still the oldest.
    ///
    /// # Errors
    /// [`Error::Misused`] if there is none, or if the client waits at a doorbell that this process has not mapped;
    /// [`Error::FrameTooLarge`]; [`Error::Corrupted`].
    #[inline]
    pub fn reply(&mut self, code: i32, payload: &[u8]) -> Result<()> {
        // SAFETY: a slice is valid for its length.
        unsafe { self.reply_raw(code, payload.as_ptr(), payload.len()) }
    }

    /// As [`MailboxServer::reply`], from bytes that may be the request's own.
    ///
    /// # Safety
    /// `payload` is valid for reads of `nbytes`.
    ///
    /// # Errors
    /// As [`MailboxServer::reply`].
    #[inline]
    pub unsafe fn reply_raw(&mut self, code: i32, payload: *const u8, nbytes: usize) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.queue_reply_raw(Status::Ok, code, payload, nbytes)? };
        self.flush()
    }

    /// As [`MailboxServer::reply_raw`], but a sleeping client is not woken before [`MailboxServer::flush`].
    ///
    /// # Safety
    /// `payload` is valid for reads of `nbytes`.
    ///
    /// # Errors
    /// As [`MailboxServer::reply`].
    #[inline]
    pub unsafe fn queue_reply_raw(
        &mut self,
        status: Status,
        code: i32,
        payload: *const u8,
        nbytes: usize,
    ) -> Result<()> {
        self.side.check()?;
        if self.oldest == self.next {
            return Err(Error::Misused("reply() without a request: every one received is replied to".to_owned()));
        }
        self.client.refresh(&self.lane)?;
        self.lane.check_fits(nbytes)?;
        // Also for a reply of no bytes: the header's count of them is the request's until then.
        self.lane.header().taking.overwrite(self.oldest.ticket);
        // SAFETY: the caller's promise.
        unsafe { self.lane.fill(self.oldest.frame, payload, nbytes)? };
        self.finish_oldest(status, code, nbytes);
        self.finish_skipped()
    }

    /// Wakes the client if it sleeps.
    ///
    /// # Errors
    /// [`Error::Misused`] if it waits at a doorbell that this process has not mapped.
    #[inline]
    pub fn flush(&mut self) -> Result<()> {
        self.client.ring(&self.lane)
    }

    /// Replies that the oldest request failed, and why: as much of the message as fits into the frame.
    ///
    /// # Errors
    /// As [`MailboxServer::reply`], but for [`Error::FrameTooLarge`].
    pub fn fail(&mut self, code: i32, message: &str) -> Result<()> {
        let message = fitting(message, self.lane.frame_bytes);
        // SAFETY: a string slice is valid for its length.
        unsafe { self.queue_reply_raw(Status::Failed, code, message.as_ptr(), message.len())? };
        self.flush()
    }

    /// Answers requests with what `handler` makes of them, until one of [`Kind::Shutdown`], which is answered with no
    /// bytes. What the handler fails with, and a reply that is too large for a frame, becomes a failed reply with
    /// code 1.
    ///
    /// # Errors
    /// As [`MailboxServer::recv`].
    pub fn serve<E: Display>(
        &mut self,
        patience: &mut Patience<'_>,
        mut handler: impl FnMut(&Request) -> std::result::Result<Vec<u8>, E>,
    ) -> Result<()> {
        loop {
            let request = self.recv(patience)?;
            if request.kind == Kind::Shutdown {
                return self.reply(0, &[]);
            }
            match handler(&request) {
                Ok(payload) => match self.reply(0, &payload) {
                    Err(error @ Error::FrameTooLarge { .. }) => self.fail(1, &error.to_string())?,
                    replied => replied?,
                },
                Err(error) => self.fail(1, &error.to_string())?,
            }
        }
    }

    /// What waits for a request, apart from the server, so that the server is free meanwhile.
    pub fn waiter(&self) -> Arc<RequestWaiter> {
        self.waiter.clone()
    }

    /// From now on waits of this server end with [`Error::PeerDied`] as soon as `peer` is gone and no request is left.
    ///
    /// # Errors
    /// [`Error::Os`] if the watcher thread cannot be started.
    pub fn watch(&self, peer: &Peer) -> Result<()> {
        self.side.check()?;
        self.waiter.waiter.watched.watch(peer)
    }

    /// Ends what [`MailboxServer::watch`] began: when a successor has taken the peer's place.
    pub fn forget(&self, peer: &Peer) {
        self.waiter.waiter.watched.forget(peer);
    }
}

/// As much of a message as has that many bytes, in whole characters.
fn fitting(message: &str, nbytes: usize) -> &str {
    let mut end = message.len().min(nbytes);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    &message[..end]
}
