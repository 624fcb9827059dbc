//! Waiting for the other side, apart from the client or server that waits: those are free meanwhile.

use std::sync::Arc;

use super::side::{inherited, Role};
use super::Lane;
use crate::doorbell::Doorbell;
use crate::error::{Error, Result};
use crate::protocol::frame::Next;
use crate::protocol::progress::Progress;
use crate::protocol::sync::Ordering;
use crate::protocol::turn::Turn;
use crate::spin::Spin;
use crate::wait::{wait_for, Patience};
use crate::watched::Watched;

/// How one side waits for the other. Clones of the `Arc` it lives in can wait while the side itself is in use.
#[derive(Debug)]
pub(super) struct LaneWaiter {
    pub(super) lane: Arc<Lane>,
    role: Role,
    pub(super) watched: Watched,
}

impl LaneWaiter {
    /// It waits at `doorbell` or, after `spin`, at a bell of the mailbox's.
    pub(super) fn new(lane: Arc<Lane>, role: Role, doorbell: Option<&Doorbell>, spin: Spin) -> Result<Self> {
        let watched = Watched::new(lane.settle(role.own()(lane.header()), doorbell, spin)?);
        Ok(LaneWaiter { lane, role, watched })
    }

    /// An error in a child that was forked since: the side is the parent's.
    fn check_here(&self) -> Result<()> {
        match self.watched.is_here() {
            true => Ok(()),
            false => Err(inherited(&format!("{} of a mailbox", self.role), self.watched.maker())),
        }
    }

    fn wait(
        &self,
        patience: &mut Patience<'_>,
        what: &'static str,
        look: impl FnMut() -> Result<Option<()>>,
    ) -> Result<()> {
        self.check_here()?;
        let doorbell = self.watched.doorbell();
        let (own, other) = (self.role.own()(self.lane.header()), self.role.other()(self.lane.header()));
        doorbell.spin().prepare(other.cpu.load(Ordering::Relaxed), &own.cpu);
        wait_for(doorbell.bell(), doorbell.spin(), patience, what, look, || self.watched.check())
    }
}

/// See [`MailboxClient::waiter`](super::MailboxClient::waiter). Several threads may wait at a time.
#[derive(Debug)]
pub struct ReplyWaiter {
    pub(super) waiter: LaneWaiter,
    pub(super) progress: Progress,
}

impl ReplyWaiter {
    /// An error in a child that was forked since: the client is the parent's.
    #[doc(hidden)]
    pub fn check_here(&self) -> Result<()> {
        self.waiter.check_here()
    }

    /// The oldest request whose reply is not taken.
    #[doc(hidden)]
    pub fn oldest(&self) -> u64 {
        self.progress.ended()
    }

    /// Whether the reply to `ticket` comes at once: a look of some tenths of a microsecond, for callers who would have
    /// to do something before a wait.
    #[doc(hidden)]
    #[inline]
    pub fn glance(&self, ticket: u64) -> bool {
        let Turn { frame, generation, .. } = Turn::at(ticket, self.waiter.lane.depth);
        let reply = self.waiter.lane.frame(frame).reply;
        self.waiter.watched.doorbell().spin().glance(|| !reply.is_before(generation))
    }

    /// Waits until the oldest request's reply is there, or was taken meanwhile.
    ///
    /// # Errors
    /// As [`MailboxClient::wait`](super::MailboxClient::wait).
    pub fn wait(&self, patience: &mut Patience<'_>) -> Result<()> {
        self.wait_for(self.progress.ended(), patience)
    }

    /// Waits until the oldest request's reply is there, or that to `ticket` was taken by another thread.
    ///
    /// # Errors
    /// As [`MailboxClient::wait`](super::MailboxClient::wait).
    pub fn wait_for(&self, ticket: u64, patience: &mut Patience<'_>) -> Result<()> {
        if ticket >= self.progress.begun() {
            self.check_here()?;
            return Err(Error::Misused("waiting for a reply with no request in flight".to_owned()));
        }
        let turn = Turn::at(ticket, self.waiter.lane.depth);
        self.waiter.wait(patience, "a reply", || self.look_for(turn))
    }

    /// Waits until a frame is free, or may be made so by taking the oldest reply.
    ///
    /// # Errors
    /// As [`MailboxClient::wait`](super::MailboxClient::wait).
    pub fn wait_for_room(&self, patience: &mut Patience<'_>) -> Result<()> {
        let depth = self.waiter.lane.depth as u64;
        self.waiter.wait(patience, "a free frame", || match self.progress.begun().checked_sub(depth) {
            Some(blocking) => self.look_for(Turn::at(blocking, self.waiter.lane.depth)),
            None => Ok(Some(())),
        })
    }

    /// Wakes those who wait, to ask whether they should go on.
    pub(crate) fn wake(&self) {
        self.waiter.watched.doorbell().bell().ring();
    }

    #[inline]
    fn look_for(&self, wanted: Turn) -> Result<Option<()>> {
        let lane = &self.waiter.lane;
        self.progress.look_for(wanted.ticket, lane.frame_bytes, |oldest| {
            // Mostly it is the one that is wanted: no division.
            let turn = if oldest == wanted.ticket { wanted } else { Turn::at(oldest, lane.depth) };
            (lane.frame(turn.frame).reply, turn.generation)
        })
    }
}

/// See [`MailboxServer::waiter`](super::MailboxServer::waiter).
#[derive(Debug)]
pub struct RequestWaiter {
    pub(super) waiter: LaneWaiter,
    pub(super) progress: Progress,
}

impl RequestWaiter {
    /// As [`ReplyWaiter::glance`], for the next request.
    #[doc(hidden)]
    #[inline]
    pub fn glance(&self) -> bool {
        self.glance_at(Turn::at(self.progress.begun(), self.waiter.lane.depth))
    }

    #[inline(always)]
    pub(super) fn glance_at(&self, Turn { frame, generation, .. }: Turn) -> bool {
        let request = self.waiter.lane.frame(frame).request;
        self.waiter.watched.doorbell().spin().glance(|| !request.is_before(generation))
    }

    /// Waits until the next request is there.
    ///
    /// # Errors
    /// As [`MailboxServer::recv`](super::MailboxServer::recv).
    pub fn wait(&self, patience: &mut Patience<'_>) -> Result<()> {
        let lane = &self.waiter.lane;
        let mut turn = Turn::at(self.progress.begun(), lane.depth);
        self.waiter.wait(patience, "a request", || loop {
            let (next, oldest) = (self.progress.begun(), self.progress.ended());
            check_room(lane, next, oldest)?;
            if next != turn.ticket {
                turn = Turn::at(next, lane.depth);
            }
            let request = lane.frame(turn.frame).request;
            if request.is_before(turn.generation) {
                return Ok(None);
            }
            let found = request.peek(turn.generation, lane.frame_bytes);
            // As for replies: what another thread has received meanwhile was not meant.
            if next == self.progress.begun() {
                return Ok((found? != Next::Nothing).then_some(()));
            }
        })
    }
}

/// The frame of the next request may be that of one not replied to: then it cannot come.
pub(super) fn check_room(lane: &Lane, next: u64, oldest: u64) -> Result<()> {
    if next.wrapping_sub(oldest) >= lane.depth as u64 {
        return Err(Error::Misused(format!(
            "all {} frames are received and none is replied to: reply() first",
            lane.depth
        )));
    }
    Ok(())
}
