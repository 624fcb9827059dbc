//! Frames that are being filled.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use super::ringer::Ringer;
use super::{Lane, Turn};
use crate::error::Result;
use crate::protocol::lane::LaneHeader;
use crate::region::Window;
use crate::sys;

/// A frame that is being filled: its place in the lane is taken. Dropped, it gives the place back: the server passes over
/// it, and its reply comes to nobody.
///
/// ```compile_fail,E0382
/// # fn main() -> Result<(), simpler_ipc::Error> {
/// # use simpler_ipc::{Kind, Mailbox, Region};
/// # let region = Region::anonymous(Mailbox::required_bytes(1, 64)?, "example")?;
/// # let mut client = Mailbox::new(&region, 0, 1, 64)?.client(None)?;
/// let mut claim = client.claim()?.expect("a frame is free");
/// client.submit(claim, Kind::Task, 5)?;
/// claim.copy_from(b"later")?; // the server reads there now
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "the server waits for it until it is submitted or dropped"]
pub struct Claim {
    turn: Turn,
    given_up: Arc<GivenUp>,
    posted: bool,
}

impl Claim {
    pub(super) fn new(turn: Turn, given_up: &Arc<GivenUp>) -> Self {
        Claim { turn, given_up: given_up.clone(), posted: false }
    }

    /// Its place, if it is a claim of that client.
    pub(super) fn turn_for(&self, client: &Arc<GivenUp>) -> Option<Turn> {
        Arc::ptr_eq(&self.given_up, client).then_some(self.turn)
    }

    /// It has come to its end: the frame is the server's.
    pub(super) fn into_posted(mut self) {
        self.posted = true;
    }

    /// The frame's number, from 0 to depth - 1.
    pub fn frame(&self) -> usize {
        self.turn.frame
    }

    /// Payload bytes of the frame.
    pub fn frame_bytes(&self) -> usize {
        self.given_up.lane.frame_bytes
    }

    /// Copies bytes to the start of the frame.
    ///
    /// # Errors
    /// [`Error::FrameTooLarge`](crate::Error::FrameTooLarge).
    pub fn copy_from(&mut self, bytes: &[u8]) -> Result<()> {
        let payload = self.as_mut_ptr();
        // SAFETY: a slice is valid for its length.
        unsafe { self.given_up.lane.fill(payload, bytes.as_ptr(), bytes.len()) }
    }

    /// The first byte of the frame's payload: valid for reads and writes of [`Claim::frame_bytes`] bytes until the claim
    /// is submitted or dropped.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.given_up.lane.request_address(self.turn.frame)
    }

    /// The frame's payload, for those who see themselves that nobody writes there after the claim.
    #[doc(hidden)]
    pub fn window(&mut self) -> Result<Window> {
        let (first, region) = (self.as_mut_ptr() as usize, &self.given_up.lane.region);
        region.window(first - region.address(), self.frame_bytes())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.posted && self.given_up.give_up(self.turn) {
            // A server at a doorbell that is not mapped here cannot be told; the client's next call says so.
            let _ = Ringer::new(LaneHeader::requests).ring(&self.given_up.lane);
        }
    }
}

/// Tickets of the claims of one client that were dropped: requests that nobody waits for.
#[derive(Debug)]
pub(super) struct GivenUp {
    lane: Arc<Lane>,
    pid: i32,
    /// None when the client is gone.
    tickets: Mutex<Option<Vec<u64>>>,
}

impl GivenUp {
    pub(super) fn new(lane: Arc<Lane>) -> Self {
        GivenUp { lane, pid: sys::current_pid(), tickets: Mutex::new(Some(Vec::new())) }
    }

    /// Hands a frame over with nothing to do, unless the client is gone: whether it did.
    pub(super) fn give_up(&self, turn: Turn) -> bool {
        let Some(mut tickets) = self.tickets() else { return false };
        let Some(tickets) = tickets.as_mut() else { return false };
        // In this order: whoever finds the frame cancelled finds the ticket.
        tickets.push(turn.ticket);
        self.lane.frame(turn.frame).request.give_up(turn.generation);
        true
    }

    /// Those since the last time.
    pub(super) fn take(&self) -> Vec<u64> {
        self.tickets().and_then(|mut tickets| tickets.as_mut().map(std::mem::take)).unwrap_or_default()
    }

    pub(super) fn close(&self) {
        if let Some(mut tickets) = self.tickets() {
            *tickets = None;
        }
    }

    /// None in a forked child whose parent had a thread in here: what it inherited is the parent's.
    fn tickets(&self) -> Option<MutexGuard<'_, Option<Vec<u64>>>> {
        match self.tickets.try_lock() {
            Err(TryLockError::WouldBlock) if self.pid != sys::current_pid() => None,
            Err(TryLockError::WouldBlock) => Some(self.tickets.lock().unwrap_or_else(PoisonError::into_inner)),
            Err(TryLockError::Poisoned(tickets)) => Some(tickets.into_inner()),
            Ok(tickets) => Some(tickets),
        }
    }
}
