//! Replies that go to a call, not to `poll`: several calls may be under way at a time, beside requests that were sent.

use super::reply::{Reply, ReplyView};
use super::MailboxClient;
use crate::block::Block;
use crate::error::{Error, Result};
use crate::protocol::frame::Finished;

/// A request whose reply goes to a call, not to `poll`.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) ticket: u64,
    pub(super) reply: Option<Reply>,
    /// Nobody waits for it any more.
    pub(super) abandoned: bool,
    /// What the request refers to: released when its reply is taken, or dropped.
    pub(super) block: Option<Block>,
}

impl Call {
    pub(super) fn new(ticket: u64, abandoned: bool) -> Self {
        Call { ticket, reply: None, abandoned, block: None }
    }
}

impl MailboxClient {
    /// From now on the reply to `ticket`, just sent, is for [`MailboxClient::take_reply`], and not for `poll`.
    pub fn expect_reply(&mut self, ticket: u64) {
        self.calls.push(Call::new(ticket, false));
    }

    /// The request with `ticket`, whose reply is expected, refers to a block: it is released when the server, that has
    /// replied, no longer looks at it.
    pub fn keep_until_reply(&mut self, ticket: u64, block: Block) {
        match self.calls.iter_mut().find(|call| call.ticket == ticket) {
            Some(call) => call.block = Some(block),
            None => self.calls.push(Call { block: Some(block), ..Call::new(ticket, true) }),
        }
    }

    /// Whether requests without a reply yet refer to blocks.
    pub(crate) fn holds_blocks(&self) -> bool {
        self.calls.iter().any(|call| call.block.is_some() && call.reply.is_none())
    }

    /// The reply to a call, if it is there. Replies that come before it are put where they belong.
    ///
    /// # Errors
    /// [`Error::Corrupted`]; [`Error::Misused`] if no call has that ticket, or its reply was taken before it was expected.
    pub fn take_reply(&mut self, ticket: u64) -> Result<Option<Reply>> {
        self.take_reply_with(ticket, |view| view.to_reply(), |reply| reply)
    }

    /// As [`MailboxClient::take_reply`], reading the reply in its frame if it is still there.
    ///
    /// # Errors
    /// As [`MailboxClient::take_reply`].
    pub fn take_reply_with<T>(
        &mut self,
        ticket: u64,
        in_frame: impl FnOnce(ReplyView<'_>) -> T,
        kept: impl FnOnce(Reply) -> T,
    ) -> Result<Option<T>> {
        self.side.check()?;
        let Some(call) = self.calls.iter().position(|call| call.ticket == ticket) else {
            return Err(Error::Misused(format!("no call with ticket {ticket} is in flight")));
        };
        if let Some(reply) = self.calls[call].reply.take() {
            self.calls.swap_remove(call);
            return Ok(Some(kept(reply)));
        }
        if !(self.oldest.ticket..self.next.ticket).contains(&ticket) {
            self.calls.retain(|call| call.ticket != ticket);
            return Err(Error::Misused(format!("no request with ticket {ticket} is in flight: its reply is taken")));
        }
        while self.oldest.ticket < ticket {
            if !self.make_room()? {
                return Ok(None);
            }
        }
        let Some(finished) = self.oldest_reply()? else { return Ok(None) };
        self.calls.retain(|call| call.ticket != ticket);
        Ok(Some(self.take_oldest(finished, in_frame)))
    }

    /// Nobody waits for a call's reply any more: it is cancelled if the server has not taken it, and its reply dropped.
    ///
    /// # Errors
    /// As [`MailboxClient::cancel`].
    pub fn abandon(&mut self, ticket: u64) -> Result<()> {
        self.side.check()?;
        let Some(call) = self.calls.iter().position(|call| call.ticket == ticket) else { return Ok(()) };
        if self.calls[call].reply.is_some() {
            self.calls.swap_remove(call);
            return Ok(());
        }
        self.calls[call].abandoned = true;
        self.cancel(ticket).map(|_| ())
    }

    /// Takes the oldest reply, if it is there, out of its frame and keeps it for whom it is for: whether it was there.
    ///
    /// # Errors
    /// [`Error::Corrupted`].
    pub fn make_room(&mut self) -> Result<bool> {
        self.side.check()?;
        let Some(finished) = self.oldest_reply()? else { return Ok(false) };
        self.sort_oldest(finished);
        Ok(true)
    }

    #[inline]
    pub(super) fn is_call(&self, ticket: u64) -> bool {
        !self.calls.is_empty() && self.calls.iter().any(|call| call.ticket == ticket)
    }

    /// Takes the oldest reply, which is there, out of its frame and keeps it for whom it is for.
    pub(super) fn sort_oldest(&mut self, finished: Finished) {
        let reply = self.take_oldest(finished, |view| view.to_reply());
        match self.calls.iter().position(|call| call.ticket == reply.ticket) {
            None => self.kept.push_back(reply),
            Some(call) if self.calls[call].abandoned => drop(self.calls.swap_remove(call)),
            Some(call) => self.calls[call].reply = Some(reply),
        }
    }

    /// Frees the frames of abandoned calls that stand in front.
    pub(super) fn drop_abandoned(&mut self) -> Result<()> {
        while let Some(finished) = self.oldest_reply()? {
            if !self.calls.iter().any(|call| call.abandoned && call.ticket == self.oldest.ticket) {
                break;
            }
            self.sort_oldest(finished);
        }
        Ok(())
    }
}
