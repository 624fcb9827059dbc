//! What lies where in shared memory, as far as this process has laid it there.
//!
//! A mailbox writes payloads where it has frames, a ring where it has blocks: two that overlap would do so at one place at
//! once. So what would lie upon something else is refused. The same thing may be opened at its place as often as one likes, in
//! however many mappings of that memory.

use std::collections::btree_map::{BTreeMap, Entry};
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
    nbytes: usize,
    pub(crate) thing: Thing,
    objects: usize,
}

/// What lies in a mapping, by where it begins. No two of them overlap.
pub(crate) type Places = BTreeMap<usize, Place>;

/// Those in a range, from its end on: as no two overlap, the first that ends before the range is the last to ask.
fn within(places: &Places, offset: usize, nbytes: usize) -> impl Iterator<Item = (usize, &Place)> {
    let before = places.range(..offset.saturating_add(nbytes)).rev().map(|(at, place)| (*at, place));
    before.take_while(move |(at, place)| at + place.nbytes > offset)
}

/// Lays something out for as long as the region is mapped.
///
/// # Errors
/// [`Error::Invalid`] if it would overlap with something else.
pub(crate) fn lay_out(region: &Region, offset: usize, nbytes: usize, thing: Thing) -> Result<()> {
    let mut mapped = mapped();
    let is_same = |at: usize, place: &Place| (at, place.nbytes, place.thing) == (offset, nbytes, thing);
    let others = mapped.iter().filter(|known| known.is_of(region));
    let mut overlapping = others.flat_map(|known| within(&known.places, offset, nbytes));
    if let Some((at, other)) = overlapping.find(|(at, place)| !is_same(*at, place)) {
        return Err(Error::Invalid(format!(
            "{thing} of {nbytes} bytes at offset {offset} would overlap with {} of {} bytes at offset {at} of the same memory",
            other.thing, other.nbytes
        )));
    }
    drop(overlapping);
    if let Some(known) = mapped.iter_mut().find(|known| known.is_mapping(region)) {
        known.places.entry(offset).or_insert(Place { nbytes, thing, objects: 0 }).objects += 1;
    }
    Ok(())
}

/// Gives the pages of a range back by `punch`, with nothing being laid out there meanwhile.
///
/// # Errors
/// [`Error::Misused`] if a mailbox or a doorbell lies in that range: its state is not this process's alone. What a ring
/// holds may go. And what `punch` fails with.
pub(crate) fn punch_beside(
    region: &Region,
    offset: usize,
    nbytes: usize,
    punch: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let mapped = mapped();
    let others = mapped.iter().filter(|known| known.is_of(region));
    let mut lost = others.flat_map(|known| within(&known.places, offset, nbytes));
    match lost.find(|(_, place)| place.thing != Thing::HeapRing) {
        None => punch(),
        Some((at, Place { thing, .. })) => {
            let instead = match thing {
                Thing::Doorbell => "it stays one as long as the region is mapped here",
                Thing::HeapRing | Thing::Mailbox => "let go of it first",
            };
            Err(Error::Misused(format!(
                "{nbytes} bytes at offset {offset} cannot be given back: {thing} lies there, at offset {at}; {instead}, or give \
                 back a range beside it"
            )))
        }
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

    /// In which memory it lies, and at which offset.
    pub(crate) fn place(&self) -> (u64, usize) {
        (self.region.identity(), self.offset)
    }
}

impl Drop for Laid {
    fn drop(&mut self) {
        let mut mapped = mapped();
        if let Some(known) = mapped.iter_mut().find(|known| known.is_mapping(&self.region)) {
            if let Entry::Occupied(mut place) = known.places.entry(self.offset) {
                place.get_mut().objects -= 1;
                if place.get().objects == 0 {
                    place.remove();
                }
            }
        }
        // The region may be dropped here, which takes the lock.
        drop(mapped);
    }
}
