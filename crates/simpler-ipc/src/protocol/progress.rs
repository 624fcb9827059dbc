//! Progress: how far one side has come, for those of its threads that wait while another one uses it.
//!
//! These words lie in the process's own memory. A thread that waits for a reply finds it in its frame, or finds that another
//! thread has taken it: then the frame may be in use for a later request already, and what it says was not meant.

use super::frame::ReplyHeader;
use super::sync::{AtomicU64, Ordering};
use crate::error::Result;

/// See the module's text.
#[derive(Debug)]
pub struct Progress {
    /// Posted, or received.
    begun: AtomicU64,
    /// Reply taken, or given.
    ended: AtomicU64,
}

impl Progress {
    /// Of a side whose next request, and oldest one not done with, have these tickets.
    pub fn at(begun: u64, ended: u64) -> Self {
        Progress { begun: AtomicU64::new(begun), ended: AtomicU64::new(ended) }
    }

    /// The side goes on to that request. Comes before it is posted.
    #[inline]
    pub fn set_begun(&self, ticket: u64) {
        self.begun.store(ticket, Ordering::Release);
    }

    /// That request is the oldest now. Comes before its predecessor's frame is used again.
    #[inline]
    pub fn set_ended(&self, ticket: u64) {
        self.ended.store(ticket, Ordering::Release);
    }

    /// The next request.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::Acquire)
    }

    /// The oldest one not done with.
    pub fn ended(&self) -> u64 {
        self.ended.load(Ordering::Acquire)
    }

    /// Whether the oldest reply is there, or that to `wanted` was taken by another thread. `reply_of` gives where the
    /// reply to a ticket is, and the generation.
    ///
    /// # Errors
    /// [`Error::Corrupted`](crate::Error::Corrupted).
    #[inline]
    pub fn look_for<'a>(
        &self,
        wanted: u64,
        frame_bytes: usize,
        reply_of: impl Fn(u64) -> (&'a ReplyHeader, u64),
    ) -> Result<Option<()>> {
        loop {
            let oldest = self.ended();
            if oldest > wanted {
                return Ok(Some(()));
            }
            let (reply, generation) = reply_of(oldest);
            if reply.is_before(generation) {
                return Ok(None);
            }
            let found = reply.finished(generation, frame_bytes);
            // If another thread has taken it meanwhile, what was found is of a later use; and the next reply may be there
            // already, its ring over.
            if matches!(found, Ok(Some(_))) || oldest == self.ended() {
                return Ok(found?.map(|_| ()));
            }
        }
    }
}
