//! The frame: one request and its reply, handed back and forth by a state word.
//!
//! ```text
//!          client: post             server: finish            client: free
//! IDLE ───────────────► TASK_READY ───────────────► TASK_DONE ─────────────► IDLE
//! ```
//!
//! Whoever may write a frame's fields and payload is decided by its state alone: the client while IDLE and TASK_DONE,
//! the server while TASK_READY. Tasks, control requests and shutdown are kinds of request on the same ordered lane.
//! Everything read from a frame is checked: the other process may be wrong, or gone half-way.

use super::sync::{AtomicU32, AtomicU64, Ordering};
use crate::error::{Error, Result};

/// What a request is. The numbers are what stands in shared memory and what the Python constants are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Kind {
    /// Run something.
    Task = 1,
    /// Change something in the server: register, unregister, allocate…
    Control = 2,
    /// Reply, then leave.
    Shutdown = 3,
}

impl TryFrom<u32> for Kind {
    type Error = Error;

    fn try_from(number: u32) -> Result<Self> {
        match number {
            1 => Ok(Kind::Task),
            2 => Ok(Kind::Control),
            3 => Ok(Kind::Shutdown),
            _ => Err(Error::Invalid(format!("{number} is no frame kind: TASK is 1, CONTROL 2, SHUTDOWN 3"))),
        }
    }
}

/// Who owns a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum State {
    /// Free: the client may fill it. Zero, so that fresh memory is a lane of free frames.
    Idle = 0,
    /// A request the server has not answered.
    TaskReady = 1,
    /// A reply the client has not taken.
    TaskDone = 2,
}

impl State {
    fn from_shared(number: u32, expected_ticket: u64) -> Result<Self> {
        match number {
            0 => Ok(State::Idle),
            1 => Ok(State::TaskReady),
            2 => Ok(State::TaskDone),
            _ => {
                Err(Error::Corrupted(format!("the frame of ticket {expected_ticket} is in no known state ({number})")))
            }
        }
    }
}

/// A request as posted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posted {
    /// What it is.
    pub kind: Kind,
    /// Payload bytes, checked against the frame's size.
    pub nbytes: usize,
}

/// A reply as finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished {
    /// The kind of the request.
    pub kind: Kind,
    /// 0 for success; what else it means is between client and server.
    pub code: i32,
    /// Payload bytes, checked against the frame's size.
    pub nbytes: usize,
}

/// The header in front of a frame's payload: 64 bytes, one cache line.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct FrameHeader {
    state: AtomicU32,
    kind: AtomicU32,
    ticket: AtomicU64,
    nbytes: AtomicU64,
    code: AtomicU32,
}

impl FrameHeader {
    /// Whether the client may fill the frame for `ticket`.
    pub fn is_idle(&self, ticket: u64) -> Result<bool> {
        Ok(State::from_shared(self.state.load(Ordering::Acquire), ticket)? == State::Idle)
    }

    /// Hands the filled frame to the server.
    ///
    /// The exchange is a full barrier: what the client reads next (which bell the server sleeps on) is read after the
    /// server can see the request.
    #[inline]
    pub fn post(&self, ticket: u64, request: Posted) {
        self.kind.store(request.kind as u32, Ordering::Relaxed);
        self.ticket.store(ticket, Ordering::Relaxed);
        self.nbytes.store(request.nbytes as u64, Ordering::Relaxed);
        self.state.swap(State::TaskReady as u32, Ordering::SeqCst);
    }

    /// The request with `ticket`, if it is there.
    #[inline]
    pub fn posted(&self, ticket: u64, frame_bytes: usize) -> Result<Option<Posted>> {
        if State::from_shared(self.state.load(Ordering::Acquire), ticket)? != State::TaskReady {
            return Ok(None);
        }
        let (kind, nbytes) = self.checked(ticket, frame_bytes)?;
        Ok(Some(Posted { kind, nbytes }))
    }

    /// Hands the frame, its payload overwritten by the reply's, back to the client.
    #[inline]
    pub fn finish(&self, code: i32, nbytes: usize) {
        self.code.store(code as u32, Ordering::Relaxed);
        self.nbytes.store(nbytes as u64, Ordering::Relaxed);
        self.state.swap(State::TaskDone as u32, Ordering::SeqCst);
    }

    /// The reply to the request with `ticket`, if it is there.
    #[inline]
    pub fn finished(&self, ticket: u64, frame_bytes: usize) -> Result<Option<Finished>> {
        if State::from_shared(self.state.load(Ordering::Acquire), ticket)? != State::TaskDone {
            return Ok(None);
        }
        let (kind, nbytes) = self.checked(ticket, frame_bytes)?;
        Ok(Some(Finished { kind, nbytes, code: self.code.load(Ordering::Relaxed) as i32 }))
    }

    /// Makes a frame whose reply is taken free again.
    #[inline]
    pub fn free(&self) {
        self.state.store(State::Idle as u32, Ordering::Release);
    }

    fn checked(&self, ticket: u64, frame_bytes: usize) -> Result<(Kind, usize)> {
        let found = self.ticket.load(Ordering::Relaxed);
        if found != ticket {
            return Err(Error::Corrupted(format!("the frame of ticket {ticket} carries ticket {found}")));
        }
        let nbytes = self.nbytes.load(Ordering::Relaxed);
        if nbytes > frame_bytes as u64 {
            return Err(Error::Corrupted(format!(
                "the frame of ticket {ticket} claims {nbytes} payload bytes, of {frame_bytes} it has"
            )));
        }
        let kind = self.kind.load(Ordering::Relaxed);
        let kind = Kind::try_from(kind)
            .map_err(|_| Error::Corrupted(format!("the frame of ticket {ticket} is of no known kind ({kind})")))?;
        Ok((kind, nbytes as usize))
    }
}
