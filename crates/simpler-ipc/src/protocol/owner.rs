//! The owner: which process has one side of a lane.
//!
//! A process is known by its id and by when it started, both in one word, so that a side changes hands by one
//! compare-exchange: of any number of successors one gets it, and a process killed at any moment either owns the side, and
//! is seen to be dead, or does not.
//!
//! An id means something in its pid namespace only. The namespace stands in a word of its own that is set once, before
//! the first owner: from then on every owner is of that namespace, so whoever comes there may judge the one before, and
//! whoever comes from elsewhere is refused. (A namespace that could change would have to change together with the owner.)

use super::sync::{AtomicU64, Ordering};
use crate::error::{Error, Result};

/// A process: its id, and when it started, which no later process with its id has in common with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Its process id.
    pub pid: i32,
    /// When it started, in clock ticks since boot; 0 if that cannot be told.
    pub start_time: u64,
}

/// Linux gives out no larger process ids, whatever it is told. The rest holds a thousand years of start times.
const PID_BITS: u32 = 22;

impl Identity {
    fn word(self) -> u64 {
        self.start_time << PID_BITS | self.pid as u64 & ((1 << PID_BITS) - 1)
    }

    fn of(word: u64) -> Result<Self> {
        match (word & ((1 << PID_BITS) - 1)) as i32 {
            0 => Err(Error::Corrupted(format!("the side of a mailbox has an impossible owner ({word:#x})"))),
            pid => Ok(Identity { pid, start_time: word >> PID_BITS }),
        }
    }
}

/// The pid namespace in which ids in shared memory are counted: that of whoever first asks to be admitted.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Namespace(AtomicU64);

impl Namespace {
    /// Whether ids are counted in the namespace `own`.
    pub fn admits(&self, own: u64) -> bool {
        match self.0.compare_exchange(0, own, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(found) => found == own,
        }
    }
}

/// Why a side was not to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Its owner lives.
    Taken(Identity),
    /// Its owners are of another pid namespace.
    Elsewhere,
}

/// See the module's text.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Owner {
    word: AtomicU64,
    namespace: Namespace,
}

/// Successors that were faster, before the attempt is given up: they get the side one after another, and die.
const ATTEMPTS: u32 = 16;

impl Owner {
    /// Makes `own`, of that pid namespace, the owner, if there is none or `is_gone` says so of the one there is: that one,
    /// which did not come to the end of what it was doing.
    ///
    /// # Errors
    /// What `is_gone` fails with; [`Error::Corrupted`].
    pub fn claim(
        &self,
        own: Identity,
        namespace: u64,
        mut is_gone: impl FnMut(Identity) -> Result<bool>,
    ) -> Result<std::result::Result<Option<Identity>, Refusal>> {
        if !self.namespace.admits(namespace) {
            return Ok(Err(Refusal::Elsewhere));
        }
        let mut found = self.word.load(Ordering::Acquire);
        for _ in 0..ATTEMPTS {
            let before = if found == 0 { None } else { Some(Identity::of(found)?) };
            if let Some(owner) = before {
                if !is_gone(owner)? {
                    return Ok(Err(Refusal::Taken(owner)));
                }
            }
            // Acquire: what the one before did in the lane is seen. Only a dead process's word can be what it was: no
            // living one has its id and its start.
            match self.word.compare_exchange(found, own.word(), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(Ok(before)),
                Err(other) => found = other,
            }
        }
        Ok(Err(Refusal::Taken(Identity::of(found)?)))
    }

    /// `own` is done with the side. Nothing happens if it was not the owner.
    pub fn release(&self, own: Identity) {
        // As a release operation it comes after all that this process did in the lane.
        let _ = self.word.compare_exchange(own.word(), 0, Ordering::Release, Ordering::Relaxed);
    }
}
