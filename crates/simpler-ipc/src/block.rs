//! Payloads that are larger than a frame: in a block of a heap ring, with a reference to it in the frame.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::heap_ring::HeapRing;
use crate::identity::Maker;
use crate::mailbox::{MailboxClient, Reply, ReplyWaiter, Request};
use crate::plain::{bytes_of, wrong_size, Plain};
use crate::protocol::frame::Kind;
use crate::region::SharedBytes;
use crate::wait::Patience;
use crate::words;

/// What tells a reference from a payload that is none; in it, the ring.
const MAGIC: u64 = u64::from_ne_bytes(*b"smplrblk");

/// What stands in the frame instead of the payload.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct Reference {
    /// [`MAGIC`], and which ring it is: [`HeapRing::mark`].
    magic: u64,
    /// From the start of the ring's arena.
    offset: u64,
    nbytes: u64,
}

// SAFETY: repr(C), three words.
unsafe impl Plain for Reference {}

/// A block of a ring that is released when it is dropped by the process that allocated it. What a forked child inherits of
/// it is its parent's.
#[derive(Debug)]
pub struct Block {
    ring: Arc<HeapRing>,
    address: usize,
    nbytes: usize,
    maker: Maker,
}

impl Block {
    /// What a reference in a frame takes: no frame may have less.
    pub const REFERENCE_NBYTES: usize = size_of::<Reference>();

    /// A fresh block of `nbytes`, waiting for space.
    ///
    /// # Errors
    /// As [`HeapRing::alloc`].
    pub fn alloc(ring: &Arc<HeapRing>, nbytes: usize, patience: &mut Patience<'_>) -> Result<Self> {
        let address = ring.alloc(nbytes, patience)?;
        // SAFETY: it was just allocated, and its address goes nowhere else.
        Ok(unsafe { Self::adopt(ring, address, nbytes) })
    }

    /// One that was allocated before.
    ///
    /// # Safety
    /// `address` is that of a live block of the ring, of `nbytes` at least, and nobody else releases it.
    #[doc(hidden)]
    pub unsafe fn adopt(ring: &Arc<HeapRing>, address: usize, nbytes: usize) -> Self {
        Block { ring: ring.clone(), address, nbytes, maker: Maker::here() }
    }

    /// Its size.
    pub fn nbytes(&self) -> usize {
        self.nbytes
    }

    /// Its first byte: valid for reads and writes of [`Block::nbytes`] bytes, until it is sent or dropped.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.address as *mut u8
    }

    /// Copies bytes to its start.
    ///
    /// # Panics
    /// If `bytes` is longer.
    pub fn copy_from(&mut self, bytes: &[u8]) {
        assert!(bytes.len() <= self.nbytes, "{} bytes into a block of {}", bytes.len(), self.nbytes);
        // SAFETY: the block has as many bytes.
        unsafe { words::copy_in(bytes.as_ptr(), self.as_mut_ptr(), bytes.len()) }
    }

    /// What to send instead of its bytes; [`HeapRing::received`] is the other side of it.
    pub fn reference(&self) -> [u8; Self::REFERENCE_NBYTES] {
        let offset = (self.address - self.ring.arena) as u64;
        let mut bytes = [0; Self::REFERENCE_NBYTES];
        bytes.copy_from_slice(bytes_of(&Reference {
            magic: MAGIC ^ self.ring.mark(),
            offset,
            nbytes: self.nbytes as u64,
        }));
        bytes
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        if !self.maker.is_here() {
            return;
        }
        // It fails only if somebody else has released it or memory is spoilt: then there is nothing left to do.
        let _ = self.ring.release(self.address);
    }
}

/// What a request refers to, in its block. See [`HeapRing::received`].
///
/// It is copied out of there. What the client of another thread writes to a block that it has sent, against the protocol, may
/// come in between; it is no data race.
#[derive(Debug, Clone, Copy)]
pub struct BlockBytes<'a> {
    first: *mut u8,
    nbytes: usize,
    ring: PhantomData<&'a HeapRing>,
}

