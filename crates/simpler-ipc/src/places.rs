//! What lies where in shared memory, as far as this process has laid it there.
//!
//! A mailbox writes payloads where it has frames, a ring where it has blocks: two that overlap would do so at one place at
//! once. So what would lie upon something else is refused. The same thing may be opened at its place as often as one likes, in
//! however many mappings of that memory.

use std::fmt;

use crate::error::{Error, Result};
use crate::region::{mapped, Region};

/// What lies at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Thing {
    Doorbell,
    HeapRing,
    Mailbox,
}

impl fmt::Display for Thing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Thing::Doorbell => "a doorbell",
            Thing::HeapRing => "a heap ring",
            Thing::Mailbox => "a mailbox",
        })
    }
}

/// A range of a region that has been laid out, and how many objects there are of it.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) offset: usize,
    nbytes: usize,
    pub(crate) thing: Thing,
    objects: usize,
}

/// Lays something out for as long as the region is mapped.
///
/// # Errors
/// [`Error::Invalid`] if it would overlap with something else.
pub(crate) fn lay_out(region: &Region, offset: usize, nbytes: usize, thing: Thing) -> Result<()> {
    let mut mapped = mapped();
    let others = mapped.iter().filter(|known| known.is_of(region)).flat_map(|known| &known.places);
    let overlaps = |place: &&Place| place.offset < offset + nbytes && offset < place.offset + place.nbytes;
    let is_same = |place: &Place| (place.offset, place.nbytes, place.thing) == (offset, nbytes, thing);
    if let Some(other) = others.filter(overlaps).find(|place| !is_same(place)) {
        return Err(Error::Invalid(format!(
            "{thing} of {nbytes} bytes at offset {offset} would overlap with {} of {} bytes at offset {} of the same memory",
            other.thing, other.nbytes, other.offset
        )));
    }
    if let Some(known) = mapped.iter_mut().find(|known| known.is_mapping(region)) {
        match known.places.iter_mut().find(|place| is_same(place)) {
            Some(place) => place.objects += 1,
            None => known.places.push(Place { offset, nbytes, thing, objects: 1 }),
        }
    }
    Ok(())
}

/// # Errors
/// [`Error::Misused`] if a mailbox or a doorbell lies in that range: its state is not this process's alone. What a ring
/// holds may go.
pub(crate) fn check_punch(region: &Region, offset: usize, nbytes: usize) -> Result<()> {
    let mapped = mapped();
    let mut places = mapped.iter().filter(|known| known.is_of(region)).flat_map(|known| &known.places);
    let lost = |place: &&Place| {
        place.thing != Thing::HeapRing && place.offset < offset + nbytes && offset < place.offset + place.nbytes
    };
    match places.find(lost) {
        None => Ok(()),
        Some(Place { offset: at, thing, .. }) => Err(Error::Misused(format!(
            "{nbytes} bytes at offset {offset} cannot be given back: {thing} lies there, at offset {at}; let go of it first, \
             or give back a range beside it"
        ))),
    }
}

/// Keeps its place from being laid out as something else until it is dropped.
#[derive(Debug)]
pub(crate) struct Laid {
    region: Region,
    offset: usize,
}

impl Laid {
    /// # Errors
    /// As [`lay_out`].
    pub(crate) fn out(region: &Region, offset: usize, nbytes: usize, thing: Thing) -> Result<Self> {
        lay_out(region, offset, nbytes, thing)?;
        Ok(Laid { region: region.clone(), offset })
    }
}

impl Drop for Laid {
    fn drop(&mut self) {
        let mut mapped = mapped();
        if let Some(known) = mapped.iter_mut().find(|known| known.is_mapping(&self.region)) {
            known.places.retain_mut(|place| {
                if place.offset == self.offset {
                    place.objects -= 1;
                }
                place.objects > 0
            });
        }
        // The region may be dropped here, which takes the lock.
        drop(mapped);
    }
}
