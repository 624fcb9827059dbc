//! Peers: other processes, each held by a descriptor that means that process and no later one with its number.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::error::{Error, Exit, Result};
use crate::sys;
use crate::wait::Patience;

/// Another process. Clones are the same peer.
#[derive(Debug, Clone)]
pub struct Peer(Arc<Process>);

#[derive(Debug)]
struct Process {
    pid: i32,
    fd: OwnedFd,
    reap: bool,
    /// Set by the watcher, before it rings.
    gone: AtomicBool,
    exit: OnceLock<Exit>,
}

impl Peer {
    /// The process that has the id `pid` now. To hold one's parent without a race, open oneself and fork.
    ///
    /// # Errors
    /// [`Error::PeerDied`] if there is none; [`Error::Os`]; [`Error::UnsupportedPlatform`].
    pub fn open(pid: i32) -> Result<Self> {
        Self::hold(pid, true)
    }

    /// As [`Peer::open`], for a child that other code started and waits for: it is left to that code to reap it. Once
    /// that has happened, how it ended is not known here unless it was asked for before.
    ///
    /// # Errors
    /// As [`Peer::open`].
    pub fn observe(pid: i32) -> Result<Self> {
        Self::hold(pid, false)
    }

    fn hold(pid: i32, reap: bool) -> Result<Self> {
        let (gone, exit) = (AtomicBool::new(false), OnceLock::new());
        match sys::process_open(pid)? {
            Some(fd) => Ok(Peer(Arc::new(Process { pid, fd, reap, gone, exit }))),
            None => Err(Error::PeerDied { pid, exit: Exit { status: None, signal: None } }),
        }
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.0.pid
    }

    /// How it ended; `None` while it runs. Reaps it if it is a child of this process (unless it is only observed), and
    /// remembers.
    ///
    /// # Errors
    /// [`Error::Os`].
    pub fn died(&self) -> Result<Option<Exit>> {
        if let Some(exit) = self.0.exit.get() {
            return Ok(Some(*exit));
        }
        let exit = sys::process_exit(self.fd(), self.0.reap)?;
        // If another thread was faster, its answer stands: the second of two to reap learns nothing.
        Ok(exit.map(|exit| *self.0.exit.get_or_init(|| exit)))
    }

    /// Sleeps until it ends.
    ///
    /// # Errors
    /// [`Error::WaitTimeout`], [`Error::Interrupted`], [`Error::Os`].
    pub fn wait(&self, patience: &mut Patience<'_>) -> Result<Exit> {
        loop {
            if let Some(exit) = self.died()? {
                return Ok(exit);
            }
            let sleep = patience.next_sleep("a process to exit")?;
            sys::poll_readable(&[self.fd()], sleep)?;
        }
    }

    /// Sends a signal, never to another process that got its number; nothing happens if it is gone.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a number that is no signal; [`Error::Os`] when it is not allowed.
    pub fn kill(&self, signal: i32) -> Result<()> {
        sys::process_signal(self.fd(), signal)
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }

    pub(crate) fn is(&self, other: &Peer) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn set_gone(&self) {
        self.0.gone.store(true, Ordering::Release);
    }

    /// Whether a watcher has seen it go: no system call.
    pub(crate) fn is_gone(&self) -> bool {
        self.0.gone.load(Ordering::Acquire)
    }

    /// The error to raise for it.
    pub(crate) fn death(&self) -> Error {
        match self.died() {
            Ok(Some(exit)) => Error::PeerDied { pid: self.pid(), exit },
            // Its descriptor said that it is gone; nothing more is to be had.
            Ok(None) => Error::PeerDied { pid: self.pid(), exit: Exit { status: None, signal: None } },
            Err(error) => error,
        }
    }
}

/// The status that [`exit_with`] leaves with.
pub const ORPHANED: i32 = 1;

/// Ends this process with status [`ORPHANED`] as soon as `peer` has ended, whatever its other threads are doing.
///
/// For forked children, which are to end with their parent. A thread that sleeps until then does it; it is not
/// inherited by further forks.
///
/// # Errors
/// [`Error::Os`] if the thread cannot be started; [`Error::UnsupportedPlatform`].
pub fn exit_with(peer: &Peer) -> Result<()> {
    let peer = peer.clone();
    let body = move || loop {
        match sys::poll_readable(&[peer.fd()], None) {
            Ok(Some(_)) => sys::exit_now(ORPHANED),
            Ok(None) => {}
            // Out of memory in the kernel, at worst: try again, but do not spin.
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
        }
    };
    sys::Thread::spawn(c"ipc-exit-with", body)?;
    Ok(())
}
