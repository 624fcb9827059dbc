//! Heap rings: limits, errors, waiting, spoilt memory; and many threads at once.

#![cfg(all(target_os = "linux", not(loom)))]

use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use simpler_ipc::heap_ring::POISON;
use simpler_ipc::{Error, HeapRing, Patience, Peer, Region};

/// Writes to shared memory.
fn write(region: &Region, offset: usize, bytes: &[u8]) {
    // SAFETY: no other thread is at these bytes.
    unsafe { region.window(offset, bytes.len()).unwrap().copy_from(bytes) }
}

/// What shared memory holds.
fn read(region: &Region, offset: usize, nbytes: usize) -> Vec<u8> {
    // SAFETY: no other thread writes these bytes.
    unsafe { region.window(offset, nbytes).unwrap().to_vec() }
}

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
fn full_says_what_is_live_what_waits_behind_it_and_what_to_release_first() {
    let region = region(8192);
    let ring = ring(&region, 8192);
    let first = alloc(&ring, 1000);
    let released = alloc(&ring, 2048);
    alloc(&ring, 4096);
    ring.release(released).unwrap();
    let error = ring.alloc(4000, &mut Patience::limited(Duration::ZERO)).unwrap_err();
    match &error {
        Error::HeapRingFull {
            name,
            nbytes,
            requested,
            live_blocks,
            live_bytes,
            pending_bytes,
            oldest,
            oldest_nbytes,
        } => {
            assert_eq!((name.as_str(), *nbytes, *requested), ("test ring", 8192, 4000));
            assert_eq!((*live_blocks, *live_bytes, *pending_bytes), (2, 1024 + 4096, 2048));
            assert_eq!((*oldest, *oldest_nbytes), (Some(first), 1024));
        }
        other => panic!("{other}"),
    }
    for word in ["test ring", "8192", "4000", "2 live blocks", "5120", &format!("{first:#x}, 1024 bytes")] {
        assert!(error.to_string().contains(word), "{error} lacks {word}");
    }
}

#[test]
fn stats_tell_what_is_held_and_what_has_been() {
    let region = region(8192);
    let ring = ring(&region, 8192);
    let fresh = ring.stats().unwrap();
    assert_eq!((fresh.allocated, fresh.held_bytes, fresh.peak_bytes, fresh.oldest), (0, 0, 0, None));
    let blocks: Vec<usize> = (0..3).map(|_| alloc(&ring, 2048)).collect();
    ring.release(blocks[0]).unwrap();
    ring.release(blocks[2]).unwrap();
    // 2048 bytes are left at the end: a block of 1024 goes there, one of 2048 then does not.
    alloc(&ring, 1024);
    alloc(&ring, 2048);
    let stats = ring.stats().unwrap();
    assert_eq!((stats.nbytes, stats.allocated, stats.wraps, stats.waits), (8192, 5, 1, 0));
    assert_eq!((stats.live_blocks, stats.live_bytes), (3, 5120));
    assert_eq!((stats.held_bytes, stats.peak_bytes), (8192, 8192), "with a released block and what is left at the end");
    assert_eq!((stats.oldest, stats.oldest_nbytes), (Some(blocks[1]), 2048));
    let error = ring.alloc(1, &mut Patience::limited(Duration::from_millis(1))).unwrap_err();
    assert!(matches!(error, Error::HeapRingFull { .. }), "{error}");
    ring.release(blocks[1]).unwrap();
    let stats = ring.stats().unwrap();
    assert_eq!((stats.waits, stats.live_blocks, stats.held_bytes, stats.peak_bytes), (1, 2, 4096, 8192));
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
    // The span (in the second line), and the first block's table entry: too long, of no length, in no state.
    let spoils: [(usize, u64); 6] = [
        (128 + 8, u64::MAX),
        (128 + 8, 4 << 32),
        (128 + 8, 5),
        (384, 1 << 62 | 5 << 32),
        (384, 3 << 62),
        (384, 1 << 32),
    ];
    for (offset, word) in spoils {
        let region = region(4096);
        let ring = ring(&region, 4096);
        alloc(&ring, 1024);
        write(&region, offset, &word.to_ne_bytes());
        let error = ring.try_alloc(1024).unwrap_err();
        assert!(matches!(error, Error::Corrupted(_)), "{error}");
        let error = ring.stats().unwrap_err();
        assert!(matches!(error, Error::Corrupted(_)), "{error}");
        // Neither of these can fail; they count what makes sense.
        assert!(ring.live() <= 4 && ring.used() <= 4096);
    }
}

