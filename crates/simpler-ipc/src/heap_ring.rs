//! Heap rings: a ring allocator in shared memory, whose blocks any process may release.
//!
//! One process allocates; where a block lies goes to others (through a mailbox), and whoever is done with it last
//! releases it. Releases come in any order; space is reclaimed first-in-first-out, when the allocator next needs it.
//! How that is kept track of, and what a kill leaves behind, stands in `protocol::ring`.
//!
//! ```text
//! control block (384) │ table: 8 bytes for each `alignment` of the arena │ arena, from the next page
//! ```
//!
//! All of it is sparse: a ring of 1 GiB costs nothing until it is used. Pages once used stay with the ring; a ring
//! that empties starts again at its front, on the pages it used last.
//!
//! Blocks are known by their address. It is that of the process that asks: a process that inherited the region by a
//! fork sees it at the same place, others do not. Between those, send `address - region.address()` and add the
//! receiver's `region.address()`.
//!
//! # Looking for writes that come too late
//!
//! A ring made by [`HeapRing::poisoning`] overwrites what is released with [`POISON`]: whoever still reads there sees
//! that at once. And before a block is handed out, its bytes are looked at: those that are neither poison nor zero
//! (never used, or given back by the region) were written by somebody who had no right to.

use std::sync::atomic::{AtomicU32 as Counter, AtomicU64 as Generation, Ordering as CounterOrdering};

use crate::doorbell::Doorbell;
use crate::error::{Error, Result};
use crate::identity::{self, Start};
use crate::peer::Peer;
use crate::places::{Laid, Thing};
use crate::protocol::bell::Bell;
use crate::protocol::owner::Allocator;
use crate::protocol::ring::{Allocating, Ring, RingControl, Room, MAX_GRANULES};
use crate::protocol::sync::{AtomicU64, Ordering};
use crate::region::{Overlaid, Region};
use crate::spin::Spin;
use crate::sys;
use crate::wait::{wait_for, Patience};
use crate::watched::Watched;
use crate::words;

const PAGE: usize = 4096;
/// The first bits of the geometry word: what a ring of this layout is known by.
const MAGIC: u64 = 0x4852;
/// The bit of the geometry word that tells a ring that poisons.
const POISONS: u64 = 1 << 47;

/// What a ring made by [`HeapRing::poisoning`] writes over each byte that is released.
pub const POISON: u8 = 0xdd;
const POISON_WORD: u64 = u64::from_ne_bytes([POISON; 8]);

#[cfg(not(loom))]
const _: () = assert!(size_of::<RingControl>() == 384);

/// See the module's text.
#[derive(Debug)]
pub struct HeapRing {
    name: String,
    /// Where the arena begins in this process; offsets from there are the same in every one.
    pub(crate) arena: usize,
    shift: u32,
    control: Overlaid<RingControl>,
    table: Overlaid<AtomicU64>,
    poisons: bool,
    serial: u32,
    /// The process (its generation) that was seen to be of the ring's namespaces, and what this object is called there; 0: none
    /// yet. A forked child is another.
    admitted: Generation,
    token: Generation,
    watched: Watched,
    laid: Laid,
}

/// What a ring holds and has seen. Bytes of blocks are rounded up to the ring's alignment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct HeapRingStats {
    /// The ring's size.
    pub nbytes: usize,
    /// Blocks allocated and not released.
    pub live_blocks: u64,
    /// Bytes of those blocks.
    pub live_bytes: usize,
    /// Bytes that no block can have now: live ones, those released behind a live one, and what was left unused at the
    /// end of the arena.
    pub held_bytes: usize,
    /// Most bytes ever held at once: how large the ring has to be.
    pub peak_bytes: usize,
    /// Blocks ever allocated.
    pub allocated: u64,
    /// Blocks that were put at the front because the end of the arena was reached.
    pub wraps: u64,
    /// Allocations that had to wait.
    pub waits: u64,
    /// The address of the oldest live block, which space has to wait for.
    pub oldest: Option<usize>,
    /// Its bytes; 0 if there is none.
    pub oldest_nbytes: usize,
}

