//! The frame: one request and its reply, handed back and forth by one word.
//!
//! ```text
//!          client: post             server: finish            client: take the reply
//! IDLE ───────────────► TASK_READY ───────────────► TASK_DONE ───────────────────────► idle, in the next generation
//!   │                       │                           ▲
//!   │ client: give_up       │ client: cancel            │ server: finish, as cancelled
//!   └───────────────► CANCELLED ────────────────────────┘
//! ```
//!
//! Taking a reply does not write the word: the server may be looking at that cache line for the next request already, and
//! both would have to fetch it once more. The client counts the replies it has taken in a word of its own, and a frame
//! that is TASK_DONE behind that count is as idle as one that was never used.
//!
//! The word is the state and, above it, the generation: how often the frame has been used. A lane of `depth` frames
//! gives ticket `t` to frame `t % depth` in generation `t / depth`, so the word alone tells which request it speaks of:
//! whoever comes anew to a lane finds out from its words where it stands, at whatever moment a predecessor was killed.
//!
//! Who may write a frame's fields and payload is decided by its word alone: the client while IDLE, the server while
//! TASK_READY. Tasks, control requests and shutdown are kinds of request on the same ordered lane.
//!
//! # Cancelling
//!
//! A request is taken or cancelled, never both. The server does not write the frame's word to take it (the client is
//! reading that cache line already, and both would have to fetch it again): it announces the ticket in a word of its own
//! and looks at the frame once more. See [`Taking`].
//!
//! Everything read from a frame is checked: the other process may be wrong, or gone half-way.

use super::sync::{fence, AtomicU32, AtomicU64, Ordering};
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

/// How a request ended. The numbers are what stands in shared memory and what the Python constants are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Status {
    /// The server replied.
    Ok = 0,
    /// The server could not do it: the payload is its message.
    Failed = 1,
    /// The client took it back before the server took it.
    Cancelled = 2,
}

impl TryFrom<u32> for Status {
    type Error = Error;

    fn try_from(number: u32) -> Result<Self> {
        match number {
            0 => Ok(Status::Ok),
            1 => Ok(Status::Failed),
            2 => Ok(Status::Cancelled),
            _ => Err(Error::Invalid(format!("{number} is no status: OK is 0, FAILED 1, CANCELLED 2"))),
        }
    }
}

/// Who owns a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum State {
    /// Never used. Zero, so that fresh memory is a lane of idle frames.
    Idle = 0,
    /// A request the server has not answered.
    TaskReady = 1,
    /// A reply the client has not taken.
    TaskDone = 2,
    /// A request that is not to be answered, only to be finished in its turn.
    Cancelled = 3,
}

const STATE_BITS: u32 = 3;

/// A frame's word, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    /// How often the frame has been used before.
    pub generation: u64,
    /// Who owns it.
    pub state: State,
}

impl Word {
    /// Whether the use with this generation has not begun: there is the reply of the one before, or nothing ever.
    fn is_before(self, generation: u64) -> bool {
        match self.state {
            State::Idle => self.generation == 0 && generation == 0,
            State::TaskDone => self.generation + 1 == generation,
            _ => false,
        }
    }

    fn pack(self) -> u64 {
        self.generation << STATE_BITS | self.state as u64
    }

    fn unpack(word: u64) -> Result<Self> {
        let state = match word & ((1 << STATE_BITS) - 1) {
            0 => State::Idle,
            1 => State::TaskReady,
            2 => State::TaskDone,
            3 => State::Cancelled,
            unknown => return Err(Error::Corrupted(format!("a frame is in no known state ({unknown})"))),
        };
        Ok(Word { generation: word >> STATE_BITS, state })
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
    /// How it ended.
    pub status: Status,
    /// What it means is between client and server.
    pub code: i32,
    /// Payload bytes, checked against the frame's size.
    pub nbytes: usize,
}

/// What the server finds where its next request will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing yet.
    Nothing,
    /// A request.
    Request(Posted),
    /// One that was taken back, to be finished in its turn.
    Cancelled,
}

