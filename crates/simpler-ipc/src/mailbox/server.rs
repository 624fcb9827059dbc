//! The side of a mailbox that receives requests and replies to them.

use std::sync::Arc;

use super::{Lane, LaneWaiter, Ringer};
use crate::doorbell::Doorbell;
use crate::error::{Error, Result};
use crate::peer::Peer;
use crate::protocol::frame::{Kind, Posted};
use crate::protocol::sync::Ordering;
use crate::region::Window;
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

/// See the module's text.
#[derive(Debug)]
pub struct MailboxServer {
    lane: Arc<Lane>,
    received: u64,
    replied: u64,
    client: Ringer,
    waiter: Arc<RequestWaiter>,
}

impl MailboxServer {
    pub(super) fn new(lane: Arc<Lane>, doorbell: Option<&Doorbell>) -> Result<Self> {
        // What a predecessor received and did not reply to is received again.
        let (_, replied) = lane.resume(&lane.header().server)?;
        lane.header().server.begun.store(replied, Ordering::Release);
        let doorbell = lane.settle(|header| &header.requests, doorbell)?;
        let waiter = Arc::new(RequestWaiter(LaneWaiter::new(lane.clone(), doorbell)));
        let client = Ringer::new(|header| &header.replies);
        Ok(MailboxServer { lane, received: replied, replied, client, waiter })
    }

    /// Requests received and not replied to.
    pub fn unreplied(&self) -> usize {
        (self.received - self.replied) as usize
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
    pub fn try_recv(&mut self) -> Result<Option<Request>> {
        let ticket = self.received;
        let Some(posted) = next(&self.lane, self.received, self.replied)? else { return Ok(None) };
        let payload = self.lane.payload(ticket, posted.nbytes)?;
        self.received += 1;
        self.lane.header().server.begun.store(self.received, Ordering::Release);
        Ok(Some(Request { ticket, kind: posted.kind, payload }))
    }

    /// Replies to the oldest request received and not replied to. On an error it is still the oldest.
    ///
    /// # Errors
    /// [`Error::Misused`] if there is none, or if the client waits at a doorbell that this process has not mapped;
    /// [`Error::FrameTooLarge`]; [`Error::Corrupted`].
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
    pub unsafe fn reply_raw(&mut self, code: i32, payload: *const u8, nbytes: usize) -> Result<()> {
        if self.replied == self.received {
            return Err(Error::Misused("reply() without a request: every one received is replied to".to_owned()));
        }
        self.lane.check_fits(nbytes)?;
        self.client.refresh(&self.lane)?;
        let frame = self.lane.payload(self.replied, nbytes)?;
        // SAFETY: the caller's promise.
        unsafe { frame.copy_from_raw(payload, nbytes) };
        let ticket = self.replied;
        self.replied += 1;
        self.lane.header().server.ended.store(self.replied, Ordering::Release);
        self.lane.frame(ticket).finish(code, nbytes);
        self.client.ring(&self.lane)
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
        self.waiter.0.watch(peer)
    }
}

/// The next request, if it is there.
fn next(lane: &Lane, received: u64, replied: u64) -> Result<Option<Posted>> {
    // The frame of the next request is that of one not replied to: it cannot come.
    if received.wrapping_sub(replied) >= lane.depth as u64 {
        return Err(Error::Misused(format!(
            "all {} frames are received and none is replied to: reply() first",
            lane.depth
        )));
    }
    lane.frame(received).posted(received, lane.frame_bytes)
}

/// See [`MailboxServer::waiter`].
#[derive(Debug)]
pub struct RequestWaiter(LaneWaiter);

impl RequestWaiter {
    /// Waits until the next request is there.
    ///
    /// # Errors
    /// As [`MailboxServer::recv`].
    pub fn wait(&self, patience: &mut Patience<'_>) -> Result<()> {
        let lane = &self.0.lane;
        let progress = &lane.header().server;
        self.0.wait(patience, "a request", || {
            let replied = progress.ended.load(Ordering::Acquire);
            let received = progress.begun.load(Ordering::Acquire);
            Ok(next(lane, received, replied)?.map(|_| ()))
        })
    }
}
