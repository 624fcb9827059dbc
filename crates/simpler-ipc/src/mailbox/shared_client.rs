//! One client for the threads of a process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{MailboxClient, Reply, ReplyWaiter};
use crate::error::Result;
use crate::protocol::frame::Kind;
use crate::wait::Patience;

/// A [`MailboxClient`] that several threads call through at a time, each getting its own replies. Clones are the same
/// client. Nobody holds its lock while waiting.
#[derive(Debug, Clone)]
pub struct SharedClient {
    client: Arc<Mutex<MailboxClient>>,
    waiter: Arc<ReplyWaiter>,
}

impl SharedClient {
    /// Shares a client.
    pub fn new(client: MailboxClient) -> Self {
        let waiter = client.waiter();
        SharedClient { client: Arc::new(Mutex::new(client)), waiter }
    }

    /// As [`MailboxClient::call`].
    ///
    /// # Errors
    /// As [`MailboxClient::call`].
    pub fn call(&self, kind: Kind, payload: &[u8], patience: &mut Patience<'_>) -> Result<Reply> {
        let ticket = loop {
            let mut client = self.lock()?;
            if let Some(ticket) = client.send(kind, payload)? {
                client.expect_reply(ticket);
                break ticket;
            }
            drop(client);
            self.waiter.wait_for_room(patience)?;
            self.lock()?.make_room()?;
        };
        loop {
            if let Err(error) = self.waiter.wait_for(ticket, patience) {
                self.lock()?.abandon(ticket)?;
                return Err(error);
            }
            if let Some(reply) = self.lock()?.take_reply(ticket)? {
                return Ok(reply);
            }
        }
    }

    /// The client, for one thread at a time: to send, to poll, to cancel.
    ///
    /// # Errors
    /// [`Error::Misused`](crate::Error::Misused) in a forked child, where a thread of the parent may have it locked for ever.
    pub fn lock(&self) -> Result<MutexGuard<'_, MailboxClient>> {
        self.waiter.check_here()?;
        Ok(self.client.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
