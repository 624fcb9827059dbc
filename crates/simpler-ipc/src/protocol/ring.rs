//! The ring allocator's bookkeeping: blocks in the order they were allocated, reclaimed in that order.
//!
//! The arena is divided into granules (one alignment each). The *span* is what is held: where it begins (the tail) and
//! how many granules it has, wrapping around the arena's end, in one word. The table has one entry a granule; that of a
//! block's first granule says what the block is:
//!
//! ```text
//!   alloc           release (anyone)                   the tail passes over it
//! ────────► LIVE ──────────────────────► RELEASED ─────────────────────────────► not in the span
//!             │                             ▲
//!             └────────► POISONING ─────────┘          the block's length stays in the entry all the way
//!               release       by, or after the death
//!              where freed    of, the process whose id
//!            bytes are marked stands in the entry
//! ```
//!
//! # Who writes what
//!
//! One process allocates, one thread of it at a time: taking turns and being the allocator are one compare-exchange on
//! the `owner` word, which names an object in a process. It lies in shared memory, so a fork does not copy a turn that
//! some thread had: in the child the word names the parent. The holder of the turn writes the allocator's line and the
//! entries outside of the span; plain loads and stores do.
//!
//! Anyone releases, by a compare-exchange on the entry, so of two that release a block one finds something other than
//! LIVE. It is the publication that the bell asks for, and it comes after all that the releaser did in the block; the
//! tail's passing reads it with acquire, so the next use of the bytes comes after that.
//!
//! # After a kill
//!
//! An entry counts only within the span, and the span changes by one store: after the entries of new blocks are
//! written, before those of old ones are overwritten. An allocator killed at any moment leaves a ring in which its last
//! block is there or is not; its successor wipes the one or two entries that it may have written outside of the span.
//! A releaser has released or has not, except while it is poisoning: then the allocator finishes in its place.
//!
//! # Where blocks go
//!
//! A block that does not fit between the head and the end of the arena starts at the front, behind a filler that is
//! born RELEASED. When nothing is held, the next block starts at the front: large blocks always fit an empty ring, and
//! the same few pages stay warm.

use super::bell::Bell;
use super::owner::Namespace;
use super::sync::{AtomicU64, Ordering};
use super::Line;
use crate::error::{Error, Result};

/// An entry: state in the two top bits, length in the 30 below, and 32 bits that depend on the state.
const STATE: u64 = 3 << 62;
const LIVE: u64 = 1 << 62;
/// With the id of the process that does it.
const POISONING: u64 = 2 << 62;
/// With [`FILLER`], if it is none that was allocated.
const RELEASED: u64 = 3 << 62;
const FILLER: u64 = 1;
const LENGTH_SHIFT: u32 = 32;

/// Most granules a ring can have: what the length in a table entry can say.
pub const MAX_GRANULES: u64 = (1 << 30) - 1;

/// The lowest bit of the owner word: somebody is at it.
const BUSY: u64 = 1;

/// After so many pauses, seconds, a turn is not one that a thread will end: something else has written to the word.
const LAST_TURN: u32 = 1 << 14;

/// How often a reader starts again because the allocator went on meanwhile.
const LOOKS: usize = if cfg!(loom) { 2 } else { 8 };

fn length_of(entry: u64) -> u64 {
    entry >> LENGTH_SHIFT & MAX_GRANULES
}

fn entry(state: u64, length: u64, note: u64) -> u64 {
    state | length << LENGTH_SHIFT | note
}

/// What stands in shared memory in front of the table.
#[repr(C)]
#[derive(Debug, Default)]
pub struct RingControl {
    /// The ring's shape, so that two processes cannot disagree about it; see `heap_ring`.
    pub geometry: Line<AtomicU64>,
    allocator: Line<AllocatorLine>,
    releasers: Line<Bell>,
}

/// Written by the allocator only, but for a successor's claim.
#[repr(C)]
#[derive(Debug, Default)]
struct AllocatorLine {
    owner: AtomicU64,
    span: AtomicU64,
    allocated: AtomicU64,
    wraps: AtomicU64,
    waits: AtomicU64,
    peak: AtomicU64,
    namespace: Namespace,
}

/// The granules that are held, from the tail on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    tail: u64,
    held: u64,
}

