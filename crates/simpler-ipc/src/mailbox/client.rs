//! The side of a mailbox that posts requests and takes replies.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Lane, LaneWaiter, Ringer};
use crate::doorbell::Doorbell;
use crate::error::{Error, Result};
use crate::peer::Peer;
use crate::protocol::frame::{Kind, Posted};
use crate::protocol::sync::Ordering;
use crate::region::Window;
use crate::wait::Patience;

/// A reply, copied out of its frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// That of the request: 0, 1, 2… in the order of posting.
    pub ticket: u64,
    /// The kind of the request.
    pub kind: Kind,
    /// 0 for success; what else it means is between client and server.
    pub code: i32,
    /// What the server sent.
    pub payload: Vec<u8>,
}

/// A reply still in its frame.
#[derive(Debug)]
pub struct ReplyView {
    /// That of the request.
    pub ticket: u64,
    /// The kind of the request.
    pub kind: Kind,
    /// 0 for success.
    pub code: i32,
    /// What the server sent, in place.
    pub payload: Window,
}

impl ReplyView {
    fn to_reply(&self) -> Reply {
        Reply { ticket: self.ticket, kind: self.kind, code: self.code, payload: self.payload.to_vec() }
    }
}

/// See the module's text.
#[derive(Debug)]
pub struct MailboxClient {
    lane: Arc<Lane>,
    posted: u64,
    taken: u64,
    reserved: bool,
    server: Ringer,
    waiter: Arc<ReplyWaiter>,
    /// Replies to older requests that a call came across.
    kept: VecDeque<Reply>,
}

impl MailboxClient {
    pub(super) fn new(lane: Arc<Lane>, doorbell: Option<&Doorbell>) -> Result<Self> {
        let (posted, taken) = lane.resume(&lane.header().client)?;
        let doorbell = lane.settle(|header| &header.replies, doorbell)?;
        let waiter = Arc::new(ReplyWaiter(LaneWaiter::new(lane.clone(), doorbell)));
        let server = Ringer::new(|header| &header.requests);
        Ok(MailboxClient { lane, posted, taken, reserved: false, server, waiter, kept: VecDeque::new() })
    }

    /// Requests posted whose reply has not been polled.
    pub fn in_flight(&self) -> usize {
        (self.posted - self.taken) as usize + self.kept.len()
    }

    /// Frames that are free.
    pub fn free(&self) -> usize {
        self.lane.depth - (self.posted - self.taken) as usize
    }

    /// Payload bytes of a frame.
    pub fn frame_bytes(&self) -> usize {
        self.lane.frame_bytes
    }

    /// The whole payload of the next free frame, to be filled and posted; `None` when every frame is in flight. The
    /// same frame again until it is posted.
    ///
    /// # Errors
    /// [`Error::Corrupted`].
    pub fn reserve(&mut self) -> Result<Option<Window>> {
        if !self.reserve_frame()? {
            return Ok(None);
        }
        self.lane.payload(self.posted, self.lane.frame_bytes).map(Some)
    }

    /// The frame that is reserved, numbered from 0 to depth - 1.
    pub fn reserved_frame(&self) -> Option<usize> {
        self.reserved.then(|| (self.posted % self.lane.depth as u64) as usize)
    }

    /// As [`MailboxClient::reserve`], without the window: whether there is a free frame.
    ///
    /// # Errors
    /// [`Error::Corrupted`].
    pub fn reserve_frame(&mut self) -> Result<bool> {
        if self.free() == 0 {
            return Ok(false);
        }
        if !self.lane.frame(self.posted).is_idle(self.posted)? {
            return Err(Error::Corrupted(format!("the frame for ticket {} should be idle and is not", self.posted)));
        }
        self.reserved = true;
        Ok(true)
    }

    /// Hands the reserved frame, whose first `nbytes` are the request, to the server: its ticket.
    ///
    /// # Errors
    /// [`Error::FrameTooLarge`]; [`Error::Misused`] if nothing is reserved, or if the server waits at a doorbell that
    /// this process has not mapped; [`Error::Corrupted`].
    pub fn post(&mut self, kind: Kind, nbytes: usize) -> Result<u64> {
        if !self.reserved {
            return Err(Error::Misused("post() without a frame: reserve() one first".to_owned()));
        }
        self.lane.check_fits(nbytes)?;
        self.server.refresh(&self.lane)?;
        let ticket = self.posted;
        self.posted += 1;
        self.reserved = false;
        self.lane.header().client.begun.store(self.posted, Ordering::Release);
        self.lane.frame(ticket).post(ticket, Posted { kind, nbytes });
        self.server.ring(&self.lane)?;
        Ok(ticket)
    }

    /// Reserves, copies and posts: the ticket; `None` when every frame is in flight.
    ///
    /// # Errors
    /// As [`MailboxClient::post`].
    pub fn send(&mut self, kind: Kind, payload: &[u8]) -> Result<Option<u64>> {
        // SAFETY: a slice is valid for its length.
        unsafe { self.send_raw(kind, payload.as_ptr(), payload.len()) }
    }