#[test]
fn a_block_that_leaves_its_arena_is_not_poisoned() {
    let region = region(4096);
    let ring = poisoning(&region, 4096);
    let block = alloc(&ring, 1024);
    write(&region, 384, &(1u64 << 62 | 5 << 32).to_ne_bytes());
    assert!(matches!(ring.release(block), Err(Error::Corrupted(_))));
}

fn poisoning(region: &Region, nbytes: usize) -> HeapRing {
    HeapRing::poisoning(region, 0, nbytes, "test ring", HeapRing::ALIGNMENT).unwrap()
}

fn bytes(region: &Region, address: usize, nbytes: usize) -> Vec<u8> {
    read(region, address - region.address(), nbytes)
}

#[test]
fn released_bytes_are_poisoned_in_every_process_that_joins() {
    let region = region(8192);
    let maker = poisoning(&region, 8192);
    let joiner = ring(&region, 8192);
    assert!(joiner.poisons());
    let blocks = [alloc(&maker, 3000), alloc(&maker, 1)];
    for block in blocks {
        write(&region, block - region.address(), &[1; 1024]);
    }
    joiner.release(blocks[0]).unwrap();
    assert_eq!(bytes(&region, blocks[0], 3072), [POISON; 3072]);
    assert_eq!(bytes(&region, blocks[1], 1024), [1; 1024], "the neighbour lives");
    assert!(matches!(maker.release(blocks[0]), Err(Error::UnknownBlock { .. })));
    maker.release(blocks[1]).unwrap();
    assert_eq!(alloc(&maker, 8192), blocks[0]);
}

#[test]
fn poison_cannot_be_asked_for_where_the_ring_has_none() {
    let region = region(4096);
    ring(&region, 4096);
    let error = HeapRing::poisoning(&region, 0, 4096, "test", 1024).unwrap_err();
    assert!(error.to_string().contains("does not poison"), "{error}");
}

#[test]
fn a_write_after_the_release_is_found_once_and_names_the_block() {
    let region = region(8192);
    let ring = poisoning(&region, 8192);
    let (block, after) = (alloc(&ring, 2048), alloc(&ring, 1024));
    ring.release(block).unwrap();
    let late = block + 1500;
    write(&region, late - region.address(), &[7, 8]);
    ring.release(after).unwrap();
    let error = ring.try_alloc(4096).unwrap_err();
    match &error {
        Error::WrittenAfterRelease { address, value: 7, block: found, .. } => {
            assert_eq!((*address, *found), (late, Some(block)));
        }
        other => panic!("{other}"),
    }
    for word in [format!("{late:#x}"), format!("{block:#x}"), "0x07".to_owned()] {
        assert!(error.to_string().contains(&word), "{error} lacks {word}");
    }
    assert_eq!(alloc(&ring, 4096), block, "the error is raised once");
}

#[test]
fn pages_that_were_never_used_or_were_given_back_are_no_late_writes() {
    let region = region(16384);
    let ring = poisoning(&region, 16384);
    let block = alloc(&ring, 6000);
    ring.release(block).unwrap();
    // Half-way through a page: what lies before stays poison, what lies behind is zero.
    region.punch(block - region.address() + 3000, 2000).unwrap();
    assert_eq!(alloc(&ring, 16384), block);
}