impl HeapRing {
    /// The alignment of blocks unless another is asked for.
    pub const ALIGNMENT: usize = 1024;

    /// What to set aside for a ring of `nbytes` (rounded up to the alignment): control block, table and arena.
    ///
    /// # Errors
    /// [`Error::Invalid`] if there are no bytes or too many, or the alignment is not a power of two from 64 to 4096.
    pub fn required_bytes(nbytes: usize, alignment: usize) -> Result<usize> {
        let granules = granules(nbytes, alignment)?;
        // One page more: the arena starts at a page wherever the ring does.
        Ok(size_of::<RingControl>() + granules * size_of::<AtomicU64>() + PAGE + granules * alignment)
    }

    /// The ring at `offset` of a region, a multiple of 128; made where the memory is zero, joined where the same ring
    /// already is, which poisons or not as whoever made it has chosen. `name` shows in errors.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is misaligned, does not lie in the region, or something else lies there; and as
    /// [`HeapRing::required_bytes`].
    pub fn new(region: &Region, offset: usize, nbytes: usize, name: &str, alignment: usize) -> Result<Self> {
        Self::make(region, offset, nbytes, name, alignment, false)
    }

    /// As [`HeapRing::new`], of a ring that looks for writes to blocks after their release, in every process that
    /// joins it. Each release then writes the whole block, each allocation reads it.
    ///
    /// # Errors
    /// As [`HeapRing::new`]; [`Error::Invalid`] also if a ring that does not poison is there already.
    pub fn poisoning(region: &Region, offset: usize, nbytes: usize, name: &str, alignment: usize) -> Result<Self> {
        Self::make(region, offset, nbytes, name, alignment, true)
    }

    fn make(region: &Region, offset: usize, nbytes: usize, name: &str, alignment: usize, poison: bool) -> Result<Self> {
        let nbytes_in_all = Self::required_bytes(nbytes, alignment)?;
        region.window(offset, nbytes_in_all)?;
        let granules = granules(nbytes, alignment)?;
        let control = region.overlay::<RingControl>(offset, 1)?;
        let shape = MAGIC << 48 | u64::from(alignment.trailing_zeros()) << 40 | granules as u64;
        let geometry = if poison { shape | POISONS } else { shape };
        let poisons_as = |found: u64| {
            match found {
            found if found == shape | POISONS => Ok(true),
            found if found == shape && !poison => Ok(false),
            found if found == shape => Err(Error::Invalid(format!(
                "offset {offset} holds a heap ring that does not poison what is released; whoever makes a ring chooses that"
            ))),
            found if found >> 48 == MAGIC => {
                let alignment = 1u64 << (found >> 40 & 0x3f);
                Err(Error::Invalid(format!(
                    "offset {offset} holds a heap ring of {} bytes aligned to {alignment}, not of {nbytes}",
                    (found & 0xff_ffff_ffff).saturating_mul(alignment)
                )))
            }
            _ => Err(Error::Invalid(format!("offset {offset} holds something that is no heap ring"))),
        }
        };
        // What is there already says more than that it is in the way; and nothing is written before it is known to be free.
        let found = control[0].geometry.load(Ordering::Acquire);
        if found != 0 {
            poisons_as(found)?;
        }
        let laid = Laid::out(region, offset, nbytes_in_all, Thing::HeapRing)?;
        let made = control[0].geometry.compare_exchange(0, geometry, Ordering::AcqRel, Ordering::Acquire);
        let poisons = made.map(|_| poison).or_else(poisons_as)?;
        let table_offset = offset + size_of::<RingControl>();
        let table = region.overlay(table_offset, granules)?;
        let bell: *const Bell = Ring::new(&control[0], &table).bell();
        let doorbell = Doorbell::unannounced(region, bell as usize - region.address(), Spin::new())?;
        Ok(HeapRing {
            name: name.to_owned(),
            arena: region.address() + (table_offset + granules * size_of::<AtomicU64>()).next_multiple_of(PAGE),
            shift: alignment.trailing_zeros(),
            control,
            table,
            poisons,
            serial: next_serial(),
            admitted: Generation::new(0),
            token: Generation::new(0),
            watched: Watched::new(doorbell),
            laid,
        })
    }

