//! Waking the other side, wherever it sleeps.

use super::Lane;
use crate::doorbell::Doorbell;
use crate::error::{Error, Result};
use crate::protocol::lane::{Elsewhere, LaneHeader, Waiting};
use crate::protocol::sync::{fence, Ordering};
use crate::region::Region;
use crate::spin::Spin;

/// How to wake the other side, wherever it sleeps.
#[derive(Debug)]
pub(super) struct Ringer {
    waiting: fn(&LaneHeader) -> &Waiting,
    generation: u32,
    elsewhere: Option<Doorbell>,
}

impl Ringer {
    pub(super) fn new(waiting: fn(&LaneHeader) -> &Waiting) -> Self {
        Ringer { waiting, generation: 0, elsewhere: None }
    }

    /// Learns where the other side sleeps, if that has changed: false while it is changing.
    #[inline]
    pub(super) fn refresh(&mut self, lane: &Lane) -> Result<bool> {
        if (self.waiting)(lane.header()).generation() == self.generation {
            return Ok(true);
        }
        self.learn(lane)
    }

    #[cold]
    fn learn(&mut self, lane: &Lane) -> Result<bool> {
        let Some((generation, place)) = (self.waiting)(lane.header()).place() else { return Ok(false) };
        self.elsewhere = if place.region == 0 { None } else { Some(find_doorbell(place)?) };
        self.generation = generation;
        Ok(true)
    }

    /// Rings there, after frames were handed over.
    #[inline]
    pub(super) fn ring(&mut self, lane: &Lane) -> Result<()> {
        fence(Ordering::SeqCst);
        if self.refresh(lane)? {
            match &self.elsewhere {
                None => (self.waiting)(lane.header()).own.wake_sleepers(),
                Some(doorbell) => doorbell.ring(),
            }
        }
        // Else nobody sleeps there: who changes the place looks for frames afterwards.
        Ok(())
    }
}

/// Only what this process has opened as a doorbell itself: the other side may name any word of any memory.
fn find_doorbell(place: Elsewhere) -> Result<Doorbell> {
    let offset = usize::try_from(place.offset).unwrap_or(usize::MAX);
    if let Some(region) = Region::with_doorbell(place.region, offset) {
        return Doorbell::unannounced(&region, offset, Spin::new());
    }
    let missing = match Region::find(place.region) {
        None => {
            "in a region that is not mapped in this process; map that region here (inherit it by fork, or \
                 Region.from_fd) and open the doorbell in it"
        }
        Some(_) => "that this process has not opened, and so does not ring; open it here",
    };
    Err(Error::Misused(format!(
        "the other side of a mailbox waits at a doorbell, at offset {offset}, {missing}, Doorbell(region, {offset}), before \
         using the mailbox"
    )))
}
