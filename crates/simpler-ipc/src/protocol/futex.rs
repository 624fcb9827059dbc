//! Sleeping on a word of shared memory until another process changes it.

#[cfg(not(loom))]
pub use crate::sys::{futex_wait as wait, futex_wake_all as wake_all};
#[cfg(loom)]
pub use model::{wait, wake_all};

/// Why a sleep ended. `Woken` may be spurious: look at the condition again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slept {
    /// A wake, a changed word, or nothing at all.
    Woken,
    /// The time was up.
    TimedOut,
    /// A signal handler ran in this thread.
    Interrupted,
}

/// The kernel's promise, for loom: comparing the word and going to sleep are one step with respect to wakes.
#[cfg(loom)]
mod model {
    use std::time::Duration;

    use loom::sync::{Condvar, Mutex};

    use super::Slept;
    use crate::error::Result;
    use crate::protocol::sync::{AtomicU32, Ordering};

    loom::lazy_static! {
        static ref BUCKET: Mutex<()> = Mutex::new(());
        static ref WAKE: Condvar = Condvar::new();
    }

    pub fn wait(word: &AtomicU32, expected: u32, _timeout: Option<Duration>) -> Result<Slept> {
        let bucket = BUCKET.lock().unwrap();
        // The kernel reads the word under the bucket's lock, behind a full barrier.
        loom::sync::atomic::fence(Ordering::SeqCst);
        if word.load(Ordering::SeqCst) == expected {
            drop(WAKE.wait(bucket).unwrap());
        }
        Ok(Slept::Woken)
    }

    pub fn wake_all(_word: &AtomicU32) {
        let _bucket = BUCKET.lock().unwrap();
        WAKE.notify_all();
    }
}
