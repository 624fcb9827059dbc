//! The bell: a counter of changes and a count of sleepers.
//!
//! Ringing costs one atomic addition and one load, and a system call only when somebody sleeps. Both sides write one
//! word and then read the other's:
//!
//! ```text
//! ringer                     sleeper
//! value += 1                 sleepers += 1
//! if sleepers != 0: wake     if value == seen: futex_wait(value, seen)
//! ```
//!
//! All four are sequentially consistent, so in their single order either the ringer's load comes after the sleeper's
//! addition (and it wakes), or the sleeper's load comes after the ringer's addition (and it does not sleep). Between
//! the sleeper's load and its sleep the kernel compares the word once more, in one step with queueing itself.
//!
//! A process killed in its sleep leaves the count one too high: later rings make a needless system call, never a
//! missed wake.

use std::time::Duration;

use super::futex::{self, Slept};
use super::sync::{order_for_loom, AtomicU32, Ordering};
use crate::error::Result;

/// See the module's text.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Bell {
    value: AtomicU32,
    sleepers: AtomicU32,
}

impl Bell {
    /// The counter now. What was written before a ring that this value includes is visible.
    #[inline]
    pub fn value(&self) -> u32 {
        self.value.load(Ordering::SeqCst)
    }

    /// Counts one change and wakes every sleeper.
    #[inline]
    pub fn ring(&self) {
        self.value.fetch_add(1, Ordering::SeqCst);
        order_for_loom();
        if self.sleepers.load(Ordering::SeqCst) != 0 {
            futex::wake_all(&self.value);
        }
    }

    /// Sleeps unless the counter has left `seen`. May return early for no reason.
    pub fn sleep(&self, seen: u32, timeout: Option<Duration>) -> Result<Slept> {
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        order_for_loom();
        let slept = if self.value.load(Ordering::SeqCst) == seen {
            futex::wait(&self.value, seen, timeout)
        } else {
            Ok(Slept::Woken)
        };
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
        slept
    }
}