impl Span {
    fn of(word: u64) -> Self {
        Span { tail: word >> 32, held: word & u64::from(u32::MAX) }
    }

    fn word(self) -> u64 {
        self.tail << 32 | self.held
    }

    /// Where it ends.
    fn head(self, capacity: u64) -> u64 {
        wrapped(self.tail + self.held, capacity)
    }

    fn without_first(self, length: u64, capacity: u64) -> Self {
        Span { tail: wrapped(self.tail + length, capacity), held: self.held - length }
    }
}

/// `position`, less than twice the capacity, in the arena.
fn wrapped(position: u64, capacity: u64) -> u64 {
    if position >= capacity {
        position - capacity
    } else {
        position
    }
}

/// What a ring holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Blocks allocated and not released.
    pub live_blocks: u64,
    /// Granules of those blocks.
    pub live_granules: u64,
    /// Granules that no block can have now: live ones, and released ones and fillers behind a live one.
    pub held_granules: u64,
    /// First granule and length of the live block that was allocated first.
    pub oldest: Option<(usize, u64)>,
    /// False if an entry was found that nobody can have written; what came before it is counted.
    pub intact: bool,
}

/// What a ring has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    /// Blocks ever allocated.
    pub allocated: u64,
    /// Blocks that were put at the front because the end of the arena was reached.
    pub wraps: u64,
    /// Allocations that had to wait.
    pub waits: u64,
    /// Most granules ever held at once.
    pub peak_granules: u64,
}

/// A ring's control block and table, together.
#[derive(Debug, Clone, Copy)]
pub struct Ring<'a> {
    control: &'a RingControl,
    table: &'a [AtomicU64],
}

impl<'a> Ring<'a> {
    /// `table` has one entry for each granule of the arena.
    #[inline]
    pub fn new(control: &'a RingControl, table: &'a [AtomicU64]) -> Self {
        Ring { control, table }
    }

