//! Peers whose death ends the waits of one object: a side of a mailbox, a wait set, a heap ring.

use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use crate::doorbell::Doorbell;
use crate::error::{Error, Result};
use crate::identity::Maker;
use crate::peer::Peer;
use crate::watcher::Watch;

/// Peers whose death rings a doorbell.
#[derive(Debug)]
pub(crate) struct Watched {
    maker: Maker,
    doorbell: Doorbell,
    peers: Mutex<Vec<WatchedPeer>>,
}

#[derive(Debug)]
struct WatchedPeer {
    peer: Peer,
    watch: Watch,
    reported: bool,
}

/// Together half a second.
const LOOKS_AT_INHERITED: u32 = 5000;
const LOOK_AGAIN_AFTER: Duration = Duration::from_micros(100);

impl Watched {
    pub(crate) fn new(doorbell: Doorbell) -> Self {
        Watched { maker: Maker::here(), doorbell, peers: Mutex::new(Vec::new()) }
    }

    /// The process that made this.
    pub(crate) fn maker(&self) -> Maker {
        self.maker
    }

    /// Whether that is this one: not so in a child forked since.
    #[inline]
    pub(crate) fn is_here(&self) -> bool {
        self.maker.is_here()
    }

    pub(crate) fn doorbell(&self) -> &Doorbell {
        &self.doorbell
    }

    pub(crate) fn watch(&self, peer: &Peer) -> Result<()> {
        let mut peers = self.lock()?;
        if !peers.iter().any(|watched| watched.peer.is(peer)) {
            let watch = Watch::start(peer, &self.doorbell)?;
            peers.push(WatchedPeer { peer: peer.clone(), watch, reported: false });
        }
        Ok(())
    }

    pub(crate) fn forget(&self, peer: &Peer) {
        // What an inherited lock keeps from us is watched by nobody here.
        if let Ok(mut peers) = self.lock() {
            peers.retain(|watched| !watched.peer.is(peer));
        }
    }

    pub(crate) fn forget_all(&self) {
        if let Ok(mut peers) = self.lock() {
            peers.clear();
        }
    }

    /// The error of the first peer found dead.
    pub(crate) fn check(&self) -> Result<()> {
        for watched in self.lock()?.iter_mut() {
            self.keep_watching(watched)?;
            if watched.peer.is_gone() {
                return Err(watched.peer.death());
            }
        }
        Ok(())
    }

    /// A peer found dead that was not reported before: reported now.
    pub(crate) fn next_death(&self) -> Result<Option<Peer>> {
        for watched in self.lock()?.iter_mut() {
            self.keep_watching(watched)?;
            if watched.peer.is_gone() && !watched.reported {
                watched.reported = true;
                return Ok(Some(watched.peer.clone()));
            }
        }
        Ok(None)
    }

    /// Its report came at a bad time: it is reported again.
    pub(crate) fn unreport(&self, peer: &Peer) {
        if let Ok(mut peers) = self.lock() {
            for watched in peers.iter_mut().filter(|watched| watched.peer.is(peer)) {
                watched.reported = false;
            }
        }
    }

    fn keep_watching(&self, watched: &mut WatchedPeer) -> Result<()> {
        if !watched.watch.is_here() {
            watched.watch = Watch::start(&watched.peer, &self.doorbell)?;
        }
        watched.watch.check()
    }

    fn lock(&self) -> Result<MutexGuard<'_, Vec<WatchedPeer>>> {
        match self.peers.try_lock() {
            Ok(peers) => Ok(peers),
            Err(TryLockError::Poisoned(peers)) => Ok(peers.into_inner()),
            Err(TryLockError::WouldBlock) if !self.is_here() => self.lock_inherited(),
            Err(TryLockError::WouldBlock) => Ok(self.peers.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }

    /// A thread of this process has it, for some microseconds; or one of the parent had it when this process was forked, which
    /// is not here to let go of it.
    #[cold]
    fn lock_inherited(&self) -> Result<MutexGuard<'_, Vec<WatchedPeer>>> {
        for _ in 0..LOOKS_AT_INHERITED {
            match self.peers.try_lock() {
                Ok(peers) => return Ok(peers),
                Err(TryLockError::Poisoned(peers)) => return Ok(peers.into_inner()),
                Err(TryLockError::WouldBlock) => std::thread::sleep(LOOK_AGAIN_AFTER),
            }
        }
        Err(Error::Misused(
            "a thread of the parent was using this object when this process was forked: make another here".to_owned(),
        ))
    }
}