    /// Its size in bytes.
    pub fn nbytes(&self) -> usize {
        self.table.len() << self.shift
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What every block's address is a multiple of.
    pub fn alignment(&self) -> usize {
        1 << self.shift
    }

    /// Whether it overwrites what is released.
    pub fn poisons(&self) -> bool {
        self.poisons
    }

    /// Bytes of live blocks, rounded up to the alignment. Counted block by block, as [`HeapRing::live`] is.
    pub fn used(&self) -> u64 {
        self.ring().usage().live_granules << self.shift
    }

    /// Live blocks.
    pub fn live(&self) -> u64 {
        self.ring().usage().live_blocks
    }

    /// What it holds and has seen; from any process. Keeping it costs next to nothing, asking goes through the blocks
    /// that are held. While others allocate and release, each number is of some recent moment.
    ///
    /// # Errors
    /// [`Error::Corrupted`].
    pub fn stats(&self) -> Result<HeapRingStats> {
        let (usage, history) = (self.ring().usage(), self.ring().history());
        if !usage.intact {
            return Err(Error::Corrupted(format!("heap ring '{}' has an entry that nobody writes", self.name)));
        }
        let (oldest, oldest_nbytes) = self.block(usage.oldest);
        Ok(HeapRingStats {
            nbytes: self.nbytes(),
            live_blocks: usage.live_blocks,
            live_bytes: self.bytes(usage.live_granules),
            held_bytes: self.bytes(usage.held_granules),
            peak_bytes: self.bytes(history.peak_granules.min(self.table.len() as u64)),
            allocated: history.allocated,
            wraps: history.wraps,
            waits: history.waits,
            oldest,
            oldest_nbytes,
        })
    }

    /// From now on an [`HeapRing::alloc`] that waits ends with [`Error::PeerDied`] as soon as `peer` is gone and there is
    /// no space still: for those who hold blocks, as what they held stays live.
    ///
    /// # Errors
    /// [`Error::Os`] if the watcher thread cannot be started.
    pub fn watch(&self, peer: &Peer) -> Result<()> {
        self.watched.watch(peer)
    }

    /// Ends what [`HeapRing::watch`] began: when nothing is left of what the peer held.
    pub fn forget(&self, peer: &Peer) {
        self.watched.forget(peer);
    }

    /// The address of a fresh block of `nbytes`, at least one. It lives until it is released, whoever dies meanwhile.
    ///
    /// # Errors
    /// [`Error::HeapRingFull`] if no space comes free within the patience, or the block is larger than the ring;
    /// [`Error::PeerDied`] if a watched peer is gone and there is no space; [`Error::Misused`] if another process that
    /// lives, or another `HeapRing`, allocates here, or if the ring's processes are of another pid or time namespace; [`Error::WrittenAfterRelease`]; [`Error::Interrupted`];
    /// [`Error::Corrupted`].
    pub fn alloc(&self, nbytes: usize, patience: &mut Patience<'_>) -> Result<usize> {
        self.alloc_from(0, nbytes, patience)
    }

    /// As [`HeapRing::alloc`], going on with a wait that was counted already.
    pub(crate) fn alloc_waiting(&self, nbytes: usize, patience: &mut Patience<'_>) -> Result<usize> {
        self.alloc_from(COUNTED_AT, nbytes, patience)
    }

    /// An allocation begins to wait, by whatever means.
    pub(crate) fn count_wait(&self) -> Result<()> {
        self.allocating()?.count_wait();
        Ok(())
    }

    /// Which counts as a wait when it has looked that often.
    fn alloc_from(&self, mut looks: u64, nbytes: usize, patience: &mut Patience<'_>) -> Result<usize> {
        if patience.only_looks() || nbytes > self.nbytes() {
            return self.try_alloc(nbytes)?.ok_or_else(|| self.full(nbytes));
        }
        let look = || {
            let allocating = self.allocating()?;
            looks += 1;
            if looks == COUNTED_AT {
                allocating.count_wait();
            }
            self.try_alloc_in(&allocating, nbytes)
        };
        let doorbell = self.watched.doorbell();
        match wait_for(doorbell.bell(), doorbell.spin(), patience, "space", look, || self.watched.check()) {
            Err(Error::WaitTimeout { .. }) => Err(self.full(nbytes)),
            waited => waited,
        }
    }

    /// As [`HeapRing::alloc`], without waiting: `None` when there is no space now.
    ///
    /// # Errors
    /// As [`HeapRing::alloc`].
    #[inline]
    pub fn try_alloc(&self, nbytes: usize) -> Result<Option<usize>> {
        self.try_alloc_in(&self.allocating()?, nbytes)
    }

    #[inline]
    fn try_alloc_in(&self, allocating: &Allocating<'_>, nbytes: usize) -> Result<Option<usize>> {
        let length = ((nbytes.max(1) - 1) >> self.shift) as u64 + 1;
        if self.poisons {
            return self.try_alloc_poisoned(allocating, length);
        }
        Ok(allocating.alloc(length)?.map(|first| self.address(first)))
    }

    #[cold]
    fn try_alloc_poisoned(&self, allocating: &Allocating<'_>, length: u64) -> Result<Option<usize>> {
        loop {
            if let Some(room) = allocating.room(length)? {
                self.check_poison(allocating, room)?;
                allocating.forget_inside(room);
                return Ok(Some(self.address(allocating.take(room))));
            }
            // What a process that was killed in the midst of it has left is done here.
            let Some(poisoning) = allocating.poisoning_at_tail()? else { return Ok(None) };
            if !is_gone(poisoning.pid)? {
                return Ok(None);
            }
            if allocating.take_over(poisoning, process_id()) {
                self.poison(poisoning.first, poisoning.length);
                self.end_poisoning(poisoning.first)?;
            }
        }
    }

    /// The bytes at an offset that somebody else gives, if a live block starts there that has as many: the first, and how many.
    pub(crate) fn live_block_at(&self, offset: u64, nbytes: u64) -> Option<(*mut u8, usize)> {
        let (offset, nbytes) = (usize::try_from(offset).ok()?, usize::try_from(nbytes).ok()?);
        let first = offset >> self.shift;
        if first << self.shift != offset || nbytes > self.bytes(self.ring().live_length(first)?) {
            return None;
        }
        Some((self.address(first) as *mut u8, nbytes))
    }

    /// Gives a block back. In any order, from any process; `address` is that in this one.
    ///
    /// # Errors
    /// [`Error::UnknownBlock`] if no live block starts there; [`Error::Misused`] in a process of another pid or time namespace,
    /// if the ring poisons; [`Error::Corrupted`].
    #[inline]
    pub fn release(&self, address: usize) -> Result<()> {
        let offset = address.wrapping_sub(self.arena);
        let first = offset >> self.shift;
        if first << self.shift == offset {
            let released = if self.poisons { self.release_poisoned(first)? } else { self.ring().release(first) };
            if released {
                return Ok(());
            }
        }
        Err(Error::UnknownBlock { name: self.name.clone(), address })
    }

    #[cold]
    fn release_poisoned(&self, first: usize) -> Result<bool> {
        self.check_namespace()?;
        let Some(length) = self.ring().begin_poisoning(first, process_id())? else { return Ok(false) };
        self.poison(first, length);
        self.end_poisoning(first)?;
        Ok(true)
    }

    fn end_poisoning(&self, first: usize) -> Result<()> {
        if self.ring().end_poisoning(first, process_id()) {
            return Ok(());
        }
        Err(Error::Corrupted(format!(
            "the block at {:#x} of heap ring '{}' changed while it was being released",
            self.address(first),
            self.name
        )))
    }

    /// Overwrites a block that is nobody's but the caller's.
    fn poison(&self, first: usize, length: u64) {
        let (start, nbytes) = (self.address(first), self.bytes(length));
        assert!(start + nbytes <= self.arena + self.nbytes(), "a block that leaves its arena");
        // SAFETY: the range was just seen to lie in the arena, which `new` has checked to lie in the region, which
        // `self.control` keeps mapped. No references to its bytes exist, only raw pointers.
        unsafe { words::fill(start as *mut u8, POISON_WORD, nbytes) }
    }

    /// An error for the first byte of the room that was written since its release; it is poisoned again then.
    fn check_poison(&self, allocating: &Allocating<'_>, room: Room) -> Result<()> {
        let (start, nbytes) = (self.address(room.first), self.bytes(room.length));
        assert!(start + nbytes <= self.arena + self.nbytes(), "a block that leaves its arena");
        let spoilt = (start..start + nbytes).step_by(size_of::<u64>()).find_map(|word| {
            // SAFETY: as in `poison`; blocks start and end at multiples of 64, so words are aligned.
            let value = unsafe { words::load(word as *mut u8) };
            if value == POISON_WORD || value == 0 {
                return None;
            }
            let bytes = value.to_ne_bytes();
            let index = bytes.iter().position(|byte| ![POISON, 0].contains(byte))?;
            Some((word + index, bytes[index]))
        });
        let Some((address, value)) = spoilt else { return Ok(()) };
        let block = allocating.released_around((address - self.arena) >> self.shift).map(|first| self.address(first));
        self.poison(room.first, room.length);
        Err(Error::WrittenAfterRelease { name: self.name.clone(), address, value, block })
    }

    /// The error of a request that does not fit now.
    pub fn full(&self, requested: usize) -> Error {
        let usage = self.ring().usage();
        let (oldest, oldest_nbytes) = self.block(usage.oldest);
        Error::HeapRingFull {
            name: self.name.clone(),
            nbytes: self.nbytes(),
            requested,
            live_blocks: usage.live_blocks,
            live_bytes: self.bytes(usage.live_granules),
            pending_bytes: self.bytes(usage.held_granules.saturating_sub(usage.live_granules)),
            oldest,
            oldest_nbytes,
        }
    }

    /// A turn as the allocator, of which there is one: this object, if there is none or the one there was has ended.
    #[inline]
    fn allocating(&self) -> Result<Allocating<'_>> {
        self.check_namespace()?;
        let token = self.token.load(CounterOrdering::Relaxed);
        match self.ring().lock(token) {
            Ok(allocating) => Ok(allocating),
            Err(other) => self.succeed(Allocator::of(other), Allocator::of(token)),
        }
    }

