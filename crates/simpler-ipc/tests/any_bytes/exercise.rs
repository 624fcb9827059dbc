//! What is done to shared memory that holds any bytes whatever, as a wrong or hostile peer may leave it.
//!
//! Each function takes bytes, makes memory and a sequence of calls of them, and panics if a call does what no memory
//! may bring about: panic, touch anything outside of the region, or fail with something that speaks of the system and
//! not of the memory. Shared by the property tests of every run and by the fuzz targets.

use std::time::Duration;

use simpler_ipc::named::Record;
use simpler_ipc::{Doorbell, Error, HeapRing, Kind, Mailbox, Patience, Region, Request};

/// Writes to shared memory.
fn write(region: &Region, offset: usize, bytes: &[u8]) {
    // SAFETY: no other thread is at these bytes.
    unsafe { region.window(offset, bytes.len()).unwrap().copy_from(bytes) }
}

/// Bytes, one at a time; zero when they are used up.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> usize {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        usize::from(*first)
    }

    fn word(&mut self) -> u64 {
        (0..8).fold(0, |word, _| word << 8 | self.byte() as u64)
    }

    /// A number of up to two bytes: enough to reach all of a small region.
    fn number(&mut self) -> usize {
        self.byte() << 8 | self.byte()
    }
}

/// A region whose first bytes are those left in the script, behind the calls.
fn spoil(region: &Region, from: usize, bytes: &[u8]) {
    let nbytes = bytes.len().min(region.nbytes() - from);
    write(region, from, &bytes[..nbytes]);
}

/// Another process changes a word meanwhile.
fn poke(region: &Region, script: &mut Script<'_>) {
    let offset = script.number() % (region.nbytes() / 8) * 8;
    write(region, offset, &script.word().to_ne_bytes());
}

/// Every error is one of the memory, or of the caller.
fn typed<T>(result: Result<T, Error>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error @ (Error::Os { .. } | Error::PeerDied { .. })) => panic!("{error}"),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            None
        }
    }
}

fn tried<T>(result: Result<T, Error>) {
    typed(result);
}

fn no_wait() -> Patience<'static> {
    Patience::limited(Duration::ZERO)
}

fn check_request(region: &Region, mailbox: &Mailbox, request: &Request<'_>) {
    let nbytes = request.payload.nbytes();
    assert!(nbytes <= mailbox.frame_bytes());
    assert!(region.contains(request.payload.as_ptr() as usize, nbytes));
    assert_eq!(request.payload.to_vec().len(), nbytes);
}

/// A client and a server on a mailbox of any bytes.
pub fn mailbox(bytes: &[u8]) {
    let mut script = Script(bytes);
    let (depth, frame_bytes) = (1 + script.byte() % 8, 1 + script.byte() % 64);
    let calls = script.byte();
    let nbytes = Mailbox::required_bytes(depth, frame_bytes).unwrap();
    let region = Region::anonymous(nbytes + Doorbell::NBYTES, "any bytes").unwrap();
    let keep_geometry = script.byte() % 8 > 0;
    let mut script = {
        let (calls, memory) = script.0.split_at(script.0.len().min(calls));
        if keep_geometry {
            Mailbox::new(&region, 0, depth, frame_bytes).unwrap();
            spoil(&region, 8, memory);
        } else {
            spoil(&region, 0, memory);
        }
        Script(calls)
    };
    let Some(mailbox) = typed(Mailbox::new(&region, 0, depth, frame_bytes)) else { return };
    let doorbell = Doorbell::new(&region, nbytes).unwrap();
    let (mut client, mut server) = (typed(mailbox.client(None)), typed(mailbox.server(None)));
    while !script.0.is_empty() {
        match script.byte() % 16 {
            0 => poke(&region, &mut script),
            1 => {
                drop(client);
                client = typed(mailbox.client((script.byte() % 2 == 0).then_some(&doorbell)));
            }
            2 => {
                drop(server);
                server = typed(mailbox.server((script.byte() % 2 == 0).then_some(&doorbell)));
            }
            call @ 3..=9 => {
                let Some(client) = &mut client else { continue };
                match call {
                    3 => tried(client.send(Kind::Task, &vec![7; script.byte() % (frame_bytes + 2)])),
                    4 => {
                        if let Some(Some(mut claim)) = typed(client.claim()) {
                            assert!(region.contains(claim.as_mut_ptr() as usize, frame_bytes));
                            claim.copy_from(&vec![8; frame_bytes]).unwrap();
                            tried(client.submit(claim, Kind::Control, script.byte() % (frame_bytes + 2)));
                        }
                    }
                    5 => {
                        if let Some(Some(claim)) = typed(client.claim()) {
                            tried(client.give_up(claim));
                        }
                    }
                    6 => {
                        if let Some(Some(reply)) = typed(client.poll()) {
                            assert!(reply.payload.len() <= frame_bytes);
                        }
                    }
                    7 => {
                        let oldest = script.word();
                        tried(client.cancel(oldest));
                        tried(client.cancel(oldest % 64));
                    }
                    8 => tried(client.wait(&mut no_wait())),
                    _ => tried(client.call(Kind::Task, b"?", &mut no_wait())),
                }
                assert!(client.free() <= depth);
            }
            call => {
                let Some(server) = &mut server else { continue };
                match call {
                    10..=11 => {
                        if let Some(Some(request)) = typed(server.try_recv()) {
                            check_request(&region, &mailbox, &request);
                        }
                    }
                    12 => {
                        if let Some(request) = typed(server.recv(&mut no_wait())) {
                            check_request(&region, &mailbox, &request);
                        }
                    }
                    13..=14 => tried(server.reply(1, &vec![9; script.byte() % (frame_bytes + 2)])),
                    _ => tried(server.fail(2, "a message that is longer than most of these frames are, by far")),
                }
                assert!(server.unreplied() <= depth);
            }
        }
    }
}

