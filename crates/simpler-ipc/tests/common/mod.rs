//! What the tests of mailboxes have in common.

#![allow(dead_code)] // each program uses some of it

use std::time::Duration;

use simpler_ipc::{Mailbox, MailboxClient, MailboxServer, Patience, Region};

pub const FRAME_BYTES: usize = 100;
/// Where the first frame's request starts: generation, kind and state (8 bytes), payload bytes; then its payload.
pub const REQUEST: usize = 640;
/// And its reply: generation, kind and status (8 bytes), payload bytes, code; then its payload.
pub const REPLY: usize = REQUEST + 128;
/// From one frame to the next.
pub const STRIDE: usize = 256;

/// Writes to shared memory.
pub fn write(region: &Region, offset: usize, bytes: &[u8]) {
    // SAFETY: no other thread is at these bytes.
    unsafe { region.window(offset, bytes.len()).unwrap().copy_from(bytes) }
}

pub fn region() -> Region {
    Region::anonymous(Mailbox::required_bytes(4, FRAME_BYTES).unwrap(), "test").unwrap()
}

pub fn pair(region: &Region) -> (MailboxClient, MailboxServer) {
    let mailbox = Mailbox::new(region, 0, 4, FRAME_BYTES).unwrap();
    (mailbox.client(None).unwrap(), mailbox.server(None).unwrap())
}

pub fn no_wait() -> Patience<'static> {
    Patience::limited(Duration::ZERO)
}
