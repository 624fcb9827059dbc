//! What stands in front of a mailbox's frames: its shape, how far each side has come, and where each side sleeps.

use super::bell::Bell;
use super::sync::{fence, order_for_loom, AtomicU32, AtomicU64, Ordering};
use super::Line;

/// Each line is written by one side only, so that neither slows the other down.
#[repr(C)]
#[derive(Debug, Default)]
pub struct LaneHeader {
    /// The mailbox's shape, so that two processes cannot disagree about it; see `mailbox`.
    pub geometry: Line<AtomicU64>,
    /// Where the server sleeps until there is a request.
    pub requests: Line<Waiting>,
    /// Where the client sleeps until there is a reply.
    pub replies: Line<Waiting>,
    /// Requests posted, replies taken. Written by the client.
    pub client: Line<Progress>,
    /// Requests received, replies given. Written by the server.
    pub server: Line<Progress>,
}

/// How many requests one side has begun and ended its work on, ever.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Progress {
    /// Posted, or received.
    pub begun: AtomicU64,
    /// Reply taken, or given.
    pub ended: AtomicU64,
}

/// A bell, and word of another one if its owner sleeps there instead.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Waiting {
    /// The lane's own bell.
    pub own: Bell,
    generation: AtomicU32,
    region: AtomicU64,
    offset: AtomicU64,
}

/// A bell elsewhere: the identity of its region (0: the lane's own bell) and its offset there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Elsewhere {
    /// See [`crate::region::Region::identity`].
    pub region: u64,
    /// In bytes.
    pub offset: u64,
}

impl Waiting {
    /// From now on the owner sleeps there. What it looks at after this call and does not find will ring there.
    ///
    /// The other side publishes, then reads the generation; this side changes the generation, then looks. Both with a
    /// full barrier between, so one of the two notices.
    pub fn sleep_at(&self, place: Elsewhere) {
        // Odd while it changes.
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.region.store(place.region, Ordering::SeqCst);
        self.offset.store(place.offset, Ordering::SeqCst);
        self.generation.fetch_add(1, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// Differs after each change of place.
    #[inline]
    pub fn generation(&self) -> u32 {
        order_for_loom();
        self.generation.load(Ordering::SeqCst)
    }

    /// The place and its generation; `None` while it changes.
    pub fn place(&self) -> Option<(u32, Elsewhere)> {
        let before = self.generation();
        let place =
            Elsewhere { region: self.region.load(Ordering::SeqCst), offset: self.offset.load(Ordering::SeqCst) };
        (before % 2 == 0 && before == self.generation()).then_some((before, place))
    }
}