    /// An error in a process of other namespaces than those of the first allocator: what it would write of itself, and
    /// find of others, means other processes there.
    #[inline]
    fn check_namespace(&self) -> Result<()> {
        match self.admitted.load(CounterOrdering::Acquire) == sys::generation() {
            true => Ok(()),
            false => self.ask_namespace(),
        }
    }

    #[cold]
    fn ask_namespace(&self) -> Result<()> {
        if !self.ring().namespace().admits(sys::own_namespace()?) {
            return Err(Error::Misused(format!(
                "heap ring '{}' is allocated from by processes of another pid or time namespace, where this process cannot look \
                 for them: allocate there, or from a ring of your own",
                self.name
            )));
        }
        let generation = sys::generation();
        let object = self.serial.wrapping_add(generation as u32);
        let own = Allocator::new(sys::current_pid(), sys::own_start_time()?, sys::own_program(), object);
        self.token.store(own.word(), CounterOrdering::Relaxed);
        self.admitted.store(generation, CounterOrdering::Release);
        Ok(())
    }

    #[cold]
    fn succeed(&self, other: Allocator, own: Allocator) -> Result<Allocating<'_>> {
        if other == own {
            return Err(Error::Corrupted(format!(
                "heap ring '{}' has been in the midst of an allocation by this very object for seconds: a thread is stopped \
                 there, or something else has written to the ring",
                self.name
            )));
        }
        let pid = other.pid();
        if pid == 0 {
            return Err(Error::Corrupted(format!("a heap ring names the process {pid}")));
        }
        let is_gone = match other.is_of_process_of(own) {
            // Of this program it is alive, in another copy of this library too. What was before exec is gone.
            true => !other.is_of_program_of(own) && sys::own_namespace()? != sys::UNKNOWN_NAMESPACE,
            false => identity::is_gone(pid, other.start())?,
        };
        if is_gone {
            if let Some(allocating) = self.ring().succeed(other.word(), own.word()) {
                return Ok(allocating);
            }
        }
        Err(Error::Misused(format!(
            "heap ring '{}' is allocated from by process {pid}; this is process {}, or another HeapRing object there",
            self.name,
            process_id()
        )))
    }

    /// What tells this ring from others, the same in every process.
    pub(crate) fn mark(&self) -> u64 {
        let (identity, offset) = self.laid.place();
        // An odd factor: what differs stays different. (2⁶⁴ divided by the golden ratio.)
        (identity ^ (offset as u64).rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    #[inline]
    fn ring(&self) -> Ring<'_> {
        Ring::new(&self.control[0], &self.table)
    }

    #[inline]
    fn address(&self, first: usize) -> usize {
        self.arena + (first << self.shift)
    }

    fn bytes(&self, granules: u64) -> usize {
        (granules as usize) << self.shift
    }

    fn block(&self, block: Option<(usize, u64)>) -> (Option<usize>, usize) {
        match block {
            Some((first, length)) => (Some(self.address(first)), self.bytes(length)),
            None => (None, 0),
        }
    }
}

