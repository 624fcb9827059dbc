//! What can go wrong, one variant for each thing a caller may want to tell apart.

use std::fmt;
use std::io;
use std::time::Duration;

/// The result of everything in this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// Every error of this crate. The message says what happened, where, and what to do where something can be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A watched process exited or was killed.
    #[error("process {pid} died: {exit}")]
    PeerDied {
        /// The process id it had.
        pid: i32,
        /// How it ended, as far as this process may know.
        exit: Exit,
    },

    /// No room for a block, and none came free in time.
    #[error(
        "heap ring '{name}' of {nbytes} bytes is full: {requested} bytes requested, {live_blocks} live blocks hold \
         {live_bytes} bytes, {pending_bytes} bytes wait behind them to be reclaimed; {}",
        make_room(*.nbytes, *.requested, *.oldest, *.oldest_nbytes)
    )]
    HeapRingFull {
        /// The ring's name.
        name: String,
        /// The ring's size in bytes.
        nbytes: usize,
        /// Bytes asked for.
        requested: usize,
        /// Blocks allocated and not yet released.
        live_blocks: u64,
        /// Bytes of those blocks, rounded up to the ring's alignment.
        live_bytes: usize,
        /// Bytes that are released (or skipped at the end of the arena) but lie behind an older live block.
        pending_bytes: usize,
        /// The address of the oldest live block: space is reclaimed from there on.
        oldest: Option<usize>,
        /// Its bytes, rounded up; 0 if there is none.
        oldest_nbytes: usize,
    },

    /// Nothing happened within the time given.
    #[error("waited {:.3} s for {what}", .waited.as_secs_f64())]
    WaitTimeout {
        /// What was waited for.
        what: &'static str,
        /// The limit that was given.
        waited: Duration,
    },

    /// A payload does not fit into a frame of the mailbox.
    #[error("payload of {nbytes} bytes does not fit into a frame of {frame_bytes} bytes; make the mailbox with a larger frame_bytes")]
    FrameTooLarge {
        /// Bytes of the payload.
        nbytes: usize,
        /// Payload bytes of one frame.
        frame_bytes: usize,
    },

    /// Shared memory holds what no correct peer writes.
    #[error("shared memory is corrupted: {0}")]
    Corrupted(String),

    /// A call that does not fit the state the object is in (a reply without a request, a post without a reservation).
    #[error("{0}")]
    Misused(String),

    /// An argument that cannot be right whatever the state.
    #[error("{0}")]
    Invalid(String),

    /// An address that is not that of a live block of the ring.
    #[error(
        "{address:#x} is not a live block of heap ring '{name}': it was never allocated there, or is released already"
    )]
    UnknownBlock {
        /// The ring's name.
        name: String,
        /// The address given.
        address: usize,
    },

    /// A ring that looks for it found a byte that was written after its block was released; it has repaired it.
    #[error(
        "heap ring '{name}': the byte at {address:#x} was written after its release, it holds {value:#04x}; {}",
        whose(*.block)
    )]
    WrittenAfterRelease {
        /// The ring's name.
        name: String,
        /// The first such byte.
        address: usize,
        /// What it holds.
        value: u8,
        /// The address of the block that was released there last, if it is still known.
        block: Option<usize>,
    },

    /// The caller's interrupt check asked for the wait to end.
    #[error("the wait was interrupted")]
    Interrupted,

    /// A named region cannot be created: its name has a living owner.
    #[error("region '{name}' exists: process {pid} owns it; attach to it, choose another name, or end that process")]
    RegionExists {
        /// The name asked for.
        name: String,
        /// The process that owns it.
        pid: i32,
    },

    /// There is no region of that name, or only what a dead owner left.
    #[error("no region '{name}': {why}")]
    RegionNotFound {
        /// The name asked for.
        name: String,
        /// What is there instead, and what to do.
        why: String,
    },

    /// A name is taken by something that this process cannot judge or may not use: it is left alone.
    #[error("region '{name}' cannot be used: {why}")]
    RegionUnusable {
        /// The name asked for.
        name: String,
        /// What is there, and what to do.
        why: String,
    },

    /// The operating system lacks what this needs.
    #[error(
        "{what} needs {needs}, which is not to be had here: use Linux 5.4 or later, and allow it where a sandbox or a \
         container takes it away; `python -m simpler_ipc doctor` tells what else is missing"
    )]
    UnsupportedPlatform {
        /// What was asked for.
        what: &'static str,
        /// What it stands on.
        needs: &'static str,
    },

    /// The operating system refused.
    #[error("{action}: {source}")]
    Os {
        /// What was tried.
        action: String,
        /// Its answer.
        source: io::Error,
    },
}

/// How a process ended. Neither is known of a process that is not a child of this one, or that another thread or
/// library has reaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// What it passed to `exit`.
    pub status: Option<i32>,
    /// The signal that killed it.
    pub signal: Option<i32>,
}

impl fmt::Display for Exit {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.status, self.signal) {
            (Some(status), _) => write!(formatter, "it exited with status {status}"),
            (None, Some(signal)) => write!(formatter, "it was killed by signal {signal}"),
            (None, None) => write!(formatter, "how is not known, it is not a child of this process"),
        }
    }
}

impl Error {
    pub(crate) fn os(action: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Error::Os { action: action.into(), source: source.into() }
    }
}

fn make_room(nbytes: usize, requested: usize, oldest: Option<usize>, oldest_nbytes: usize) -> String {
    match oldest {
        _ if requested > nbytes => format!("it never fits: make the ring with {requested} bytes at least"),
        Some(oldest) => format!(
            "release blocks, first of all the oldest ({oldest:#x}, {oldest_nbytes} bytes), as space comes back in the \
             order it was allocated; or enlarge the ring"
        ),
        None => "blocks were released meanwhile: try again".to_owned(),
    }
}

fn whose(block: Option<usize>) -> String {
    match block {
        Some(block) => format!("whoever had the block at {block:#x} still uses it"),
        None => "which block that was is no longer known".to_owned(),
    }
}
