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
//! There are at most one client and one server at a time: a second one is refused while the first lives. Several threads
//! of a process share one client through [`SharedClient`]. Fresh memory is an empty mailbox. A client or server made anew on a used one goes on where its
//! predecessor stopped, at whatever moment that was: the frames' words and the count of replies taken tell
//! (`protocol::frame`), nothing else is kept.

mod client;
mod reply;
mod ringer;
mod server;
mod shared_client;
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
pub(crate) mod side;
mod waiters;

pub use client::{Claim, MailboxClient};
pub use reply::{Reply, ReplyView};
pub use server::{MailboxServer, Request, LOST};
pub use shared_client::SharedClient;
pub use waiters::{ReplyWaiter, RequestWaiter};

use std::ptr;
use std::sync::Arc;

use crate::doorbell::Doorbell;
use crate::error::{Error, Result};
use crate::protocol::bell::Bell;
use crate::protocol::frame::FrameHeader;
use crate::protocol::lane::{Elsewhere, LaneHeader, Waiting};
use crate::protocol::sync::Ordering;
use crate::region::{Overlaid, Region, SharedBytes, Window};
use crate::spin::Spin;

const FRAME_HEADER: usize = 24;
const FRAME_ALIGN: usize = 128;
const MAX_DEPTH: usize = u16::MAX as usize;
const MAX_FRAME_BYTES: usize = u32::MAX as usize;
/// The first bits of the geometry word: what a mailbox of this layout is known by.
const MAGIC: u64 = 0x4d43;

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<LaneHeader>() == 640);
    assert!(size_of::<FrameHeader>() == FRAME_HEADER);
};

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
    /// [`Error::Misused`] if a client lives already, in this process or in another, or if its process cannot be looked for
    /// from here (another pid namespace); [`Error::Corrupted`]; [`Error::Os`].
    pub fn client(&self, doorbell: Option<&Doorbell>) -> Result<MailboxClient> {
        MailboxClient::new(self.0.clone(), doorbell)
    }

    /// The side that answers them. The client will ring `doorbell` for each request, or a bell of the mailbox's own.
    ///
    /// # Errors
    /// As [`Mailbox::client`].
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
        debug_assert!(frame < self.depth);
        let address = self.region.address() + self.frame_offset(frame);
        // SAFETY: `Mailbox::new` checked that all frames lie in the region and that the first is aligned, and strides
        // are multiples of the alignment; `self.region` keeps it mapped; any bytes are a valid `FrameHeader`, which is
        // atomics only.
        unsafe { &*(address as *const FrameHeader) }
    }

    fn payload_address(&self, frame: usize) -> *mut u8 {
        (self.region.address() + self.frame_offset(frame) + FRAME_HEADER) as *mut u8
    }

    /// The first `nbytes` of a frame's payload, for as long as anybody wants.
    fn window(&self, frame: usize, nbytes: usize) -> Result<Window> {
        self.region.window(self.frame_offset(frame) + FRAME_HEADER, nbytes)
    }

    /// The same, borrowed.
    #[inline]
    fn payload(&self, frame: usize, nbytes: usize) -> SharedBytes<'_> {
        debug_assert!(nbytes <= self.frame_bytes);
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
                Doorbell::unannounced(&self.region, own as usize - self.region.address(), spin)
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