#[test]
fn a_block_whose_poisoner_was_killed_comes_back() {
    let mut child = Command::new("true").spawn().unwrap();
    let gone = u64::from(child.id());
    child.wait().unwrap();
    let region = region(4096);
    let ring = poisoning(&region, 4096);
    let block = alloc(&ring, 4096);
    // As a process leaves it that was killed between the first and the second half of its release.
    write(&region, 384, &(2u64 << 62 | 4 << 32 | gone).to_ne_bytes());
    assert_eq!((ring.live(), ring.stats().unwrap().held_bytes), (0, 4096));
    assert!(matches!(ring.release(block), Err(Error::UnknownBlock { .. })));
    assert_eq!(alloc(&ring, 1024), block);
    assert_eq!(bytes(&region, block, 4096), [POISON; 4096]);
}

#[test]
fn a_block_that_a_live_process_poisons_is_waited_for() {
    let region = region(4096);
    let ring = poisoning(&region, 4096);
    alloc(&ring, 4096);
    let entry = 2u64 << 62 | 4 << 32 | u64::from(std::process::id());
    write(&region, 384, &entry.to_ne_bytes());
    assert_eq!(ring.try_alloc(1024).unwrap(), None);
}

#[test]
fn an_allocator_that_was_killed_has_a_successor() {
    let mut child = Command::new("true").spawn().unwrap();
    let gone = u64::from(child.id());
    child.wait().unwrap();
    let region = region(4096);
    let ring = ring(&region, 4096);
    for busy in [0, 1] {
        // The token of an object of its, which was or was not in its turn.
        write(&region, 128, &(gone << 32 | 2 | busy).to_ne_bytes());
        let block = alloc(&ring, 4096);
        ring.release(block).unwrap();
    }
    let stats = ring.stats().unwrap();
    assert_eq!((stats.allocated, stats.live_blocks), (2, 0));
}

#[test]
fn an_unfinished_block_of_a_killed_allocator_cannot_be_released() {
    let mut child = Command::new("true").spawn().unwrap();
    let gone = u64::from(child.id());
    child.wait().unwrap();
    let region = region(4096);
    let ring = ring(&region, 4096);
    let block = alloc(&ring, 1024);
    let unfinished = block + 1024;
    write(&region, 128, &(gone << 32 | 2).to_ne_bytes());
    write(&region, 384 + 8, &(1u64 << 62 | 2 << 32).to_ne_bytes());
    assert_eq!(ring.try_alloc(4096).unwrap(), None);
    assert!(matches!(ring.release(unfinished), Err(Error::UnknownBlock { .. })));
    ring.release(block).unwrap();
}

#[test]
fn an_alloc_that_waits_for_a_dead_process_is_told_so() {
    let region = region(4096);
    let ring = ring(&region, 4096);
    let block = alloc(&ring, 4096);
    let mut child = Command::new("sleep").arg("600").spawn().unwrap();
    ring.watch(&Peer::open(child.id() as i32).unwrap()).unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| ring.alloc(1024, &mut Patience::forever()));
        child.kill().unwrap();
        assert!(matches!(waiting.join().unwrap(), Err(Error::PeerDied { .. })));
    });
    let _ = child.wait(); // the peer has reaped it
    ring.release(block).unwrap();
    ring.alloc(4096, &mut Patience::forever()).expect("what is there is given, whoever died");
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
                        assert!(read(region, block - region.address(), nbytes).iter().all(|&byte| byte == stamp));
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
            write(&region, block - region.address(), &vec![stamp; nbytes]);
            users[turn * 7 % 3].send((block, nbytes, stamp)).unwrap();
        }
    });
    assert_eq!((ring.live(), ring.used()), (0, 0));
}

