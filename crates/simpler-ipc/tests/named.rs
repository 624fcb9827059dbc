//! Named regions: one owner at a time, whoever dies; nothing a record says is believed.

#![cfg(all(target_os = "linux", not(loom)))]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::{symlink, PermissionsExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Barrier;
use std::thread;

use rustix::fs::{FileType, FlockOperation, MemfdFlags, Mode, CWD};
use rustix::process::{Pid, WaitId, WaitIdOptions};
use simpler_ipc::named::{clean, Record};
use simpler_ipc::{named_regions, Error, NamedRegion, Region};

/// A name of this test's own, whose file goes with it.
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

struct Name(String);

impl Name {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        Name(format!("test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)))
    }

    fn path(&self) -> PathBuf {
        format!("/dev/shm/simpler-ipc.{}.{}", rustix::process::geteuid().as_raw(), self.0).into()
    }

    fn record(&self) -> Record {
        Record::decode(&fs::read(self.path()).unwrap()).unwrap()
    }

    /// Puts bytes where the record is.
    fn plant(&self, bytes: &[u8]) {
        fs::write(self.path(), bytes).unwrap();
        fs::set_permissions(self.path(), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn listed(&self) -> Option<NamedRegion> {
        named_regions().unwrap().into_iter().find(|region| region.name == self.0)
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.path()); // most tests have left none
    }
}

/// The test program again, as another process that runs [`another_process`] with this order.
fn elsewhere(order: &str, name: &Name) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["another_process", "--exact", "--ignored", "--nocapture"])
        .env("ORDER", order)
        .env("NAME", &name.0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// What the other process says it did.
fn answer(child: &mut Child) -> String {
    let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
    let said = lines.map(Result::unwrap).find_map(|line| line.split_once("did: ").map(|(_, did)| did.to_owned()));
    said.expect("the other process says something")
}

#[test]
#[ignore = "the other process of the tests below"]
fn another_process() {
    let name = std::env::var("NAME").unwrap();
    let wait = || std::io::stdin().read_line(&mut String::new()).unwrap();
    let region = match std::env::var("ORDER").unwrap().as_str() {
        "create" => Region::create(&name, 8192),
        "attach" => Region::attach(&name),
        "create when told" => {
            println!("did: start");
            wait();
            Region::create(&name, 8192)
        }
        other => panic!("{other}"),
    };
    match &region {
        Ok(region) => println!("did: {} bytes", region.nbytes()),
        Err(error) => println!("did: {error}"),
    }
    wait();
}

fn killed(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn memory_made_under_a_name_is_found_by_it() {
    let name = Name::new();
    let region = Region::create(&name.0, 4096).unwrap();
    write(&region, 0, b"hello");
    let other = Region::attach(&name.0).unwrap();
    assert_ne!(region.address(), other.address());
    assert_eq!(read(&other, 0, 5), b"hello");
    assert_eq!((region.name(), other.name()), (Some(&*name.0), Some(&*name.0)));
    assert_eq!(Region::anonymous(1, "label").unwrap().name(), None);
    assert_eq!(fs::metadata(name.path()).unwrap().permissions().mode() & 0o7777, 0o600);
}

#[test]
fn the_name_goes_with_its_owner_and_the_memory_with_its_last_user() {
    let name = Name::new();
    let region = Region::create(&name.0, 4096).unwrap();
    let other = Region::attach(&name.0).unwrap();
    drop(region);
    assert!(!name.path().exists());
    assert!(matches!(Region::attach(&name.0), Err(Error::RegionNotFound { .. })));
    write(&other, 0, b"kept");
    drop(other);
    Region::create(&name.0, 4096).unwrap();
}

#[test]
fn one_who_attached_takes_no_name_away() {
    let name = Name::new();
    let region = Region::create(&name.0, 4096).unwrap();
    drop(Region::attach(&name.0).unwrap());
    let mut child = elsewhere("attach", &name);
    assert_eq!(answer(&mut child), "4096 bytes");
    killed(child);
    assert!(name.path().exists());
    region.release_name().unwrap();
    assert!(!name.path().exists());
    region.release_name().unwrap();
}

#[test]
fn a_name_in_use_is_refused_with_its_owner() {
    let name = Name::new();
    let _region = Region::create(&name.0, 4096).unwrap();
    match Region::create(&name.0, 4096) {
        Err(Error::RegionExists { name: taken, pid }) => {
            assert_eq!((taken, pid as u32), (name.0.clone(), std::process::id()))
        }
        other => panic!("{other:?}"),
    }
    let mut child = elsewhere("create", &name);
    assert!(answer(&mut child).contains(&format!("process {} owns it", std::process::id())));
    killed(child);
}

#[test]
fn what_a_killed_owner_leaves_is_taken_over() {
    let name = Name::new();
    let mut child = elsewhere("create", &name);
    assert_eq!(answer(&mut child), "8192 bytes");
    let attached = Region::attach(&name.0).unwrap();
    write(&attached, 8000, b"kept");
    // A zombie, which is dead: nobody has waited for it.
    child.kill().unwrap();
    rustix::process::waitid(WaitId::Pid(Pid::from_child(&child)), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT)
        .unwrap();
    match Region::attach(&name.0) {
        Err(error @ Error::RegionNotFound { .. }) => {
            assert!(error.to_string().contains(&format!("process {}, has ended", child.id())), "{error}");
            assert!(error.to_string().contains("create it anew"), "{error}");
        }
        other => panic!("{other:?}"),
    }
    child.wait().unwrap();
    assert!(matches!(Region::attach(&name.0), Err(Error::RegionNotFound { .. })));
    let taken_over = Region::create(&name.0, 4096).unwrap();
    assert_eq!(read(&taken_over, 0, 4096), [0; 4096]);
    assert_eq!(read(&attached, 8000, 4), b"kept", "it is other memory");
}

#[test]
fn of_many_processes_one_gets_the_name() {
    let name = Name::new();
    for left_behind in [None, Some("create")] {
        if let Some(order) = left_behind {
            let mut dead = elsewhere(order, &name);
            answer(&mut dead);
            killed(dead);
            assert!(name.path().exists(), "there is something to take over");
        }
        let mut children: Vec<Child> = (0..8).map(|_| elsewhere("create when told", &name)).collect();
        for child in &mut children {
            assert_eq!(answer(child), "start");
        }
        for child in &mut children {
            child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
        }
        let answers: Vec<String> = children.iter_mut().map(answer).collect();
        let winners: Vec<usize> = (0..8).filter(|&index| answers[index] == "8192 bytes").collect();
        assert_eq!(winners.len(), 1, "{answers:?}");
        let owner = format!("process {} owns it", children[winners[0]].id());
        assert_eq!(answers.iter().filter(|answer| answer.contains(&owner)).count(), 7, "{answers:?}");
        children.into_iter().for_each(killed);
    }
}

#[test]
fn threads_that_create_drop_and_attach_at_once_never_see_two_owners() {
    let name = Name::new();
    let owners = AtomicU32::new(0);
    let (created, attached) = (AtomicU32::new(0), AtomicU32::new(0));
    let barrier = Barrier::new(4);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                barrier.wait();
                for _ in 0..300 {
                    match Region::create(&name.0, 4096) {
                        Ok(region) => {
                            assert_eq!(owners.fetch_add(1, Ordering::SeqCst), 0);
                            created.fetch_add(1, Ordering::Relaxed);
                            owners.fetch_sub(1, Ordering::SeqCst);
                            drop(region);
                        }
                        Err(Error::RegionExists { .. }) => {}
                        Err(other) => panic!("{other}"),
                    }
                    match Region::attach(&name.0) {
                        Ok(region) => {
                            assert_eq!(region.nbytes(), 4096);
                            attached.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(Error::RegionNotFound { .. }) => {}
                        Err(other) => panic!("{other}"),
                    }
                }
            });
        }
    });
    assert!(created.into_inner() >= 4);
    assert!(!name.path().exists());
}

