//! A heap ring against a model: blocks in a queue, and the gaps that they leave.

#![cfg(all(target_os = "linux", not(loom)))]

use std::collections::VecDeque;

use proptest::collection::vec;
use proptest::prelude::*;
use simpler_ipc::{HeapRing, Region};

#[derive(Debug, Clone)]
enum Step {
    Alloc(usize),
    Release(prop::sample::Index),
}

#[derive(Debug)]
struct Block {
    start: usize,
    length: usize,
    live: bool,
}

/// Where a block of `length` must go, by the blocks that are not reclaimed.
fn place(blocks: &VecDeque<Block>, capacity: usize, length: usize) -> Option<usize> {
    let (Some(oldest), Some(newest)) = (blocks.front(), blocks.back()) else {
        return (length <= capacity).then_some(0);
    };
    let end = newest.start + newest.length;
    if newest.start >= oldest.start {
        if length <= capacity - end {
            Some(end)
        } else {
            (length <= oldest.start).then_some(0)
        }
    } else {
        (length <= oldest.start - end).then_some(end)
    }
}

/// What no block can have: from the oldest live block to the newest of all, around the end if need be.
fn held(oldest: &Block, newest: &Block, capacity: usize) -> usize {
    let end = newest.start + newest.length;
    if newest.start >= oldest.start {
        end - oldest.start
    } else {
        capacity - oldest.start + end
    }
}

proptest! {
    // A million operations in all.
    // PROPTEST_CASES asks for more.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(500)))]

    #[test]
    fn every_block_is_where_the_model_says(
        capacity in 1usize..40,
        poison in any::<bool>(),
        steps in vec(
            prop_oneof![
                3 => (1usize..24).prop_map(Step::Alloc),
                2 => any::<prop::sample::Index>().prop_map(Step::Release),
            ],
            500,
        ),
    ) {
        const ALIGNMENT: usize = 64;
        let nbytes = capacity * ALIGNMENT;
        let region = Region::anonymous(HeapRing::required_bytes(nbytes, ALIGNMENT).unwrap(), "test").unwrap();
        let make = if poison { HeapRing::poisoning } else { HeapRing::new };
        let ring = make(&region, 0, nbytes, "test", ALIGNMENT).unwrap();
        // An empty ring allocates at the front of its arena.
        let arena = ring.try_alloc(1).unwrap().unwrap();
        ring.release(arena).unwrap();
        let mut blocks: VecDeque<Block> = VecDeque::new();

        for step in steps {
            match step {
                Step::Alloc(length) => {
                    while blocks.front().is_some_and(|block| !block.live) {
                        blocks.pop_front();
                    }
                    let expected = place(&blocks, capacity, length);
                    let nbytes = length * ALIGNMENT - length % ALIGNMENT; // not always a whole number of granules
                    let block = ring.try_alloc(nbytes).unwrap();
                    prop_assert_eq!(block, expected.map(|start| arena + start * ALIGNMENT));
                    blocks.extend(expected.map(|start| Block { start, length, live: true }));
                }
                Step::Release(index) => {
                    if blocks.is_empty() {
                        continue;
                    }
                    let chosen = index.index(blocks.len());
                    let block = &mut blocks[chosen];
                    prop_assert_eq!(ring.release(arena + block.start * ALIGNMENT).is_ok(), block.live);
                    block.live = false;
                }
            }
            let live: Vec<&Block> = blocks.iter().filter(|block| block.live).collect();
            prop_assert_eq!(ring.live(), live.len() as u64);
            let live_bytes = live.iter().map(|block| block.length * ALIGNMENT).sum::<usize>();
            prop_assert_eq!(ring.used(), live_bytes as u64);
            let stats = ring.stats().unwrap();
            prop_assert_eq!((stats.live_blocks, stats.live_bytes), (live.len() as u64, live_bytes));
            let oldest = live.first().map(|block| arena + block.start * ALIGNMENT);
            let oldest_nbytes = live.first().map_or(0, |block| block.length * ALIGNMENT);
            prop_assert_eq!((stats.oldest, stats.oldest_nbytes), (oldest, oldest_nbytes));
            let held = live.first().map_or(0, |oldest| held(oldest, blocks.back().unwrap(), capacity));
            prop_assert_eq!(stats.held_bytes, held * ALIGNMENT);
            prop_assert!(stats.peak_bytes >= stats.held_bytes);
        }

        for block in blocks.iter().filter(|block| block.live) {
            ring.release(arena + block.start * ALIGNMENT).unwrap();
        }
        prop_assert_eq!(ring.try_alloc(nbytes).unwrap(), Some(arena), "no byte is lost");
    }
}
