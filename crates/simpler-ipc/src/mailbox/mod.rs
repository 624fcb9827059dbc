//! Mailboxes: an ordered lane of request/reply frames between one client and one server.
//!
//! A mailbox is `depth` frames, used in turn. The client reserves the next free frame, writes a request into it in
//! place and posts it; the server receives requests in order, reads them in place, and replies to them in order,
//! in the same frame. Depth 1 is the classic mailbox; a deeper one keeps the server busy while the client thinks.
//!
//! ```text
//! geometry │ requests' bell │ replies' bell │ client's progress │ server's progress │ frame 0 │ frame 1 │ …
//!   128          128               128               128                 128           64 + payload, in 128s
//! ```
//!
//! There are at most one client and one server at a time. Fresh memory is an empty mailbox; a client or server made
//! anew on a used one goes on where its predecessor stopped.

mod client;
mod server;

pub use client::{MailboxClient, Reply, ReplyView, ReplyWaiter};
pub use server::{MailboxServer, Request, RequestWaiter};

use std::sync::Arc;

use crate::doorbell::Doorbell;
use crate::error::{Error, Result};
use crate::peer::Peer;
use crate::protocol::bell::Bell;
use crate::protocol::frame::FrameHeader;
use crate::protocol::lane::{Elsewhere, LaneHeader, Progress, Waiting};
use crate::protocol::sync::Ordering;
use crate::region::{Overlaid, Region, Window};
use crate::wait::{wait_for, Patience};
use crate::wait_set::Watched;

const FRAME_HEADER: usize = 64;
const FRAME_ALIGN: usize = 128;
const MAX_DEPTH: usize = u16::MAX as usize;
const MAX_FRAME_BYTES: usize = u32::MAX as usize;
/// The first bits of the geometry word: what a mailbox of this layout is known by.
const MAGIC: u64 = 0x4d42;

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

    fn frame_offset(&self, ticket: u64) -> usize {
        self.offset + size_of::<LaneHeader>() + (ticket % self.depth as u64) as usize * stride(self.frame_bytes)
    }

    /// The header of the frame that the request with this ticket travels in.
    #[inline]
    fn frame(&self, ticket: u64) -> &FrameHeader {
        let address = self.region.address() + self.frame_offset(ticket);
        // SAFETY: `Mailbox::new` checked that all frames lie in the region and that the first is aligned, and strides
        // are multiples of the alignment; `self.region` keeps it mapped; any bytes are a valid `FrameHeader`, which is
        // atomics only.
        unsafe { &*(address as *const FrameHeader) }
    }

    /// The first `nbytes` of that frame's payload.
    fn payload(&self, ticket: u64, nbytes: usize) -> Result<Window> {
        self.region.window(self.frame_offset(ticket) + FRAME_HEADER, nbytes)
    }

    /// What one side has begun and ended, as it left it.
    fn resume(&self, side: &Progress) -> Result<(u64, u64)> {
        let (begun, ended) = (side.begun.load(Ordering::Acquire), side.ended.load(Ordering::Acquire));
        if ended > begun || begun - ended > self.depth as u64 {
            return Err(Error::Corrupted(format!(
                "a mailbox of {} frames has {begun} requests begun and {ended} ended",
                self.depth
            )));
        }
        Ok((begun, ended))
    }

    /// The doorbell one side waits at, made known to the other.
    fn settle(self: &Arc<Self>, waiting: fn(&LaneHeader) -> &Waiting, doorbell: Option<&Doorbell>) -> Result<Doorbell> {
        let place = waiting(self.header());
        match doorbell {
            Some(doorbell) => {
                let elsewhere = Elsewhere { region: doorbell.region().identity(), offset: doorbell.offset() as u64 };
                place.sleep_at(elsewhere);
                Ok(doorbell.clone())
            }
            None => {
                place.sleep_at(Elsewhere::default());
                let own: *const Bell = &place.own;
                Doorbell::new(&self.region, own as usize - self.region.address())
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

/// How to wake the other side, wherever it sleeps.
#[derive(Debug)]
struct Ringer {
    waiting: fn(&LaneHeader) -> &Waiting,
    generation: u32,
    elsewhere: Option<Doorbell>,
}

/// A place that changes for longer than this many looks is not being changed by a live process.
const PLACE_LOOKS: u32 = 1 << 20;

impl Ringer {
    fn new(waiting: fn(&LaneHeader) -> &Waiting) -> Self {
        Ringer { waiting, generation: 0, elsewhere: None }
    }

    /// Learns where the other side sleeps, if that has changed.
    #[inline]
    fn refresh(&mut self, lane: &Lane) -> Result<()> {
        if (self.waiting)(lane.header()).generation() == self.generation {
            return Ok(());
        }
        self.learn(lane)
    }

    #[cold]
    fn learn(&mut self, lane: &Lane) -> Result<()> {
        for _ in 0..PLACE_LOOKS {
            let Some((generation, place)) = (self.waiting)(lane.header()).place() else {
                std::hint::spin_loop();
                continue;
            };
            self.elsewhere = if place.region == 0 { None } else { Some(find_doorbell(lane, place)?) };
            self.generation = generation;
            return Ok(());
        }
        Err(Error::Corrupted("the other side of a mailbox stopped half-way through changing its doorbell".to_owned()))
    }

    /// Rings there. After a frame was handed over.
    #[inline]
    fn ring(&mut self, lane: &Lane) -> Result<()> {
        self.refresh(lane)?;
        match &self.elsewhere {
            None => (self.waiting)(lane.header()).own.ring(),
            Some(doorbell) => doorbell.ring(),
        }
        Ok(())
    }
}

fn find_doorbell(lane: &Lane, place: Elsewhere) -> Result<Doorbell> {
    let region = if place.region == lane.region.identity() {
        lane.region.clone()
    } else {
        Region::find(place.region).ok_or_else(|| {
            Error::Misused(
                "the other side of a mailbox waits at a doorbell in a region that is not mapped in this process; \
                 map that region here (inherit it by fork, or Region.from_fd) before using the mailbox"
                    .to_owned(),
            )
        })?
    };
    let offset = usize::try_from(place.offset).unwrap_or(usize::MAX);
    Doorbell::new(&region, offset)
        .map_err(|error| Error::Corrupted(format!("the other side of a mailbox names an impossible doorbell: {error}")))
}

/// How one side waits for the other. Clones of the `Arc` it lives in can wait while the side itself is in use.
#[derive(Debug)]
struct LaneWaiter {
    lane: Arc<Lane>,
    watched: Watched,
}

impl LaneWaiter {
    fn new(lane: Arc<Lane>, doorbell: Doorbell) -> Self {
        LaneWaiter { lane, watched: Watched::new(doorbell) }
    }

    fn watch(&self, peer: &Peer) -> Result<()> {
        self.watched.watch(peer)
    }

    fn wait(
        &self,
        patience: &mut Patience<'_>,
        what: &'static str,
        look: impl FnMut() -> Result<Option<()>>,
    ) -> Result<()> {
        let doorbell = self.watched.doorbell();
        wait_for(doorbell.bell(), doorbell.spin(), patience, what, look, || self.watched.check())
    }
}
