//! Frames that are being filled.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::ringer::Ringer;
use super::side::{Role, Side};
use super::Lane;
use crate::error::Result;
use crate::protocol::turn::Turn;
use crate::region::Window;

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
    side: Arc<ClientSide>,
    posted: bool,
}

impl Claim {
    pub(super) fn new(turn: Turn, side: &Arc<ClientSide>) -> Self {
        Claim { turn, side: side.clone(), posted: false }
    }

    /// Its place, if it is a claim of that client.
    pub(super) fn turn_for(&self, client: &Arc<ClientSide>) -> Option<Turn> {
        Arc::ptr_eq(&self.side, client).then_some(self.turn)
    }

    /// It has come to its end: the frame is the server's.
    pub(super) fn into_posted(mut self) {
        self.posted = true;
    }

    /// An error in a forked child: the frame is its parent's.
    #[inline]
    pub(crate) fn check_here(&self) -> Result<()> {
        self.side.check()
    }

    pub(super) fn ticket(&self) -> u64 {
        self.turn.ticket
    }

    /// The frame's number, from 0 to depth - 1.
    pub fn frame(&self) -> usize {
        self.turn.frame
    }

    /// Payload bytes of the frame.
    pub fn frame_bytes(&self) -> usize {
        self.side.lane().frame_bytes
    }

    /// Copies bytes to the start of the frame.
    ///
    /// # Errors
    /// [`Error::FrameTooLarge`](crate::Error::FrameTooLarge); [`Error::Misused`](crate::Error::Misused) in a forked child.
    pub fn copy_from(&mut self, bytes: &[u8]) -> Result<()> {
        self.check_here()?;
        let payload = self.as_mut_ptr();
        // SAFETY: a slice is valid for its length.
        unsafe { self.side.lane().fill(payload, bytes.as_ptr(), bytes.len()) }
    }

    /// The first byte of the frame's payload: valid for reads and writes of [`Claim::frame_bytes`] bytes until the claim
    /// is submitted or dropped.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.side.lane().request_address(self.turn.frame)
    }

    /// The frame's payload, for those who see themselves that nobody writes there after the claim.
    #[doc(hidden)]
    pub fn window(&mut self) -> Result<Window> {
        let (first, region) = (self.as_mut_ptr() as usize, &self.side.lane().region);
        region.window(first - region.address(), self.frame_bytes())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if !self.posted && self.side.give_up(self.turn) {
            // A server at a doorbell that is not mapped here cannot be told; the client's next call says so.
            let _ = Ringer::new(Role::Client.other()).ring(self.side.lane());
        }
    }
}

/// The client's side of a lane, which a client and its claims have together: as long as a claim can write to its frame, no
/// successor of the client does.
#[derive(Debug)]
pub(super) struct ClientSide {
    side: Side,
    /// Those of claims that were dropped: requests that nobody waits for. None when the client is gone.
    given_up: Mutex<Option<Vec<u64>>>,
}

impl ClientSide {
    pub(super) fn claim(lane: &Arc<Lane>) -> Result<Self> {
        Ok(ClientSide { side: Side::claim(lane, Role::Client)?, given_up: Mutex::new(Some(Vec::new())) })
    }

    pub(super) fn follows_dead(&self) -> bool {
        self.side.follows_dead()
    }

    #[inline]
    pub(super) fn check(&self) -> Result<()> {
        self.side.check()
    }

    #[inline]
    fn lane(&self) -> &Lane {
        self.side.lane()
    }

    /// Hands a frame over with nothing to do, unless the client is gone: whether it did.
    pub(super) fn give_up(&self, turn: Turn) -> bool {
        let Some(mut given_up) = self.given_up() else { return false };
        let Some(tickets) = given_up.as_mut() else { return false };
        // In this order: whoever finds the frame cancelled finds the ticket.
        tickets.push(turn.ticket);
        self.lane().frame(turn.frame).request.give_up(turn.generation);
        true
    }

    /// The tickets of claims that were dropped since the last time.
    pub(super) fn take_given_up(&self) -> Vec<u64> {
        self.given_up().and_then(|mut tickets| tickets.as_mut().map(std::mem::take)).unwrap_or_default()
    }

    pub(super) fn close(&self) {
        if let Some(mut given_up) = self.given_up() {
            *given_up = None;
        }
    }

    /// None in a forked child: what it inherited is the parent's, which may have had a thread in here.
    fn given_up(&self) -> Option<MutexGuard<'_, Option<Vec<u64>>>> {
        self.check().ok()?;
        Some(self.given_up.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
