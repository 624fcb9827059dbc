//! Every interleaving of the lock-free parts, by loom:
//! `RUSTFLAGS="--cfg loom" cargo test --release --test loom`.
//!
//! Loom reports a lost wake as a deadlock, and a payload read too early or written too late as a concurrent access.

#![cfg(loom)]

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use simpler_ipc::protocol::bell::Bell;
use simpler_ipc::protocol::frame::{Finished, Kind, Next, Posted, ReplyHeader, RequestHeader, Status, Taking};
use simpler_ipc::protocol::lane::{Elsewhere, Waiting};
use simpler_ipc::protocol::ring::{Ring, RingControl, Usage};
use simpler_ipc::protocol::sync::{fence, AtomicU32, AtomicU64, Ordering};
use simpler_ipc::spin::Spin;
use simpler_ipc::wait::{wait_for, Patience};
use simpler_ipc::{Error, Result};

/// Every interleaving with at most three preemptions (switches away from a thread that could have gone on): bugs of
/// this kind need one or two, and without a bound the waiting loops have millions of interleavings.
fn model(body: impl Fn() + Send + Sync + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(model.preemption_bound.unwrap_or(3));
    model.check(body);
}

/// Waits as the mailbox, the doorbell and the heap ring do.
fn wait<T>(bell: &Bell, look: impl FnMut() -> Result<Option<T>>) -> T {
    wait_for(bell, &Spin::new(), &mut Patience::forever(), "the model", look, || Ok(())).unwrap()
}

/// One frame, its payloads, the two bells, and what the server is taking.
#[derive(Default)]
struct Lane {
    request: RequestHeader,
    asked: UnsafeCell<u64>,
    reply: ReplyHeader,
    answered: UnsafeCell<u64>,
    requests: Bell,
    replies: Bell,
    taking: Taking,
}

impl Lane {
    fn post(&self, generation: u64, nbytes: usize) {
        self.request.post(generation, Posted { kind: Kind::Task, nbytes });
        wake(&self.requests);
    }

    fn finish(&self, generation: u64, status: Status, code: i32) {
        self.reply.finish(&self.request, generation, status, code, 8);
        wake(&self.replies);
    }

    fn next_request(&self, generation: u64) -> Next {
        wait(&self.requests, || {
            let next = self.request.peek(generation, 8)?;
            Ok((next != Next::Nothing).then_some(next))
        })
    }

    fn next_reply(&self, generation: u64) -> Finished {
        wait(&self.replies, || self.reply.finished(generation, 8))
    }
}

fn read(payload: &UnsafeCell<u64>) -> u64 {
    // SAFETY: only called by the side whose turn it is; loom fails the test if that is not so.
    payload.with(|payload| unsafe { *payload })
}

fn write(payload: &UnsafeCell<u64>, value: u64) {
    // SAFETY: as in `read`.
    payload.with_mut(|payload| unsafe { *payload = value })
}

/// As the mailbox does after handing a frame over.
fn wake(bell: &Bell) {
    fence(Ordering::SeqCst);
    bell.wake_sleepers();
}

#[test]
fn a_frame_is_reused_and_nobody_sleeps_through_a_request_or_a_reply() {
    model(|| {
        let lane = Arc::new(Lane::default());
        let server = {
            let lane = lane.clone();
            thread::spawn(move || {
                for generation in 0..2 {
                    let request = lane.next_request(generation);
                    assert_eq!(request, Next::Request(Posted { kind: Kind::Task, nbytes: generation as usize }));
                    assert!(lane.taking.take(generation, &lane.request, generation));
                    write(&lane.answered, read(&lane.asked) + 1);
                    lane.finish(generation, Status::Ok, 7);
                }
            })
        };
        for generation in 0..2 {
            assert!(lane.reply.is_before(generation));
            write(&lane.asked, 10 * generation);
            lane.post(generation, generation as usize);
            let reply = lane.next_reply(generation);
            assert_eq!((reply.status, reply.code, reply.nbytes), (Status::Ok, 7, 8));
            assert_eq!(read(&lane.answered), 10 * generation + 1);
        }
        server.join().unwrap();
    });
}

/// Takes the request that is there unless it is cancelled, and answers it either way: whether it took it.
fn take_or_skip(lane: &Lane) -> bool {
    let taken = match lane.next_request(0) {
        Next::Request(_) => lane.taking.take(0, &lane.request, 0),
        _ => false,
    };
    lane.finish(0, if taken { Status::Ok } else { Status::Cancelled }, 0);
    taken
}

