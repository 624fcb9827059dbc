//! Which process has something in shared memory, and whether it still lives.

use std::os::fd::AsFd;
use std::time::Duration;

use crate::error::Result;
pub(crate) use crate::protocol::owner::Identity;
use crate::sys;

/// This process.
pub(crate) fn own() -> Result<Identity> {
    Ok(Identity { pid: sys::current_pid(), start_time: sys::own_start_time()? })
}

/// Whether a process of this pid namespace has ended; one that was not reaped yet has. Where it cannot be told whether
/// the one that has its id now is a later one, it is taken for alive.
pub(crate) fn is_gone(process: Identity) -> Result<bool> {
    let Identity { pid, start_time } = process;
    // Held by a descriptor before it is asked for: its number may go to another one meanwhile.
    let Some(held) = sys::process_open(pid)? else { return Ok(true) };
    if sys::poll_readable(&[held.as_fd()], Some(Duration::ZERO))?.is_some_and(|ended| ended[0]) {
        return Ok(true);
    }
    if start_time == 0 || !sys::proc_is_own() {
        return Ok(false);
    }
    // None: /proc hides other users' processes.
    Ok(sys::process_start_time(pid)?.is_some_and(|started| started != start_time))
}
