//! Arming: how a notifier's thread learns that it is wanted, and that it is not any more.

use std::sync::PoisonError;

use super::sync::{Condvar, Mutex, MutexGuard};
use crate::error::Error;

/// What is wanted of the thread, and what it has to say.
#[derive(Debug)]
pub struct Arming {
    wanted: Mutex<Wanted>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Wanted {
    armed: bool,
    ended: bool,
    /// What ended the last wait, if it was no reply.
    trouble: Option<Error>,
}

impl Arming {
    /// Nothing is wanted yet.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Arming { wanted: Mutex::new(Wanted::default()), changed: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Wanted> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread is to wait for one reply more.
    pub fn arm(&self) {
        self.lock().armed = true;
        self.changed.notify_one();
    }

    /// The thread is to end. Whoever says so wakes it from its wait for a reply as well, afterwards.
    pub fn end(&self) {
        self.lock().ended = true;
        self.changed.notify_one();
    }

    /// Whether it is to end.
    pub fn is_ended(&self) -> bool {
        self.lock().ended
    }

    /// Sleeps until there is something to do: whether to wait for a reply; false at the end.
    pub fn asked(&self) -> bool {
        let mut wanted = self.lock();
        while !wanted.armed && !wanted.ended {
            wanted = self.changed.wait(wanted).unwrap_or_else(PoisonError::into_inner);
        }
        wanted.armed = false;
        !wanted.ended
    }

    /// What the thread could not do.
    pub fn set_trouble(&self, trouble: Error) {
        self.lock().trouble = Some(trouble);
    }

    /// What it said last, once.
    pub fn take_trouble(&self) -> Option<Error> {
        self.lock().trouble.take()
    }
}
