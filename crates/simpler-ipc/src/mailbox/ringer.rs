//! Waking the other side, wherever it sleeps.

use super::Lane;
use crate::doorbell::Doorbell;
use crate::error::{Error, Result};
use crate::protocol::lane::{Elsewhere, LaneHeader, Waiting};
use crate::protocol::sync::{fence, Ordering};
use crate::region::Region;

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
        self.elsewhere = if place.region == 0 { None } else { Some(find_doorbell(lane, place)?) };
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

fn find_doorbell(lane: &Lane, place: Elsewhere) -> Result<Doorbell> {
    let region = if place.region == lane.region.identity() {
        lane.region.clone()
    } else {
        Region::find(place.region).ok_or_else(|| {
            Error::Misused(
                "the other side of a mailbox waits at a doorbell in a region that is not mapped in this process; \
                 map that region here (inherit it by fork, or Region.from_fd) before using the mailbox"
                    .to_owned(),
            )
        })?
    };
    let offset = usize::try_from(place.offset).unwrap_or(usize::MAX);
    Doorbell::new(&region, offset)
        .map_err(|error| Error::Corrupted(format!("the other side of a mailbox names an impossible doorbell: {error}")))
}
