//! Which object of which process has a side of a mailbox.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Lane;
use crate::error::{Error, Result};
use crate::identity::{self, Identity, Maker};
use crate::protocol::lane::{LaneHeader, Waiting};
use crate::protocol::owner::{Owner, Refusal};
use crate::sys;

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Client,
    Server,
}

impl Role {
    /// Where it waits.
    pub(super) fn own(self) -> fn(&LaneHeader) -> &Waiting {
        match self {
            Role::Client => LaneHeader::replies,
            Role::Server => LaneHeader::requests,
        }
    }

    /// Where the other one does.
    pub(super) fn other(self) -> fn(&LaneHeader) -> &Waiting {
        match self {
            Role::Client => Role::Server.own(),
            Role::Server => Role::Client.own(),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Role::Client => "client",
            Role::Server => "server",
        })
    }
}

/// The sides that objects of this process have (region, offset, role), and the process that claimed them: in a forked
/// child those of the parent stand here as well. The lane is the peer's to write: whatever it says, this process has no side
/// twice. (What another copy of this library in this process has, the lane alone tells.)
pub(crate) type Held = BTreeMap<(u64, usize, Role), Maker>;
pub(crate) static HELD: Mutex<Held> = Mutex::new(BTreeMap::new());

fn held() -> MutexGuard<'static, Held> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A side of a lane, this object's until it is dropped.
#[derive(Debug)]
pub(super) struct Side {
    lane: Arc<Lane>,
    role: Role,
    own: Identity,
    maker: Maker,
    follows_dead: bool,
}

impl Side {
    pub(super) fn claim(lane: &Arc<Lane>, role: Role) -> Result<Self> {
        let (own, namespace) = (identity::own()?, sys::own_namespace()?);
        let maker = Maker::here();
        // Locked until all is settled: threads of this process come one after another.
        let mut held = held();
        if held.get(&place(lane, role)) == Some(&maker) {
            return Err(Error::Misused(format!(
                "this process ({}) has a {role} of this mailbox already: use that one, or let go of it and of what it has \
                 claimed first",
                own.pid()
            )));
        }
        let known = namespace != sys::UNKNOWN_NAMESPACE;
        let is_gone = |owner: Identity| {
            Ok(known && owner.is_other_program_of(own) || identity::is_gone(owner.pid(), owner.start())?)
        };
        match owner(lane, role).claim(own, namespace, is_gone)? {
            Ok(dead) => {
                held.insert(place(lane, role), maker);
                Ok(Side { lane: lane.clone(), role, own, maker, follows_dead: dead.is_some() })
            }
            Err(Refusal::Taken(owner)) => Err(Error::Misused(format!(
                "process {} is the {role} of this mailbox and lives: it has one at a time; end that process first, \
                 or make another mailbox",
                owner.pid()
            ))),
            Err(Refusal::Elsewhere) => Err(Error::Misused(format!(
                "the {role} of this mailbox belongs to processes of another pid or time namespace, where this process cannot \
                 look for them: make another mailbox"
            ))),
        }
    }

    /// Whether the one before was killed, and may have been so in the midst of anything.
    pub(super) fn follows_dead(&self) -> bool {
        self.follows_dead
    }

    #[inline]
    pub(super) fn lane(&self) -> &Lane {
        &self.lane
    }

    /// An error in a child that was forked since: the side is the parent's.
    #[inline]
    pub(super) fn check(&self) -> Result<()> {
        match self.maker.is_here() {
            true => Ok(()),
            false => Err(self.inherited()),
        }
    }

    #[cold]
    fn inherited(&self) -> Error {
        inherited(&format!("{} of a mailbox", self.role), self.maker)
    }
}

/// The error of an object that belongs to the process that this one was forked from.
pub(crate) fn inherited(what: &str, maker: Maker) -> Error {
    let pid = maker.pid();
    Error::Misused(format!(
        "this {what} belongs to process {pid}, which made it before this process was forked: leave it to that one, and \
         make another here"
    ))
}

impl Drop for Side {
    fn drop(&mut self) {
        if self.maker.is_here() {
            let mut held = held();
            owner(&self.lane, self.role).release(self.own);
            held.remove(&place(&self.lane, self.role));
        }
    }
}

fn place(lane: &Lane, role: Role) -> (u64, usize, Role) {
    (lane.region.identity(), lane.offset, role)
}

fn owner(lane: &Lane, role: Role) -> &Owner {
    &role.own()(lane.header()).owner
}
