//! The side of a mailbox that posts requests and takes replies.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::calls::Call;
use super::claim::{Claim, ClientSide};
use super::reply::{Reply, ReplyView};
use super::ringer::Ringer;
use super::side::Role;
use super::waiters::{LaneWaiter, ReplyWaiter};
use super::Lane;
use crate::doorbell::Doorbell;
use crate::error::{Error, Result};
use crate::peer::Peer;
use crate::protocol::frame::{Finished, Kind, Posted, Status};
use crate::protocol::progress::Progress;
use crate::protocol::sync::Ordering;
use crate::protocol::turn::{scan_as_client, Turn};
use crate::spin::Spin;
use crate::wait::Patience;

/// See the module's text.
#[derive(Debug)]
pub struct MailboxClient {
    pub(super) lane: Arc<Lane>,
    /// The next request.
    pub(super) next: Turn,
    /// The oldest request whose reply is not taken.
    pub(super) oldest: Turn,
    pub(super) server: Ringer,
    pub(super) waiter: Arc<ReplyWaiter>,
    /// Its claims have it, too.
    pub(super) side: Arc<ClientSide>,
    /// By ticket.
    pub(super) calls: BTreeMap<u64, Call>,
    /// Tickets of claims that are not submitted: a reply to one of them is none, whatever the lane says. Those of claims that
    /// were dropped stand here until that is learned.
    open: Vec<u64>,
    /// Replies to other requests that a call came across.
    pub(super) kept: VecDeque<Reply>,
}

impl MailboxClient {
    pub(super) fn new(lane: Arc<Lane>, doorbell: Option<&Doorbell>) -> Result<Self> {
        let side = Arc::new(ClientSide::claim(&lane)?);
        let taken = lane.header().taken.load(Ordering::Acquire);
        let frames = scan_as_client(lane.depth, |frame| lane.frame(frame).word(), taken)?;
        let oldest = frames[0].turn;
        let next = frames.iter().rfind(|found| found.is_posted()).map_or(oldest, |last| last.turn.next(lane.depth));
        let waiter = LaneWaiter::new(lane.clone(), Role::Client, doorbell, Spin::new())?;
        let waiter = Arc::new(ReplyWaiter { waiter, progress: Progress::at(next.ticket, oldest.ticket) });
        let server = Ringer::new(Role::Client.other());
        let (calls, open, kept) = (BTreeMap::new(), Vec::new(), VecDeque::new());
        let mut client = MailboxClient { lane, next, oldest, server, waiter, side, calls, open, kept };
        // A predecessor was killed between taking a place in the lane and posting: the server waits for that frame.
        for hole in frames.iter().filter(|found| !found.is_posted() && found.turn.ticket < next.ticket) {
            client.side.give_up(hole.turn);
            client.flush()?;
        }
        // Or between posting and ringing: the server sleeps. What is wrong with its doorbell, the first request tells.
        if client.side.follows_dead() {
            let _ = client.flush();
        }
        Ok(client)
    }

    /// Requests posted whose reply has not been taken.
    pub fn in_flight(&self) -> usize {
        (self.next.ticket - self.oldest.ticket) as usize + self.kept.len()
    }

    /// Frames that are free.
    pub fn free(&self) -> usize {
        self.lane.depth - (self.next.ticket - self.oldest.ticket) as usize
    }

    /// Whether a frame is that of the request with `ticket`: its reply is not taken out.
    pub(super) fn is_in_lane(&self, ticket: u64) -> bool {
        (self.oldest.ticket..self.next.ticket).contains(&ticket)
    }

    /// Payload bytes of a frame.
    pub fn frame_bytes(&self) -> usize {
        self.lane.frame_bytes
    }

    /// Takes the next place in the lane, to be filled and submitted; `None` when every frame is in flight. Several may
    /// be filled at a time; the server gets them in the order of claiming.
    ///
    /// # Errors
    /// [`Error::Corrupted`].
    #[inline]
    pub fn claim(&mut self) -> Result<Option<Claim>> {
        let claimed = self.claim_turn()?.map(|turn| Claim::new(turn, &self.side));
        self.open.extend(claimed.as_ref().map(Claim::ticket));
        Ok(claimed)
    }

    /// The place of a claim of this client.
    fn turn_of(&self, claim: &Claim) -> Result<Turn> {
        claim.turn_for(&self.side).ok_or_else(|| {
            Error::Misused("a claim is for the client that gave it: submit it there, or drop it".to_owned())
        })
    }

