//! What outlives every player: who plays, what each is in the middle of, and what was promised to whom.
//!
//! Players write down that they begin something, do it, and write down that they have done it. Whoever is killed in
//! between leaves the first without the second, and only that one thing may have happened or not: all else is checked
//! exactly.

use std::sync::atomic::{AtomicU64, AtomicU8, Ordering};

use simpler_ipc::{Doorbell, HeapRing, Mailbox, Region};

/// The two roles, as indices.
pub const CLIENT: usize = 0;
pub const SERVER: usize = 1;
pub const ROLES: [&str; 2] = ["client", "server"];

/// What a player may be in the middle of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Doing {
    Starting,
    Thinking,
    Posting,
    Polling,
    AwaitingReply,
    Calling,
    Allocating,
    Releasing,
    Cancelling,
    AwaitingRequest,
    Receiving,
    Replying,
    Mourning,
}

pub const DOINGS: [&str; 13] = [
    "starting",
    "thinking",
    "posting",
    "polling",
    "awaiting a reply",
    "calling",
    "allocating",
    "releasing",
    "cancelling",
    "awaiting a request",
    "receiving",
    "replying",
    "mourning",
];

/// A number that survives whoever wrote it.
#[repr(transparent)]
pub struct Word(AtomicU64);

impl Word {
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::SeqCst);
    }

    pub fn add(&self, value: u64) {
        self.0.fetch_add(value, Ordering::SeqCst);
    }
}

/// That a player was told of its peer's death.
#[repr(C)]
pub struct Told {
    /// Of whom; 0: not told. Written last.
    pub pid: Word,
    pub at: Word,
    /// What the dead one was in the middle of.
    pub victim_doing: Word,
}

/// One request, from the client's decision to make it.
#[repr(C)]
pub struct Entry {
    pub serial: Word,
    /// Its ticket plus one; 0: not known to be posted.
    pub ticket: Word,
    /// How often a server received it.
    pub executed: Word,
    /// The block that goes with it; 0: none, or released.
    pub block: Word,
    pub block_nbytes: Word,
    pub client_releases: Word,
    pub server_releases: Word,
    /// The client has tried to take it back, and was told that the server never takes it.
    pub cancelling: Word,
    pub cancelled: Word,
    /// Which server, counted from one, received it last.
    pub executed_by: Word,
}

pub const SERIALS: usize = 1024;
const MESSAGE: usize = 4096;

#[repr(C)]
pub struct Ledger {
    pub pids: [Word; 2],
    pub doing: [Word; 2],
    pub told: [Told; 2],
    pub finished: [Word; 2],
    /// A player that survived the parent it was forked by; 0: none.
    pub orphan: Word,
    /// No more requests.
    pub stop: Word,

    /// The last serial that any client has used.
    pub serial: Word,
    /// The serial being posted; 0: none.
    pub sending: Word,
    /// The serial being posted and waited for; 0: none.
    pub calling: Word,
    /// Requests whose post has returned.
    pub sent: Word,
    /// Replies begun to be taken, and taken.
    pub taking: Word,
    pub taken: Word,
    /// Servers so far.
    pub servers: Word,
    /// Replies begun to be given, and given.
    pub replying: Word,
    pub replied: Word,
    /// A block is being allocated; how many may have been lost so.
    pub allocating: Word,
    pub lost: Word,

    message_nbytes: Word,
    message: [AtomicU8; MESSAGE],
    entries: [Entry; SERIALS],
    /// The serials of tickets.
    serials: [Word; SERIALS],
}

impl Ledger {
    pub fn entry(&self, serial: u64) -> &Entry {
        &self.entries[serial as usize % SERIALS]
    }

    /// The serial of the request that was to get that ticket last.
    pub fn serial_of(&self, ticket: u64) -> &Word {
        &self.serials[ticket as usize % SERIALS]
    }

    /// Whether a request other than `serial` has this block.
    pub fn has_other_user(&self, block: u64, serial: u64) -> bool {
        self.entries.iter().any(|entry| entry.block.get() == block && entry.serial.get() != serial)
    }

    /// Whether a player that is killed now dies in the middle of this.
    pub fn during<T>(&self, role: usize, doing: Doing, work: impl FnOnce() -> T) -> T {
        self.doing[role].set(doing as u64);
        let done = work();
        self.doing[role].set(Doing::Thinking as u64);
        done
    }

