//! Turns: which use of which frame a request is, and how whoever comes anew to a lane finds out where it stands.

use super::frame::{State, Word};
use crate::error::{Error, Result};

/// No mailbox comes this far in ten thousand years of a million requests a second; a spoilt word may say so.
const LAST_TICKET: u64 = 1 << 58;

/// One use of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// The request's number.
    pub ticket: u64,
    /// The frame it uses.
    pub frame: usize,
    /// How often that was used before.
    pub generation: u64,
}

impl Turn {
    /// That of a request in a lane of `depth` frames.
    pub fn at(ticket: u64, depth: usize) -> Self {
        let depth = depth as u64;
        Turn { ticket, frame: (ticket % depth) as usize, generation: ticket / depth }
    }

    /// The one after it, without a division.
    #[inline]
    pub fn next(self, depth: usize) -> Self {
        let ticket = self.ticket + 1;
        if self.frame + 1 == depth {
            Turn { ticket, frame: 0, generation: self.generation + 1 }
        } else {
            Turn { ticket, frame: self.frame + 1, generation: self.generation }
        }
    }

    fn of(frame: usize, generation: u64, depth: usize) -> Result<Self> {
        match generation.checked_mul(depth as u64) {
            Some(ticket) if ticket < LAST_TICKET => Ok(Turn { ticket: ticket + frame as u64, frame, generation }),
            _ => Err(Error::Corrupted(format!("a frame says that it has been used {generation} times"))),
        }
    }
}

/// A frame as somebody who comes anew finds it.
#[derive(Debug, Clone, Copy)]
pub struct Found {
    /// Its first use that is not behind.
    pub turn: Turn,
    /// That use's state; `None` if it has not begun.
    pub state: Option<State>,
}

impl Found {
    /// Whether the request was posted, or given up.
    pub fn is_posted(&self) -> bool {
        self.state.is_some_and(|state| state != State::Idle)
    }
}

/// Where one side stands, read from the words of `depth` frames: the first use of each that `is_behind` does not say is
/// behind it, in the order of their tickets. They are those of one round of the lane, in memory that no wrong peer has
/// spoilt; the other side may be at work meanwhile.
///
/// # Errors
/// [`Error::Corrupted`].
pub fn scan(
    depth: usize,
    word: impl Fn(usize) -> Result<Word>,
    is_behind: impl Fn(Turn, State) -> bool,
) -> Result<Vec<Found>> {
    let mut found = Vec::with_capacity(depth);
    for frame in 0..depth {
        let Word { generation, state } = word(frame)?;
        let turn = Turn::of(frame, generation, depth)?;
        found.push(match is_behind(turn, state) {
            true => Found { turn: Turn::of(frame, generation + 1, depth)?, state: None },
            false => Found { turn, state: Some(state) },
        });
    }
    found.sort_by_key(|found| found.turn.ticket);
    let (first, last) = (found[0].turn.ticket, found[depth - 1].turn.ticket);
    if last - first >= depth as u64 {
        return Err(Error::Corrupted(format!(
            "the frames of a mailbox are at tickets {first} to {last}, though there are only {depth} of them"
        )));
    }
    Ok(found)
}

/// Where a client that comes anew stands, `taken` replies having been taken: its frames, the oldest request first.
///
/// # Errors
/// [`Error::Corrupted`].
pub fn scan_as_client(depth: usize, word: impl Fn(usize) -> Result<Word>, taken: u64) -> Result<Vec<Found>> {
    let found = scan(depth, word, |turn, state| state == State::TaskDone && turn.ticket < taken)?;
    match found[0].turn.ticket {
        oldest if oldest == taken => Ok(found),
        oldest => Err(Error::Corrupted(format!(
            "{taken} replies were taken from a mailbox whose oldest request is number {oldest}"
        ))),
    }
}

/// Where a server that comes anew stands: the next request it receives. What its predecessor received and did not reply to
/// is received again.
///
/// # Errors
/// [`Error::Corrupted`].
pub fn scan_as_server(depth: usize, word: impl Fn(usize) -> Result<Word>) -> Result<Turn> {
    Ok(scan(depth, word, |_, state| state == State::TaskDone)?[0].turn)
}