impl<'a> BlockBytes<'a> {
    /// How many.
    pub fn nbytes(&self) -> usize {
        self.nbytes
    }

    /// The first of them, valid for as long as the borrow.
    pub fn as_ptr(&self) -> *mut u8 {
        self.first
    }

    /// A copy of them.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.nbytes);
        // SAFETY: the block was found to have as many; the capacity was just asked for, and what is copied is initialised.
        unsafe {
            words::copy_out(self.first, bytes.as_mut_ptr(), self.nbytes);
            bytes.set_len(self.nbytes);
        }
        bytes
    }

    /// Copies the first of them out.
    ///
    /// # Panics
    /// If `bytes` is longer.
    pub fn copy_to(&self, bytes: &mut [u8]) {
        assert!(bytes.len() <= self.nbytes, "{} bytes out of a payload of {}", bytes.len(), self.nbytes);
        // SAFETY: the block was found to have as many.
        unsafe { words::copy_out(self.first, bytes.as_mut_ptr(), bytes.len()) }
    }

    /// A copy of the payload as a value.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the payload has not the size of a `T`, naming both.
    pub fn read<T: Plain>(&self) -> Result<T> {
        if self.nbytes != size_of::<T>() {
            return Err(wrong_size::<T>(self.nbytes));
        }
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: there are as many bytes as a `T` has, and any bytes are one.
        unsafe {
            words::copy_out(self.first, value.as_mut_ptr().cast(), self.nbytes);
            Ok(value.assume_init())
        }
    }

    /// The payload in place.
    ///
    /// # Safety
    /// No thread of this process writes to the block as long as it is borrowed: the client that has sent it, say, or whoever
    /// allocates it once it is released.
    pub unsafe fn in_place(&self) -> SharedBytes<'a> {
        // SAFETY: they stay mapped as long as the ring is borrowed.
        unsafe { SharedBytes::within(self.first, self.nbytes) }
    }
}

impl HeapRing {
    /// The payload that a request refers to: the other side of [`MailboxClient::call_large`]. It is there until the request is
    /// replied to.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the request is no reference; [`Error::Corrupted`] if what it names is no live block of this
    /// ring, or leaves it.
    pub fn received<'a>(&'a self, request: &Request<'a>) -> Result<BlockBytes<'a>> {
        self.referred(request.ticket, request.payload)
    }

    /// As [`HeapRing::received`], for those who keep a request at their own risk.
    #[doc(hidden)]
    pub fn referred(&self, ticket: u64, payload: SharedBytes<'_>) -> Result<BlockBytes<'_>> {
        let reference = payload.read::<Reference>().ok().filter(|reference| reference.magic == MAGIC ^ self.mark());
        let Some(Reference { offset, nbytes, .. }) = reference else {
            return Err(Error::Invalid(format!(
                "request {ticket} holds no reference to a block of heap ring '{}': it was not sent by call_large() with that",
                self.name()
            )));
        };
        let found = self.live_block_at(offset, nbytes);
        found.map(|(first, nbytes)| BlockBytes { first, nbytes, ring: PhantomData }).ok_or_else(|| {
            let ring = self.name();
            Error::Corrupted(format!(
                "request {ticket} refers to {nbytes} bytes at offset {offset} of heap ring '{ring}', where no live block \
                 has them"
            ))
        })
    }
}

/// Looking for space for a block of a request. What holds it may be earlier requests of the same client, whose late replies
/// nobody waits for: so these are taken while space is waited for.
#[doc(hidden)]
#[derive(Debug)]
pub struct RoomFor {
    ring: Arc<HeapRing>,
    nbytes: usize,
    /// Where to wait for the replies of requests that hold blocks, if there are such.
    holding: Option<Arc<ReplyWaiter>>,
    waited: bool,
}

/// Space comes by two ways, replies and releases by others, each with a bell of its own: whoever waits at one looks at the
/// other so often.
const LOOK_EVERY: Duration = Duration::from_millis(10);

impl RoomFor {
    /// A block of `nbytes` of `ring`.
    pub fn new(ring: &Arc<HeapRing>, nbytes: usize) -> Self {
        RoomFor { ring: ring.clone(), nbytes, holding: None, waited: false }
    }