    /// Requests whose block is not released.
    pub fn blocks(&self) -> usize {
        self.entries.iter().filter(|entry| entry.block.get() != 0).count()
    }

    /// What a player found wrong. The first one stands.
    pub fn fail(&self, message: &str) {
        if self.message_nbytes.get() == 0 {
            let nbytes = message.len().min(MESSAGE);
            for (shared, byte) in self.message.iter().zip(message.bytes()) {
                shared.store(byte, Ordering::SeqCst);
            }
            self.message_nbytes.set(nbytes as u64);
        }
    }

    pub fn failure(&self) -> Option<String> {
        let nbytes = self.message_nbytes.get() as usize;
        let bytes: Vec<u8> = self.message[..nbytes].iter().map(|byte| byte.load(Ordering::SeqCst)).collect();
        (nbytes > 0).then(|| String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The memory two players meet in, and the ledger beside it.
pub struct Scene {
    ledger: Region,
    /// Rung for each entry in the ledger that others wait for.
    pub bell: Doorbell,
    /// Doorbells that client and server may choose instead of the mailbox's own.
    pub doorbells: [Doorbell; 2],
    pub lane: Region,
    pub mailbox: Mailbox,
    pub heap: Region,
    pub ring_nbytes: usize,
}

/// Payload bytes of a frame.
pub const FRAME_BYTES: usize = 200;
pub const ALIGNMENT: usize = 64;

impl Scene {
    pub fn new(depth: usize, ring_nbytes: usize) -> Self {
        let ledger = Region::anonymous(3 * Doorbell::NBYTES + size_of::<Ledger>(), "ledger").unwrap();
        let doorbell = |number| Doorbell::new(&ledger, number * Doorbell::NBYTES).unwrap();
        let lane = Region::anonymous(Mailbox::required_bytes(depth, FRAME_BYTES).unwrap(), "lane").unwrap();
        let heap = Region::anonymous(HeapRing::required_bytes(ring_nbytes, ALIGNMENT).unwrap(), "heap").unwrap();
        Scene {
            bell: doorbell(0),
            doorbells: [doorbell(1), doorbell(2)],
            mailbox: Mailbox::new(&lane, 0, depth, FRAME_BYTES).unwrap(),
            ledger,
            lane,
            heap,
            ring_nbytes,
        }
    }

    pub fn ledger(&self) -> &Ledger {
        let window = self.ledger.window(3 * Doorbell::NBYTES, size_of::<Ledger>()).unwrap();
        // SAFETY: the window is large enough, a multiple of 128 is aligned for words, any bytes are a valid `Ledger`
        // (atomics only), and the region stays mapped as long as `self`.
        unsafe { &*window.as_ptr().cast() }
    }

    pub fn ring(&self) -> HeapRing {
        HeapRing::new(&self.heap, 0, self.ring_nbytes, "kills", ALIGNMENT).unwrap()
    }

    /// The words of the requests in the frames, with the state that they and those of the replies make up together, read as
    /// any passer-by may.
    pub fn frame_words(&self) -> Vec<u64> {
        let needed = |depth| Mailbox::required_bytes(depth, FRAME_BYTES).unwrap();
        let stride = needed(2) - needed(1);
        let first = needed(1) - stride;
        let word = |offset| {
            let mut bytes = [0; 8];
            let window = self.lane.window(offset, 8).unwrap();
            // SAFETY: no thread of this process writes there.
            unsafe { window.copy_to(&mut bytes) };
            u64::from_ne_bytes(bytes)
        };
        let state = |number| {
            let (request, reply) = (word(first + number * stride), word(first + number * stride + stride / 2));
            let done = reply & 7 != 0 && request & 7 != 0 && reply >> 5 == request >> 5;
            if done {
                request & !7 | 2
            } else {
                request
            }
        };
        (0..self.mailbox.depth()).map(state).collect()
    }
}

/// The monotonic clock, the same in every process.
pub fn now_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for writing.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Small, seeded, the same everywhere (xorshift64*).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        // Neighbouring seeds are far apart, and none is zero.
        let mixed = (seed ^ seed >> 31).wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Random(mixed | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Less than `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit
    }

    pub fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }
}