#[test]
fn attaching_while_the_owner_dies_gives_whole_memory_or_none() {
    for _ in 0..20 {
        let name = Name::new();
        let mut child = elsewhere("create", &name);
        answer(&mut child);
        child.kill().unwrap();
        loop {
            match Region::attach(&name.0) {
                Ok(region) => write(&region, 0, &[1; 8192]),
                Err(Error::RegionNotFound { .. }) => break,
                Err(other) => panic!("{other}"),
            }
        }
        child.wait().unwrap();
    }
}

#[test]
fn what_nobody_finished_is_taken_over() {
    let name = Name::new();
    let whole = Region::create(&name.0, 4096).map(|_| name.record_bytes_of_a_dead()).unwrap();
    for nbytes in [0, 1, 8, 11, 12, whole.len() - 1] {
        name.plant(&whole[..nbytes]);
        assert_eq!(name.listed().unwrap().alive, Some(false));
        match Region::attach(&name.0) {
            Err(Error::RegionNotFound { why, .. }) => assert!(why.contains("unfinished"), "{why}"),
            other => panic!("{other:?}"),
        }
        drop(Region::create(&name.0, 4096).unwrap());
    }
    let mut torn = whole;
    torn[20] ^= 1;
    name.plant(&torn);
    drop(Region::create(&name.0, 4096).unwrap());
}