/// Takes the request back and waits for its reply: whether it was promised that nobody takes it, and how it ended.
fn take_back(lane: &Lane) -> (bool, Status) {
    let cancelled = lane.taking.cancel(0, &lane.request, 0);
    if cancelled {
        wake(&lane.requests);
    }
    (cancelled, lane.next_reply(0).status)
}

fn check_taken_or_cancelled(taken: bool, (cancelled, status): (bool, Status)) {
    assert!(!(taken && cancelled), "promised to be cancelled, and taken");
    assert_eq!(status, if taken { Status::Ok } else { Status::Cancelled });
}

// Twice, because loom tries a read of one thread before a write of another only where the reader was started first.

#[test]
fn a_request_is_taken_or_cancelled_and_never_both() {
    model(|| {
        let lane = Arc::new(Lane::default());
        lane.post(0, 0);
        let server = {
            let lane = lane.clone();
            thread::spawn(move || take_or_skip(&lane))
        };
        let client = take_back(&lane);
        check_taken_or_cancelled(server.join().unwrap(), client);
    });
}

#[test]
fn a_request_is_cancelled_or_taken_and_never_both() {
    model(|| {
        let lane = Arc::new(Lane::default());
        lane.post(0, 0);
        let client = {
            let lane = lane.clone();
            thread::spawn(move || take_back(&lane))
        };
        let taken = take_or_skip(&lane);
        check_taken_or_cancelled(taken, client.join().unwrap());
    });
}

#[test]
fn a_bell_wakes_every_sleeper() {
    model(|| {
        let bell = Arc::new(Bell::default());
        let sleepers: Vec<_> = (0..2)
            .map(|_| {
                let bell = bell.clone();
                thread::spawn(move || wait(&bell, || Ok((bell.value() != 0).then_some(()))))
            })
            .collect();
        bell.ring();
        for sleeper in sleepers {
            sleeper.join().unwrap();
        }
    });
}

#[test]
fn a_waiter_sees_what_was_written_before_a_ring() {
    model(|| {
        let shared = Arc::new((Bell::default(), UnsafeCell::new(0)));
        let ringer = {
            let shared = shared.clone();
            thread::spawn(move || {
                // SAFETY: the other thread reads after the ring only; loom fails the test if that is not so.
                shared.1.with_mut(|value| unsafe { *value = 1 });
                shared.0.ring();
            })
        };
        wait(&shared.0, || Ok((shared.0.value() != 0).then_some(())));
        // SAFETY: the write came before the ring.
        assert_eq!(shared.1.with(|value| unsafe { *value }), 1);
        ringer.join().unwrap();
    });
}

#[test]
fn a_server_that_moves_to_another_bell_is_woken_there() {
    model(|| {
        let shared = Arc::new((Waiting::default(), RequestHeader::default(), Bell::default()));
        let server = {
            let shared = shared.clone();
            thread::spawn(move || {
                let (waiting, request, elsewhere) = &*shared;
                waiting.sleep_at(Elsewhere { region: 1, offset: 0 });
                wait(elsewhere, || Ok((request.peek(0, 8)? != Next::Nothing).then_some(())));
            })
        };
        let (waiting, request, elsewhere) = &*shared;
        request.post(0, Posted { kind: Kind::Task, nbytes: 0 });
        fence(Ordering::SeqCst);
        match waiting.place() {
            Some((_, Elsewhere { region: 0, .. })) => waiting.own.wake_sleepers(),
            Some(_) => elsewhere.ring(),
            // The server is about to move, and looks afterwards.
            None => {}
        }
        server.join().unwrap();
    });
}

#[test]
fn a_reply_given_before_death_is_taken_instead_of_the_death() {
    model(|| {
        let shared = Arc::new(((RequestHeader::default(), ReplyHeader::default()), Bell::default(), AtomicU32::new(0)));
        shared.0 .0.post(0, Posted { kind: Kind::Task, nbytes: 0 });
        let server = {
            let shared = shared.clone();
            thread::spawn(move || {
                let ((request, reply), replies, gone) = &*shared;
                reply.finish(request, 0, Status::Ok, 0, 0);
                gone.store(1, Ordering::Release);
                replies.ring();
            })
        };
        let ((_, reply), replies, gone) = &*shared;
        let dead = || match gone.load(Ordering::Acquire) {
            0 => Ok(()),
            _ => Err(Error::Misused("the server is gone".to_owned())),
        };
        let look = || reply.finished(0, 8);
        wait_for(replies, &Spin::new(), &mut Patience::forever(), "the model", look, dead).unwrap();
        server.join().unwrap();
    });
}

