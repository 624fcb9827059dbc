//! The ring allocator's bookkeeping: blocks in the order they were allocated, reclaimed in that order.
//!
//! The arena is divided into granules (one alignment each). `head` and `tail` count granules ever allocated and ever
//! reclaimed; their difference is what is held, their remainder by the capacity the place in the arena. The table has
//! one entry a granule; that of a block's first granule says what the block is:
//!
//! ```text
//!          alloc                  release (anyone)          reclaim, at the tail
//! NOTHING ───────► LIVE | length ────────────────► RELEASED | length ────────────► NOTHING
//! ```
//!
//! One allocator writes head, tail and the entries it allocates or reclaims; any process releases, by one
//! compare-and-swap on the entry, so a second release of a block always finds something other than LIVE. A block
//! that does not fit between the head and the end of the arena starts at the front, behind a filler that is born
//! RELEASED. When nothing is held, the next block starts at the front: large blocks always fit an empty ring, and the
//! same few pages stay warm.

use super::bell::Bell;
use super::sync::{AtomicU32, AtomicU64, Ordering};
use super::Line;
use crate::error::{Error, Result};

const LIVE: u32 = 1 << 31;
const RELEASED: u32 = 1 << 30;
const LENGTH: u32 = RELEASED - 1;

/// Most granules a ring can have: what the length in a table entry can say.
pub const MAX_GRANULES: u64 = LENGTH as u64;

/// What stands in shared memory in front of the table.
#[repr(C)]
#[derive(Debug, Default)]
pub struct RingControl {
    /// The ring's shape, so that two processes cannot disagree about it; see `heap_ring`.
    pub geometry: Line<AtomicU64>,
    allocator: Line<AllocatorLine>,
    releasers: Line<ReleaserLine>,
}

/// Written by the allocator only.
#[repr(C)]
#[derive(Debug, Default)]
struct AllocatorLine {
    owner: AtomicU64,
    head: AtomicU64,
    tail: AtomicU64,
    blocks: AtomicU64,
    granules: AtomicU64,
}

/// Written by whoever releases.
#[repr(C)]
#[derive(Debug, Default)]
struct ReleaserLine {
    bell: Bell,
    blocks: AtomicU64,
    granules: AtomicU64,
}

/// What a ring holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Blocks allocated and not released.
    pub live_blocks: u64,
    /// Granules of those blocks.
    pub live_granules: u64,
    /// Granules not reclaimed: live ones, and released ones and fillers among and behind them.
    pub held_granules: u64,
}

/// A ring's control block and table, together.
#[derive(Debug, Clone, Copy)]
pub struct Ring<'a> {
    control: &'a RingControl,
    table: &'a [AtomicU32],
}

impl<'a> Ring<'a> {
    /// `table` has one entry for each granule of the arena.
    pub fn new(control: &'a RingControl, table: &'a [AtomicU32]) -> Self {
        Ring { control, table }
    }