impl Name {
    /// A record whose owner is not: process 1 did not start at the end of time.
    fn record_bytes_of_a_dead(&self) -> Vec<u8> {
        Record { pid: 1, start_time: u64::MAX, ..self.record_of_mine() }.encode().to_vec()
    }

    /// What this process would write, had it memory of 4096 bytes at descriptor 0.
    fn record_of_mine(&self) -> Record {
        let other = Name::new();
        let _region = Region::create(&other.0, 4096).unwrap();
        Record { name: self.0.clone(), ..other.record() }
    }
}

#[test]
fn other_versions_and_other_things_are_left_alone() {
    let name = Name::new();
    let mut later = name.record_bytes_of_a_dead();
    later[8] = 9;
    let other_name = Record { name: "other".to_owned(), ..name.record_of_mine() }.encode().to_vec();
    for (bytes, why) in [
        (later, "layout version 9, this library reads and writes version 1"),
        (b"something else".to_vec(), "no record of a region"),
        (vec![0; 4096], "no record of a region"),
        (other_name, "that of another name"),
    ] {
        name.plant(&bytes);
        for refused in [Region::create(&name.0, 4096), Region::attach(&name.0)] {
            match refused {
                Err(error @ Error::RegionUnusable { .. }) => assert!(error.to_string().contains(why), "{error}"),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(name.listed().unwrap().alive, None);
        assert_eq!(clean(|listed| listed == name.0).unwrap(), []);
        assert_eq!(fs::read(name.path()).unwrap(), bytes);
    }
}

#[test]
fn files_that_others_could_change_are_refused() {
    let refused = |name: &Name, expected: &str| {
        for refused in [Region::create(&name.0, 4096), Region::attach(&name.0)] {
            match refused {
                Err(error @ Error::RegionUnusable { .. }) => assert!(error.to_string().contains(expected), "{error}"),
                other => panic!("{other:?}"),
            }
        }
        assert!(name.listed().is_none());
    };
    let name = Name::new();
    fs::write(name.path(), b"").unwrap();
    fs::set_permissions(name.path(), fs::Permissions::from_mode(0o660)).unwrap();
    refused(&name, "open to other users (mode 660)");
    fs::remove_file(name.path()).unwrap();
    symlink("/dev/null", name.path()).unwrap();
    refused(&name, "symbolic link");
    fs::remove_file(name.path()).unwrap();
    rustix::fs::mknodat(CWD, name.path(), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    refused(&name, "no plain file");
}

#[test]
fn a_record_that_lies_leads_to_no_memory() {
    let name = Name::new();
    let memory = Region::anonymous(4096, "test").unwrap();
    let unsealed = rustix::fs::memfd_create("unsealed", MemfdFlags::CLOEXEC).unwrap();
    rustix::fs::ftruncate(&unsealed, 4096).unwrap();
    let inode = |fd: BorrowedFd<'_>| rustix::fs::fstat(fd).unwrap().st_ino;
    let honest = Record { fd: memory.fd().as_raw_fd(), identity: inode(memory.fd()), ..name.record_of_mine() };
    name.plant(&honest.encode());
    assert!(Region::attach(&name.0).is_ok());
    let pipe = rustix::pipe::pipe().unwrap();
    for lie in [
        Record { nbytes: 1 << 40, ..honest.clone() },
        Record { nbytes: 1, ..honest.clone() },
        Record { identity: honest.identity + 1, ..honest.clone() },
        Record { fd: 1_000_000, ..honest.clone() },
        Record { fd: pipe.0.as_raw_fd(), identity: inode(pipe.0.as_fd()), ..honest.clone() },
        Record { fd: unsealed.as_raw_fd(), identity: inode(unsealed.as_fd()), ..honest.clone() },
        Record { start_time: honest.start_time + 1, ..honest.clone() },
        Record { pid: i32::MAX, ..honest.clone() },
        Record { namespace: 1, ..honest.clone() },
    ] {
        name.plant(&lie.encode());
        let attached = Region::attach(&name.0);
        assert!(matches!(attached, Err(Error::RegionNotFound { .. } | Error::RegionUnusable { .. })), "{lie:?}");
    }
}

#[test]
fn an_owner_in_another_pid_namespace_is_left_alone() {
    let name = Name::new();
    name.plant(&Record { namespace: 1, pid: i32::MAX, ..name.record_of_mine() }.encode());
    for refused in [Region::create(&name.0, 4096), Region::attach(&name.0)] {
        match refused {
            Err(error @ Error::RegionUnusable { .. }) => {
                assert!(error.to_string().contains("file descriptor over a socket"), "{error}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(name.listed().unwrap().alive, None);
}

#[test]
fn a_stopped_holder_of_the_lock_stops_nobody() {
    let name = Name::new();
    let region = Region::create(&name.0, 4096).unwrap();
    let holder = fs::File::open(name.path()).unwrap();
    rustix::fs::flock(&holder, FlockOperation::LockExclusive).unwrap();
    let mut naps = 0;
    let mut pause = |_| {
        naps += 1;
        if naps < 3 {
            Ok(())
        } else {
            Err(Error::Interrupted)
        }
    };
    assert!(matches!(Region::create_pausing(&name.0, 4096, &mut pause), Err(Error::Interrupted)));
    assert_eq!(naps, 3);
    match Region::create(&name.0, 4096) {
        Err(error @ Error::WaitTimeout { .. }) => {
            assert!(error.to_string().contains("lock of a region's name"), "{error}")
        }
        other => panic!("{other:?}"),
    }
    assert!(Region::attach(&name.0).is_ok(), "a whole record is read without the lock");
    assert!(name.listed().unwrap().alive.unwrap());
    drop(holder);
    drop(region);
    assert!(!name.path().exists());
}

#[test]
fn an_owner_that_lost_its_name_takes_away_nobody_elses() {
    let name = Name::new();
    let region = Region::create(&name.0, 4096).unwrap();
    let others = name.record_bytes_of_a_dead();
    name.plant(&others);
    drop(region);
    assert_eq!(fs::read(name.path()).unwrap(), others);
}

#[test]
fn the_list_tells_what_is_known_and_cleaning_takes_the_stale() {
    let (lives, died) = (Name::new(), Name::new());
    let region = Region::create(&lives.0, 1 << 36).unwrap();
    region.prefault(0, 8192).unwrap();
    let mut child = elsewhere("create", &died);
    answer(&mut child);
    assert_eq!(died.listed().unwrap().pid, Some(child.id() as i32));
    assert_eq!(died.listed().unwrap().alive, Some(true));
    killed(child);
    let listed = lives.listed().unwrap();
    assert_eq!((listed.nbytes, listed.alive), (Some(1 << 36), Some(true)));
    assert_eq!(listed.pid, Some(std::process::id() as i32));
    assert!(listed.resident.unwrap() >= 8192);
    assert!(listed.created > 1.6e9);
    assert_eq!(listed.start_time, Some(lives.record().start_time));
    let listed = died.listed().unwrap();
    assert_eq!((listed.alive, listed.resident), (Some(false), None));
    assert!(listed.note.contains("has ended"), "{}", listed.note);
    let removed = clean(|name| [&lives.0, &died.0].contains(&&name.to_owned())).unwrap();
    assert_eq!(removed, [listed]);
    assert!(died.listed().is_none() && lives.listed().is_some());
}

#[test]
fn names_and_sizes_that_cannot_be_are_refused() {
    for name in ["", ".hidden", "a/b", "..", "ä", "a b", &"x".repeat(201)] {
        assert!(matches!(Region::create(name, 4096), Err(Error::Invalid(_))), "{name}");
        assert!(matches!(Region::attach(name), Err(Error::Invalid(_))), "{name}");
    }
    let name = Name(format!("{:x<200}", Name::new().0));
    assert!(matches!(Region::create(&name.0, 0), Err(Error::Invalid(_))));
    assert!(matches!(Region::create(&name.0, usize::MAX), Err(Error::Invalid(_))));
    assert!(!name.path().exists());
    Region::create(&name.0, 1).unwrap();
}
