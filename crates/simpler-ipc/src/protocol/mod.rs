//! The lock-free parts, free of mapping and system calls: plain structs of atomics and what is done to them.
//!
//! Each struct is laid over shared memory by [`crate::region`] or built in place by the loom tests.

pub mod arming;
pub mod bell;
pub mod frame;
pub mod futex;
pub mod lane;
pub mod owner;
pub mod progress;
pub mod ring;
pub mod turn;

/// The atomics and locks in use: the real ones, or loom's models of them.
pub mod sync {
    #[cfg(loom)]
    pub use loom::sync::atomic::{fence, AtomicU32, AtomicU64, Ordering};
    #[cfg(loom)]
    pub use loom::sync::{Condvar, Mutex, MutexGuard};
    #[cfg(not(loom))]
    pub use std::sync::atomic::{fence, AtomicU32, AtomicU64, Ordering};
    #[cfg(not(loom))]
    pub use std::sync::{Condvar, Mutex, MutexGuard};

    /// Stands between two `SeqCst` operations whose order the algorithm relies on.
    ///
    /// `SeqCst` alone is enough by the language's memory model. Loom treats `SeqCst` accesses as acquire/release and
    /// only models `SeqCst` fences, so there the order has to be spelt out.
    #[inline(always)]
    pub fn order_for_loom() {
        #[cfg(loom)]
        fence(Ordering::SeqCst);
    }
}

/// A value alone on its cache lines: 128 bytes, because CPUs fetch lines in pairs.
#[repr(C, align(128))]
#[derive(Debug, Default)]
pub struct Line<T>(pub T);

impl<T> std::ops::Deref for Line<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
