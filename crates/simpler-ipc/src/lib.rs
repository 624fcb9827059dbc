//! Shared memory between processes that does not lie.
//!
//! | module | what it holds |
//! | --- | --- |
//! | [`region`] | [`Region`]: sealed, sparse shared memory, anonymous or named |
//! | [`named`] | [`named_regions`]: names of regions, who owns them, which are stale |
//! | [`doorbell`] | [`Doorbell`]: a "something changed" counter that a process can sleep on |
//! | [`mailbox`] | [`Mailbox`]: an ordered lane of request/reply frames between two processes |
//! | [`heap_ring`] | [`HeapRing`]: a ring allocator whose blocks any process may release |
//! | [`block`] | [`Block`]: payloads larger than a frame, in a block of a ring |
//! | [`plain`] | [`Plain`]: values that may lie in a frame, and are read there |
//! | [`notifier`] | [`Notifier`]: an eventfd for event loops that wait for replies |
//! | [`peer`] | [`Peer`]: another process, whose death is noticed at once |
//! | [`wait_set`] | [`WaitSet`]: one wait for any of many mailboxes and peers |
//! | [`wait`] | [`Patience`]: how long to wait, and what may end the wait early |
//! | [`error`] | [`Error`]: one variant for each thing a caller may want to tell apart |
//!
//! The lock-free parts live in `protocol`, apart from memory mapping and system calls, so that loom can run them
//! through every interleaving (`tests/loom`).
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
//! # Several mailboxes, several threads
//!
//! Clients that share a doorbell are waited for at once; a client that threads share gives each call its own reply.
//!
//! ```
//! # #[cfg(target_os = "linux")]
//! # fn main() -> Result<(), simpler_ipc::Error> {
//! use simpler_ipc::{Doorbell, Kind, Mailbox, Patience, Region, SharedClient, WaitSet};
//!
//! let lane = Mailbox::required_bytes(4, 64)?;
//! let region = Region::anonymous(Doorbell::NBYTES + 2 * lane, "lanes")?;
//! let doorbell = Doorbell::new(&region, 0)?;
//! let (mut clients, mut servers) = (Vec::new(), Vec::new());
//! for number in 0..2 {
//!     let mailbox = Mailbox::new(&region, Doorbell::NBYTES + number * lane, 4, 64)?;
//!     clients.push(mailbox.client(Some(&doorbell))?);
//!     servers.push(mailbox.server(None)?);
//! }
//! let waits = WaitSet::new(doorbell);
//!
//! for (client, server) in clients.iter_mut().zip(&mut servers) {
//!     client.send(Kind::Task, b"ping")?;
//!     server.recv(&mut Patience::forever())?;
//!     server.reply(0, b"pong")?;
//! }
//! let replies = waits.harvest(&mut clients, usize::MAX, &mut Patience::forever())?;
//! assert_eq!(replies.iter().map(|(client, _)| *client).collect::<Vec<_>>(), [0, 1]);
//!
//! let shared = SharedClient::new(clients.remove(0));
//! let mut server = servers.remove(0);
//! std::thread::scope(|scope| {
//!     for word in ["one", "two"] {
//!         let shared = &shared;
//!         scope.spawn(move || {
//!             let reply = shared.call(Kind::Task, word.as_bytes(), &mut Patience::forever()).unwrap();
//!             assert_eq!(reply.payload, word.as_bytes());
//!         });
//!     }
//!     for _ in 0..2 {
//!         let word = server.recv(&mut Patience::forever()).unwrap().payload.to_vec();
//!         server.reply(0, &word).unwrap();
//!     }
//! });
//! # Ok(())
//! # }
//! # #[cfg(not(target_os = "linux"))]
//! # fn main() {}
//! ```
//!
//! # When a process dies
//!
//! Waits that watch it end with [`Error::PeerDied`]. A client or server made anew on a used mailbox goes on where its
//! predecessor stopped: replies that were given are taken, requests that were not replied to are received again. So a
//! request may be executed twice; it is answered once.
//!
//! # Fork
//!
//! Regions, mailboxes, doorbells, heap rings and peers made before a fork work in the child: regions are mapped at the same
//! address in both. Clients, servers and notifiers stay the parent's: in the child their calls are [`Error::Misused`].
//! Watcher threads do not exist in the child; whoever waits there starts its own.

pub mod block;
pub mod doorbell;
pub mod error;
#[cfg(target_os = "linux")]
mod forks;
pub mod heap_ring;
mod identity;
pub mod mailbox;
pub mod named;
pub mod notifier;
pub mod peer;
mod places;
pub mod plain;
#[doc(hidden)]
pub mod protocol;
pub mod region;
#[doc(hidden)]
pub mod spin;
mod sys;
pub mod wait;
pub mod wait_set;
mod watched;
mod watcher;
mod words;

#[doc(hidden)]
pub use block::RoomFor;
pub use block::{Block, BlockBytes};
pub use doorbell::Doorbell;
pub use error::{Error, Exit, Result};
pub use heap_ring::{HeapRing, HeapRingStats};
pub use mailbox::{Claim, Mailbox, MailboxClient, MailboxServer, Reply, ReplyView, Request, SharedClient};
pub use named::{named_regions, NamedRegion};
pub use notifier::Notifier;
pub use peer::{exit_with, Peer};
pub use plain::{bytes_of, Plain, TypedClaim};
pub use protocol::frame::{Kind, Status};
pub use region::{Region, SharedBytes, Window};
pub use wait::{Interrupted, Limit, Patience};
pub use wait_set::WaitSet;

/// The README's example, as a test.
#[cfg(all(doctest, target_os = "linux"))]
#[doc = include_str!("../README.md")]
struct Readme;
