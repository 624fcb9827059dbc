//! The lock-free parts on memory of their own, without a system call: what Miri can run.

#![cfg(not(loom))]

use std::cell::UnsafeCell;
use std::thread;

use simpler_ipc::protocol::frame::{Kind, Next, Posted, ReplyHeader, RequestHeader, Status, Taking};
use simpler_ipc::protocol::ring::{Ring, RingControl};
use simpler_ipc::protocol::sync::AtomicU64;

/// Miri is a thousand times slower, and looks a thousand times closer.
const ROUNDS: u64 = if cfg!(miri) { 50 } else { 20_000 };

/// A frame and its payloads, which plain accesses read and write.
#[derive(Default)]
struct Framed {
    request: RequestHeader,
    asked: UnsafeCell<[u64; 4]>,
    reply: ReplyHeader,
    answered: UnsafeCell<[u64; 4]>,
    taking: Taking,
}

// SAFETY: the headers' words decide who touches the payloads, which is what is tested.
unsafe impl Sync for Framed {}

#[test]
fn a_frame_hands_its_payloads_back_and_forth() {
    let framed = &Framed::default();
    thread::scope(|scope| {
        scope.spawn(|| {
            for generation in 0..ROUNDS {
                loop {
                    match framed.request.peek(generation, 32).unwrap() {
                        Next::Nothing => thread::yield_now(),
                        Next::Request(_) if framed.taking.take(generation, &framed.request, generation) => break,
                        other => panic!("{other:?} was never posted"),
                    }
                }
                // SAFETY: while a frame is TASK_READY the server reads the request and writes the reply.
                unsafe {
                    assert_eq!(*framed.asked.get(), [generation; 4]);
                    *framed.answered.get() = [generation + 1; 4];
                }
                framed.reply.finish(&framed.request, generation, Status::Ok, 0, 32);
            }
        });
        for generation in 0..ROUNDS {
            // SAFETY: in a frame that is IDLE, or TASK_DONE and read, the client writes the request.
            unsafe { *framed.asked.get() = [generation; 4] };
            framed.request.post(generation, Posted { kind: Kind::Task, nbytes: 32 });
            while framed.reply.finished(generation, 32).unwrap().is_none() {
                thread::yield_now();
            }
            // SAFETY: in a frame that is TASK_DONE the client reads the reply.
            assert_eq!(unsafe { *framed.answered.get() }, [generation + 1; 4]);
        }
    });
}

const GRANULES: usize = 5;

/// A ring, its arena, and the block on its way to whoever releases it: one more than its first granule.
struct Arena {
    control: RingControl,
    table: [AtomicU64; GRANULES],
    granules: [UnsafeCell<u64>; GRANULES],
    sent: AtomicU64,
}

// SAFETY: the ring decides who touches a granule, which is what is tested.
unsafe impl Sync for Arena {}

impl Arena {
    fn block(&self, first: usize, length: usize) -> &[UnsafeCell<u64>] {
        &self.granules[first..first + length]
    }

    fn sent(&self) -> &AtomicU64 {
        &self.sent
    }
}

#[test]
fn a_ring_gives_out_what_is_released_and_nothing_else() {
    use std::sync::atomic::Ordering;

    let arena = Arena {
        control: RingControl::default(),
        table: Default::default(),
        granules: Default::default(),
        sent: AtomicU64::new(0),
    };
    let ring = Ring::new(&arena.control, &arena.table);
    let length = |round: u64| 1 + round as usize % 2;
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..ROUNDS {
                let first = loop {
                    match arena.sent().swap(0, Ordering::Acquire) {
                        0 => thread::yield_now(),
                        sent => break sent as usize - 1,
                    }
                };
                for granule in arena.block(first, length(round)) {
                    // SAFETY: of a live block that was handed over.
                    assert_eq!(unsafe { *granule.get() }, round);
                }
                assert!(ring.release(first));
            }
        });
        for round in 0..ROUNDS {
            let first = loop {
                let allocated = ring.lock(1).unwrap().alloc(length(round) as u64).unwrap();
                match allocated {
                    Some(first) => break first,
                    None => thread::yield_now(),
                }
            };
            for granule in arena.block(first, length(round)) {
                // SAFETY: of a block that is ours.
                unsafe { *granule.get() = round };
            }
            while arena.sent().compare_exchange(0, first as u64 + 1, Ordering::Release, Ordering::Relaxed).is_err() {
                thread::yield_now();
            }
        }
    });
}
