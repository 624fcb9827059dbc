//! Wait sets: one wait for any of many mailboxes, through the doorbell they share, and for the peers behind them; and a
//! harvest of what has come, fair to all.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::doorbell::Doorbell;
use crate::error::{Error, Result};
use crate::mailbox::{MailboxClient, Reply};
use crate::peer::Peer;
use crate::wait::{wait_for, Patience};
use crate::watched::Watched;

/// One wait for whatever rings a doorbell and for the death of any watched peer.
#[derive(Debug)]
pub struct WaitSet {
    watched: Watched,
    next_source: AtomicUsize,
}

impl WaitSet {
    /// `doorbell` is the one the mailbox clients were made with.
    pub fn new(doorbell: Doorbell) -> Self {
        WaitSet { watched: Watched::new(doorbell), next_source: AtomicUsize::new(0) }
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
        self.wait_or_death(seen, patience).map(|_| self.doorbell().value())
    }

    /// As [`WaitSet::wait`]: the peer, if it was a death that ended the wait.
    ///
    /// # Errors
    /// As [`WaitSet::wait`].
    pub fn wait_or_death(&self, seen: u32, patience: &mut Patience<'_>) -> Result<Option<Peer>> {
        let doorbell = self.watched.doorbell();
        let changed = || Ok(doorbell.changed_from(seen));
        doorbell.spin().prepare_for_anyone();
        let mut death = None;
        let waited = wait_for(doorbell.bell(), doorbell.spin(), patience, "a doorbell to ring", changed, || {
            death = self.watched.next_death()?;
            match death {
                Some(_) => Err(Error::Interrupted),
                None => Ok(()),
            }
        });
        match (waited, death) {
            (Err(Error::Interrupted), Some(peer)) => Ok(Some(peer)),
            (Ok(_), Some(peer)) => {
                self.watched.unreport(&peer);
                Ok(None)
            }
            (waited, _) => waited.map(|_| None),
        }
    }

    /// The death that ended a wait came at a bad time: it ends another.
    pub fn unreport(&self, peer: &Peer) {
        self.watched.unreport(peer);
    }

    /// The doorbell.
    pub fn doorbell(&self) -> &Doorbell {
        self.watched.doorbell()
    }

    /// The replies that are there, up to `limit`, waiting until there is one: each with the number of its client.
    ///
    /// Fair: the clients are asked in turn for one reply each, beginning behind the one that was last served.
    ///
    /// # Errors
    /// [`Error::PeerDied`], once for each watched peer that dies, when no reply is left; [`Error::Misused`] for a client
    /// that waits elsewhere; as [`WaitSet::wait`] and [`MailboxClient::poll`].
    pub fn harvest(
        &self,
        clients: &mut [MailboxClient],
        limit: usize,
        patience: &mut Patience<'_>,
    ) -> Result<Vec<(usize, Reply)>> {
        if let Some(stray) = clients.iter().position(|client| !client.waits_at(self.doorbell())) {
            return Err(Error::Misused(format!("client {stray} does not wait at this wait set's doorbell")));
        }
        loop {
            let seen = self.doorbell().value();
            let replies = self.sweep(clients.len(), limit, |client| clients[client].poll())?;
            if !replies.is_empty() {
                return Ok(replies);
            }
            if let Some(peer) = self.wait_or_death(seen, patience)? {
                let last = self.sweep(clients.len(), limit, |client| clients[client].poll())?;
                if last.is_empty() {
                    return Err(peer.death());
                }
                self.watched.unreport(&peer);
                return Ok(last);
            }
        }
    }

    /// Asks `count` sources in turn for one thing each, beginning behind the one that last gave something, until none
    /// has anything or `limit` is reached: what they gave, with their numbers.
    ///
    /// # Errors
    /// What `take` fails with.
    pub fn sweep<T, E>(
        &self,
        count: usize,
        limit: usize,
        mut take: impl FnMut(usize) -> std::result::Result<Option<T>, E>,
    ) -> std::result::Result<Vec<(usize, T)>, E> {
        let mut taken = Vec::new();
        let mut in_vain = 0;
        let mut source = self.next_source.load(Ordering::Relaxed);
        while in_vain < count && taken.len() < limit {
            source = if source >= count { 0 } else { source };
            match take(source) {
                Ok(Some(thing)) => {
                    taken.push((source, thing));
                    in_vain = 0;
                    self.next_source.store(source + 1, Ordering::Relaxed);
                }
                Ok(None) => in_vain += 1,
                Err(error) if taken.is_empty() => return Err(error),
                // What was taken is not lost to it; the source fails again next time.
                Err(_) => break,
            }
            source += 1;
        }
        Ok(taken)
    }

    /// Forgets every peer. The watcher thread ends with the last watch of the process.
    pub fn close(&self) {
        self.watched.forget_all();
    }
}
