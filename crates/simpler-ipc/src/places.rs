//! What lies where in shared memory, as far as this process has laid it there.
//!
//! A mailbox writes payloads where it has frames, a ring where it has blocks: two that overlap would do so at one place at
//! once. So what would lie upon something else is refused. The same thing may be opened at its place as often as one likes, in
//! however many mappings of that memory.

use crate::error::{Error, Result};
use crate::region::{mapped, Region};

/// A range of a region that has been laid out, and how many objects there are of it.
#[derive(Debug)]
pub(crate) struct Place {
    offset: usize,
    nbytes: usize,
    what: &'static str,
    objects: usize,
}

/// Keeps its place from being laid out as something else.
#[derive(Debug)]
pub(crate) struct Laid {
    region: Region,
    offset: usize,
    nbytes: usize,
}

impl Laid {
    /// # Errors
    /// [`Error::Invalid`] if it would overlap with something else.
    pub(crate) fn out(region: &Region, offset: usize, nbytes: usize, what: &'static str) -> Result<Self> {
        let mut mapped = mapped();
        let others = mapped.iter().filter(|known| known.is_of(region)).flat_map(|known| &known.places);
        let overlaps = |place: &&Place| place.offset < offset + nbytes && offset < place.offset + place.nbytes;
        let is_same = |place: &Place| (place.offset, place.nbytes, place.what) == (offset, nbytes, what);
        if let Some(other) = others.filter(overlaps).find(|place| !is_same(place)) {
            return Err(Error::Invalid(format!(
                "{what} of {nbytes} bytes at offset {offset} would overlap with {} of {} bytes at offset {} of the same memory",
                other.what, other.nbytes, other.offset
            )));
        }
        if let Some(known) = mapped.iter_mut().find(|known| known.is_mapping(region)) {
            match known.places.iter_mut().find(|place| is_same(place)) {
                Some(place) => place.objects += 1,
                None => known.places.push(Place { offset, nbytes, what, objects: 1 }),
            }
        }
        Ok(Laid { region: region.clone(), offset, nbytes })
    }
}

impl Drop for Laid {
    fn drop(&mut self) {
        let mut mapped = mapped();
        if let Some(known) = mapped.iter_mut().find(|known| known.is_mapping(&self.region)) {
            known.places.retain_mut(|place| {
                if (place.offset, place.nbytes) == (self.offset, self.nbytes) {
                    place.objects -= 1;
                }
                place.objects > 0
            });
        }
        // The region may be dropped here, which takes the lock.
        drop(mapped);
    }
}
