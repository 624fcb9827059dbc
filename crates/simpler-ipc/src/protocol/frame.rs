//! The frame: one request and its reply, each on cache lines of its own, each handed over by one word.
//!
//! ```text
//!          client: post             server: finish            client: take the reply
//! IDLE ───────────────► TASK_READY ───────────────► TASK_DONE ───────────────────────► idle, in the next generation
//!   │                       │                           ▲
//!   │ client: give_up       │ client: cancel            │ server: finish, as cancelled
//!   └───────────────► CANCELLED ────────────────────────┘
//! ```
//!
//! The request's word is written by the client only, the reply's by the server only: the state of the frame is what the two
//! say together. So no side writes where the other one looks while it waits, and a server that dies while it replies has
//! not touched the request: a successor receives it again.
//!
//! Taking a reply writes neither word. The client counts the replies it has taken in a word of its own, and a frame that is
//! TASK_DONE behind that count is as idle as one that was never used.
//!
//! A word is a state, the kind of the request and, above them, the generation: how often the frame has been used. A lane of `depth` frames gives
//! ticket `t` to frame `t % depth` in generation `t / depth`, so the words alone tell which request they speak of: whoever
//! comes anew to a lane finds out from its words where it stands, at whatever moment a predecessor was killed.
//!
//! Tasks, control requests and shutdown are kinds of request on the same ordered lane.
//!
//! # Cancelling
//!
//! A request is taken or cancelled, never both. The server does not write the request's word to take it (the client would
//! have to fetch that cache line again): it announces the ticket in a word of its own and looks at the request once more.
//! See [`Taking`].
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

/// What a frame holds.
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

const KIND_AT: u32 = 3;
const GENERATION_AT: u32 = 5;
const STATE_MASK: u64 = (1 << KIND_AT) - 1;
const KIND_MASK: u64 = 0b11 << KIND_AT;

/// What both words of a frame say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word {
    /// How often the frame has been used before.
    pub generation: u64,
    /// What it holds.
    pub state: State,
}

/// A word but for its kind. In a reply's stands the status from 1: zero is no reply, as in fresh memory.
#[inline(always)]
const fn word_of(generation: u64, state: u64) -> u64 {
    generation << GENERATION_AT | state
}

#[inline(always)]
const fn without_kind(word: u64) -> u64 {
    word & !KIND_MASK
}

#[inline(always)]
fn kind_of(word: u64) -> Result<Kind> {
    match (word & KIND_MASK) >> KIND_AT {
        1 => Ok(Kind::Task),
        2 => Ok(Kind::Control),
        3 => Ok(Kind::Shutdown),
        unknown => Err(unknown_kind(unknown)),
    }
}

#[inline(always)]
fn status_of(word: u64) -> Result<Status> {
    match word & STATE_MASK {
        1 => Ok(Status::Ok),
        2 => Ok(Status::Failed),
        3 => Ok(Status::Cancelled),
        unknown => Err(unknown_status(unknown)),
    }
}

