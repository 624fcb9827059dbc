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
use crate::protocol::frame::{Frame, Kind, Next, Posted, Status};
use crate::protocol::progress::Progress;
use crate::protocol::turn::{scan_as_server, Turn};
use crate::region::{Region, SharedBytes};
use crate::spin::Spin;
use crate::wait::Patience;

/// A request in its frame. It borrows the server, which the next call to it ends: no view outlives the reply.
///
/// ```compile_fail,E0499
/// # fn main() -> Result<(), simpler_ipc::Error> {
/// # use simpler_ipc::{Mailbox, Patience, Region};
/// # let region = Region::anonymous(Mailbox::required_bytes(1, 64)?, "example")?;
/// # let mut server = Mailbox::new(&region, 0, 1, 64)?.server(None)?;
/// let request = server.recv(&mut Patience::forever())?;
/// server.reply(0, b"done")?;
/// request.payload.to_vec(); // may be a later request by now
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// 0, 1, 2… in the order of posting.
    pub ticket: u64,
    /// What it is.
    pub kind: Kind,
    /// What the client sent, in place.
    pub payload: SharedBytes<'a>,
}

/// See the module's text.
#[derive(Debug)]
pub struct MailboxServer {
    lane: Arc<Lane>,
    /// The next request to receive.
    next: Turn,
    /// The oldest request not replied to.
    oldest: Turn,
    /// Requests between the two that were cancelled, and are finished in their turn.
    skipped: VecDeque<u64>,
    client: Ringer,
    waiter: Arc<RequestWaiter>,
    side: Side,
}

impl MailboxServer {
    pub(super) fn new(lane: Arc<Lane>, doorbell: Option<&Doorbell>) -> Result<Self> {
        let side = Side::claim(&lane, Role::Server)?;
        let next = scan_as_server(lane.depth, |frame| lane.frame(frame).word())?;
        let waiter = LaneWaiter::new(lane.clone(), Role::Server, doorbell, Spin::moving())?;
        let waiter = Arc::new(RequestWaiter { waiter, progress: Progress::at(next.ticket, next.ticket) });
        let client = Ringer::new(Role::Server.other());
        let mut server = MailboxServer { lane, next, oldest: next, skipped: VecDeque::new(), client, waiter, side };
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
    #[inline]
    pub fn recv(&mut self, patience: &mut Patience<'_>) -> Result<Request<'_>> {
        self.side.check()?;
        loop {
            if let Some((turn, posted)) = self.take_next()? {
                return Ok(self.request(turn, posted));
            }
            if patience.only_looks() || !self.has_room() || !self.waiter.glance_at(self.next) {
                self.waiter.wait(patience)?;
            }
        }
    }

    /// The next request, if it is there.
    ///
    /// # Errors
    /// [`Error::Misused`] if every frame is received and none replied to; [`Error::Corrupted`].
    #[inline]
    pub fn try_recv(&mut self) -> Result<Option<Request<'_>>> {
        self.side.check()?;
        Ok(self.take_next()?.map(|(turn, posted)| self.request(turn, posted)))
    }

    /// A request once more that was received and is not replied to: several may be looked at together.
    ///
    /// # Errors
    /// [`Error::Misused`] if no request with that ticket is received and not replied to; [`Error::Corrupted`].
    pub fn received(&self, ticket: u64) -> Result<Request<'_>> {
        self.side.check()?;
        let received = (self.oldest.ticket..self.next.ticket).contains(&ticket);
        if !received || self.skipped.contains(&ticket) {
            return Err(Error::Misused(format!("no request with ticket {ticket} is received and not replied to")));
        }
        let turn = Turn::at(ticket, self.lane.depth);
        Ok(self.request(turn, self.lane.frame(turn.frame).request.posted(self.lane.frame_bytes)?))
    }

    /// The memory that requests lie in, for those who keep one at their own risk.
    #[doc(hidden)]
    pub fn region(&self) -> &Region {
        &self.lane.region
    }

    #[inline]
    fn request(&self, turn: Turn, posted: Posted) -> Request<'_> {
        let payload = self.lane.request(turn.frame, posted.nbytes);
        Request { ticket: turn.ticket, kind: posted.kind, payload }
    }

    #[inline]
    fn take_next(&mut self) -> Result<Option<(Turn, Posted)>> {
        loop {
            if !self.has_room() && !self.skipped.is_empty() {
                return Ok(None); // it is not the caller who has taken all frames
            }
            check_room(&self.lane, self.next.ticket, self.oldest.ticket)?;
            let turn @ Turn { ticket, frame, generation } = self.next;
            let header = self.lane.frame(frame).request;
            match header.peek(generation, self.lane.frame_bytes)? {
                Next::Nothing => return Ok(None),
                Next::Request(posted) if self.lane.header().taking.take(ticket, header, generation) => {
                    self.lane.fetch_ahead(frame, false);
                    self.advance();
                    return Ok(Some((turn, posted)));
                }
                Next::Request(_) | Next::Cancelled => self.skip()?,
            }
        }
    }

    fn advance(&mut self) {
        self.next = self.next.next(self.lane.depth);
        self.waiter.progress.set_begun(self.next.ticket);
    }

    #[cold]
    fn skip(&mut self) -> Result<()> {
        self.skipped.push_back(self.next.ticket);
        self.advance();
        self.finish_skipped();
        self.ring()
    }

    /// Finishes the skipped requests whose turn it is.
    #[inline(always)]
    fn finish_skipped(&mut self) {
        while self.skipped.front() == Some(&self.oldest.ticket) {
            self.skipped.pop_front();
            self.finish_oldest(Status::Cancelled, 0, 0);
        }
    }

    #[inline(always)]
    fn finish_oldest(&mut self, status: Status, code: i32, nbytes: usize) {
        let Turn { frame, generation, .. } = self.oldest;
        let Frame { request, reply } = self.lane.frame(frame);
        reply.finish(request, generation, status, code, nbytes);
        self.oldest = self.oldest.next(self.lane.depth);
        self.waiter.progress.set_ended(self.oldest.ticket);
    }

    /// Replies to the oldest request received and not replied to. On an error it is still the oldest.
    ///
    /// # Errors
    /// [`Error::Misused`] if there is none, or if the client waits at a doorbell that this process has not opened;
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
        self.ring()
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
        // SAFETY: the caller's promise.
        unsafe { self.lane.fill(self.lane.reply_address(self.oldest.frame), payload, nbytes)? };
        self.finish_oldest(status, code, nbytes);
        self.finish_skipped();
        Ok(())
    }

    /// Wakes the client if it sleeps.
    ///
    /// # Errors
    /// [`Error::Misused`] if it waits at a doorbell that this process has not opened.
    #[inline]
    pub fn flush(&mut self) -> Result<()> {
        self.side.check()?;
        self.ring()
    }

    /// The same, by whoever has seen that this side is this process's.
    #[inline]
    fn ring(&mut self) -> Result<()> {
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
        self.ring()
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
        mut handler: impl FnMut(&Request<'_>) -> std::result::Result<Vec<u8>, E>,
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
