//! Regions: size, sharing, punching, and what is refused.

#![cfg(all(target_os = "linux", not(loom)))]

use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::fs::{MemfdFlags, SealFlags};
use simpler_ipc::{Doorbell, Error, Kind, Mailbox, Patience, Region};

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

#[test]
fn fresh_memory_is_zero_and_of_the_size_asked_for() {
    let region = Region::anonymous(5000, "test").unwrap();
    assert_eq!(region.nbytes(), 5000);
    assert_eq!(read(&region, 0, 5000), vec![0; 5000]);
}

#[test]
fn a_region_of_a_tebibyte_costs_nothing_until_it_is_touched() {
    let region = Region::anonymous(1 << 40, "test").unwrap();
    let last = region.window((1 << 40) - 3, 3).unwrap();
    // SAFETY: this is the only thread.
    assert_eq!(unsafe { (last.copy_from(b"end"), last.to_vec()).1 }, b"end");
}

#[test]
fn a_second_mapping_sees_the_same_bytes_and_outlives_the_first() {
    let region = Region::anonymous(4096, "test").unwrap();
    let other = Region::from_fd(region.fd()).unwrap();
    assert_ne!(region.address(), other.address());
    write(&region, 10, b"hello");
    drop(region);
    assert_eq!(read(&other, 10, 5), b"hello");
}

#[test]
fn a_window_keeps_the_memory_mapped() {
    let window = Region::anonymous(4096, "test").unwrap().window(0, 4).unwrap();
    // SAFETY: this is the only thread.
    assert_eq!(unsafe { (window.copy_from(b"kept"), window.to_vec()).1 }, b"kept");
}

#[test]
fn punched_bytes_read_as_zero_and_their_neighbours_stay() {
    let region = Region::anonymous(4 * 4096, "test").unwrap();
    write(&region, 0, &[7; 4 * 4096]);
    region.punch(100, 2 * 4096).unwrap();
    let bytes = read(&region, 0, 4 * 4096);
    assert!(bytes[..100].iter().all(|&byte| byte == 7));
    assert!(bytes[100..100 + 2 * 4096].iter().all(|&byte| byte == 0));
    assert!(bytes[100 + 2 * 4096..].iter().all(|&byte| byte == 7));
}

#[test]
fn prefaulting_makes_pages_and_keeps_bytes() {
    let region = Region::anonymous(1 << 36, "test").unwrap();
    let resident = || std::fs::File::from(region.fd().try_clone_to_owned().unwrap()).metadata().unwrap().blocks() * 512;
    assert_eq!(resident(), 0, "64 GiB cost nothing");
    write(&region, 1 << 20, b"kept");
    region.prefault((1 << 20) - 1, 3 * 4096).unwrap();
    assert!(resident() >= 4 * 4096, "{}", resident());
    assert_eq!(read(&region, 1 << 20, 4), b"kept");
    region.prefault(1 << 36, 0).unwrap();
    assert!(matches!(region.prefault(1 << 36, 1), Err(Error::Invalid(_))));
    assert!(matches!(region.prefault(usize::MAX, 2), Err(Error::Invalid(_))));
    let odd = Region::anonymous(5000, "test").unwrap();
    odd.prefault(0, 5000).unwrap();
    assert_eq!(read(&odd, 0, 5000), vec![0; 5000]);
}

#[test]
fn memory_joined_twice_is_mapped_once() {
    let region = Region::anonymous(4096, "test").unwrap();
    assert_eq!(Region::join(region.fd(), None).unwrap().address(), region.address());
    let fd = region.fd().try_clone_to_owned().unwrap();
    drop(region);
    let joined = Region::join(fd.as_fd(), Some("name")).unwrap();
    assert_eq!((joined.nbytes(), joined.name()), (4096, Some("name")));
}

#[test]
fn nobody_can_shrink_or_grow_it() {
    let region = Region::anonymous(4096, "test").unwrap();
    let file = std::fs::File::from(region.fd().try_clone_to_owned().unwrap());
    assert!(file.set_len(0).is_err());
    assert!(file.set_len(8192).is_err());
}

