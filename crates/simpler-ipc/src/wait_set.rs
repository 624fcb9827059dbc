//! Wait sets: one wait for any of many mailboxes, through the doorbell they share, and for the peers behind them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::doorbell::Doorbell;
use crate::error::{Error, Result};
use crate::peer::Peer;
use crate::wait::{wait_for, Patience};
use crate::watcher::Watch;

/// Peers whose death rings a doorbell.
#[derive(Debug)]
pub(crate) struct Watched {
    doorbell: Doorbell,
    peers: Mutex<Vec<WatchedPeer>>,
}

#[derive(Debug)]
struct WatchedPeer {
    peer: Peer,
    watch: Watch,
    reported: bool,
}

impl Watched {
    pub(crate) fn new(doorbell: Doorbell) -> Self {
        Watched { doorbell, peers: Mutex::new(Vec::new()) }
    }

    pub(crate) fn doorbell(&self) -> &Doorbell {
        &self.doorbell
    }

    pub(crate) fn watch(&self, peer: &Peer) -> Result<()> {
        let mut peers = self.lock();
        if !peers.iter().any(|watched| watched.peer.is(peer)) {
            let watch = Watch::start(peer, &self.doorbell)?;
            peers.push(WatchedPeer { peer: peer.clone(), watch, reported: false });
        }
        Ok(())
    }

    pub(crate) fn forget(&self, peer: &Peer) {
        self.lock().retain(|watched| !watched.peer.is(peer));
    }

    pub(crate) fn forget_all(&self) {
        self.lock().clear();
    }

    /// The error of the first peer found dead.
    pub(crate) fn check(&self) -> Result<()> {
        for watched in self.lock().iter_mut() {
            self.keep_watching(watched)?;
            if watched.peer.is_gone() {
                return Err(watched.peer.death());
            }
        }
        Ok(())
    }

    /// Whether a peer is found dead that was not before.
    fn is_news(&self) -> Result<bool> {
        let mut news = false;
        for watched in self.lock().iter_mut() {
            self.keep_watching(watched)?;
            if watched.peer.is_gone() && !watched.reported {
                watched.reported = true;
                news = true;
            }
        }
        Ok(news)
    }

    fn keep_watching(&self, watched: &mut WatchedPeer) -> Result<()> {
        if !watched.watch.is_here() {
            watched.watch = Watch::start(&watched.peer, &self.doorbell)?;
        }
        watched.watch.check()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<WatchedPeer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One wait for whatever rings a doorbell and for the death of any watched peer.
#[derive(Debug)]
pub struct WaitSet {
    watched: Watched,
}

impl WaitSet {
    /// `doorbell` is the one the mailbox clients were made with.
    pub fn new(doorbell: Doorbell) -> Self {
        WaitSet { watched: Watched::new(doorbell) }
    }

    /// From now on the death of `peer` ends a wait, once.
    ///
    /// # Errors
    /// [`Error::Os`] if the watcher thread cannot be started.
    pub fn watch(&self, peer: &Peer) -> Result<()> {
        self.watched.watch(peer)
    }

    /// Ends what [`WaitSet::watch`] began.
    pub fn forget(&self, peer: &Peer) {
        self.watched.forget(peer);
    }

    /// Waits until the doorbell's count is other than `seen`, or a watched peer is found dead that was not before
    /// (ask the peers): the count then.
    ///
    /// # Errors
    /// [`Error::WaitTimeout`], [`Error::Interrupted`], [`Error::Os`] if peers can no longer be watched.
    pub fn wait(&self, seen: u32, patience: &mut Patience<'_>) -> Result<u32> {
        let doorbell = self.watched.doorbell();
        let changed = || Ok(doorbell.changed_from(seen));
        let mut news = false;
        let waited = wait_for(doorbell.bell(), doorbell.spin(), patience, "a doorbell to ring", changed, || {
            news = self.watched.is_news()?;
            if news {
                Err(Error::Interrupted)
            } else {
                Ok(())
            }
        });
        match waited {
            Err(Error::Interrupted) if news => Ok(doorbell.value()),
            waited => waited,
        }
    }

    /// Forgets every peer. The watcher thread ends with the last watch of the process.
    pub fn close(&self) {
        self.watched.forget_all();
    }
}
