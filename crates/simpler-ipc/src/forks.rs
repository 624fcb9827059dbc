//! What belongs to a whole process and is behind a lock, and how a fork copies it: never in the midst of a change.
//!
//! A child has one thread. A lock that another thread of its parent had when it was forked is locked for ever there. So
//! before a fork the forking thread takes these locks, and both processes let go of them: the child has the lists as they
//! were between two changes. They are held for as long as it takes to look through a list, or to start a thread.
//!
//! What belongs to one object is not among them: in a child such objects say that they are the parent's.

use std::cell::UnsafeCell;
use std::sync::{MutexGuard, PoisonError};

use crate::mailbox::side::{Held, HELD};
use crate::region::{Mapped, MAPPED};
use crate::watcher::{Current, CURRENT};

type Locks = (MutexGuard<'static, Held>, MutexGuard<'static, Current>, MutexGuard<'static, Mapped>);

struct Taken(UnsafeCell<Option<Locks>>);

// SAFETY: only the thread that forks reaches into it, and only while it has the locks: one thread at a time.
unsafe impl Sync for Taken {}

static TAKEN: Taken = Taken(UnsafeCell::new(None));

/// Before a fork, in the thread that forks.
pub(crate) fn before() {
    let locks = (
        HELD.lock().unwrap_or_else(PoisonError::into_inner),
        CURRENT.lock().unwrap_or_else(PoisonError::into_inner),
        MAPPED.lock().unwrap_or_else(PoisonError::into_inner),
    );
    // SAFETY: this thread has the locks now.
    unsafe { *TAKEN.0.get() = Some(locks) };
}

/// After a fork, in the same thread and in its copy in the child.
pub(crate) fn after() {
    // SAFETY: this thread has the locks still: it, or the one that it is a copy of, took them before the fork. They are
    // taken out before the first of them is let go of.
    let locks = unsafe { (*TAKEN.0.get()).take() };
    drop(locks);
}
