//! Mailboxes: an ordered lane of request/reply frames between one client and one server.
//!
//! A mailbox is `depth` frames, used in turn. The client claims the next free frame, writes a request into it in
//! place and submits it; the server receives requests in order, reads them in place, and replies to them in order,
//! in the same frame. Depth 1 is the classic mailbox; a deeper one keeps the server busy while the client thinks.
//!
//! ```text
//! geometry │ requests' bell │ replies' bell │ taking │ taken │ frame 0 │ frame 1 │ …
//!   128          128               128         128      128    24 + payload, in 128s
//! ```
//!
//! There are at most one client and one server at a time; several threads of a process share one client through
//! [`SharedClient`]. Fresh memory is an empty mailbox. A client or server made anew on a used one goes on where its
//! predecessor stopped, at whatever moment that was: the frames' words and the count of replies taken tell
//! (`protocol::frame`), nothing else is kept.

mod claim;
mod client;
mod reply;
mod ringer;
mod server;
mod shared_client;
mod waiters;

pub use claim::Claim;
pub use client::MailboxClient;
pub use reply::{Reply, ReplyView};
pub use server::{MailboxServer, Request, LOST};
pub use shared_client::SharedClient;
pub use waiters::{ReplyWaiter, RequestWaiter};

use std::ptr;
use std::sync::Arc;

use crate::doorbell::Doorbell;
use crate::error::{Error, Result};
use crate::protocol::bell::Bell;
use crate::protocol::frame::{FrameHeader, State, Word};
use crate::protocol::lane::{Elsewhere, LaneHeader, Waiting};
use crate::protocol::sync::Ordering;
use crate::region::{Overlaid, Region, SharedBytes};
use crate::spin::Spin;

const FRAME_HEADER: usize = 24;
const FRAME_ALIGN: usize = 128;
const MAX_DEPTH: usize = u16::MAX as usize;
const MAX_FRAME_BYTES: usize = u32::MAX as usize;
/// No mailbox comes this far in ten thousand years of a million requests a second; a spoilt word may say so.
const LAST_TICKET: u64 = 1 << 60;
/// The first bits of the geometry word: what a mailbox of this layout is known by.
const MAGIC: u64 = 0x4d43;

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<LaneHeader>() == 640);
    assert!(size_of::<FrameHeader>() == FRAME_HEADER);
};

/// One use of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Turn {
    ticket: u64,
    frame: usize,
    generation: u64,
}

impl Turn {
    fn at(ticket: u64, depth: usize) -> Self {
        let depth = depth as u64;
        Turn { ticket, frame: (ticket % depth) as usize, generation: ticket / depth }
    }

    /// The one after it, without a division.
    #[inline]
    fn next(self, depth: usize) -> Self {
        let ticket = self.ticket + 1;
        if self.frame + 1 == depth {
            Turn { ticket, frame: 0, generation: self.generation + 1 }
        } else {
            Turn { ticket, frame: self.frame + 1, generation: self.generation }
        }
    }
}

/// A frame as somebody who comes anew finds it.
#[derive(Debug, Clone, Copy)]
struct Found {
    /// Its first use that is not behind.
    turn: Turn,
    /// That use's state; `None` if it has not begun.
    state: Option<State>,
}

/// A mailbox in a region. Clones are the same mailbox.
#[derive(Debug, Clone)]
pub struct Mailbox(Arc<Lane>);

#[derive(Debug)]
struct Lane {
    region: Region,
    offset: usize,
    depth: usize,
    frame_bytes: usize,
    header: Overlaid<LaneHeader>,
}

fn stride(frame_bytes: usize) -> usize {
    (FRAME_HEADER + frame_bytes).next_multiple_of(FRAME_ALIGN)
}

impl Mailbox {
    /// What to set aside for a mailbox: a multiple of 128 bytes.
    ///
    /// # Errors
    /// [`Error::Invalid`] if depth is not in 1..=65535 or a frame has no byte or more than 2^32 - 1.
    pub fn required_bytes(depth: usize, frame_bytes: usize) -> Result<usize> {
        if depth == 0 || depth > MAX_DEPTH {
            return Err(Error::Invalid(format!("a mailbox has 1 to {MAX_DEPTH} frames, not {depth}")));
        }
        if frame_bytes == 0 || frame_bytes > MAX_FRAME_BYTES {
            return Err(Error::Invalid(format!("a frame has 1 to {MAX_FRAME_BYTES} bytes, not {frame_bytes}")));
        }
        Ok(size_of::<LaneHeader>() + depth * stride(frame_bytes))
    }

    /// The mailbox at `offset` of a region, a multiple of 128; made where the memory is zero, joined where the same
    /// mailbox already is.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is misaligned, does not lie in the region, or something else lies there.
    pub fn new(region: &Region, offset: usize, depth: usize, frame_bytes: usize) -> Result<Self> {
        region.window(offset, Self::required_bytes(depth, frame_bytes)?)?;
        let header = region.overlay::<LaneHeader>(offset, 1)?;
        let geometry = MAGIC << 48 | (depth as u64) << 32 | frame_bytes as u64;
        match header[0].geometry.compare_exchange(0, geometry, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {}
            Err(found) if found == geometry => {}
            Err(found) if found >> 48 == MAGIC => {
                return Err(Error::Invalid(format!(
                    "offset {offset} holds a mailbox of {} frames of {} bytes, not of {depth} frames of {frame_bytes}",
                    found >> 32 & 0xffff,
                    found & 0xffff_ffff
                )))
            }
            Err(_) => return Err(Error::Invalid(format!("offset {offset} holds something that is no mailbox"))),
        }
        Ok(Mailbox(Arc::new(Lane { region: region.clone(), offset, depth, frame_bytes, header })))
    }