    fn adopt(&self, address: usize) -> Block {
        // SAFETY: it was just allocated, of that size, and its address goes nowhere else.
        unsafe { Block::adopt(&self.ring, address, self.nbytes) }
    }

    /// The block, if there is space now.
    ///
    /// # Errors
    /// As [`HeapRing::try_alloc`] and [`MailboxClient::make_room`].
    pub fn look(&mut self, client: &mut MailboxClient) -> Result<Option<Block>> {
        let mut found = self.ring.try_alloc(self.nbytes)?;
        while found.is_none() && client.make_room()? {
            found = self.ring.try_alloc(self.nbytes)?;
        }
        self.holding = client.holds_blocks().then(|| client.waiter());
        Ok(found.map(|address| self.adopt(address)))
    }

    /// Waits until another look is worth it, or for the block itself.
    ///
    /// # Errors
    /// As [`HeapRing::alloc`] and [`MailboxClient::wait`].
    pub fn wait(&mut self, patience: &mut Patience<'_>) -> Result<Option<Block>> {
        if patience.is_over() || self.nbytes > self.ring.nbytes() {
            return Err(self.ring.full(self.nbytes));
        }
        if !std::mem::replace(&mut self.waited, true) {
            self.ring.count_wait()?;
        }
        let mut until_next_look = patience.at_most(LOOK_EVERY);
        let waited = match &self.holding {
            None => self.ring.alloc_waiting(self.nbytes, &mut until_next_look).map(|address| Some(self.adopt(address))),
            Some(replies) => {
                replies.check_here()?;
                match replies.wait(&mut until_next_look) {
                    Err(Error::Misused(_)) => Ok(None), // another thread has just taken the last
                    waited => waited.map(|()| None),
                }
            }
        };
        match waited {
            Err(Error::WaitTimeout { .. } | Error::HeapRingFull { .. }) => Ok(None),
            waited => waited,
        }
    }
}

impl MailboxClient {
    /// As [`MailboxClient::call`], of a payload that may be larger than a frame: it goes through a block of `ring`, to be had
    /// on the other side by [`HeapRing::received`]. The block is released after the reply. If the wait fails, that is when
    /// the reply comes that nobody waits for any more; if this client is gone by then, the block stays live.
    ///
    /// # Errors
    /// As [`MailboxClient::call`] and [`HeapRing::alloc`].
    pub fn call_large(
        &mut self,
        ring: &Arc<HeapRing>,
        kind: Kind,
        payload: &[u8],
        patience: &mut Patience<'_>,
    ) -> Result<Reply> {
        let waiter = self.waiter();
        let mut room = RoomFor::new(ring, payload.len());
        let mut block = loop {
            if let Some(block) = room.look(self)? {
                break block;
            }
            if let Some(block) = room.wait(patience)? {
                break block;
            }
        };
        block.copy_from(payload);
        let reference = block.reference();
        let ticket = loop {
            match self.send(kind, &reference)? {
                Some(ticket) => break ticket,
                None => waiter.wait_for_room(patience)?,
            }
            self.make_room()?;
        };
        self.expect_reply(ticket);
        self.keep_until_reply(ticket, block)?;
        loop {
            if let Some(reply) = self.take_reply(ticket)? {
                return Ok(reply);
            }
            if let Err(error) = waiter.wait_for(ticket, patience) {
                self.abandon(ticket)?;
                return Err(error);
            }
        }
    }
}