    /// Hands a claimed frame, whose first `nbytes` are the request, to the server: its ticket. On an error nothing was
    /// sent, and the claim is given up.
    ///
    /// # Errors
    /// [`Error::FrameTooLarge`]; [`Error::Misused`] if the claim is another client's, or if the server waits at a
    /// doorbell that this process has not opened.
    pub fn submit(&mut self, claim: Claim, kind: Kind, nbytes: usize) -> Result<u64> {
        self.side.check()?;
        let turn = self.turn_of(&claim)?;
        self.lane.check_fits(nbytes)?;
        self.server.refresh(&self.lane)?;
        claim.into_posted();
        self.open.retain(|ticket| *ticket != turn.ticket);
        self.lane.frame(turn.frame).request.post(turn.generation, Posted { kind, nbytes });
        self.ring()?;
        Ok(turn.ticket)
    }

    /// As [`MailboxClient::submit`], filling the frame with bytes that may lie in the mailbox itself.
    ///
    /// # Safety
    /// `payload` is valid for reads of `nbytes`.
    ///
    /// # Errors
    /// As [`MailboxClient::submit`].
    pub unsafe fn submit_raw(&mut self, claim: Claim, kind: Kind, payload: *const u8, nbytes: usize) -> Result<u64> {
        self.side.check()?;
        let turn = self.turn_of(&claim)?;
        // SAFETY: the caller's promise.
        unsafe { self.lane.fill(self.lane.request_address(turn.frame), payload, nbytes)? };
        self.submit(claim, kind, nbytes)
    }

    /// Hands a claimed frame over with nothing to do, as dropping it does.
    ///
    /// # Errors
    /// [`Error::Misused`] as for [`MailboxClient::submit`]; it is given up all the same.
    pub fn give_up(&mut self, claim: Claim) -> Result<()> {
        self.side.check()?;
        self.turn_of(&claim)?;
        drop(claim);
        self.ring()
    }

    /// Claims that were dropped are requests that nobody waits for. They were written down before their frames were
    /// handed over: whoever has found one cancelled finds it here.
    #[cold]
    fn learn_given_up(&mut self) {
        let given_up = self.side.take_given_up();
        self.open.retain(|ticket| !given_up.contains(ticket));
        self.calls.extend(given_up.into_iter().map(|ticket| (ticket, Call::new(true))));
    }

    /// The oldest request seems to be answered: an error if it was not even posted. Its frame is the claim's, which may be
    /// written to meanwhile.
    #[cold]
    fn check_posted(&self) -> Result<()> {
        let ticket = self.oldest.ticket;
        match self.open.contains(&ticket) {
            false => Ok(()),
            true => Err(Error::Corrupted(format!("request {ticket} has a reply, and was not posted"))),
        }
    }

    #[inline]
    fn claim_turn(&mut self) -> Result<Option<Turn>> {
        self.side.check()?;
        if self.free() == 0 {
            self.drop_abandoned()?;
            if self.free() == 0 {
                return Ok(None);
            }
        }
        let turn = self.next;
        if !self.lane.frame(turn.frame).reply.is_before(turn.generation) {
            return Err(Error::Corrupted(format!("the frame for ticket {} should be idle and is not", turn.ticket)));
        }
        self.next = turn.next(self.lane.depth);
        self.waiter.progress.set_begun(self.next.ticket);
        Ok(Some(turn))
    }

    /// Claims a frame, copies and submits: the ticket; `None` when every frame is in flight.
    ///
    /// # Errors
    /// As [`MailboxClient::submit`].
    #[inline]
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
    /// As [`MailboxClient::submit`].
    #[inline]
    pub unsafe fn send_raw(&mut self, kind: Kind, payload: *const u8, nbytes: usize) -> Result<Option<u64>> {
        // SAFETY: the caller's promise.
        let Some(ticket) = (unsafe { self.queue_raw(kind, payload, nbytes) })? else { return Ok(None) };
        self.ring()?;
        Ok(Some(ticket))
    }