impl Drop for HeapRing {
    fn drop(&mut self) {
        // One that this process has inherited, and not used, is another's.
        if self.admitted.load(CounterOrdering::Acquire) == sys::generation() {
            self.ring().disclaim(self.token.load(CounterOrdering::Relaxed));
        }
    }
}

fn process_id() -> u32 {
    sys::current_pid() as u32
}

/// Whether there is no process with that id, or one that has ended and was not reaped yet.
fn is_gone(pid: u32) -> Result<bool> {
    let pid = i32::try_from(pid).unwrap_or(0);
    if pid <= 0 {
        return Err(Error::Corrupted(format!("a heap ring names the process {pid}")));
    }
    identity::is_gone(pid, Start::UNKNOWN)
}

/// An allocation that looks for space a second time waits.
const COUNTED_AT: u64 = 2;

/// What tells the rings of this process apart.
fn next_serial() -> u32 {
    static NEXT: Counter = Counter::new(0);
    NEXT.fetch_add(1, CounterOrdering::Relaxed)
}

fn granules(nbytes: usize, alignment: usize) -> Result<usize> {
    if !alignment.is_power_of_two() || !(64..=PAGE).contains(&alignment) {
        return Err(Error::Invalid(format!(
            "a heap ring's alignment is a power of two from 64 to {PAGE}, not {alignment}"
        )));
    }
    let granules = nbytes.div_ceil(alignment);
    if granules == 0 || granules as u64 > MAX_GRANULES {
        return Err(Error::Invalid(format!(
            "a heap ring with an alignment of {alignment} has 1 to {} bytes, not {nbytes}",
            MAX_GRANULES * alignment as u64
        )));
    }
    Ok(granules)
}
