//! The bell: a counter of changes and a count of sleepers.
//!
//! A waiter looks for what it waits for, announces itself, looks once more, and only then sleeps. Whoever brings about
//! what is waited for publishes it first and looks for sleepers afterwards:
//!
//! ```text
//! publisher                                  waiter
//! publish, fence                             seen = value
//! if sleepers != 0: value += 1, wake         sleepers += 1
//!                                            look once more
//!                                            futex_wait(value, seen)
//!                                            sleepers -= 1
//! ```
//!
//! Both sides write one word and then read the other's, with a sequentially consistent fence between (the publisher may
//! use a sequentially consistent read-modify-write instead): in the single order of those either the publisher's load
//! comes after the waiter's addition (and it wakes), or the waiter's look comes after the publishing (and it does not
//! sleep). A wake cannot be lost between the look and the sleep: it changes `value` first, and the
//! kernel compares the word with `seen` in one step with queueing the sleeper.
//!
//! Where nobody sleeps, [`Bell::wake_sleepers`] is one load of a word that nobody writes meanwhile. [`Bell::ring`] counts
//! whether anybody sleeps or not: then `value` itself is what is published, and a waiter that remembers a value learns
//! that something has changed since.
//!
//! A process killed in its sleep leaves the count of sleepers one too high: later rings make a needless system call,
//! never a missed wake.

use std::time::Duration;

use super::futex::{self, Slept};
use super::sync::{fence, order_for_loom, AtomicU32, Ordering};
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

    /// Wakes every sleeper. What they wait for was published before a `SeqCst` fence, or by a `SeqCst` read-modify-write.
    #[inline]
    pub fn wake_sleepers(&self) {
        order_for_loom();
        if self.sleepers.load(Ordering::SeqCst) != 0 {
            self.value.fetch_add(1, Ordering::SeqCst);
            futex::wake_all(&self.value);
        }
    }

    /// Announces a sleeper, until the guard is dropped. What is published from now on wakes it; what was published
    /// before is found by a look after this call.
    pub fn announce(&self) -> Announced<'_> {
        let seen = self.value();
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        // The look that follows need not be a SeqCst load.
        fence(Ordering::SeqCst);
        Announced { bell: self, seen }
    }
}

/// A sleeper that publishers know of.
#[derive(Debug)]
pub struct Announced<'a> {
    bell: &'a Bell,
    seen: u32,
}

impl Announced<'_> {
    /// Sleeps unless the bell has rung since the announcement. May return early for no reason.
    pub fn sleep(&self, timeout: Option<Duration>) -> Result<Slept> {
        futex::wait(&self.bell.value, self.seen, timeout)
    }
}

impl Drop for Announced<'_> {
    fn drop(&mut self) {
        self.bell.sleepers.fetch_sub(1, Ordering::SeqCst);
    }
}
