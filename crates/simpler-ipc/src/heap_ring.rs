//! Heap rings: a ring allocator in shared memory, whose blocks any process may release.
//!
//! One process allocates; the address of a block goes to others (through a mailbox), and whoever is done with it last
//! releases it. Releases come in any order; space is reclaimed first-in-first-out, when the allocator next needs it.
//! How that is kept track of stands in `protocol::ring`.
//!
//! ```text
//! control block (384) │ table: 4 bytes for each `alignment` of the arena │ arena, from the next page
//! ```
//!
//! All of it is sparse: a ring of 1 GiB costs nothing until it is used. Pages once used stay with the ring; a ring
//! that empties starts again at its front, on the pages it used last.

use std::sync::atomic::{AtomicU32 as Counter, Ordering as CounterOrdering};
use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};
use crate::protocol::ring::{Ring, RingControl, Usage, MAX_GRANULES};
use crate::protocol::sync::{AtomicU32, Ordering};
use crate::region::{Overlaid, Region};
use crate::spin::Spin;
use crate::sys;
use crate::wait::{wait_for, Patience};

const PAGE: usize = 4096;
/// The first bits of the geometry word: what a ring of this layout is known by.
const MAGIC: u64 = 0x4852;

#[cfg(not(loom))]
const _: () = assert!(size_of::<RingControl>() == 384);

/// See the module's text.
#[derive(Debug)]
pub struct HeapRing {
    name: String,
    region: Region,
    arena_offset: usize,
    alignment: usize,
    control: Overlaid<RingControl>,
    table: Overlaid<AtomicU32>,
    token: u32,
    allocating: Mutex<()>,
    spin: Spin,
}

/// Tells the rings of one process apart, as allocators.
static NEXT_TOKEN: Counter = Counter::new(1);

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
        Ok(size_of::<RingControl>() + granules * size_of::<AtomicU32>() + PAGE + granules * alignment)
    }

    /// The ring at `offset` of a region, a multiple of 128; made where the memory is zero, joined where the same ring
    /// already is. `name` shows in errors.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is misaligned, does not lie in the region, or something else lies there; and as
    /// [`HeapRing::required_bytes`].
    pub fn new(region: &Region, offset: usize, nbytes: usize, name: &str, alignment: usize) -> Result<Self> {
        region.window(offset, Self::required_bytes(nbytes, alignment)?)?;
        let granules = granules(nbytes, alignment)?;
        let control = region.overlay::<RingControl>(offset, 1)?;
        let geometry = MAGIC << 48 | u64::from(alignment.trailing_zeros()) << 40 | granules as u64;
        match control[0].geometry.compare_exchange(0, geometry, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {}
            Err(found) if found == geometry => {}
            Err(found) if found >> 48 == MAGIC => {
                let alignment = 1u64 << (found >> 40 & 0x3f);
                return Err(Error::Invalid(format!(
                    "offset {offset} holds a heap ring of {} bytes aligned to {alignment}, not of {nbytes}",
                    (found & 0xff_ffff_ffff).saturating_mul(alignment)
                )));
            }
            Err(_) => return Err(Error::Invalid(format!("offset {offset} holds something that is no heap ring"))),
        }
        let table_offset = offset + size_of::<RingControl>();
        let table = region.overlay(table_offset, granules)?;
        Ok(HeapRing {
            name: name.to_owned(),
            region: region.clone(),
            arena_offset: (table_offset + granules * size_of::<AtomicU32>()).next_multiple_of(PAGE),
            alignment,
            control,
            table,
            token: NEXT_TOKEN.fetch_add(1, CounterOrdering::Relaxed),
            allocating: Mutex::new(()),
            spin: Spin::new(),
        })
    }

    /// Its size in bytes.
    pub fn nbytes(&self) -> usize {
        self.table.len() * self.alignment
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What every block's address is a multiple of.
    pub fn alignment(&self) -> usize {
        self.alignment
    }

    /// Bytes of live blocks, rounded up to the alignment.
    pub fn used(&self) -> u64 {
        self.usage().live_granules * self.alignment as u64
    }

    /// Live blocks.
    pub fn live(&self) -> u64 {
        self.usage().live_blocks
    }

    /// The address of a fresh block of `nbytes`, at least one. It lives until it is released, whoever dies meanwhile.
    ///
    /// # Errors
    /// [`Error::HeapRingFull`] if no space comes free within the patience, or the block is larger than the ring;
    /// [`Error::Misused`] if another process, or another `HeapRing`, allocates here; [`Error::Interrupted`];
    /// [`Error::Corrupted`].
    pub fn alloc(&self, nbytes: usize, patience: &mut Patience<'_>) -> Result<usize> {
        let waited = wait_for(
            self.ring().bell(),
            &self.spin,
            patience,
            "space",
            || self.try_alloc(nbytes),
            || self.check(nbytes),
        );
        match waited {
            Err(Error::WaitTimeout { .. }) => Err(self.full(nbytes)),
            waited => waited,
        }
    }

    /// As [`HeapRing::alloc`], without waiting: `None` when there is no space now.
    ///
    /// # Errors
    /// As [`HeapRing::alloc`].
    pub fn try_alloc(&self, nbytes: usize) -> Result<Option<usize>> {
        let _allocating = self.allocating.lock().unwrap_or_else(PoisonError::into_inner);
        let token = self.token();
        self.ring().claim(token).map_err(|owner| {
            Error::Misused(format!(
                "heap ring '{}' is allocated from by process {}; this is process {}, or another HeapRing object there",
                self.name,
                owner >> 32,
                sys::current_pid()
            ))
        })?;
        let first = self.ring().alloc(nbytes.max(1).div_ceil(self.alignment) as u64)?;
        Ok(first.map(|first| self.region.address() + self.arena_offset + first * self.alignment))
    }

    /// Gives a block back. In any order, from any process that maps the region at the address the block was
    /// allocated at (any that inherited it).
    ///
    /// # Errors
    /// [`Error::UnknownBlock`] if no live block starts there.
    pub fn release(&self, address: usize) -> Result<()> {
        let offset = address.wrapping_sub(self.region.address() + self.arena_offset);
        if offset % self.alignment == 0 && self.ring().release(offset / self.alignment) {
            return Ok(());
        }
        Err(Error::UnknownBlock { name: self.name.clone(), address })
    }

    /// The error of a request that does not fit now.
    pub fn full(&self, requested: usize) -> Error {
        let usage = self.usage();
        let bytes = |granules: u64| granules * self.alignment as u64;
        Error::HeapRingFull {
            name: self.name.clone(),
            nbytes: self.nbytes(),
            live_blocks: usage.live_blocks,
            live_bytes: bytes(usage.live_granules),
            pending_bytes: bytes(usage.held_granules.saturating_sub(usage.live_granules)),
            requested,
        }
    }

    /// What can never fit is not waited for.
    fn check(&self, nbytes: usize) -> Result<()> {
        if nbytes > self.nbytes() {
            return Err(self.full(nbytes));
        }
        Ok(())
    }

    fn usage(&self) -> Usage {
        self.ring().usage()
    }

    fn ring(&self) -> Ring<'_> {
        Ring::new(&self.control[0], &self.table)
    }

    /// Differs between processes, and so in a child that inherited this object.
    fn token(&self) -> u64 {
        (sys::current_pid() as u64) << 32 | u64::from(self.token)
    }
}

impl Drop for HeapRing {
    fn drop(&mut self) {
        self.ring().disclaim(self.token());
    }
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