    /// Requests that may be in flight.
    pub fn depth(&self) -> usize {
        self.0.depth
    }

    /// Payload bytes of a frame.
    pub fn frame_bytes(&self) -> usize {
        self.0.frame_bytes
    }

    /// Where it lies in its region.
    pub fn offset(&self) -> usize {
        self.0.offset
    }

    /// The side that posts requests. The server will ring `doorbell` for each reply, or a bell of the mailbox's own.
    ///
    /// # Errors
    /// [`Error::Corrupted`].
    pub fn client(&self, doorbell: Option<&Doorbell>) -> Result<MailboxClient> {
        MailboxClient::new(self.0.clone(), doorbell)
    }

    /// The side that answers them. The client will ring `doorbell` for each request, or a bell of the mailbox's own.
    ///
    /// # Errors
    /// [`Error::Corrupted`].
    pub fn server(&self, doorbell: Option<&Doorbell>) -> Result<MailboxServer> {
        MailboxServer::new(self.0.clone(), doorbell)
    }
}

impl Lane {
    fn header(&self) -> &LaneHeader {
        &self.header[0]
    }

    fn frame_offset(&self, frame: usize) -> usize {
        self.offset + size_of::<LaneHeader>() + frame * stride(self.frame_bytes)
    }

    /// The header of the frame with this number.
    #[inline]
    fn frame(&self, frame: usize) -> &FrameHeader {
        assert!(frame < self.depth, "a lane of {} frames has none with number {frame}", self.depth);
        let address = self.region.address() + self.frame_offset(frame);
        // SAFETY: `Mailbox::new` checked that all frames lie in the region and that the first is aligned, and strides
        // are multiples of the alignment; `self.region` keeps it mapped; any bytes are a valid `FrameHeader`, which is
        // atomics only.
        unsafe { &*(address as *const FrameHeader) }
    }

    fn payload_address(&self, frame: usize) -> *mut u8 {
        assert!(frame < self.depth, "a lane of {} frames has none with number {frame}", self.depth);
        (self.region.address() + self.frame_offset(frame) + FRAME_HEADER) as *mut u8
    }

    /// The first `nbytes` of a frame's payload.
    #[inline]
    fn payload(&self, frame: usize, nbytes: usize) -> SharedBytes<'_> {
        assert!(nbytes <= self.frame_bytes, "{nbytes} bytes of a frame that has {}", self.frame_bytes);
        // SAFETY: `Mailbox::new` checked that all frames lie in the region; callers have checked `nbytes`.
        unsafe { SharedBytes::new(&self.region, self.payload_address(frame), nbytes) }
    }

    /// Fills the start of a frame's payload.
    ///
    /// # Safety
    /// `bytes` is valid for reads of `nbytes`; it may lie in the frame itself.
    ///
    /// # Errors
    /// [`Error::FrameTooLarge`].
    #[inline]
    unsafe fn fill(&self, frame: usize, bytes: *const u8, nbytes: usize) -> Result<()> {
        self.check_fits(nbytes)?;
        // SAFETY: the source by the caller's promise, the destination because it was checked to fit into the frame;
        // overlap is allowed.
        unsafe { ptr::copy(bytes, self.payload_address(frame), nbytes) };
        Ok(())
    }

    /// Where one side stands, read from the frames: the first use of each that `is_behind` does not say is behind it,
    /// in the order of their tickets. They are those of one round of the lane, in memory that no wrong peer has spoilt.
    fn scan(&self, is_behind: impl Fn(Turn, State) -> bool) -> Result<Vec<Found>> {
        let mut found = Vec::with_capacity(self.depth);
        for frame in 0..self.depth {
            let Word { generation, state } = self.frame(frame).word()?;
            let turn = self.turn(frame, generation)?;
            found.push(match is_behind(turn, state) {
                true => Found { turn: self.turn(frame, generation + 1)?, state: None },
                false => Found { turn, state: Some(state) },
            });
        }
        found.sort_by_key(|found| found.turn.ticket);
        let (first, last) = (found[0].turn.ticket, found[self.depth - 1].turn.ticket);
        if last - first >= self.depth as u64 {
            return Err(Error::Corrupted(format!(
                "the frames of a mailbox are at tickets {first} to {last}, though there are only {} of them",
                self.depth
            )));
        }
        Ok(found)
    }

    fn turn(&self, frame: usize, generation: u64) -> Result<Turn> {
        match generation.checked_mul(self.depth as u64) {
            Some(ticket) if ticket < LAST_TICKET => Ok(Turn { ticket: ticket + frame as u64, frame, generation }),
            _ => Err(Error::Corrupted(format!("a frame says that it has been used {generation} times"))),
        }
    }

    /// The doorbell one side waits at, made known to the other.
    fn settle(&self, place: &Waiting, doorbell: Option<&Doorbell>, spin: Spin) -> Result<Doorbell> {
        match doorbell {
            Some(doorbell) => {
                let elsewhere = Elsewhere { region: doorbell.region().identity(), offset: doorbell.offset() as u64 };
                place.sleep_at(elsewhere);
                Ok(doorbell.clone())
            }
            None => {
                place.sleep_at(Elsewhere::default());
                let own: *const Bell = &place.own;
                Doorbell::with_spin(&self.region, own as usize - self.region.address(), spin)
            }
        }
    }

    fn check_fits(&self, nbytes: usize) -> Result<()> {
        if nbytes > self.frame_bytes {
            return Err(Error::FrameTooLarge { nbytes, frame_bytes: self.frame_bytes });
        }
        Ok(())
    }
}
