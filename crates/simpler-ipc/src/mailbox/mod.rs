//! Mailboxes: an ordered lane of request/reply frames between one client and one server.
//!
//! A mailbox is `depth` frames, used in turn. The client claims the next free frame, writes a request into it in
//! place and submits it; the server receives requests in order, reads them in place, and replies to them in order,
//! in the same frame's other half. Depth 1 is the classic mailbox; a deeper one keeps the server busy while the client
//! thinks.
//!
//! ```text
//! geometry │ requests' bell │ replies' bell │ taking │ taken │ request 0 │ reply 0 │ request 1 │ …
//!   128          128               128         128      128    16 + payload each, in 128s
//! ```
//!
//! There are at most one client and one server at a time: a second one is refused while the first lives. Several threads
//! of a process share one client through [`SharedClient`]. Fresh memory is an empty mailbox. A client or server made anew
//! on a used one goes on where its predecessor stopped, at whatever moment that was: the frames' words and the count of
//! replies taken tell (`protocol::frame`), nothing else is kept.

mod calls;
mod claim;
mod client;
mod reply;
mod ringer;
mod server;
mod shared_client;
#[cfg_attr(not(target_os = "linux"), allow(dead_code))]
pub(crate) mod side;
mod waiters;

pub use claim::Claim;
pub use client::MailboxClient;
pub use reply::{Reply, ReplyView};
pub use server::{MailboxServer, Request};
pub use shared_client::SharedClient;
pub use waiters::{ReplyWaiter, RequestWaiter};

use std::ptr;
use std::sync::Arc;

use crate::doorbell::Doorbell;
use crate::error::{Error, Result};
use crate::places::{Laid, Thing};
use crate::protocol::bell::Bell;
use crate::protocol::frame::{Frame, ReplyHeader, RequestHeader};
use crate::protocol::lane::{Elsewhere, LaneHeader, Waiting};
use crate::protocol::sync::Ordering;
use crate::region::{Overlaid, Region, SharedBytes};
use crate::spin::Spin;

const HALF_HEADER: usize = 16;
const HALF_ALIGN: usize = 128;
/// How many frames ahead lines are fetched, and from which depth on: a line fetched before it is written moves twice.
const AHEAD: usize = 2;
const AHEAD_FROM_DEPTH: usize = 8;
const MAX_DEPTH: usize = u16::MAX as usize;
const MAX_FRAME_BYTES: usize = u32::MAX as usize;
/// The first bits of the geometry word: what a mailbox of this layout is known by.
const MAGIC: u64 = 0x4d44;

#[cfg(not(loom))]
const _: () = {
    assert!(size_of::<LaneHeader>() == 640);
    assert!(size_of::<RequestHeader>() == HALF_HEADER && size_of::<ReplyHeader>() == HALF_HEADER);
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
    /// The address of the first frame, and the bytes of half a frame.
    frames: usize,
    half: usize,
    _laid: Laid,
}

