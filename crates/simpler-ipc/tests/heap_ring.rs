//! Heap rings: limits, errors, waiting, spoilt memory; and many threads at once.

#![cfg(all(target_os = "linux", not(loom)))]

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use simpler_ipc::{Error, HeapRing, Patience, Region};

fn region(nbytes: usize) -> Region {
    Region::anonymous(HeapRing::required_bytes(nbytes, HeapRing::ALIGNMENT).unwrap(), "test").unwrap()
}

fn ring(region: &Region, nbytes: usize) -> HeapRing {
    HeapRing::new(region, 0, nbytes, "test ring", HeapRing::ALIGNMENT).unwrap()
}

fn alloc(ring: &HeapRing, nbytes: usize) -> usize {
    ring.try_alloc(nbytes).unwrap().unwrap()
}

#[test]
fn blocks_are_aligned_and_apart() {
    let region = region(1 << 20);
    let ring = ring(&region, 1 << 20);
    let blocks: Vec<usize> = [1, 1024, 1025, 0].into_iter().map(|nbytes| alloc(&ring, nbytes)).collect();
    assert!(blocks.iter().all(|block| block % 1024 == 0 && region.contains(*block, 1024)));
    assert_eq!(blocks.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>(), [1024, 1024, 2048]);
    assert_eq!((ring.live(), ring.used()), (4, 5 * 1024));
}

#[test]
fn space_comes_back_in_the_order_it_was_allocated() {
    let region = region(4096);
    let ring = ring(&region, 4096);
    let blocks: Vec<usize> = (0..4).map(|_| alloc(&ring, 1024)).collect();
    ring.release(blocks[1]).unwrap();
    assert_eq!(ring.try_alloc(1024).unwrap(), None, "the oldest block still lives");
    ring.release(blocks[0]).unwrap();
    assert_eq!(alloc(&ring, 2048), blocks[0]);
}

#[test]
fn a_block_as_large_as_the_ring_fits_whenever_the_ring_is_empty() {
    let region = region(8192);
    let ring = ring(&region, 8192);
    for nbytes in [8192, 1024, 8192, 5000, 8192] {
        ring.release(alloc(&ring, nbytes)).unwrap();
    }
    assert_eq!((ring.live(), ring.used()), (0, 0));
}

#[test]
fn full_says_what_is_live_and_what_waits_behind_it() {
    let region = region(8192);
    let ring = ring(&region, 8192);
    alloc(&ring, 1000);
    let released = alloc(&ring, 2048);
    alloc(&ring, 4096);
    ring.release(released).unwrap();
    let error = ring.alloc(4000, &mut Patience::limited(Duration::ZERO)).unwrap_err();
    match &error {
        Error::HeapRingFull { name, nbytes, live_blocks, live_bytes, pending_bytes, requested } => {
            assert_eq!(name, "test ring");
            assert_eq!((*nbytes, *live_blocks, *live_bytes), (8192, 2, 1024 + 4096));
            assert_eq!((*pending_bytes, *requested), (2048, 4000));
        }
        other => panic!("{other}"),
    }
    for word in ["test ring", "8192", "4000", "2 live blocks", "5120"] {
        assert!(error.to_string().contains(word), "{error} lacks {word}");
    }
}

#[test]
fn what_can_never_fit_is_not_waited_for() {
    let region = region(4096);
    let ring = ring(&region, 4096);
    assert!(matches!(ring.alloc(4097, &mut Patience::forever()), Err(Error::HeapRingFull { .. })));
}

#[test]
fn an_alloc_waits_until_another_thread_releases() {
    let region = region(4096);
    let ring = ring(&region, 4096);
    let block = alloc(&ring, 4096);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| ring.alloc(4096, &mut Patience::forever()).unwrap());
        ring.release(block).unwrap();
        assert_eq!(waiting.join().unwrap(), block);
    });
}