    /// As [`MailboxClient::send`], from bytes that may lie in the mailbox itself.
    ///
    /// # Safety
    /// `payload` is valid for reads of `nbytes`.
    ///
    /// # Errors
    /// As [`MailboxClient::post`].
    pub unsafe fn send_raw(&mut self, kind: Kind, payload: *const u8, nbytes: usize) -> Result<Option<u64>> {
        self.lane.check_fits(nbytes)?;
        let Some(frame) = self.reserve()? else { return Ok(None) };
        // SAFETY: the caller's promise.
        unsafe { frame.copy_from_raw(payload, nbytes) };
        self.post(kind, nbytes).map(Some)
    }

    /// The reply to the oldest request, if it is there, and frees its frame.
    ///
    /// # Errors
    /// [`Error::Corrupted`].
    pub fn poll(&mut self) -> Result<Option<Reply>> {
        match self.kept.pop_front() {
            Some(reply) => Ok(Some(reply)),
            None => self.poll_with(|view| view.to_reply()),
        }
    }

    /// Whether `poll` would give a reply that a call came across.
    pub fn has_kept(&self) -> bool {
        !self.kept.is_empty()
    }

    /// The next reply that a call came across and kept for `poll`.
    pub fn poll_kept(&mut self) -> Option<Reply> {
        self.kept.pop_front()
    }

    /// As [`MailboxClient::poll`], reading the reply in its frame, which is freed afterwards. Kept replies
    /// ([`MailboxClient::poll_kept`]) come before it.
    ///
    /// # Errors
    /// [`Error::Corrupted`].
    pub fn poll_with<T>(&mut self, take: impl FnOnce(ReplyView) -> T) -> Result<Option<T>> {
        if self.posted == self.taken {
            return Ok(None);
        }
        let ticket = self.taken;
        let frame = self.lane.frame(ticket);
        let Some(finished) = frame.finished(ticket, self.lane.frame_bytes)? else { return Ok(None) };
        let payload = self.lane.payload(ticket, finished.nbytes)?;
        let taken = take(ReplyView { ticket, kind: finished.kind, code: finished.code, payload });
        frame.free();
        self.taken += 1;
        self.lane.header().client.ended.store(self.taken, Ordering::Release);
        Ok(Some(taken))
    }

    /// Posts a request and waits for its reply. Replies to older requests that come meanwhile are kept for `poll`.
    ///
    /// If the wait fails, the request stays in flight and its reply, if there will be one, comes to `poll`.
    ///
    /// # Errors
    /// As [`MailboxClient::post`] and [`MailboxClient::wait`].
    pub fn call(&mut self, kind: Kind, payload: &[u8], patience: &mut Patience<'_>) -> Result<Reply> {
        let waiter = self.waiter();
        let ticket = loop {
            match self.send(kind, payload)? {
                Some(ticket) => break ticket,
                None => waiter.wait(patience)?,
            }
            self.keep()?;
        };
        loop {
            waiter.wait(patience)?;
            if let Some(reply) = self.keep_until(ticket)? {
                return Ok(reply);
            }
        }
    }

    /// Takes the oldest reply, if it is there, out of its frame and keeps it for `poll`.
    ///
    /// # Errors
    /// [`Error::Corrupted`].
    pub fn keep(&mut self) -> Result<()> {
        let reply = self.poll_with(|view| view.to_reply())?;
        self.kept.extend(reply);
        Ok(())
    }

    /// The reply to `ticket`, if it is there; those before it are kept for `poll`.
    ///
    /// # Errors
    /// [`Error::Corrupted`].
    pub fn keep_until(&mut self, ticket: u64) -> Result<Option<Reply>> {
        while let Some(reply) = self.poll_with(|view| view.to_reply())? {
            if reply.ticket == ticket {
                return Ok(Some(reply));
            }
            self.kept.push_back(reply);
        }
        Ok(None)
    }

    /// Waits until [`MailboxClient::poll`] gives something.
    ///
    /// # Errors
    /// [`Error::Misused`] if nothing is in flight; [`Error::PeerDied`] if a watched peer is gone;
    /// [`Error::WaitTimeout`]; [`Error::Interrupted`]; [`Error::Corrupted`].
    pub fn wait(&self, patience: &mut Patience<'_>) -> Result<()> {
        if self.has_kept() {
            return Ok(());
        }
        self.waiter.wait(patience)
    }

    /// What waits for a reply in a frame, apart from the client, so that the client is free meanwhile.
    pub fn waiter(&self) -> Arc<ReplyWaiter> {
        self.waiter.clone()
    }

    /// From now on waits of this client end with [`Error::PeerDied`] as soon as `peer` is gone and no reply is left.
    ///
    /// # Errors
    /// [`Error::Os`] if the watcher thread cannot be started.
    pub fn watch(&self, peer: &Peer) -> Result<()> {
        self.waiter.0.watch(peer)
    }
}

/// See [`MailboxClient::waiter`].
#[derive(Debug)]
pub struct ReplyWaiter(LaneWaiter);

impl ReplyWaiter {
    /// Waits until the oldest request's reply is there.
    ///
    /// # Errors
    /// As [`MailboxClient::wait`].
    pub fn wait(&self, patience: &mut Patience<'_>) -> Result<()> {
        let lane = &self.0.lane;
        let progress = &lane.header().client;
        self.0.wait(patience, "a reply", || {
            let taken = progress.ended.load(Ordering::Acquire);
            if taken == progress.begun.load(Ordering::Acquire) {
                return Err(Error::Misused("waiting for a reply with no request in flight".to_owned()));
            }
            Ok(lane.frame(taken).finished(taken, lane.frame_bytes)?.map(|_| ()))
        })
    }
}
