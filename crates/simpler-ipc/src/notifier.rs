//! Notifiers: an eventfd that becomes readable when a client has a reply to take, for event loops.
//!
//! The server rings a bell in shared memory, which no event loop can wait for. A thread of the client's process waits
//! there and passes the ring on. It only waits while it is asked to: between two [`Notifier::arm`] it sleeps on a
//! condition of the process, so that calls that wait by themselves cost no ring more.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::identity::Maker;
use crate::mailbox::side::inherited;
use crate::mailbox::ReplyWaiter;
use crate::protocol::arming::Arming;
use crate::sys;
use crate::wait::{Interrupted, Patience};

/// See the module's text. Its thread ends when it is dropped.
#[derive(Debug)]
pub struct Notifier {
    maker: Maker,
    shared: Arc<Shared>,
    thread: Option<sys::Thread>,
}

#[derive(Debug)]
struct Shared {
    event: sys::Nudge,
    waiter: Arc<ReplyWaiter>,
    arming: Arming,
}

/// The end is noticed at the latest after this long, if it comes in the instant between asking and falling asleep.
const ASK_EVERY: Duration = Duration::from_millis(500);

impl Notifier {
    /// For the client that `waiter` is of.
    ///
    /// # Errors
    /// [`Error::Os`] if the eventfd or the thread cannot be had; [`Error::Misused`] if the client is one that this process has
    /// inherited; [`Error::UnsupportedPlatform`].
    pub fn new(waiter: Arc<ReplyWaiter>) -> Result<Self> {
        waiter.check_here()?;
        let shared = Arc::new(Shared { event: sys::Nudge::new()?, waiter, arming: Arming::new() });
        let body = shared.clone();
        let thread = Some(sys::Thread::spawn(c"ipc-notifier", move || body.run())?);
        Ok(Notifier { maker: Maker::here(), shared, thread })
    }

    /// The eventfd.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.shared.event.as_fd()
    }

    /// From now on the next reply, or a watched peer's death, makes the eventfd readable, once. There is a request in
    /// flight.
    ///
    /// # Errors
    /// [`Error::Misused`] in a forked child, which has no such thread.
    pub fn arm(&self) -> Result<()> {
        self.check_here()?;
        self.shared.arming.arm();
        Ok(())
    }

    /// Makes the eventfd unreadable again.
    ///
    /// # Errors
    /// What ended the wait if it was no reply: [`Error::PeerDied`], [`Error::Corrupted`]. As [`Notifier::arm`].
    pub fn clear(&self) -> Result<()> {
        self.check_here()?;
        self.shared.event.reset()?;
        match self.shared.arming.take_trouble() {
            None => Ok(()),
            Some(trouble) => Err(trouble),
        }
    }

    /// The eventfd is the parent's too: it would miss what is cleared here.
    fn check_here(&self) -> Result<()> {
        match self.maker.is_here() {
            true => Ok(()),
            false => Err(inherited("notifier", self.maker)),
        }
    }
}

impl Drop for Notifier {
    fn drop(&mut self) {
        // A forked child has no such thread, and its lock may be held for ever.
        if !self.maker.is_here() {
            return;
        }
        self.shared.arming.end();
        self.shared.waiter.wake();
        if let Some(thread) = self.thread.take() {
            thread.join();
        }
    }
}

impl Shared {
    fn run(&self) {
        while self.arming.asked() {
            let mut ended = || if self.arming.is_ended() { Err(Interrupted) } else { Ok(()) };
            let waited = self.waiter.wait(&mut Patience::forever().interrupted_by(&mut ended, ASK_EVERY));
            match waited {
                Err(Error::Interrupted) => return,
                // The reply was taken while this thread was on its way.
                Ok(()) | Err(Error::Misused(_)) => {}
                Err(trouble) => self.arming.set_trouble(trouble),
            }
            if let Err(error) = self.event.nudge() {
                self.arming.set_trouble(error);
            }
        }
    }
}
