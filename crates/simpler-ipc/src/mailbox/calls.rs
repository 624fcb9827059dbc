//! Replies that go to a call, not to `poll`: several calls may be under way at a time, beside requests that were sent.

use std::collections::btree_map::Entry;

use super::client::not_in_flight;
use super::reply::{Reply, ReplyView};
use super::MailboxClient;
use crate::block::Block;
use crate::error::{Error, Result};
use crate::protocol::frame::Finished;

/// A request whose reply goes to a call, not to `poll`.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) reply: Option<Reply>,
    /// Nobody waits for it any more.
    pub(super) abandoned: bool,
    /// What the request refers to: released when its reply is taken, or dropped.
    pub(super) block: Option<Block>,
}

impl Call {
    pub(super) fn new(abandoned: bool) -> Self {
        Call { reply: None, abandoned, block: None }
    }
}

impl MailboxClient {
    /// From now on the reply to `ticket`, just sent, is for [`MailboxClient::take_reply`], and not for `poll`.
    pub fn expect_reply(&mut self, ticket: u64) {
        self.calls.entry(ticket).or_insert(Call::new(false));
    }

    /// The request with `ticket`, whose reply is expected, refers to a block: it is released when the server, that has
    /// replied, no longer looks at it.
    ///
    /// # Errors
    /// [`Error::Misused`] if no request with that ticket is in flight: the block is released then.
    pub fn keep_until_reply(&mut self, ticket: u64, block: Block) -> Result<()> {
        self.side.check()?;
        if self.calls.get(&ticket).is_some_and(|call| call.reply.is_some()) {
            return Ok(()); // the server has replied already
        }
        if !self.is_in_lane(ticket) {
            return Err(not_in_flight(ticket));
        }
        self.calls.entry(ticket).or_insert(Call::new(true)).block = Some(block);
        Ok(())
    }

    /// Whether requests without a reply yet refer to blocks.
    pub(crate) fn holds_blocks(&self) -> bool {
        self.calls.values().any(|call| call.block.is_some() && call.reply.is_none())
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
        let Entry::Occupied(mut call) = self.calls.entry(ticket) else {
            return Err(Error::Misused(format!("no call with ticket {ticket} is in flight")));
        };
        if let Some(reply) = call.get_mut().reply.take() {
            call.remove();
            return Ok(Some(kept(reply)));
        }
        if !self.is_in_lane(ticket) {
            self.calls.remove(&ticket);
            return Err(Error::Misused(format!("no request with ticket {ticket} is in flight: its reply is taken")));
        }
        while self.oldest.ticket < ticket {
            if !self.make_room()? {
                return Ok(None);
            }
        }
        let Some(finished) = self.oldest_reply()? else { return Ok(None) };
        self.calls.remove(&ticket);
        Ok(Some(self.take_oldest(finished, in_frame)))
    }

    /// Nobody waits for a call's reply any more: it is cancelled if the server has not taken it, and its reply dropped.
    ///
    /// # Errors
    /// [`Error::Misused`] in a forked child: the call is its parent's.
    pub fn abandon(&mut self, ticket: u64) -> Result<()> {
        self.side.check()?;
        let in_lane = self.is_in_lane(ticket);
        if let Entry::Occupied(mut call) = self.calls.entry(ticket) {
            if call.get().reply.is_some() || !in_lane {
                call.remove();
                return Ok(());
            }
            call.get_mut().abandoned = true;
            self.cancel_unheard(ticket);
        }
        Ok(())
    }

    /// Cancels what its caller has given up, for a reason of his own: that the server cannot be woken from here is no
    /// news to him, and must not hide that reason.
    pub(super) fn cancel_unheard(&mut self, ticket: u64) {
        let _ = self.cancel(ticket);
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
        !self.calls.is_empty() && self.calls.contains_key(&ticket)
    }

    /// Takes the oldest reply, which is there, out of its frame and keeps it for whom it is for.
    pub(super) fn sort_oldest(&mut self, finished: Finished) {
        let reply = self.take_oldest(finished, |view| view.to_reply());
        match self.calls.entry(reply.ticket) {
            Entry::Vacant(_) => self.kept.push_back(reply),
            Entry::Occupied(call) if call.get().abandoned => drop(call.remove()),
            Entry::Occupied(mut call) => call.get_mut().reply = Some(reply),
        }
    }

    /// Frees the frames of abandoned calls that stand in front.
    pub(super) fn drop_abandoned(&mut self) -> Result<()> {
        while let Some(finished) = self.oldest_reply()? {
            if !self.calls.get(&self.oldest.ticket).is_some_and(|call| call.abandoned) {
                break;
            }
            self.sort_oldest(finished);
        }
        Ok(())
    }
}