#[test]
fn a_file_that_could_be_shrunk_is_no_region() {
    let file = std::fs::File::open("Cargo.toml").unwrap();
    assert!(matches!(Region::from_fd(file.as_fd()), Err(Error::Invalid(_) | Error::Os { .. })));
}

#[test]
fn memory_shrunk_until_it_was_sealed_is_mapped_as_large_as_it_is() {
    for _ in 0..200 {
        let fd = rustix::fs::memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::fs::ftruncate(&fd, 8 * 4096).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                rustix::fs::ftruncate(&fd, 4096).unwrap();
                rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK).unwrap();
            });
            let region = loop {
                match Region::from_fd(fd.as_fd()) {
                    Ok(region) => break region,
                    Err(error) => assert!(matches!(error, Error::Invalid(_)), "{error}"),
                }
            };
            assert_eq!(region.nbytes(), 4096);
        });
    }
}

#[test]
fn memory_of_huge_pages_that_may_be_lacking_is_no_region() {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::HUGETLB;
    let Ok(fd) = rustix::fs::memfd_create("test", flags) else {
        return; // this kernel has none
    };
    rustix::fs::ftruncate(&fd, 1 << 30).unwrap(); // whole pages of whatever size
    rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK).unwrap();
    let error = Region::from_fd(fd.as_fd()).unwrap_err();
    assert!(matches!(error, Error::Invalid(_)) && error.to_string().contains("huge pages"), "{error}");
}

#[test]
fn contains_knows_both_ends() {
    let region = Region::anonymous(100, "test").unwrap();
    let start = region.address();
    assert!(region.contains(start, 100));
    assert!(region.contains(start + 99, 1));
    assert!(!region.contains(start + 99, 2));
    assert!(!region.contains(start - 1, 1));
    assert!(!region.contains(start, usize::MAX));
}

#[test]
fn what_does_not_lie_in_the_region_is_refused() {
    let region = Region::anonymous(4096, "test").unwrap();
    assert!(matches!(region.window(4096, 1), Err(Error::Invalid(_))));
    assert!(matches!(region.window(usize::MAX, 2), Err(Error::Invalid(_))));
    assert!(matches!(region.punch(0, 4097), Err(Error::Invalid(_))));
    assert!(matches!(Doorbell::new(&region, 4096), Err(Error::Invalid(_))));
    assert!(matches!(Doorbell::new(&region, 2), Err(Error::Invalid(_))));
}

#[test]
fn impossible_sizes_and_names_are_refused() {
    assert!(matches!(Region::anonymous(0, "test"), Err(Error::Invalid(_))));
    assert!(matches!(Region::anonymous(usize::MAX, "test"), Err(Error::Invalid(_))));
    assert!(matches!(Region::anonymous(1, "a\0b"), Err(Error::Invalid(_))));
    assert!(matches!(Region::anonymous(1, &"x".repeat(300)), Err(Error::Invalid(_))));
}

#[test]
fn a_range_is_given_back_before_a_mailbox_is_made_there_or_not_at_all() {
    let region = Region::anonymous(Mailbox::required_bytes(1, 64).unwrap(), "test").unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                match region.punch(0, region.nbytes()) {
                    Ok(()) | Err(Error::Misused(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
        for value in 1..2000u64 {
            let mailbox = Mailbox::new(&region, 0, 1, 64).unwrap();
            let (mut client, mut server) = (mailbox.client(None).unwrap(), mailbox.server(None).unwrap());
            client.send(Kind::Task, &value.to_ne_bytes()).unwrap().unwrap();
            let request = server.recv(&mut Patience::limited(Duration::ZERO)).unwrap();
            assert_eq!(request.payload.read::<u64>().unwrap(), value);
            server.reply(0, &[]).unwrap();
            client.poll().unwrap().unwrap();
        }
        stop.store(true, Ordering::Relaxed);
    });
}