    /// Its sleepers are woken by every release.
    pub fn bell(&self) -> &'a Bell {
        &self.control.releasers
    }

    /// A turn as the allocator that `token` (even, not 0) names; the token of the one there is if it is another.
    #[inline]
    pub fn lock(&self, token: u64) -> std::result::Result<Allocating<'a>, u64> {
        let owner = &self.control.allocator.owner;
        match owner.compare_exchange(token, token | BUSY, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Ok(Allocating { ring: *self, token }),
            Err(_) => self.lock_slowly(token),
        }
    }

    #[cold]
    fn lock_slowly(&self, token: u64) -> std::result::Result<Allocating<'a>, u64> {
        let mut turn = 0;
        loop {
            let found = self.control.allocator.owner.load(Ordering::Relaxed);
            if found == 0 {
                if let Some(allocating) = self.succeed(0, token) {
                    return Ok(allocating);
                }
            } else if found & !BUSY != token || turn > LAST_TURN {
                return Err(found & !BUSY);
            } else if found == token {
                let owner = &self.control.allocator.owner;
                if owner.compare_exchange(token, token | BUSY, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                    return Ok(Allocating { ring: *self, token });
                }
            }
            // Another thread's turn: some nanoseconds, unless it was preempted in it.
            pause(turn);
            turn += 1;
        }
    }

    /// The turn that follows the allocator `before`, which is gone for good (or 0: there is none); `None` if another
    /// was faster.
    pub fn succeed(&self, before: u64, token: u64) -> Option<Allocating<'a>> {
        let owner = &self.control.allocator.owner;
        let found = owner.load(Ordering::Relaxed);
        if found & !BUSY != before
            || owner.compare_exchange(found, token | BUSY, Ordering::AcqRel, Ordering::Relaxed).is_err()
        {
            return None;
        }
        let allocating = Allocating { ring: *self, token };
        allocating.wipe_unfinished();
        Some(allocating)
    }

    /// In which pid and time namespaces the processes that allocate, and those that poison, are counted.
    pub fn namespace(&self) -> &'a Namespace {
        &self.control.allocator.namespace
    }

    /// Lets another allocator follow, if `token` is the one there is. In no turn of its own.
    pub fn disclaim(&self, token: u64) {
        // Whether it was ours or another's, it is not ours afterwards: that is all that is asked for.
        let _ = self.control.allocator.owner.compare_exchange(token, 0, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Gives the block that starts at granule `first` back; false if none that is live starts there. Anyone.
    #[inline]
    pub fn release(&self, first: usize) -> bool {
        self.pass_on(first, LIVE, |length| entry(RELEASED, length, 0)).is_some()
    }

    /// The granules of the live block that starts there, if one does and the arena holds it.
    pub fn live_length(&self, first: usize) -> Option<u64> {
        let found = self.table.get(first)?.load(Ordering::Acquire);
        let length = length_of(found);
        (found & STATE == LIVE && length > 0 && length <= (self.table.len() - first) as u64).then_some(length)
    }

    /// The first half of a release where freed bytes are marked: the block's length, if a live one starts there. It is
    /// the process `pid`'s then, to write to.
    ///
    /// # Errors
    /// [`Error::Corrupted`] if it would be longer than the arena.
    pub fn begin_poisoning(&self, first: usize, pid: u32) -> Result<Option<u64>> {
        let Some(length) = self.pass_on(first, LIVE, |length| entry(POISONING, length, u64::from(pid))) else {
            return Ok(None);
        };
        if length == 0 || length > (self.table.len() - first) as u64 {
            return Err(impossible(first as u64, entry(LIVE, length, 0)));
        }
        Ok(Some(length))
    }

    /// The second half; false if the block is not being poisoned by `pid`.
    pub fn end_poisoning(&self, first: usize, pid: u32) -> bool {
        let Some(place) = self.table.get(first) else { return false };
        let found = place.load(Ordering::Acquire);
        if found & STATE != POISONING || found as u32 != pid {
            return false;
        }
        let released = entry(RELEASED, length_of(found), 0);
        let ended = place.compare_exchange(found, released, Ordering::SeqCst, Ordering::Relaxed).is_ok();
        self.bell().wake_sleepers();
        ended
    }

    /// Changes an entry in the state `from`: the block's length. One of several that try it at once succeeds.
    #[inline]
    fn pass_on(&self, first: usize, from: u64, to: impl FnOnce(u64) -> u64) -> Option<u64> {
        let place = self.table.get(first)?;
        let found = place.load(Ordering::Relaxed);
        if found & STATE != from {
            return None;
        }
        let length = length_of(found);
        // What publishes to the sleepers; and as a release it comes after all that this process did in the block.
        place.compare_exchange(found, to(length), Ordering::SeqCst, Ordering::Relaxed).ok()?;
        self.bell().wake_sleepers();
        Some(length)
    }

    /// What is held now. From any process, also while others allocate and release: the blocks are those of one moment
    /// unless the allocator never pauses, and what each is found to be was so at some moment since.
    pub fn usage(&self) -> Usage {
        let allocator = &self.control.allocator;
        let mut allocated = allocator.allocated.load(Ordering::Acquire);
        let mut word = allocator.span.load(Ordering::Acquire);
        let mut usage = self.walk(Span::of(word));
        for _ in 1..LOOKS {
            // An entry that was overwritten had left the span before; and a span that looks as it did has come back by
            // an allocation. Read in this order, neither is missed.
            let word_now = allocator.span.load(Ordering::Acquire);
            let allocated_now = allocator.allocated.load(Ordering::Acquire);
            if (word_now, allocated_now) == (word, allocated) {
                return usage;
            }
            allocated = allocator.allocated.load(Ordering::Acquire);
            word = allocator.span.load(Ordering::Acquire);
            usage = self.walk(Span::of(word));
        }
        // It never stood still: what looks impossible may have been a moment's.
        Usage { intact: true, ..usage }
    }

    /// Reads the entries of a span, which may be anything and may change meanwhile. Ends after as many as are held.
    fn walk(&self, mut span: Span) -> Usage {
        let mut usage = Usage { live_blocks: 0, live_granules: 0, held_granules: 0, oldest: None, intact: true };
        if self.check(span).is_err() {
            usage.intact = false;
            return usage;
        }
        let capacity = self.capacity();
        while span.held > 0 {
            let found = self.table[span.tail as usize].load(Ordering::Acquire);
            let Some(length) = self.length_in(span, found) else {
                usage.intact = false;
                return usage;
            };
            if found & STATE != RELEASED && usage.held_granules == 0 {
                usage.held_granules = span.held;
            }
            if found & STATE == LIVE {
                usage.live_blocks += 1;
                usage.live_granules += length;
                usage.oldest = usage.oldest.or(Some((span.tail as usize, length)));
            }
            span = span.without_first(length, capacity);
        }
        usage
    }

    /// What the ring has seen so far.
    pub fn history(&self) -> History {
        let allocator = &self.control.allocator;
        History {
            allocated: allocator.allocated.load(Ordering::Acquire),
            wraps: allocator.wraps.load(Ordering::Acquire),
            waits: allocator.waits.load(Ordering::Acquire),
            peak_granules: allocator.peak.load(Ordering::Acquire),
        }
    }

    fn capacity(&self) -> u64 {
        self.table.len() as u64
    }

    fn check(&self, span: Span) -> Result<()> {
        if span.tail < self.capacity() && span.held <= self.capacity() {
            return Ok(());
        }
        Err(Error::Corrupted(format!(
            "a heap ring of {} granules holds {} from granule {} on",
            self.capacity(),
            span.held,
            span.tail
        )))
    }

    /// The length of the first block of a span, if its entry makes sense.
    #[inline]
    fn length_in(&self, span: Span, found: u64) -> Option<u64> {
        let length = length_of(found);
        let possible = length > 0 && length <= span.held && length <= self.capacity() - span.tail;
        (possible && found & STATE != 0).then_some(length)
    }
}

/// Room for a block that is not allocated yet.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Its first granule.
    pub first: usize,
    /// How many it has.
    pub length: u64,
    /// Granules between the head and the end of the arena, which a block at the front leaves unused.
    filler: u64,
    span: Span,
}

