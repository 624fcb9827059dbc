//! The heap ring: blocks, their releases, the allocator's turn.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use simpler_ipc::protocol::ring::{Ring, RingControl, Usage};
use simpler_ipc::protocol::sync::AtomicU64;
use simpler_ipc::Result;

use crate::{model, wait};

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
