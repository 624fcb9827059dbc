//! Doorbells: a "something changed" counter in shared memory that any process may ring and any process may sleep on.

use std::sync::Arc;

use crate::error::Result;
use crate::places::{lay_out, Thing};
use crate::protocol::bell::Bell;
use crate::region::{Overlaid, Region, WeakRegion};
use crate::spin::Spin;
use crate::wait::{wait_for, Patience};

/// A counter and those who sleep until it changes. Clones are the same doorbell.
#[derive(Debug, Clone)]
pub struct Doorbell(Arc<Place>);

#[derive(Debug)]
struct Place {
    region: Region,
    offset: usize,
    bell: Overlaid<Bell>,
    spin: Spin,
}

impl Doorbell {
    /// What to set aside for one: alone on its cache lines, so that ringing disturbs nothing beside it.
    pub const NBYTES: usize = 128;

    /// The doorbell at `offset` of a region, which is a multiple of 4 and better of 128. Fresh memory is a doorbell.
    ///
    /// The other side of a mailbox may wait there: this process rings what it has opened in this way, or inherited, and
    /// nothing else that shared memory may name, for as long as the region is mapped.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) if it is misaligned, does not lie in the region, or lies in a mailbox or a heap
    /// ring that this process has there. Nor can one be laid over it any more.
    pub fn new(region: &Region, offset: usize) -> Result<Self> {
        let doorbell = Self::unannounced(region, offset, Spin::new())?;
        lay_out(region, offset, size_of::<Bell>(), Thing::Doorbell)?;
        Ok(doorbell)
    }

    /// One that no other process may ask for: it is found by who has the thing that it is part of.
    pub(crate) fn unannounced(region: &Region, offset: usize, spin: Spin) -> Result<Self> {
        region.window(offset, Self::NBYTES)?;
        let bell = region.overlay(offset, 1)?;
        Ok(Doorbell(Arc::new(Place { region: region.clone(), offset, bell, spin })))
    }

    /// Counts a change and wakes every sleeper; no system call when nobody sleeps.
    #[inline]
    pub fn ring(&self) {
        self.bell().ring();
    }

    /// The count now; it wraps at 2^32.
    #[inline]
    pub fn value(&self) -> u32 {
        self.bell().value()
    }

    /// Waits until the count is other than `seen`: the count then.
    ///
    /// # Errors
    /// [`Error::WaitTimeout`](crate::Error::WaitTimeout), [`Error::Interrupted`](crate::Error::Interrupted).
    pub fn wait(&self, seen: u32, patience: &mut Patience<'_>) -> Result<u32> {
        let changed = || Ok(self.changed_from(seen));
        self.spin().prepare_for_anyone();
        wait_for(self.bell(), self.spin(), patience, "a doorbell to ring", changed, || Ok(()))
    }

    pub(crate) fn changed_from(&self, seen: u32) -> Option<u32> {
        let value = self.value();
        (value != seen).then_some(value)
    }

    pub(crate) fn spin(&self) -> &Spin {
        &self.0.spin
    }

    pub(crate) fn downgrade(&self) -> WeakDoorbell {
        WeakDoorbell { region: self.0.region.downgrade(), offset: self.0.offset }
    }

    pub(crate) fn bell(&self) -> &Bell {
        &self.0.bell[0]
    }

    pub(crate) fn region(&self) -> &Region {
        &self.0.region
    }

    /// Where it lies in its region.
    pub fn offset(&self) -> usize {
        self.0.offset
    }

    /// Whether both are the same.
    pub(crate) fn is(&self, other: &Doorbell) -> bool {
        (self.region().identity(), self.offset()) == (other.region().identity(), other.offset())
    }
}

/// A doorbell that does not keep its region mapped.
#[derive(Debug)]
pub(crate) struct WeakDoorbell {
    region: WeakRegion,
    offset: usize,
}

impl WeakDoorbell {
    /// Rings if the region is still mapped; when it is not, nobody waits there.
    pub(crate) fn ring(&self) {
        if let Some(bell) = self.region.upgrade().and_then(|region| region.overlay::<Bell>(self.offset, 1).ok()) {
            bell[0].ring();
        }
    }
}
