//! Which object of which process has a side of a mailbox.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Lane;
use crate::error::{Error, Result};
use crate::identity::{self, Identity};
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
/// child those of the parent stand here as well. To the lane, a program that the process has replaced itself by (exec) is
/// the one before; this tells that nothing is left of what that one had. And the lane is the peer's to write: whatever it
/// says, this process has no side twice.
pub(crate) type Held = BTreeMap<(u64, usize, Role), Identity>;
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
    follows_dead: bool,
}

impl Side {
    pub(super) fn claim(lane: &Arc<Lane>, role: Role) -> Result<Self> {
        let (own, namespace) = (identity::own()?, sys::own_pid_namespace()?);
        // Locked until all is settled: threads of this process come one after another.
        let mut held = held();
        if held.get(&place(lane, role)) == Some(&own) {
            return Err(Error::Misused(format!(
                "this process ({}) has a {role} of this mailbox already: use that one, or let go of it and of what it has \
                 claimed first",
                own.pid
            )));
        }
        let is_gone = |owner| if owner == own { Ok(true) } else { identity::is_gone(owner) };
        match owner(lane, role).claim(own, namespace, is_gone)? {
            Ok(dead) => {
                held.insert(place(lane, role), own);
                Ok(Side { lane: lane.clone(), role, own, follows_dead: dead.is_some() })
            }
            Err(Refusal::Taken(Identity { pid, .. })) => Err(Error::Misused(format!(
                "process {pid} is the {role} of this mailbox and lives: it has one at a time; end that process first, \
                 or make another mailbox"
            ))),
            Err(Refusal::Elsewhere) => Err(Error::Misused(format!(
                "the {role} of this mailbox belongs to processes of another pid namespace, where this process cannot \
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
        match self.own.pid == sys::current_pid() {
            true => Ok(()),
            false => Err(self.inherited()),
        }
    }

    #[cold]
    fn inherited(&self) -> Error {
        inherited(&format!("{} of a mailbox", self.role), self.own.pid)
    }
}

/// The error of an object that belongs to the process that this one was forked from.
pub(crate) fn inherited(what: &str, pid: i32) -> Error {
    Error::Misused(format!(
        "this {what} belongs to process {pid}, which made it before this process was forked: leave it to that one, and \
         make another here"
    ))
}

impl Drop for Side {
    fn drop(&mut self) {
        if self.own.pid == sys::current_pid() {
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