#[test]
fn threads_that_allocate_at_once_get_blocks_of_their_own() {
    let region = region(64 * 1024);
    let ring = ring(&region, 64 * 1024);
    thread::scope(|scope| {
        for stamp in 1..=3u8 {
            let (ring, region) = (&ring, &region);
            scope.spawn(move || {
                for turn in 0..2000usize {
                    let nbytes = 1 + turn * 37 % 6000;
                    let block = ring.alloc(nbytes, &mut Patience::forever()).unwrap();
                    let offset = block - region.address();
                    write(region, offset, &vec![stamp; nbytes]);
                    assert!(read(region, offset, nbytes).iter().all(|&byte| byte == stamp));
                    ring.release(block).unwrap();
                }
            });
        }
        // Meanwhile, from outside: counts that make sense.
        for _ in 0..200 {
            let stats = ring.stats().unwrap();
            assert!(stats.live_bytes <= stats.nbytes && stats.held_bytes <= stats.peak_bytes, "{stats:?}");
        }
    });
    assert_eq!((ring.live(), ring.stats().unwrap().allocated), (0, 6000));
}

#[test]
fn a_ring_of_another_pid_namespace_is_left_alone() {
    // Where the ring says in which namespace process ids in it are counted.
    const NAMESPACE: usize = 128 + 48;
    let nbytes = HeapRing::required_bytes(4096, 64).unwrap();
    let region = Region::anonymous(nbytes, "test").unwrap();
    let block = HeapRing::new(&region, 0, 4096, "test", 64).unwrap().try_alloc(64).unwrap().unwrap();
    let word = region.window(NAMESPACE, 8).unwrap();
    // SAFETY: this is the one thread at it.
    unsafe { word.copy_from(&(u64::from_ne_bytes(word.to_vec().try_into().unwrap()) + 1).to_ne_bytes()) };
    let ring = HeapRing::new(&region, 0, 4096, "test", 64).unwrap();
    let Err(Error::Misused(message)) = ring.try_alloc(64) else { panic!("it was allowed") };
    assert!(message.contains("another pid or time namespace"), "{message}");
    assert_eq!(ring.live(), 1);
    ring.release(block).unwrap(); // says nothing of who does it
}

/// Where the ring says which object allocates: process id, start, program, object; the lowest bit: at this moment.
const OWNER: usize = 128;

fn owner(region: &Region) -> u64 {
    u64::from_ne_bytes(read(region, OWNER, 8).try_into().unwrap())
}

#[test]
fn a_ring_is_followed_where_its_allocator_is_gone_and_only_there() {
    let region = region(4096);
    let first = ring(&region, 4096);
    let block = alloc(&first, 1);
    let alive = owner(&region);
    drop(first);
    assert_eq!(owner(&region), 0);
    let refused = |word: u64| {
        write(&region, OWNER, &word.to_ne_bytes());
        let next = ring(&region, 4096);
        let outcome = next.try_alloc(1).map(|found| next.release(found.unwrap()).unwrap());
        drop(next);
        outcome.err().map(|error| error.to_string())
    };
    let me = format!("is allocated from by process {}", std::process::id());
    for (what, word) in
        [("another copy of this library", alive ^ (1 << 15)), ("one with the ring in hand", (alive ^ (1 << 15)) | 1)]
    {
        assert!(refused(word).is_some_and(|error| error.contains(&me)), "{what}");
    }
    for (what, word) in [
        ("an earlier process with this one's id", alive - (1 << 26)),
        ("one that was killed with the ring in hand", (alive - (1 << 26)) | 1),
        ("what this process was before exec", alive ^ (1 << 16)),
    ] {
        assert_eq!(refused(word), None, "{what}");
    }
    ring(&region, 4096).release(block).unwrap();
}

#[test]
fn a_ring_that_says_for_ever_that_this_object_is_at_it_is_corrupted() {
    let region = region(4096);
    let ring = ring(&region, 4096);
    alloc(&ring, 1);
    let busy = owner(&region) | 1;
    write(&region, OWNER, &busy.to_ne_bytes());
    assert!(matches!(ring.try_alloc(1), Err(Error::Corrupted(_))));
    write(&region, OWNER, &(busy - 1).to_ne_bytes());
    alloc(&ring, 1);
}