/// The header in front of a frame's payload: 24 bytes, so that a hundred bytes of payload share its cache lines.
#[repr(C)]
#[derive(Debug, Default)]
pub struct FrameHeader {
    word: AtomicU64,
    nbytes: AtomicU32,
    kind: AtomicU32,
    status: AtomicU32,
    code: AtomicU32,
}

impl FrameHeader {
    /// Who owns the frame, in which generation.
    #[inline]
    pub fn word(&self) -> Result<Word> {
        Word::unpack(self.word.load(Ordering::Acquire))
    }

    fn is(&self, generation: u64, state: State) -> bool {
        self.word.load(Ordering::Acquire) == Word { generation, state }.pack()
    }

    /// Whether the client, which has taken the reply before, may fill the frame.
    #[inline]
    pub fn is_idle(&self, generation: u64) -> bool {
        match generation.checked_sub(1) {
            None => self.is(0, State::Idle),
            Some(before) => self.is(before, State::TaskDone),
        }
    }

    /// Whether there is a reply for the client to take.
    #[inline]
    pub fn is_done(&self, generation: u64) -> bool {
        self.is(generation, State::TaskDone)
    }

    /// Hands the filled frame to the server. A full fence comes before the look whether it sleeps, once for however many
    /// frames are handed over together.
    #[inline]
    pub fn post(&self, generation: u64, request: Posted) {
        self.hand_over(generation, State::TaskReady, request);
    }

    /// Hands a frame over with nothing to do: its place in the lane was taken, and then there was no request.
    pub fn give_up(&self, generation: u64) {
        self.hand_over(generation, State::Cancelled, Posted { kind: Kind::Task, nbytes: 0 });
    }

    fn hand_over(&self, generation: u64, state: State, request: Posted) {
        self.kind.store(request.kind as u32, Ordering::Relaxed);
        self.nbytes.store(request.nbytes as u32, Ordering::Relaxed);
        self.set(Word { generation, state });
    }

    /// What is there for the server, which has not decided yet whether to take it: see [`Taking::take`].
    #[inline]
    pub fn peek(&self, generation: u64, frame_bytes: usize) -> Result<Next> {
        let word = self.word()?;
        match word.state {
            State::TaskReady if word.generation == generation => {
                Ok(Next::Request(self.posted(frame_bytes)?))
            }
            State::Cancelled if word.generation == generation => Ok(Next::Cancelled),
            _ if word.is_before(generation) => Ok(Next::Nothing),
            _ => Err(out_of_turn(generation, word)),
        }
    }

    /// What the frame's request says, whose word was seen before.
    #[inline]
    pub fn posted(&self, frame_bytes: usize) -> Result<Posted> {
        Ok(Posted { kind: self.kind()?, nbytes: self.nbytes(frame_bytes)? })
    }