    /// As [`MailboxClient::send_raw`], but a sleeping server is not woken before [`MailboxClient::flush`]: one look for
    /// sleepers then serves many requests.
    ///
    /// # Safety
    /// `payload` is valid for reads of `nbytes`.
    ///
    /// # Errors
    /// As [`MailboxClient::submit`].
    #[inline]
    pub unsafe fn queue_raw(&mut self, kind: Kind, payload: *const u8, nbytes: usize) -> Result<Option<u64>> {
        self.lane.check_fits(nbytes)?;
        self.server.refresh(&self.lane)?;
        let Some(turn) = self.claim_turn()? else { return Ok(None) };
        // SAFETY: the caller's promise.
        unsafe { self.lane.fill(self.lane.request_address(turn.frame), payload, nbytes)? };
        self.lane.frame(turn.frame).request.post(turn.generation, Posted { kind, nbytes });
        Ok(Some(turn.ticket))
    }

    /// Wakes the server if it sleeps.
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
        self.server.ring(&self.lane)
    }

    /// Sends payloads until every frame is in flight: how many went.
    ///
    /// # Errors
    /// As [`MailboxClient::submit`]; those before the one that caused it are sent.
    pub fn send_many<'a>(&mut self, kind: Kind, payloads: impl IntoIterator<Item = &'a [u8]>) -> Result<usize> {
        let mut sent = 0;
        let mut outcome = Ok(());
        for payload in payloads {
            // SAFETY: a slice is valid for its length.
            match unsafe { self.queue_raw(kind, payload.as_ptr(), payload.len()) } {
                Ok(Some(_)) => sent += 1,
                Ok(None) => break,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        self.flush()?;
        outcome.map(|()| sent)
    }

    /// Takes a request back that the server has not taken: true if it is certain that it never will. Its reply, with
    /// [`Status::Cancelled`](crate::Status::Cancelled), comes in its turn. False if it is too late, or if it cannot be told: the reply will tell.
    ///
    /// # Errors
    /// [`Error::Misused`] if no request with that ticket is in flight.
    pub fn cancel(&mut self, ticket: u64) -> Result<bool> {
        self.side.check()?;
        if !self.is_in_lane(ticket) {
            return Err(not_in_flight(ticket));
        }
        let turn = Turn::at(ticket, self.lane.depth);
        let cancelled = self.lane.header().taking.cancel(ticket, self.lane.frame(turn.frame).request, turn.generation);
        if cancelled {
            self.ring()?;
        }
        Ok(cancelled)
    }

    /// The reply to the oldest request, if it is there, and frees its frame. Not those that calls wait for.
    ///
    /// # Errors
    /// [`Error::Corrupted`].
    pub fn poll(&mut self) -> Result<Option<Reply>> {
        match self.poll_kept() {
            Some(reply) => Ok(Some(reply)),
            None => self.poll_with(|view| view.to_reply()),
        }
    }

    /// The next reply that a call came across and kept for `poll`.
    pub fn poll_kept(&mut self) -> Option<Reply> {
        match self.side.check() {
            Ok(()) => self.kept.pop_front(),
            Err(_) => None, // said by whatever asks the lane next
        }
    }

    /// As [`MailboxClient::poll`], reading the reply in its frame, which is freed afterwards. Kept replies
    /// ([`MailboxClient::poll_kept`]) come before it.
    ///
    /// # Errors
    /// [`Error::Corrupted`].
    #[inline]
    pub fn poll_with<T>(&mut self, take: impl FnOnce(ReplyView<'_>) -> T) -> Result<Option<T>> {
        self.side.check()?;
        loop {
            let Some(finished) = self.oldest_reply()? else { return Ok(None) };
            if !self.is_call(self.oldest.ticket) {
                return Ok(Some(self.take_oldest(finished, take)));
            }
            self.sort_oldest(finished);
        }
    }

    /// Posts a request and waits for its reply. Replies to other requests that come meanwhile are kept for `poll`.
    ///
    /// If the wait fails, the request is cancelled or, if the server has taken it already, its reply is dropped when it
    /// comes.
    ///
    /// # Errors
    /// As [`MailboxClient::submit`] and [`MailboxClient::wait`].
    pub fn call(&mut self, kind: Kind, payload: &[u8], patience: &mut Patience<'_>) -> Result<Reply> {
        self.call_with(kind, payload, patience, |view| view.to_reply())
    }

    /// As [`MailboxClient::call`], reading the reply in its frame.
    ///
    /// # Errors
    /// As [`MailboxClient::call`].
    pub fn call_with<T>(
        &mut self,
        kind: Kind,
        payload: &[u8],
        patience: &mut Patience<'_>,
        take: impl FnOnce(ReplyView<'_>) -> T,
    ) -> Result<T> {
        let ticket = loop {
            match self.send(kind, payload)? {
                Some(ticket) => break ticket,
                None => self.waiter.wait_for_room(patience)?,
            }
            self.make_room()?;
        };
        if self.oldest.ticket == ticket && !patience.only_looks() {
            let Turn { frame, generation, .. } = self.oldest;
            let reply = self.lane.frame(frame).reply;
            if self.waiter.waiter.watched.doorbell().spin().glance(|| !reply.is_before(generation)) {
                if let Some(finished) = self.oldest_reply()? {
                    return Ok(self.take_oldest(finished, take));
                }
            }
        }
        loop {
            if let Err(error) = self.waiter.wait_for(ticket, patience) {
                self.calls.insert(ticket, Call::new(true));
                self.cancel_unheard(ticket);
                return Err(error);
            }
            while self.oldest.ticket < ticket && self.make_room()? {}
            // It is not there only where what came before it has ended the wait.
            if self.oldest.ticket == ticket {
                if let Some(finished) = self.oldest_reply()? {
                    return Ok(self.take_oldest(finished, take));
                }
            }
        }
    }

    /// What the oldest reply says, if it is there. Whoever asks has seen that this side is this process's.
    #[inline(always)]
    pub(super) fn oldest_reply(&mut self) -> Result<Option<Finished>> {
        if self.next == self.oldest {
            return Ok(None);
        }
        let Turn { frame, generation, .. } = self.oldest;
        let finished = self.lane.frame(frame).reply.finished(generation, self.lane.frame_bytes)?;
        if finished.is_some_and(|finished| finished.status == Status::Cancelled || !self.open.is_empty()) {
            self.learn_given_up();
            self.check_posted()?;
        }
        Ok(finished)
    }

    /// The oldest reply, which is there, taken out of its frame.
    // Always: a result that is handed back through memory waits there for the stores before it to leave the CPU.
    #[inline(always)]
    pub(super) fn take_oldest<T>(&mut self, finished: Finished, take: impl FnOnce(ReplyView<'_>) -> T) -> T {
        let Turn { ticket, frame, .. } = self.oldest;
        self.lane.fetch_ahead(frame, true);
        let payload = self.lane.reply(frame, finished.nbytes);
        let Finished { kind, status, code, .. } = finished;
        let taken = take(ReplyView { ticket, kind, status, code, payload });
        self.oldest = self.oldest.next(self.lane.depth);
        self.lane.header().taken.store(self.oldest.ticket, Ordering::Release);
        self.waiter.progress.set_ended(self.oldest.ticket);
        taken
    }

    /// Waits until the oldest request's reply is there: then [`MailboxClient::poll`] gives something, unless it was for
    /// a call.
    ///
    /// # Errors
    /// [`Error::Misused`] if nothing is in flight; [`Error::PeerDied`] if a watched peer is gone;
    /// [`Error::WaitTimeout`]; [`Error::Interrupted`]; [`Error::Corrupted`].
    pub fn wait(&self, patience: &mut Patience<'_>) -> Result<()> {
        self.side.check()?;
        if self.has_kept() {
            return Ok(());
        }
        self.waiter.wait(patience)
    }

    /// Whether `poll` would give a reply that a call came across.
    pub fn has_kept(&self) -> bool {
        !self.kept.is_empty()
    }

    /// Whether the server rings `doorbell` for replies.
    pub fn waits_at(&self, doorbell: &Doorbell) -> bool {
        self.waiter.waiter.watched.doorbell().is(doorbell)
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
        self.side.check()?;
        self.waiter.waiter.watched.watch(peer)
    }

    /// Ends what [`MailboxClient::watch`] began: when a successor has taken the peer's place.
    pub fn forget(&self, peer: &Peer) {
        self.waiter.waiter.watched.forget(peer);
    }
}

/// The error of a ticket that stands for nothing, or for a request whose reply is taken.
pub(super) fn not_in_flight(ticket: u64) -> Error {
    Error::Misused(format!("no request with ticket {ticket} is in flight"))
}

impl Drop for MailboxClient {
    fn drop(&mut self) {
        // What a claim that is dropped later has to say is for nobody: a successor finds its frame as it is.
        self.side.close();
        // The server may still look at what unanswered requests refer to: those blocks stay live.
        let unanswered = std::mem::take(&mut self.calls).into_values().filter(|call| call.reply.is_none());
        unanswered.for_each(|call| std::mem::forget(call.block));
    }
}