#[test]
fn an_unknown_address_and_a_second_release_are_errors_that_name_it() {
    let region = region(4096);
    let ring = ring(&region, 4096);
    let block = alloc(&ring, 2048);
    for address in [0, block - 1024, block + 1, block + 1024, block + 4096, usize::MAX] {
        let error = ring.release(address).unwrap_err();
        assert!(matches!(error, Error::UnknownBlock { .. }), "{error}");
        assert!(error.to_string().contains(&format!("{address:#x}")), "{error}");
    }
    ring.release(block).unwrap();
    assert!(matches!(ring.release(block), Err(Error::UnknownBlock { .. })));
}

#[test]
fn only_one_allocates_until_it_is_dropped() {
    let region = region(4096);
    let first = ring(&region, 4096);
    let second = ring(&region, 4096);
    let block = alloc(&first, 1024);
    assert!(matches!(second.try_alloc(1024), Err(Error::Misused(_))));
    second.release(block).unwrap();
    drop(first);
    alloc(&second, 4096);
}

#[test]
fn a_ring_is_found_in_a_second_mapping() {
    let region = region(4096);
    let ring = ring(&region, 4096);
    let block = alloc(&ring, 1024);
    let other_region = Region::from_fd(region.fd()).unwrap();
    let other = HeapRing::new(&other_region, 0, 4096, "other", HeapRing::ALIGNMENT).unwrap();
    assert_eq!(other.live(), 1);
    other.release(block - region.address() + other_region.address()).unwrap();
    assert_eq!(ring.live(), 0);
}

#[test]
fn impossible_shapes_and_places_are_refused() {
    for (nbytes, alignment) in [(0, 1024), (1, 0), (1, 32), (1, 100), (1, 8192), (usize::MAX, 64)] {
        assert!(matches!(HeapRing::required_bytes(nbytes, alignment), Err(Error::Invalid(_))));
    }
    let region = region(4096);
    assert!(matches!(HeapRing::new(&region, 0, 8192, "test", 1024), Err(Error::Invalid(_))));
    ring(&region, 4096);
    let error = HeapRing::new(&region, 0, 2048, "test", 1024).unwrap_err();
    assert!(error.to_string().contains("4096 bytes aligned to 1024"), "{error}");
}

#[test]
fn spoilt_bookkeeping_is_an_error() {
    // Head and tail (in the second line), and the first block's table entry.
    let spoils: [(usize, &[u8]); 4] =
        [(128 + 8, &[0xff; 8]), (128 + 16, &[0xff; 8]), (384, &[0xff, 0xff, 0, 0x40]), (384, &[0; 4])];
    for (offset, bytes) in spoils {
        let region = region(4096);
        let ring = ring(&region, 4096);
        alloc(&ring, 1024);
        region.window(offset, bytes.len()).unwrap().copy_from(bytes);
        let error = ring.try_alloc(1024).unwrap_err();
        assert!(matches!(error, Error::Corrupted(_)), "{error}");
    }
}

#[test]
fn threads_that_use_blocks_at_once_never_see_each_others_bytes() {
    let region = region(16 * 1024);
    let ring = ring(&region, 16 * 1024);
    thread::scope(|scope| {
        let users: Vec<_> = (0..3u8)
            .map(|_| {
                let (give, take) = mpsc::channel::<(usize, usize, u8)>();
                let (ring, region) = (&ring, &region);
                scope.spawn(move || {
                    for (block, nbytes, stamp) in take {
                        let window = region.window(block - region.address(), nbytes).unwrap();
                        assert!(window.to_vec().iter().all(|&byte| byte == stamp));
                        ring.release(block).unwrap();
                    }
                });
                give
            })
            .collect();
        for turn in 0..3000usize {
            let nbytes = 1 + turn * 37 % 6000;
            let block = ring.alloc(nbytes, &mut Patience::forever()).unwrap();
            let stamp = turn as u8;
            region.window(block - region.address(), nbytes).unwrap().copy_from(&vec![stamp; nbytes]);
            users[turn * 7 % 3].send((block, nbytes, stamp)).unwrap();
        }
    });
    assert_eq!((ring.live(), ring.used()), (0, 0));
}