/// A block whose poisoning is not done, at the tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Poisoning {
    /// Its first granule.
    pub first: usize,
    /// How many it has.
    pub length: u64,
    /// The process that does it.
    pub pid: u32,
}

/// An allocator's turn, until it is dropped.
#[derive(Debug)]
pub struct Allocating<'a> {
    ring: Ring<'a>,
    token: u64,
}

impl Drop for Allocating<'_> {
    #[inline]
    fn drop(&mut self) {
        self.line().owner.store(self.token, Ordering::Release);
    }
}

impl Allocating<'_> {
    fn line(&self) -> &AllocatorLine {
        &self.ring.control.allocator
    }

    /// [`Allocating::room`] and [`Allocating::take`] in one: the first granule of a new block.
    ///
    /// # Errors
    /// [`Error::Corrupted`].
    #[inline]
    pub fn alloc(&self, length: u64) -> Result<Option<usize>> {
        Ok(self.room(length)?.map(|room| self.take(room)))
    }

    /// Room for a block of `length` granules, at least one; `None` if there is none now. Reclaims what can be.
    ///
    /// # Errors
    /// [`Error::Corrupted`].
    #[inline]
    pub fn room(&self, length: u64) -> Result<Option<Room>> {
        let capacity = self.ring.capacity();
        debug_assert!(length > 0);
        if length > capacity {
            return Ok(None);
        }
        let span = self.reclaim()?;
        let head = span.head(capacity);
        let to_end = capacity - head;
        let filler = if length > to_end { to_end } else { 0 };
        if filler + length > capacity - span.held {
            return Ok(None);
        }
        let first = if filler > 0 { 0 } else { head as usize };
        Ok(Some(Room { first, length, filler, span }))
    }

    /// Allocates the block: its first granule.
    #[inline]
    pub fn take(&self, room: Room) -> usize {
        let (table, line) = (self.ring.table, self.line());
        let Room { first, length, filler, span } = room;
        if filler > 0 {
            let head = span.head(self.ring.capacity()) as usize;
            table[head].store(entry(RELEASED, filler, FILLER), Ordering::Release);
        }
        table[first].store(entry(LIVE, length, 0), Ordering::Release);
        let held = span.held + filler + length;
        if first == 0 && span.held > 0 {
            add_one(&line.wraps);
        }
        if held > line.peak.load(Ordering::Relaxed) {
            line.peak.store(held, Ordering::Relaxed);
        }
        add_one(&line.allocated);
        line.span.store(Span { tail: span.tail, held }.word(), Ordering::Release);
        first
    }

    /// Counts an allocation that has to wait.
    pub fn count_wait(&self) {
        add_one(&self.line().waits);
    }

    /// The poisoning that keeps the tail from moving, if one does.
    ///
    /// # Errors
    /// [`Error::Corrupted`].
    pub fn poisoning_at_tail(&self) -> Result<Option<Poisoning>> {
        let span = self.reclaim()?;
        let found = self.ring.table[span.tail as usize].load(Ordering::Acquire);
        if span.held == 0 || found & STATE != POISONING {
            return Ok(None);
        }
        let length = self.ring.length_in(span, found).ok_or_else(|| impossible(span.tail, found))?;
        Ok(Some(Poisoning { first: span.tail as usize, length, pid: found as u32 }))
    }

    /// Goes on in the place of a process that is gone for good: false if it had ended the poisoning.
    pub fn take_over(&self, poisoning: Poisoning, pid: u32) -> bool {
        let Poisoning { first, length, pid: gone } = poisoning;
        let (from, to) = (entry(POISONING, length, gone.into()), entry(POISONING, length, pid.into()));
        self.ring.table[first].compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Forgets which blocks began inside of the room, so that [`Allocating::released_around`] tells of the last ones.
    pub fn forget_inside(&self, room: Room) {
        for place in &self.ring.table[room.first + 1..room.first + room.length as usize] {
            place.store(0, Ordering::Relaxed);
        }
    }

    /// The first granule of the block that `granule`, outside of the span, was last part of, if that is still known.
    pub fn released_around(&self, granule: usize) -> Option<usize> {
        let found = |first: &usize| self.ring.table[*first].load(Ordering::Relaxed);
        let first = (0..=granule).rev().find(|first| found(first) != 0)?;
        let entry = found(&first);
        let covers = length_of(entry) > (granule - first) as u64;
        (covers && entry & STATE == RELEASED && entry & FILLER == 0).then_some(first)
    }

    /// Moves the tail over every released block; a ring that holds nothing starts at its front again.
    #[inline]
    fn reclaim(&self) -> Result<Span> {
        let ring = self.ring;
        let before = Span::of(self.line().span.load(Ordering::Relaxed));
        ring.check(before)?;
        let mut span = before;
        while span.held > 0 {
            let found = ring.table[span.tail as usize].load(Ordering::Acquire);
            let Some(length) = ring.length_in(span, found) else { return Err(impossible(span.tail, found)) };
            if found & STATE != RELEASED {
                break;
            }
            span = span.without_first(length, ring.capacity());
        }
        if span.held == 0 {
            span.tail = 0;
        }
        if span != before {
            self.line().span.store(span.word(), Ordering::Release);
        }
        Ok(span)
    }

    /// Wipes what a predecessor, killed before it could make it part of the span, may have written: a block or a
    /// filler at the head, a block at the front.
    fn wipe_unfinished(&self) {
        let span = Span::of(self.line().span.load(Ordering::Relaxed));
        let capacity = self.ring.capacity();
        // What is corrupted is so still when the next allocation looks.
        if self.ring.check(span).is_err() || span.held == capacity {
            return;
        }
        let head = span.head(capacity);
        self.ring.table[head as usize].store(0, Ordering::Relaxed);
        let front_is_free = span.tail > 0 && span.tail + span.held <= capacity;
        if front_is_free {
            self.ring.table[0].store(0, Ordering::Relaxed);
        }
    }
}

/// A counter that one thread at a time writes.
#[inline]
fn add_one(counter: &AtomicU64) {
    counter.store(counter.load(Ordering::Relaxed).wrapping_add(1), Ordering::Release);
}

fn impossible(granule: u64, entry: u64) -> Error {
    Error::Corrupted(format!("the heap ring's block at granule {granule} has the impossible entry {entry:#x}"))
}

/// Lets another thread end its turn.
fn pause(turn: u32) {
    #[cfg(loom)]
    {
        let _ = turn;
        loom::thread::yield_now();
    }
    #[cfg(not(loom))]
    match turn {
        0..64 => std::hint::spin_loop(),
        64..256 => std::thread::yield_now(),
        // One that outranks it, on its own CPU, would never let it: this does.
        _ => std::thread::sleep(std::time::Duration::from_micros(50)),
    }
}
