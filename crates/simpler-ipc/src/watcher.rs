//! The watcher: one thread a process, asleep on the descriptors of all watched peers, that rings a doorbell for each
//! death.
//!
//! It starts with the first watch and ends with the last. A forked child has none; what it inherited from its
//! parent's is never touched there (a lock in it may have been held when the fork happened), only replaced.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};

use crate::doorbell::{Doorbell, WeakDoorbell};
use crate::error::{Error, Result};
use crate::identity::Maker;
use crate::peer::Peer;
use crate::sys;

/// Not an owner: watches and the thread are, so that nothing stays open when they are gone.
#[derive(Debug)]
pub(crate) struct Current(Weak<Watcher>);

pub(crate) static CURRENT: Mutex<Current> = Mutex::new(Current(Weak::new()));

#[derive(Debug)]
struct Watcher {
    maker: Maker,
    nudge: sys::Nudge,
    watches: Mutex<Watches>,
    failure: OnceLock<String>,
}

#[derive(Debug, Default)]
struct Watches {
    entries: Vec<Entry>,
    next_id: u64,
    /// Nothing is added any more: the thread is leaving.
    ended: bool,
    thread: Option<sys::Thread>,
}

#[derive(Debug)]
struct Entry {
    id: u64,
    peer: Peer,
    doorbell: WeakDoorbell,
}

/// A peer being watched, until this is dropped.
#[derive(Debug)]
pub(crate) struct Watch {
    watcher: Arc<Watcher>,
    id: u64,
}

impl Watch {
    /// When `peer` ends (or at once if it has), it is marked gone and `doorbell` rings.
    pub(crate) fn start(peer: &Peer, doorbell: &Doorbell) -> Result<Self> {
        let mut current = CURRENT.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watcher) = current.0.upgrade().filter(|watcher| watcher.is_here()) {
            if let Some(id) = watcher.add(peer, doorbell)? {
                return Ok(Watch { watcher, id });
            }
        }
        let watcher = Watcher::start(peer, doorbell)?;
        current.0 = Arc::downgrade(&watcher);
        Ok(Watch { watcher, id: 0 })
    }

    /// Whether the thread is in this process: not so in a child forked since.
    pub(crate) fn is_here(&self) -> bool {
        self.watcher.is_here()
    }

    /// An error if the watcher had to give up.
    pub(crate) fn check(&self) -> Result<()> {
        match self.watcher.failure.get() {
            None => Ok(()),
            Some(failure) => Err(Error::os("watching processes", std::io::Error::other(failure.clone()))),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        if self.is_here() {
            self.watcher.remove(self.id);
        }
    }
}

impl Watcher {
    fn start(peer: &Peer, doorbell: &Doorbell) -> Result<Arc<Self>> {
        let first = Entry { id: 0, peer: peer.clone(), doorbell: doorbell.downgrade() };
        let watcher = Arc::new(Watcher {
            maker: Maker::here(),
            nudge: sys::Nudge::new()?,
            watches: Mutex::new(Watches { entries: vec![first], next_id: 1, ..Watches::default() }),
            failure: OnceLock::new(),
        });
        // Locked, so that the thread is on record before it can leave.
        let mut watches = watcher.lock();
        let body = watcher.clone();
        watches.thread = Some(sys::Thread::spawn(c"ipc-watcher", move || body.run())?);
        drop(watches);
        Ok(watcher)
    }

    fn is_here(&self) -> bool {
        self.maker.is_here()
    }

    fn lock(&self) -> MutexGuard<'_, Watches> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The new entry's id; `None` if the thread is leaving.
    fn add(&self, peer: &Peer, doorbell: &Doorbell) -> Result<Option<u64>> {
        let mut watches = self.lock();
        if watches.ended {
            return Ok(None);
        }
        self.nudge.nudge()?;
        let id = watches.next_id;
        watches.next_id += 1;
        watches.entries.push(Entry { id, peer: peer.clone(), doorbell: doorbell.downgrade() });
        Ok(Some(id))
    }

    fn remove(&self, id: u64) {
        let mut watches = self.lock();
        watches.entries.retain(|entry| entry.id != id);
        if !watches.entries.is_empty() {
            // The peer's descriptor may stay in the thread's poll until it next wakes: it holds a clone of the peer.
            return;
        }
        // It may be leaving by itself already: what it holds is to be gone when this returns all the same.
        let leaving = std::mem::replace(&mut watches.ended, true);
        let thread = watches.thread.take();
        drop(watches);
        // The thread needs no lock but ours and no other thread, so this join is short.
        if let (true, Some(thread)) = (leaving || self.nudge.nudge().is_ok(), thread) {
            thread.join();
        }
    }

    fn run(&self) {
        loop {
            let peers: Vec<Peer> = {
                let mut watches = self.lock();
                if watches.entries.is_empty() {
                    watches.ended = true;
                }
                if watches.ended {
                    return;
                }
                watches.entries.iter().map(|entry| entry.peer.clone()).collect()
            };
            let fds: Vec<BorrowedFd<'_>> =
                std::iter::once(self.nudge.as_fd()).chain(peers.iter().map(Peer::fd)).collect();
            let ready = match sys::poll_readable(&fds, None).and_then(|ready| self.nudge.reset().map(|()| ready)) {
                Ok(ready) => ready.unwrap_or_default(),
                Err(error) => return self.give_up(&error),
            };
            for (peer, _) in peers.iter().zip(ready.iter().skip(1)).filter(|(_, gone)| **gone) {
                peer.set_gone();
            }
            self.ring_for(|peer| peer.is_gone());
        }
    }

    /// Takes the entries of those peers off and rings their doorbells.
    fn ring_for(&self, chosen: impl Fn(&Peer) -> bool) {
        let taken: Vec<Entry> = {
            let mut watches = self.lock();
            let (taken, kept) = std::mem::take(&mut watches.entries).into_iter().partition(|entry| chosen(&entry.peer));
            watches.entries = kept;
            taken
        };
        for entry in taken {
            entry.doorbell.ring();
        }
    }

    fn give_up(&self, error: &Error) {
        // Set once: this thread is the only one to set it, and it ends here.
        let _ = self.failure.set(error.to_string());
        self.lock().ended = true;
        self.ring_for(|_| true);
    }
}
