//! What the client gets back.

use crate::protocol::frame::{Kind, Status};
use crate::region::SharedBytes;

/// A reply, copied out of its frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// That of the request: 0, 1, 2… in the order of posting.
    pub ticket: u64,
    /// The kind of the request.
    pub kind: Kind,
    /// How it ended.
    pub status: Status,
    /// What it means is between client and server.
    pub code: i32,
    /// What the server sent: its message if it failed.
    pub payload: Vec<u8>,
}

/// A reply still in its frame.
#[derive(Debug, Clone, Copy)]
pub struct ReplyView<'a> {
    /// That of the request.
    pub ticket: u64,
    /// The kind of the request.
    pub kind: Kind,
    /// How it ended.
    pub status: Status,
    /// What it means is between client and server.
    pub code: i32,
    /// What the server sent, in place.
    pub payload: SharedBytes<'a>,
}

impl ReplyView<'_> {
    /// A copy of it.
    pub fn to_reply(&self) -> Reply {
        let ReplyView { ticket, kind, status, code, payload } = *self;
        Reply { ticket, kind, status, code, payload: payload.to_vec() }
    }
}