/// The process that allocates, and one that poisons.
const ALLOCATOR: u64 = 2;
const POISONER: u32 = 7;

/// A ring and, for each granule, what its owner wrote there.
struct Heap {
    control: RingControl,
    table: Vec<AtomicU64>,
    arena: Vec<UnsafeCell<u64>>,
}

impl Heap {
    fn new(granules: usize) -> Self {
        Heap {
            control: RingControl::default(),
            table: (0..granules).map(|_| AtomicU64::new(0)).collect(),
            arena: (0..granules).map(|_| UnsafeCell::new(0)).collect(),
        }
    }

    fn ring(&self) -> Ring<'_> {
        Ring::new(&self.control, &self.table)
    }

    fn try_alloc(&self, length: u64) -> Result<Option<usize>> {
        self.ring().lock(ALLOCATOR).unwrap().alloc(length)
    }

    fn alloc(&self, length: u64) -> usize {
        self.try_alloc(length).unwrap().unwrap()
    }

    fn alloc_when_free(&self, length: u64) -> usize {
        wait(self.ring().bell(), || self.try_alloc(length))
    }

    /// Loom fails the test if another thread touches these granules meanwhile.
    fn fill(&self, first: usize, length: usize, value: u64) {
        for granule in &self.arena[first..first + length] {
            // SAFETY: the block is live and this thread's.
            granule.with_mut(|granule| unsafe { *granule = value });
        }
    }

    fn release_poisoned(&self, first: usize) -> bool {
        let Some(length) = self.ring().begin_poisoning(first, POISONER).unwrap() else { return false };
        self.fill(first, length as usize, 0xdd);
        assert!(self.ring().end_poisoning(first, POISONER));
        true
    }
}

#[test]
fn an_allocator_that_waits_for_space_gets_it_and_never_while_it_is_in_use() {
    model(|| {
        let heap = Arc::new(Heap::new(2));
        let blocks = [heap.alloc(1), heap.alloc(1)];
        let users = blocks.map(|block| {
            let heap = heap.clone();
            thread::spawn(move || {
                heap.fill(block, 1, 1);
                assert!(heap.ring().release(block));
            })
        });
        let large = heap.alloc_when_free(2);
        heap.fill(large, 2, 2);
        for user in users {
            user.join().unwrap();
        }
        let whole = Usage { live_blocks: 1, live_granules: 2, held_granules: 2, oldest: Some((0, 2)), intact: true };
        assert_eq!(heap.ring().usage(), whole);
    });
}

#[test]
fn blocks_wrap_around_the_end_while_another_thread_releases() {
    model(|| {
        let heap = Arc::new(Heap::new(3));
        let old = heap.alloc(2);
        let user = {
            let heap = heap.clone();
            thread::spawn(move || {
                heap.fill(old, 2, 1);
                assert!(heap.ring().release(old));
            })
        };
        // Fits behind the old block, in front of it, or (once that is gone) at the start again.
        let small = heap.alloc_when_free(1);
        heap.fill(small, 1, 2);
        let other = heap.alloc_when_free(2);
        heap.fill(other, 2, 3);
        user.join().unwrap();
        assert_eq!(heap.ring().usage().live_granules, 3);
    });
}

#[test]
fn of_two_that_release_the_same_block_one_succeeds() {
    model(|| {
        let heap = Arc::new(Heap::new(1));
        let block = heap.alloc(1);
        let other = {
            let heap = heap.clone();
            thread::spawn(move || heap.ring().release(block))
        };
        let mine = heap.ring().release(block);
        assert!(mine ^ other.join().unwrap());
        assert_eq!(heap.ring().usage().live_blocks, 0);
    });
}

#[test]
fn of_two_that_poison_the_same_block_one_does() {
    model(|| {
        let heap = Arc::new(Heap::new(2));
        let block = heap.alloc(2);
        let other = {
            let heap = heap.clone();
            thread::spawn(move || heap.release_poisoned(block))
        };
        let mine = heap.release_poisoned(block);
        assert!(mine ^ other.join().unwrap());
        assert_eq!(heap.ring().usage().live_blocks, 0);
    });
}