    /// Rung by every release.
    pub fn bell(&self) -> &'a Bell {
        &self.control.releasers.bell
    }

    /// Makes `token` the one allocator; the token of the one that is already there if it is another.
    pub fn claim(&self, token: u64) -> std::result::Result<(), u64> {
        let owner = &self.control.allocator.owner;
        if owner.load(Ordering::Acquire) == token {
            return Ok(());
        }
        match owner.compare_exchange(0, token, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(()),
            Err(other) => Err(other),
        }
    }

    /// Lets another allocator follow, if `token` is the one there is.
    pub fn disclaim(&self, token: u64) {
        // Whether it was ours or another's, it is not ours afterwards: that is all that is asked for.
        let _ = self.control.allocator.owner.compare_exchange(token, 0, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// The first granule of a new block of `length` granules; `None` when there is no room now. The allocator only.
    pub fn alloc(&self, length: u64) -> Result<Option<usize>> {
        let capacity = self.capacity();
        debug_assert!(length > 0);
        if length > capacity {
            return Ok(None);
        }
        let (mut head, tail) = self.reclaim()?;
        if head == tail {
            head = head.next_multiple_of(capacity);
            self.store_span(head, head);
        }
        let tail = self.control.allocator.tail.load(Ordering::Relaxed);
        let free = capacity - (head - tail);
        let position = head % capacity;
        let to_end = capacity - position;
        if length <= to_end {
            if length > free {
                return Ok(None);
            }
        } else {
            if to_end + length > free {
                return Ok(None);
            }
            self.table[position as usize].store(RELEASED | to_end as u32, Ordering::Release);
            head += to_end;
        }
        let first = (head % capacity) as usize;
        let allocator = &self.control.allocator;
        allocator.blocks.fetch_add(1, Ordering::Relaxed);
        allocator.granules.fetch_add(length, Ordering::Relaxed);
        self.table[first].store(LIVE | length as u32, Ordering::Release);
        allocator.head.store(head + length, Ordering::Release);
        Ok(Some(first))
    }

    /// Gives the block that starts at granule `first` back; false if none that is live starts there. Anyone.
    pub fn release(&self, first: usize) -> bool {
        let Some(entry) = self.table.get(first) else { return false };
        let found = entry.load(Ordering::Acquire);
        if found & LIVE == 0 {
            return false;
        }
        let length = found & LENGTH;
        // Release: the allocator's reuse comes after everything this process did in the block.
        if entry.compare_exchange(found, RELEASED | length, Ordering::AcqRel, Ordering::Relaxed).is_err() {
            return false;
        }
        let releasers = &self.control.releasers;
        releasers.granules.fetch_add(u64::from(length), Ordering::Relaxed);
        releasers.blocks.fetch_add(1, Ordering::Release);
        releasers.bell.ring();
        true
    }

    /// What is held now. From any process; while others allocate and release, each number is of some recent moment.
    pub fn usage(&self) -> Usage {
        let (allocator, releasers) = (&self.control.allocator, &self.control.releasers);
        // What is released was allocated before: read in this order, no difference is negative.
        let released_blocks = releasers.blocks.load(Ordering::Acquire);
        let released_granules = releasers.granules.load(Ordering::Acquire);
        let tail = allocator.tail.load(Ordering::Acquire);
        Usage {
            live_blocks: allocator.blocks.load(Ordering::Acquire).saturating_sub(released_blocks),
            live_granules: allocator.granules.load(Ordering::Acquire).saturating_sub(released_granules),
            held_granules: allocator.head.load(Ordering::Acquire).saturating_sub(tail),
        }
    }

    fn capacity(&self) -> u64 {
        self.table.len() as u64
    }

    fn store_span(&self, head: u64, tail: u64) {
        // Head first: a reader in between sees too much held, not too little.
        self.control.allocator.head.store(head, Ordering::Release);
        self.control.allocator.tail.store(tail, Ordering::Release);
    }

    /// Moves the tail over every released block; the head and the tail then.
    fn reclaim(&self) -> Result<(u64, u64)> {
        let capacity = self.capacity();
        let head = self.control.allocator.head.load(Ordering::Relaxed);
        let mut tail = self.control.allocator.tail.load(Ordering::Relaxed);
        if tail > head || head - tail > capacity {
            return Err(Error::Corrupted(format!(
                "a heap ring of {capacity} granules has its tail at {tail} and its head at {head}"
            )));
        }
        while tail < head {
            let position = tail % capacity;
            let entry = self.table[position as usize].load(Ordering::Acquire);
            let length = u64::from(entry & LENGTH);
            if length == 0 || length > capacity - position || length > head - tail {
                return Err(Error::Corrupted(format!(
                    "the heap ring's block at granule {position} has the impossible entry {entry:#x}"
                )));
            }
            if entry & LIVE != 0 {
                break;
            }
            self.table[position as usize].store(0, Ordering::Relaxed);
            tail += length;
        }
        self.control.allocator.tail.store(tail, Ordering::Release);
        Ok((head, tail))
    }
}
