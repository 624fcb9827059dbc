//! What stands in front of a mailbox's frames: its shape, whose each side is and where it sleeps, and what the server is
//! taking.

use super::bell::Bell;
use super::frame::Taking;
use super::owner::Owner;
use super::sync::{fence, order_for_loom, AtomicU32, AtomicU64, Ordering};
use super::Line;

/// Each line is written by one side only, so that neither slows the other down.
#[repr(C)]
#[derive(Debug, Default)]
pub struct LaneHeader {
    /// The mailbox's shape, so that two processes cannot disagree about it; see `mailbox`.
    pub geometry: Line<AtomicU64>,
    /// Where the server sleeps until there is a request.
    requests: Line<Waiting>,
    /// Where the client sleeps until there is a reply.
    replies: Line<Waiting>,
    /// Which request the server is taking.
    pub taking: Line<Taking>,
    /// Replies that the client has taken. Written by the client only, read by its successor.
    pub taken: Line<AtomicU64>,
}

impl LaneHeader {
    /// Where the server sleeps.
    pub fn requests(&self) -> &Waiting {
        &self.requests
    }

    /// Where the client sleeps.
    pub fn replies(&self) -> &Waiting {
        &self.replies
    }
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
    /// The CPU that the owner was on when it last waited, from 1; zero if nobody has said.
    pub cpu: AtomicU32,
    /// Which process has this side.
    pub owner: Owner,
}

/// A bell elsewhere: the identity of its region (0: the lane's own bell) and its offset there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Elsewhere {
    /// What tells its memory from any other.
    pub region: u64,
    /// In bytes.
    pub offset: u64,
}

impl Waiting {
    /// From now on the owner sleeps there. What it looks at after this call and does not find will ring there.
    ///
    /// The other side publishes, then reads the generation; this side changes the generation, then looks. Both with a
    /// full fence between, so one of the two notices. While the generation is odd the place is changing, and nobody
    /// sleeps: who changes it looks afterwards, and if it dies half-way, its successor does.
    pub fn sleep_at(&self, place: Elsewhere) {
        let changing = self.generation.load(Ordering::Relaxed).wrapping_add(1) | 1;
        self.generation.swap(changing, Ordering::SeqCst);
        self.region.store(place.region, Ordering::SeqCst);
        self.offset.store(place.offset, Ordering::SeqCst);
        self.generation.swap(changing.wrapping_add(1), Ordering::SeqCst);
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