/// The record of a named region, from the file that anybody of the same user may write.
pub fn record(bytes: &[u8]) {
    match Record::decode(bytes) {
        Ok(record) => assert_eq!(record.encode(), bytes, "what decodes is what would be written"),
        Err(flaw) => assert!(!flaw.to_string().is_empty()),
    }
    // With the right checksum, so that what it says is looked at.
    if let Some((said, checksum)) = bytes.split_at_checked(bytes.len().wrapping_sub(8)) {
        let sum = said
            .iter()
            .fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        if checksum != sum.to_le_bytes() {
            record(&[said, &sum.to_le_bytes()].concat());
        }
    }
}

/// An allocator and a releaser on a heap ring of any bytes.
pub fn heap_ring(bytes: &[u8]) {
    let mut script = Script(bytes);
    let alignment = 64 << (script.byte() % 7);
    let ring_nbytes = alignment * (1 + script.byte() % 32);
    let calls = script.byte();
    let keep_geometry = script.byte() % 8 > 0;
    let region = Region::anonymous(HeapRing::required_bytes(ring_nbytes, alignment).unwrap(), "any bytes").unwrap();
    let poisons = script.byte() % 4 == 0;
    let attach = || {
        let make = if poisons { HeapRing::poisoning } else { HeapRing::new };
        typed(make(&region, 0, ring_nbytes, "any bytes", alignment))
    };
    let mut script = {
        let (calls, memory) = script.0.split_at(script.0.len().min(calls));
        if keep_geometry {
            attach();
            spoil(&region, 8, memory);
        } else {
            spoil(&region, 0, memory);
        }
        Script(calls)
    };
    let Some(mut ring) = attach() else { return };
    let mut blocks = Vec::new();
    while !script.0.is_empty() {
        match script.byte() % 8 {
            0 => poke(&region, &mut script),
            1 => match attach() {
                Some(attached) => ring = attached,
                None => return,
            },
            2..=4 => {
                let nbytes = script.number() % (ring_nbytes + 2);
                let allocated = if script.byte() % 2 == 0 {
                    typed(ring.try_alloc(nbytes)).flatten()
                } else {
                    typed(ring.alloc(nbytes, &mut no_wait()))
                };
                if let Some(address) = allocated {
                    assert!(region.contains(address, nbytes.max(1)));
                    assert_eq!(address % alignment, 0);
                    write(&region, address - region.address(), &vec![5; nbytes]);
                    blocks.push(address);
                }
            }
            5 => tried(ring.release(region.address() + script.number() % region.nbytes())),
            6 => {
                if let Some(address) = blocks.pop() {
                    typed(ring.release(address));
                }
            }
            _ => {
                if let Some(stats) = typed(ring.stats()) {
                    assert!(stats.oldest.is_none_or(|oldest| region.contains(oldest, stats.oldest_nbytes)));
                    assert!(stats.live_bytes <= ring_nbytes);
                }
                let (_live, _used, full) = (ring.live(), ring.used(), ring.full(script.number()));
                assert!(!full.to_string().is_empty());
            }
        }
    }
}
