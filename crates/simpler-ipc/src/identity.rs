//! Which process has something, in shared memory or by descent, and whether it still lives.

use std::os::fd::AsFd;
use std::time::Duration;

use crate::error::Result;
pub(crate) use crate::protocol::owner::{Identity, Start};
use crate::sys;

/// This process.
pub(crate) fn own() -> Result<Identity> {
    Ok(Identity::new(sys::current_pid(), sys::own_start_time()?, sys::own_program()))
}

/// Whether a process of this pid namespace has ended; one that was not reaped yet has. Where it cannot be told whether
/// the one that has its id now is a later one, it is taken for alive; so are all where it cannot be told of which namespace
/// they are, as processes of another one may have written their ids, too.
pub(crate) fn is_gone(pid: i32, start: Start) -> Result<bool> {
    if sys::own_namespace()? == sys::UNKNOWN_NAMESPACE {
        return Ok(false);
    }
    // Held by a descriptor before it is asked for: its number may go to another one meanwhile.
    let Some(held) = sys::process_open(pid)? else { return Ok(true) };
    if sys::poll_readable(&[held.as_fd()], Some(Duration::ZERO))?.is_some_and(|ended| ended[0]) {
        return Ok(true);
    }
    if !start.is_known() || !sys::proc_is_own() {
        return Ok(false);
    }
    // None: /proc hides other users' processes.
    Ok(sys::process_start_time(pid)?.is_some_and(|started| !start.may_be(started)))
}

/// The process that made an object of this library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Maker {
    generation: u64,
    pid: i32,
}

impl Maker {
    /// This process.
    pub(crate) fn here() -> Self {
        Maker { generation: sys::generation(), pid: sys::current_pid() }
    }

    /// Whether it is this process: not so in a child that was forked since, whatever their ids.
    #[inline]
    pub(crate) fn is_here(self) -> bool {
        self.generation == sys::generation()
    }

    /// Its process id.
    pub(crate) fn pid(self) -> i32 {
        self.pid
    }
}
