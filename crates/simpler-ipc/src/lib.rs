//! Shared memory between processes that does not lie.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`region`] | [`Region`]: sealed, sparse shared memory, anonymous or named |
//! | [`named`] | [`named_regions`]: names of regions, who owns them, which are stale |
//! | [`doorbell`] | [`Doorbell`]: a "something changed" counter that a process can sleep on |
//! | [`mailbox`] | [`Mailbox`]: an ordered lane of request/reply frames between two processes |
//! | [`heap_ring`] | [`HeapRing`]: a ring allocator whose blocks any process may release |
//! | [`notifier`] | [`Notifier`]: an eventfd for event loops that wait for replies |
//! | [`peer`] | [`Peer`]: another process, whose death is noticed at once |
//! | [`wait_set`] | [`WaitSet`]: one wait for any of many mailboxes and peers |
//! | [`wait`] | [`Patience`]: how long to wait, and what may end the wait early |
//!
//! The lock-free parts live in `protocol`, apart from memory mapping and system calls, so that loom can run them
//! through every interleaving (`tests/loom.rs`).
//!
//! # Example
//!
//! ```
//! # #[cfg(target_os = "linux")]
//! # fn main() -> Result<(), simpler_ipc::Error> {
//! use simpler_ipc::{Kind, Mailbox, Patience, Region};
//!
//! let region = Region::anonymous(Mailbox::required_bytes(4, 1024)?, "example")?;
//! let mailbox = Mailbox::new(&region, 0, 4, 1024)?;
//! let mut client = mailbox.client(None)?;
//! let mut server = mailbox.server(None)?; // usually in another process
//!
//! client.send(Kind::Task, b"ping")?;
//! let request = server.recv(&mut Patience::forever())?;
//! assert_eq!(request.payload.to_vec(), b"ping");
//! server.reply(0, b"pong")?;
//! assert_eq!(client.poll()?.unwrap().payload, b"pong");
//! # Ok(())
//! # }
//! # #[cfg(not(target_os = "linux"))]
//! # fn main() {}
//! ```
//!
//! # Fork
//!
//! Objects made before a fork work in the child: regions are mapped at the same address in both. Watcher threads do
//! not exist in the child; whoever waits there starts its own.

pub mod doorbell;
pub mod error;
pub mod heap_ring;
pub mod mailbox;
pub mod named;
pub mod notifier;
pub mod peer;
#[doc(hidden)]
pub mod protocol;
pub mod region;
#[doc(hidden)]
pub mod spin;
mod sys;
pub mod wait;
pub mod wait_set;
mod watcher;

pub use doorbell::Doorbell;
pub use error::{Error, Result};
pub use heap_ring::{HeapRing, HeapRingStats};
pub use mailbox::{Claim, Mailbox, MailboxClient, MailboxServer, Reply, ReplyView, Request, SharedClient, LOST};
pub use named::{named_regions, NamedRegion};
pub use notifier::Notifier;
pub use peer::{exit_with, Exit, Peer};
pub use protocol::frame::{Kind, Status};
pub use region::{Region, SharedBytes, Window};
pub use wait::{Interrupted, Limit, Patience};
pub use wait_set::WaitSet;