#[test]
fn nobody_gets_a_block_that_is_being_poisoned() {
    model(|| {
        let heap = Arc::new(Heap::new(2));
        let blocks = [heap.alloc(1), heap.alloc(1)];
        let releasers = blocks.map(|block| {
            let heap = heap.clone();
            thread::spawn(move || assert!(heap.release_poisoned(block)))
        });
        let next = heap.alloc_when_free(2);
        heap.fill(next, 2, 2);
        for releaser in releasers {
            releaser.join().unwrap();
        }
    });
}

#[test]
fn a_poisoning_whose_process_is_gone_is_ended_once() {
    model(|| {
        let heap = Arc::new(Heap::new(1));
        let block = heap.alloc(1);
        heap.ring().begin_poisoning(block, POISONER).unwrap();
        let finishers = [0, 1].map(|_| {
            let heap = heap.clone();
            thread::spawn(move || {
                let allocating = heap.ring().lock(ALLOCATOR).unwrap();
                let Some(poisoning) = allocating.poisoning_at_tail().unwrap() else { return false };
                assert!(allocating.take_over(poisoning, POISONER + 1));
                heap.fill(block, 1, 0xdd);
                heap.ring().end_poisoning(block, POISONER + 1)
            })
        });
        assert_eq!(finishers.map(|finisher| finisher.join().unwrap()).into_iter().filter(|ended| *ended).count(), 1);
        assert!(!heap.ring().end_poisoning(block, POISONER));
        heap.alloc(1);
    });
}

#[test]
fn threads_of_the_allocating_process_get_blocks_of_their_own() {
    model(|| {
        let heap = Arc::new(Heap::new(2));
        let threads = [0, 1].map(|_| {
            let heap = heap.clone();
            thread::spawn(move || {
                let block = heap.alloc(1);
                heap.fill(block, 1, 1);
                block
            })
        });
        let [one, other] = threads.map(|thread| thread.join().unwrap());
        assert_ne!(one, other);
        assert_eq!(heap.ring().history().allocated, 2);
    });
}

#[test]
fn one_of_two_allocators_gets_the_claim() {
    model(|| {
        let heap = Arc::new(Heap::new(1));
        let claimers = [2, 4].map(|token| {
            let heap = heap.clone();
            thread::spawn(move || heap.ring().lock(token).map(|_| token).map_err(|owner| (owner, token)))
        });
        let [one, other] = claimers.map(|claimer| claimer.join().unwrap());
        let (owner, refused) = one.and(other).unwrap_err();
        assert_eq!((owner + refused, one.or(other)), (6, Ok(owner)));
    });
}

#[test]
fn one_of_two_successors_follows_an_allocator_killed_in_its_turn() {
    model(|| {
        let heap = Arc::new(Heap::new(1));
        std::mem::forget(heap.ring().lock(ALLOCATOR).unwrap());
        let successors = [4, 6].map(|token| {
            let heap = heap.clone();
            thread::spawn(move || match heap.ring().succeed(ALLOCATOR, token) {
                Some(allocating) => {
                    heap.fill(0, 1, token);
                    allocating.alloc(1).unwrap()
                }
                None => None,
            })
        });
        let blocks = successors.map(|successor| successor.join().unwrap());
        assert_eq!(blocks.into_iter().flatten().count(), 1);
    });
}

#[test]
fn a_reader_takes_no_change_for_corruption() {
    model(|| {
        let heap = Arc::new(Heap::new(2));
        heap.alloc(2);
        // The reader is the thread that comes second: loom does not try a load before another thread's load and store.
        let reader = {
            let heap = heap.clone();
            thread::spawn(move || heap.ring().usage())
        };
        heap.ring().release(0);
        // Where it lies, an entry said two granules before; behind it there was none.
        heap.alloc(1);
        heap.alloc(1);
        let usage = reader.join().unwrap();
        assert!(usage.intact, "{usage:?}");
        let counted = (usage.live_blocks, usage.live_granules);
        assert!([(1, 2), (0, 0), (1, 1), (2, 2)].contains(&counted), "{usage:?}");
        assert!((usage.live_granules..=2).contains(&usage.held_granules), "{usage:?}");
    });
}