/// What a request takes, and what a reply takes: lines of their own, so that neither side writes where the other looks.
fn half(frame_bytes: usize) -> usize {
    (HALF_HEADER + frame_bytes).next_multiple_of(HALF_ALIGN)
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
        Ok(size_of::<LaneHeader>() + depth * 2 * half(frame_bytes))
    }

    /// The mailbox at `offset` of a region, a multiple of 128; made where the memory is zero, joined where the same
    /// mailbox already is.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is misaligned, does not lie in the region, or something else lies there or reaches in.
    pub fn new(region: &Region, offset: usize, depth: usize, frame_bytes: usize) -> Result<Self> {
        let nbytes = Self::required_bytes(depth, frame_bytes)?;
        region.window(offset, nbytes)?;
        let header = region.overlay::<LaneHeader>(offset, 1)?;
        let geometry = MAGIC << 48 | (depth as u64) << 32 | frame_bytes as u64;
        let check = |found: u64| match found {
            found if found == geometry => Ok(()),
            found if found >> 48 == MAGIC => Err(Error::Invalid(format!(
                "offset {offset} holds a mailbox of {} frames of {} bytes, not of {depth} frames of {frame_bytes}",
                found >> 32 & 0xffff,
                found & 0xffff_ffff
            ))),
            _ => Err(Error::Invalid(format!("offset {offset} holds something that is no mailbox"))),
        };
        // What is there already says more than that it is in the way; and nothing is written before it is known to be free.
        let found = header[0].geometry.load(Ordering::Acquire);
        if found != 0 {
            check(found)?;
        }
        let laid = Laid::out(region, offset, nbytes, Thing::Mailbox)?;
        header[0]
            .geometry
            .compare_exchange(0, geometry, Ordering::AcqRel, Ordering::Acquire)
            .map(drop)
            .or_else(check)?;
        let (frames, half) = (region.address() + offset + size_of::<LaneHeader>(), half(frame_bytes));
        Ok(Mailbox(Arc::new(Lane {
            region: region.clone(),
            offset,
            depth,
            frame_bytes,
            header,
            frames,
            half,
            _laid: laid,
        })))
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
    /// from here (another pid or time namespace); [`Error::Corrupted`]; [`Error::Os`].
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

    /// Where a frame begins in this process. A frame that is none ends the program instead of touching what lies behind.
    #[inline(always)]
    fn frame_address(&self, frame: usize) -> usize {
        assert!(frame < self.depth, "there is no such frame in the lane");
        self.frames + frame * 2 * self.half
    }

    /// The headers of the frame with this number.
    #[inline(always)]
    fn frame(&self, frame: usize) -> Frame<'_> {
        let address = self.frame_address(frame);
        // SAFETY: `Mailbox::new` checked that all frames lie in the region and that the first is aligned, and halves are
        // multiples of the alignment; `self.region` keeps it mapped; any bytes are valid headers, which are atomics only.
        unsafe {
            Frame {
                request: &*(address as *const RequestHeader),
                reply: &*((address + self.half) as *const ReplyHeader),
            }
        }
    }

    /// Has the line on its way that will be looked at soon, where many requests are in flight.
    #[inline(always)]
    fn fetch_ahead(&self, frame: usize, of_reply: bool) {
        if self.depth < AHEAD_FROM_DEPTH {
            return;
        }
        let ahead = if frame + AHEAD < self.depth { frame + AHEAD } else { frame + AHEAD - self.depth };
        let line = self.frame_address(ahead) + if of_reply { self.half } else { 0 };
        #[cfg(target_arch = "x86_64")]
        // SAFETY: it reads nothing, and the address is that of a frame.
        unsafe {
            std::arch::x86_64::_mm_prefetch(line as *const i8, std::arch::x86_64::_MM_HINT_T0);
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = line;
    }

    #[inline(always)]
    fn request_address(&self, frame: usize) -> *mut u8 {
        (self.frame_address(frame) + HALF_HEADER) as *mut u8
    }

    #[inline(always)]
    fn reply_address(&self, frame: usize) -> *mut u8 {
        (self.frame_address(frame) + self.half + HALF_HEADER) as *mut u8
    }

    /// The first `nbytes` of a request.
    #[inline(always)]
    fn request(&self, frame: usize, nbytes: usize) -> SharedBytes<'_> {
        assert!(nbytes <= self.frame_bytes, "a frame has less bytes than that");
        // SAFETY: `Mailbox::new` checked that all frames lie in the region.
        unsafe { SharedBytes::new(&self.region, self.request_address(frame), nbytes) }
    }

    /// The first `nbytes` of a reply.
    #[inline(always)]
    fn reply(&self, frame: usize, nbytes: usize) -> SharedBytes<'_> {
        assert!(nbytes <= self.frame_bytes, "a frame has less bytes than that");
        // SAFETY: as above.
        unsafe { SharedBytes::new(&self.region, self.reply_address(frame), nbytes) }
    }

    /// Fills the start of a payload.
    ///
    /// # Safety
    /// `payload` is the address of a request's or a reply's; `bytes` is valid for reads of `nbytes` and may lie there.
    ///
    /// # Errors
    /// [`Error::FrameTooLarge`].
    #[inline(always)]
    unsafe fn fill(&self, payload: *mut u8, bytes: *const u8, nbytes: usize) -> Result<()> {
        self.check_fits(nbytes)?;
        // SAFETY: the source by the caller's promise, the destination because it was checked to fit into the frame;
        // overlap is allowed.
        unsafe { ptr::copy(bytes, payload, nbytes) };
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

    #[inline(always)]
    fn check_fits(&self, nbytes: usize) -> Result<()> {
        if nbytes > self.frame_bytes {
            return Err(frame_too_large(nbytes, self.frame_bytes));
        }
        Ok(())
    }
}

#[cold]
fn frame_too_large(nbytes: usize, frame_bytes: usize) -> Error {
    Error::FrameTooLarge { nbytes, frame_bytes }
}
