//! The owner: which process has one side of a lane.
//!
//! A process is known by its id, by when it started and by the program it runs, all in one word, so that a side changes hands
//! by one compare-exchange: of any number of successors one gets it, and a process killed at any moment either owns the side,
//! and is seen to be dead, or does not.
//!
//! An id means something in its pid namespace only, and a start in its time namespace. These namespaces stand in a word of
//! their own that is set once, before the first owner: from then on every owner is of them, so whoever comes there may judge
//! the one before, and whoever comes from elsewhere is refused. (Namespaces that could change would have to change together
//! with the owner.)

use super::sync::{AtomicU64, Ordering};
use crate::error::{Error, Result};

/// The last bits of when a process started, in clock ticks since boot.
#[derive(Debug, Clone, Copy)]
pub struct Start {
    value: u64,
    bits: u32,
}

impl Start {
    /// None of them: it cannot be told when.
    pub const UNKNOWN: Start = Start { value: 0, bits: 1 };

    /// Whether it can be told when.
    pub fn is_known(self) -> bool {
        self.value != 0
    }

    /// Whether it may be that of a process that started then.
    pub fn may_be(self, start_time: u64) -> bool {
        self.value == last(start_time, self.bits)
    }
}

const fn last(word: u64, bits: u32) -> u64 {
    word & ((1 << bits) - 1)
}

/// A process, and what it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity(u64);

/// Linux gives out no larger process ids, whatever it is told.
const PID_BITS: u32 = 22;
/// The last bits of when it started, in clock ticks since boot: they are the same a week later. A later process with its id
/// that started in the very tick of another week is taken for it: it would have to die first.
const START_BITS: u32 = 26;

impl Identity {
    /// Process `pid`, which started in the tick `start_time` since boot (0: it cannot be told) and runs a program that has
    /// that number ([`sys::own_program`](crate::sys)).
    pub fn new(pid: i32, start_time: u64, program: u16) -> Self {
        let (start, pid) = (last(start_time, START_BITS), last(pid as u64, PID_BITS));
        Identity(u64::from(program) << (PID_BITS + START_BITS) | start << PID_BITS | pid)
    }

    fn of(word: u64) -> Result<Self> {
        match Identity(word) {
            impossible if impossible.pid() == 0 => {
                Err(Error::Corrupted(format!("the side of a mailbox has an impossible owner ({word:#x})")))
            }
            process => Ok(process),
        }
    }

    /// Its process id.
    pub fn pid(self) -> i32 {
        last(self.0, PID_BITS) as i32
    }

    /// When it started.
    pub fn start(self) -> Start {
        Start { value: last(self.0 >> PID_BITS, START_BITS), bits: START_BITS }
    }

    /// Whether `other` is the same process with another program: one of the two has been replaced by the other (exec).
    pub fn is_other_program_of(self, other: Self) -> bool {
        last(self.0 ^ other.0, PID_BITS + START_BITS) == 0 && self != other
    }
}

/// An object of a process that allocates from a ring, in one word, whose lowest bit is the ring's:
/// process id, last bits of its start, a number for its program, one for the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allocator(u64);

impl Allocator {
    const OBJECT_BITS: u32 = 15;
    const PROGRAM_BITS: u32 = 10;
    /// As [`START_BITS`]: the same after ten minutes.
    const START_BITS: u32 = 16;
    const PROGRAM_AT: u32 = Self::OBJECT_BITS + 1;
    const START_AT: u32 = Self::PROGRAM_AT + Self::PROGRAM_BITS;
    const PID_AT: u32 = Self::START_AT + Self::START_BITS;

    /// The object with a number that no other of this program has, of whose bits the last are kept.
    pub fn new(pid: i32, start_time: u64, program: u16, object: u32) -> Self {
        Allocator(
            last(pid as u64, PID_BITS) << Self::PID_AT
                | last(start_time, Self::START_BITS) << Self::START_AT
                | last(program.into(), Self::PROGRAM_BITS) << Self::PROGRAM_AT
                | last(object.into(), Self::OBJECT_BITS) << 1,
        )
    }

    /// What stands in a ring.
    pub fn of(word: u64) -> Self {
        Allocator(word & !1)
    }

    /// As it stands in a ring.
    pub fn word(self) -> u64 {
        self.0
    }

    /// Its process id.
    pub fn pid(self) -> i32 {
        (self.0 >> Self::PID_AT) as i32
    }

    /// When that process started.
    pub fn start(self) -> Start {
        Start { value: last(self.0 >> Self::START_AT, Self::START_BITS), bits: Self::START_BITS }
    }

    /// Whether both are of one process, as far as these words tell.
    pub fn is_of_process_of(self, other: Self) -> bool {
        (self.0 ^ other.0) >> Self::START_AT == 0
    }

    /// Whether both are of one process with one program.
    pub fn is_of_program_of(self, other: Self) -> bool {
        (self.0 ^ other.0) >> Self::PROGRAM_AT == 0
    }
}

#[cfg(not(loom))]
const _: () = assert!(Allocator::PID_AT + PID_BITS == u64::BITS);

/// The namespaces in which ids and start times in shared memory are counted: those of whoever first asks to be admitted.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Namespace(AtomicU64);

impl Namespace {
    /// Whether they are counted in the namespaces `own`, as one word.
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
    /// Its owners are of another pid or time namespace.
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
    /// Makes `own`, of that namespace, the owner, if there is none or `is_gone` says so of the one there is: that one,
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
            match self.word.compare_exchange(found, own.0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(Ok(before)),
                Err(other) => found = other,
            }
        }
        Ok(Err(Refusal::Taken(Identity::of(found)?)))
    }

    /// `own` is done with the side. Nothing happens if it was not the owner.
    pub fn release(&self, own: Identity) {
        // As a release operation it comes after all that this process did in the lane.
        let _ = self.word.compare_exchange(own.0, 0, Ordering::Release, Ordering::Relaxed);
    }
}