/// Whether `word` is that of the use before the one with `generation`, or of none.
#[inline(always)]
const fn is_before(word: u64, generation: u64) -> bool {
    if generation == 0 {
        word == 0
    } else {
        word >> GENERATION_AT == generation - 1 && word & STATE_MASK != 0
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

/// In front of a request's payload; 16 bytes, written by the client.
#[repr(C)]
#[derive(Debug, Default)]
pub struct RequestHeader {
    word: AtomicU64,
    nbytes: AtomicU32,
    _unused: AtomicU32,
}

impl RequestHeader {
    /// Hands the filled frame to the server. A full fence comes before the look whether it sleeps, once for however many
    /// frames are handed over together.
    #[inline(always)]
    pub fn post(&self, generation: u64, request: Posted) {
        self.hand_over(generation, State::TaskReady, request);
    }

    /// Hands a frame over with nothing to do: its place in the lane was taken, and then there was no request.
    pub fn give_up(&self, generation: u64) {
        self.hand_over(generation, State::Cancelled, Posted { kind: Kind::Task, nbytes: 0 });
    }

    #[inline(always)]
    fn hand_over(&self, generation: u64, state: State, request: Posted) {
        self.nbytes.store(request.nbytes as u32, Ordering::Relaxed);
        let kind = (request.kind as u64) << KIND_AT;
        self.word.store(word_of(generation, state as u64) | kind, Ordering::Release);
    }

    /// Whether nothing has come yet where the use with this generation will be. False for what is to be looked at closer.
    #[inline(always)]
    pub fn is_before(&self, generation: u64) -> bool {
        is_before(self.word.load(Ordering::Acquire), generation)
    }

    /// Whether there is a request that is not taken back.
    #[inline(always)]
    fn is_ready(&self, generation: u64) -> bool {
        without_kind(self.word.load(Ordering::Acquire)) == word_of(generation, State::TaskReady as u64)
    }

    /// What is there for the server, which has not decided yet whether to take it: see [`Taking::take`].
    #[inline(always)]
    pub fn peek(&self, generation: u64, frame_bytes: usize) -> Result<Next> {
        let word = self.word.load(Ordering::Acquire);
        if without_kind(word) == word_of(generation, State::TaskReady as u64) {
            Ok(Next::Request(Posted { kind: kind_of(word)?, nbytes: checked_nbytes(&self.nbytes, frame_bytes)? }))
        } else if is_before(word, generation) {
            Ok(Next::Nothing)
        } else if without_kind(word) == word_of(generation, State::Cancelled as u64) {
            Ok(Next::Cancelled)
        } else {
            Err(out_of_turn("request", generation, word))
        }
    }

    /// What the request says, whose word was seen before.
    #[inline(always)]
    pub fn posted(&self, frame_bytes: usize) -> Result<Posted> {
        let kind = kind_of(self.word.load(Ordering::Acquire))?;
        Ok(Posted { kind, nbytes: checked_nbytes(&self.nbytes, frame_bytes)? })
    }

    /// Takes a request back, if it is there. Whether it was in time is for [`Taking`] to tell.
    pub fn cancel(&self, generation: u64) -> bool {
        let word = self.word.load(Ordering::Relaxed);
        let cancelled = word & !STATE_MASK | State::Cancelled as u64;
        without_kind(word) == word_of(generation, State::TaskReady as u64)
            && self.word.compare_exchange(word, cancelled, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// Undoes `cancel`. Nobody else writes the word.
    fn put_back(&self) {
        let word = self.word.load(Ordering::Relaxed);
        self.word.store(word & !STATE_MASK | State::TaskReady as u64, Ordering::Release);
    }
}

/// In front of a reply's payload; 16 bytes, written by the server.
#[repr(C)]
#[derive(Debug, Default)]
pub struct ReplyHeader {
    word: AtomicU64,
    nbytes: AtomicU32,
    code: AtomicU32,
}

impl ReplyHeader {
    /// Hands the reply to that request to the client. A full fence follows, as for `post`.
    ///
    /// The request's kind stands in the reply, too: the client would have to fetch its own line back to look at it.
    #[inline(always)]
    pub fn finish(&self, request: &RequestHeader, generation: u64, status: Status, code: i32, nbytes: usize) {
        self.code.store(code as u32, Ordering::Relaxed);
        self.nbytes.store(nbytes as u32, Ordering::Relaxed);
        let kind = request.word.load(Ordering::Relaxed) & KIND_MASK;
        self.word.store(word_of(generation, status as u64 + 1) | kind, Ordering::Release);
    }

    /// Whether there is no reply yet for the use with this generation: the client, which has taken the one before, may fill
    /// the frame. False for what is to be looked at closer.
    ///
    /// That is all a client looks at before it fills a frame. Its own word lies on a line that the server has fetched: to
    /// read it there would cost as much as a reply.
    #[inline(always)]
    pub fn is_before(&self, generation: u64) -> bool {
        is_before(self.word.load(Ordering::Acquire), generation)
    }

    /// The reply, if it is there.
    #[inline(always)]
    pub fn finished(&self, generation: u64, frame_bytes: usize) -> Result<Option<Finished>> {
        let word = self.word.load(Ordering::Acquire);
        if is_before(word, generation) {
            return Ok(None);
        }
        if word >> GENERATION_AT != generation {
            return Err(out_of_turn("reply", generation, word));
        }
        let (kind, status) = (kind_of(word)?, status_of(word)?);
        let code = self.code.load(Ordering::Relaxed) as i32;
        Ok(Some(Finished { kind, status, code, nbytes: checked_nbytes(&self.nbytes, frame_bytes)? }))
    }
}

/// Both halves of a frame.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// The client's.
    pub request: &'a RequestHeader,
    /// The server's.
    pub reply: &'a ReplyHeader,
}

impl Frame<'_> {
    /// What the frame holds, in which generation: for whoever comes anew.
    pub fn word(self) -> Result<Word> {
        // In this order: a request is posted in the next generation only when the reply was taken.
        let reply = self.reply.word.load(Ordering::Acquire);
        let request = self.request.word.load(Ordering::Acquire);
        let generation = request >> GENERATION_AT;
        let state = match request & STATE_MASK {
            0 => State::Idle,
            1 => State::TaskReady,
            3 => State::Cancelled,
            unknown => return Err(Error::Corrupted(format!("a frame's request is in no known state ({unknown})"))),
        };
        if reply & STATE_MASK != 0 && state != State::Idle && reply >> GENERATION_AT == generation {
            status_of(reply)?;
            return Ok(Word { generation, state: State::TaskDone });
        }
        if !is_before(reply, generation) || (state == State::Idle && generation != 0) {
            return Err(out_of_turn("reply", generation, reply));
        }
        Ok(Word { generation, state })
    }
}

#[inline(always)]
fn checked_nbytes(nbytes: &AtomicU32, frame_bytes: usize) -> Result<usize> {
    let nbytes = nbytes.load(Ordering::Relaxed) as usize;
    if nbytes > frame_bytes {
        return Err(too_large(nbytes, frame_bytes));
    }
    Ok(nbytes)
}

#[cold]
fn too_large(nbytes: usize, frame_bytes: usize) -> Error {
    Error::Corrupted(format!("a frame claims {nbytes} payload bytes, of {frame_bytes} it has"))
}

#[cold]
fn unknown_kind(kind: u64) -> Error {
    Error::Corrupted(format!("a frame is of no known kind ({kind})"))
}

#[cold]
fn unknown_status(status: u64) -> Error {
    Error::Corrupted(format!("a frame's reply has no known status ({status})"))
}

#[cold]
fn out_of_turn(what: &str, generation: u64, word: u64) -> Error {
    Error::Corrupted(format!(
        "the {what} of a frame in use for the {generation}th time is in state {} for the {}th time",
        word & STATE_MASK,
        word >> GENERATION_AT
    ))
}

/// Which request the server is taking: written by the server only, on a cache line that nobody reads but a client that
/// cancels.
///
/// ```text
/// server                               client
/// announced = ticket + 1               request: TASK_READY → CANCELLED (exchange)
/// fence                                fence
/// look at the request once more        read `announced`
/// ```
///
/// Both write, then read the other's word, with a full fence between: if the client does not find the announcement,
/// the server's look finds the cancellation. If it does, the server may have looked before or after the exchange, and
/// the client says only that it cannot promise. The reply's status tells.
#[repr(C)]
#[derive(Debug, Default)]
pub struct Taking {
    announced: AtomicU64,
}

impl Taking {
    /// Takes the request with `ticket` that [`RequestHeader::peek`] has found: false if it was cancelled before.
    #[inline(always)]
    pub fn take(&self, ticket: u64, request: &RequestHeader, generation: u64) -> bool {
        // One more: zero announces nothing. What a killed predecessor has announced stays so: it may have been done.
        if self.announced.load(Ordering::Relaxed) <= ticket {
            self.announced.store(ticket + 1, Ordering::Relaxed);
        }
        fence(Ordering::SeqCst);
        request.is_ready(generation)
    }

    /// Takes the request with `ticket` back: whether it is certain that the server never takes it.
    pub fn cancel(&self, ticket: u64, request: &RequestHeader, generation: u64) -> bool {
        if self.announced.load(Ordering::Relaxed) > ticket || !request.cancel(generation) {
            return false;
        }
        fence(Ordering::SeqCst);
        let in_time = self.announced.load(Ordering::Relaxed) <= ticket;
        if !in_time {
            // Whoever follows a server that is killed now is to find a request that may have been taken.
            request.put_back();
        }
        in_time
    }
}