    /// Takes a request back, if it is there and not finished. Whether it was in time is for [`Taking`] to tell.
    pub fn cancel(&self, generation: u64) -> bool {
        let ready = Word { generation, state: State::TaskReady }.pack();
        let cancelled = Word { generation, state: State::Cancelled }.pack();
        self.word.compare_exchange(ready, cancelled, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// Undoes `cancel`, unless the server has finished the frame meanwhile.
    fn put_back(&self, generation: u64) {
        let cancelled = Word { generation, state: State::Cancelled }.pack();
        let ready = Word { generation, state: State::TaskReady }.pack();
        // If it is finished, there is nothing to be undone.
        let _ = self.word.compare_exchange(cancelled, ready, Ordering::Release, Ordering::Relaxed);
    }

    /// Hands the frame, its payload overwritten by the reply's, back to the client. A full fence follows, as for `post`.
    #[inline]
    pub fn finish(&self, generation: u64, status: Status, code: i32, nbytes: usize) {
        self.status.store(status as u32, Ordering::Relaxed);
        self.code.store(code as u32, Ordering::Relaxed);
        self.nbytes.store(nbytes as u32, Ordering::Relaxed);
        self.set(Word { generation, state: State::TaskDone });
    }

    /// The reply, if it is there.
    #[inline]
    pub fn finished(&self, generation: u64, frame_bytes: usize) -> Result<Option<Finished>> {
        let word = self.word()?;
        if word != (Word { generation, state: State::TaskDone }) {
            // Claimed and not posted yet, or not finished yet.
            let pending = word.generation == generation && word.state != State::Idle;
            return if pending || word.is_before(generation) { Ok(None) } else { Err(out_of_turn(generation, word)) };
        }
        let status = self.status.load(Ordering::Relaxed);
        let status = Status::try_from(status)
            .map_err(|_| Error::Corrupted(format!("a frame's reply has no known status ({status})")))?;
        let code = self.code.load(Ordering::Relaxed) as i32;
        Ok(Some(Finished { kind: self.kind()?, status, code, nbytes: self.nbytes(frame_bytes)? }))
    }

    #[inline]
    fn set(&self, word: Word) {
        #[cfg(not(loom))]
        self.word.store(word.pack(), Ordering::Release);
        // The changes of one word have one order. Loom gives none to a store and an exchange at the same time, and would
        // let whoever cancels in vain read its own change for ever.
        #[cfg(loom)]
        self.word.swap(word.pack(), Ordering::Release);
    }

    fn nbytes(&self, frame_bytes: usize) -> Result<usize> {
        let nbytes = self.nbytes.load(Ordering::Relaxed) as usize;
        if nbytes > frame_bytes {
            return Err(Error::Corrupted(format!("a frame claims {nbytes} payload bytes, of {frame_bytes} it has")));
        }
        Ok(nbytes)
    }

    fn kind(&self) -> Result<Kind> {
        let kind = self.kind.load(Ordering::Relaxed);
        Kind::try_from(kind).map_err(|_| Error::Corrupted(format!("a frame is of no known kind ({kind})")))
    }
}

#[cold]
fn out_of_turn(generation: u64, word: Word) -> Error {
    Error::Corrupted(format!(
        "a frame in use for the {generation}th time is {:?} for the {}th time",
        word.state, word.generation
    ))
}

/// Which request the server is taking, and which it is replying to: written by the server only, on a cache line that
/// nobody reads but a client that cancels and a server's successor.
///
/// ```text
/// server                               client
/// announced = ticket + 1               frame: TASK_READY → CANCELLED (exchange)
/// fence                                fence
/// look at the frame once more          read `announced`
/// ```
///
/// Both write, then read the other's word, with a full fence between: if the client does not find the announcement,
/// the server's look finds the cancellation. If it does, the server may have looked before or after the exchange, and
/// the client says only that it cannot promise. The reply's status tells.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Taking {
    announced: AtomicU64,
    replying: AtomicU64,
}

impl Taking {
    /// Takes the request with `ticket` that [`FrameHeader::peek`] has found: false if it was cancelled before.
    #[inline]
    pub fn take(&self, ticket: u64, frame: &FrameHeader, generation: u64) -> bool {
        // One more: zero announces nothing. What a killed predecessor has announced stays so: it may have been done.
        if self.announced.load(Ordering::Relaxed) <= ticket {
            self.announced.store(ticket + 1, Ordering::Relaxed);
        }
        fence(Ordering::SeqCst);
        frame.is(generation, State::TaskReady)
    }

    /// From now on the payload of the request with `ticket` is neither the request's nor yet the reply's.
    #[inline]
    pub fn overwrite(&self, ticket: u64) {
        self.replying.store(ticket + 1, Ordering::Relaxed);
        // Whoever finds a byte of the reply finds this.
        fence(Ordering::Release);
    }

    /// Whether a server has begun to write its reply over the request with `ticket`. If that is not finished and the
    /// server is dead, there is neither.
    pub fn is_overwritten(&self, ticket: u64) -> bool {
        fence(Ordering::Acquire);
        self.replying.load(Ordering::Relaxed) == ticket + 1
    }

    /// Takes the request with `ticket` back: whether it is certain that the server never takes it.
    pub fn cancel(&self, ticket: u64, frame: &FrameHeader, generation: u64) -> bool {
        if self.announced.load(Ordering::Relaxed) > ticket || !frame.cancel(generation) {
            return false;
        }
        fence(Ordering::SeqCst);
        let in_time = self.announced.load(Ordering::Relaxed) <= ticket;
        if !in_time {
            // Whoever follows a server that is killed now is to find a request that may have been taken.
            frame.put_back(generation);
        }
        in_time
    }
}
