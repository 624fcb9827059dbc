//! What a forked child may do, and may not, with what it inherits; who has a side of a mailbox; and forks of a process
//! with threads.
//!
//! A program of its own, because a process that forks has to have one thread, but for those that a test is about.
//!
//! ```text
//! SIMPLER_IPC_FORKS=10000    how many under threads
//! ```

#[cfg(not(all(target_os = "linux", not(loom))))]
fn main() {}

#[cfg(all(target_os = "linux", not(loom)))]
fn main() {
    linux::main();
}

#[cfg(all(target_os = "linux", not(loom)))]
mod linux {
    use std::env;
    use std::ffi::CString;
    use std::os::fd::{AsRawFd, BorrowedFd};
    use std::os::unix::ffi::OsStrExt;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::Arc;
    use std::thread;
    use std::time::Duration;

    use simpler_ipc::{
        Block, Doorbell, Error, HeapRing, Kind, Mailbox, MailboxClient, Notifier, Patience, Peer, Region, SharedClient,
        WaitSet,
    };

    /// What a server's own waiting says of itself: there is no other way to see that it stays where it is.
    fn switched() {
        in_child(|| {
            let moves = |mailbox: &Mailbox| format!("{:?}", mailbox.server(None).unwrap()).contains("moves: true");
            assert!(moves(&mailbox()));
            env::set_var("SIMPLER_IPC_MOVE", "0");
            assert!(!moves(&mailbox()));
        });
    }

    const TESTS: &[(&str, fn())] = &[
        ("a_second_owner_is_refused_by_name_while_the_first_lives", second_owner),
        ("a_side_is_free_when_its_owner_was_killed_reaped_or_not", killed_owner),
        ("of_many_successors_that_come_at_once_one_gets_the_side", many_successors),
        ("what_a_program_had_before_exec_is_nobodys", before_exec),
        ("a_process_of_another_pid_namespace_is_refused", another_namespace),
        ("a_process_of_another_time_namespace_is_refused", another_time),
        ("where_no_namespace_can_be_told_nobody_is_followed", without_proc),
        ("threads_of_a_child_allocate_from_a_ring_that_it_inherits", threads_of_a_child),
        ("a_child_that_has_its_parents_id_gets_an_error_from_what_it_inherits", same_id),
        ("a_child_that_was_forked_past_the_c_library_gets_an_error_from_what_it_inherits", past_the_library),
        ("a_child_gets_an_error_from_what_it_inherits_and_the_parent_goes_on", inherited),
        ("a_child_leaves_the_claims_and_blocks_that_it_inherits_to_its_parent", inherited_claims),
        ("a_child_rings_the_doorbells_that_its_parent_opened", inherited_doorbell),
        ("a_server_moves_to_another_cpu_unless_that_is_switched_off", switched),
        ("a_child_forked_under_threads_that_open_close_and_watch_does_not_hang", under_threads),
    ];

    pub fn main() {
        let arguments: Vec<String> = env::args().skip(1).collect();
        if let [after, fd] = &arguments[..] {
            if after == AFTER_EXEC {
                return after_exec(fd.parse().unwrap());
            }
        }
        let chosen = |name: &str| {
            let mut filters = arguments.iter().filter(|argument| !argument.starts_with('-')).peekable();
            filters.peek().is_none() || filters.any(|filter| name.contains(filter.as_str()))
        };
        for (name, test) in TESTS.iter().filter(|(name, _)| chosen(name)) {
            if arguments.iter().any(|argument| argument == "--list") {
                println!("{name}: test");
                continue;
            }
            test();
            println!("test {name} ... ok");
        }
    }

    /// A child that does this and exits with status 0, or 101 where it panics; one that hangs is killed.
    fn fork(body: impl FnOnce()) -> libc::pid_t {
        // SAFETY: what the child does is safe in a child of a process with threads: that is what is tested.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
        if pid == 0 {
            // SAFETY: no precondition.
            unsafe { libc::alarm(30) };
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
            // SAFETY: no precondition.
            unsafe { libc::_exit(if done.is_ok() { 0 } else { 101 }) };
        }
        pid
    }

    fn wait(pid: libc::pid_t) -> i32 {
        let mut status = 0;
        // SAFETY: `status` is valid for writing.
        let reaped = unsafe { libc::waitpid(pid, &mut status, 0) };
        assert!(reaped > 0 && (pid == ANY || pid == reaped));
        status
    }

    fn in_child(body: impl FnOnce()) {
        assert_eq!(wait(fork(body)), 0);
    }

    /// A process that does this and stays; it has done it when this returns.
    fn staying(body: impl FnOnce()) -> Peer {
        let region = Region::anonymous(Doorbell::NBYTES, "ready").unwrap();
        let ready = Doorbell::new(&region, 0).unwrap();
        let pid = fork(|| {
            body();
            ready.ring();
            loop {
                // SAFETY: no precondition.
                unsafe { libc::pause() };
            }
        });
        ready.wait(0, &mut patience()).unwrap();
        Peer::open(pid).unwrap()
    }

    fn patience() -> Patience<'static> {
        Patience::limited(Duration::from_secs(20))
    }

    fn mailbox() -> Mailbox {
        let region = Region::anonymous(Mailbox::required_bytes(2, 64).unwrap(), "test").unwrap();
        Mailbox::new(&region, 0, 2, 64).unwrap()
    }

    /// The message of an error that says that something was used wrongly.
    fn misused<T>(result: Result<T, Error>) -> String {
        match result {
            Err(Error::Misused(message)) => message,
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("it was allowed"),
        }
    }

    /// A request goes there and back.
    fn check_goes_on(client: &mut MailboxClient, mailbox: &Mailbox) {
        let mut server = mailbox.server(None).unwrap();
        client.send(Kind::Task, b"?").unwrap().unwrap();
        assert_eq!(server.recv(&mut patience()).unwrap().payload.to_vec(), b"?");
        server.reply(0, b"!").unwrap();
        assert_eq!(client.poll().unwrap().unwrap().payload, b"!");
    }

    fn second_owner() {
        let mailbox = mailbox();
        let mut client = mailbox.client(None).unwrap();
        let here = format!("process {} ", std::process::id());
        in_child(|| {
            let refused = misused(mailbox.client(None));
            assert!(refused.contains(&here) && refused.contains("client"), "{refused}");
        });
        let server = staying(|| std::mem::forget(mailbox.server(None).unwrap()));
        let refused = misused(mailbox.server(None));
        assert!(refused.contains(&format!("process {} ", server.pid())) && refused.contains("server"), "{refused}");
        server.kill(9).unwrap();
        server.wait(&mut patience()).unwrap();
        check_goes_on(&mut client, &mailbox);
    }

    fn killed_owner() {
        let mailbox = mailbox();
        for reaped in [false, true] {
            let owner = staying(|| std::mem::forget((mailbox.client(None).unwrap(), mailbox.server(None).unwrap())));
            assert!(mailbox.client(None).is_err() && mailbox.server(None).is_err());
            let observing = Peer::observe(owner.pid()).unwrap();
            owner.kill(9).unwrap();
            let dead = if reaped { &owner } else { &observing };
            dead.wait(&mut patience()).unwrap();
            check_goes_on(&mut mailbox.client(None).unwrap(), &mailbox);
            owner.wait(&mut patience()).unwrap();
        }
    }

    fn many_successors() {
        const SUCCESSORS: usize = 6;
        let region = Region::anonymous(Doorbell::NBYTES, "starting shot").unwrap();
        let shot = Doorbell::new(&region, 0).unwrap();
        for round in 0..50 {
            let mailbox = mailbox();
            let dead = staying(|| std::mem::forget(mailbox.server(None).unwrap()));
            dead.kill(9).unwrap();
            dead.wait(&mut patience()).unwrap();
            let seen = shot.value();
            let successors: Vec<libc::pid_t> = (0..SUCCESSORS)
                .map(|_| {
                    fork(|| {
                        shot.wait(seen, &mut patience()).unwrap();
                        match mailbox.server(None) {
                            // It keeps it until all have tried.
                            Ok(server) => {
                                std::mem::forget(server);
                                shot.wait(seen + 1, &mut patience()).unwrap();
                            }
                            Err(Error::Misused(_)) => exit(REFUSED),
                            Err(other) => panic!("{other}"),
                        }
                    })
                })
                .collect();
            shot.ring();
            // The one that got it is the last to end.
            let mut refused = 0;
            while refused < SUCCESSORS - 1 {
                let status = wait(ANY);
                assert_eq!(libc::WEXITSTATUS(status), REFUSED, "round {round}");
                refused += 1;
            }
            shot.ring();
            assert_eq!(wait(ANY), 0, "round {round} of {successors:?}");
        }
    }

    const REFUSED: i32 = 3;
    const ANY: libc::pid_t = -1;

    fn exit(status: i32) {
        // SAFETY: no precondition.
        unsafe { libc::_exit(status) };
    }

    const AFTER_EXEC: &str = "after-exec";

    /// A program that replaces itself keeps its id and its start, and nothing of what it had.
    fn before_exec() {
        let program = CString::new(env::current_exe().unwrap().as_os_str().as_bytes()).unwrap();
        let region = Region::anonymous(Mailbox::required_bytes(2, 64).unwrap(), "test").unwrap();
        in_child(|| {
            let mailbox = Mailbox::new(&region, 0, 2, 64).unwrap();
            std::mem::forget((mailbox.client(None).unwrap(), mailbox.server(None).unwrap()));
            // SAFETY: a descriptor of the region's; the copy stays open over exec.
            let fd = unsafe { libc::dup(region.fd().as_raw_fd()) };
            let (after, fd) = (CString::new(AFTER_EXEC).unwrap(), CString::new(fd.to_string()).unwrap());
            let arguments = [program.as_ptr(), after.as_ptr(), fd.as_ptr(), std::ptr::null()];
            // SAFETY: strings that end with NUL, in a list that ends with null.
            unsafe { libc::execv(program.as_ptr(), arguments.as_ptr()) };
            panic!("exec: {}", std::io::Error::last_os_error());
        });
    }

    fn after_exec(fd: i32) {
        // SAFETY: handed over by `before_exec`.
        let region = Region::from_fd(unsafe { BorrowedFd::borrow_raw(fd) }).unwrap();
        let mailbox = Mailbox::new(&region, 0, 2, 64).unwrap();
        check_goes_on(&mut mailbox.client(None).unwrap(), &mailbox);
    }

    /// In another pid namespace the owner's id is somebody else's, or nobody's.
    fn another_namespace() {
        let mailbox = mailbox();
        let region = Region::anonymous(HeapRing::required_bytes(4096, 64).unwrap(), "test").unwrap();
        let ring = || HeapRing::poisoning(&region, 0, 4096, "test", 64).unwrap();
        let allocating = ring();
        let block = allocating.try_alloc(100).unwrap().unwrap();
        let client = mailbox.client(None).unwrap();
        let outside = || {
            let refusals = [
                misused(mailbox.client(None)),
                misused(mailbox.server(None)),
                misused(ring().try_alloc(1)),
                misused(ring().release(block)),
            ];
            for refusal in refusals {
                assert!(refusal.contains("another pid or time namespace"), "{refusal}");
            }
        };
        // The server's side was never had: whoever comes first decides.
        drop(mailbox.server(None).unwrap());
        in_namespace(libc::CLONE_NEWPID, || in_child(outside));
        allocating.release(block).unwrap();
        drop(client);
    }

    /// Does this in a process whose children are of a new namespace of that kind.
    fn in_namespace(kind: libc::c_int, body: impl FnOnce()) {
        const NOT_ALLOWED: i32 = 4;
        let unshared = wait(fork(|| {
            // SAFETY: no precondition.
            if unsafe { libc::unshare(libc::CLONE_NEWUSER | kind) } != 0 {
                exit(NOT_ALLOWED);
            }
            body();
        }));
        match libc::WEXITSTATUS(unshared) {
            NOT_ALLOWED => println!("not run: this system does not let a process make a namespace of kind {kind:#x}"),
            _ => assert_eq!(unshared, 0),
        }
    }

    /// What a process that lives has is not to be taken for a dead one's because its start is counted otherwise there.
    fn another_time() {
        let mailbox = mailbox();
        let client = mailbox.client(None).unwrap();
        in_namespace(libc::CLONE_NEWTIME, || {
            std::fs::write("/proc/self/timens_offsets", "boottime 86400 0").unwrap();
            in_child(|| {
                let refusal = misused(mailbox.client(None));
                assert!(refusal.contains("another pid or time namespace"), "{refusal}");
            });
        });
        drop(client);
        mailbox.client(None).unwrap();
    }

    /// Without /proc the processes of any namespace look alike: who is not found may be elsewhere, and alive.
    fn without_proc() {
        in_namespace(libc::CLONE_NEWNS, || {
            let (none, tmpfs, proc) = (std::ptr::null(), c"tmpfs".as_ptr(), c"/proc".as_ptr());
            // SAFETY: strings, and no data.
            if unsafe { libc::mount(tmpfs, proc, tmpfs, 0, none) } != 0 {
                println!("not run: this system does not let a process hide /proc from itself");
                return;
            }
            let mailbox = mailbox();
            let region = Region::anonymous(HeapRing::required_bytes(4096, 64).unwrap(), "test").unwrap();
            let ring = || HeapRing::new(&region, 0, 4096, "test", 64).unwrap();
            in_child(|| {
                drop(mailbox.client(None).unwrap()); // what was let go of is free
                std::mem::forget(mailbox.server(None).unwrap());
                let allocating = ring();
                allocating.try_alloc(1).unwrap().unwrap();
                std::mem::forget(allocating);
            });
            in_child(|| {
                mailbox.client(None).unwrap();
                misused(mailbox.server(None));
                misused(ring().try_alloc(1));
            });
        });
    }

    fn threads_of_a_child() {
        let region = Region::anonymous(HeapRing::required_bytes(1 << 16, 64).unwrap(), "test").unwrap();
        let ring = HeapRing::new(&region, 0, 1 << 16, "test", 64).unwrap();
        let me = Peer::open(std::process::id() as i32).unwrap();
        ring.watch(&me).unwrap();
        in_child(|| {
            std::thread::scope(|scope| {
                for _ in 0..3 {
                    scope.spawn(|| {
                        for _ in 0..3000 {
                            // So large that they wait for one another, and look at who is watched.
                            let block = ring.alloc(3 << 14, &mut patience()).unwrap();
                            ring.release(block).unwrap();
                        }
                    });
                }
            });
        });
    }

    /// What a child must not do with what it inherits, whoever it thinks it is.
    fn check_refused(mailbox: &Mailbox, client: &mut MailboxClient, ring: &Arc<HeapRing>, block: &mut Option<Block>) {
        let refusals =
            [misused(client.send(Kind::Task, b"?")), misused(client.poll()), misused(Notifier::new(client.waiter()))];
        for refusal in refusals {
            assert!(
                refusal.contains("belongs to process") && refusal.contains("before this process was forked"),
                "{refusal}"
            );
        }
        misused(ring.try_alloc(1));
        misused(mailbox.client(None)); // its parent lives, and has it
        drop(block.take());
        assert_eq!(ring.live(), 1);
    }

    fn with_things(body: impl FnOnce(&Mailbox, &mut MailboxClient, &Arc<HeapRing>, &mut Option<Block>)) {
        let mailbox = mailbox();
        let region = Region::anonymous(HeapRing::required_bytes(4096, 64).unwrap(), "test").unwrap();
        let ring = Arc::new(HeapRing::new(&region, 0, 4096, "test", 64).unwrap());
        let mut client = mailbox.client(None).unwrap();
        let mut block = Some(Block::alloc(&ring, 100, &mut patience()).unwrap());
        body(&mailbox, &mut client, &ring, &mut block);
        check_goes_on(&mut client, &mailbox);
        drop(block);
        assert_eq!(ring.live(), 0);
    }

    /// The first process of a pid namespace forks the first of one below it: each is process 1 to itself.
    fn same_id() {
        in_namespace(libc::CLONE_NEWPID, || {
            in_child(|| {
                assert_eq!(std::process::id(), 1);
                with_things(|mailbox, client, ring, block| {
                    // SAFETY: no precondition.
                    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWPID) }, 0);
                    in_child(|| {
                        assert_eq!(std::process::id(), 1);
                        check_refused(mailbox, client, ring, block);
                    });
                });
            });
        });
    }

    /// No handler that was registered for forks is called.
    fn past_the_library() {
        with_things(|mailbox, client, ring, block| {
            let none = std::ptr::null::<libc::c_void>();
            // SAFETY: without flags it does what fork does.
            let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, none, none, none, none) } as libc::pid_t;
            if pid == 0 {
                let checked = || check_refused(mailbox, client, ring, block);
                let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(checked));
                // SAFETY: no precondition.
                unsafe { libc::_exit(if done.is_ok() { 0 } else { 101 }) };
            }
            assert_eq!(wait(pid), 0);
        });
    }

    fn inherited() {
        let mailbox = mailbox();
        let mut client = mailbox.client(None).unwrap();
        client.send(Kind::Task, b"first").unwrap();
        client.send(Kind::Task, b"second").unwrap();
        let mut server = mailbox.server(None).unwrap();
        server.recv(&mut patience()).unwrap();
        server.reply(0, b"there").unwrap();
        server.recv(&mut patience()).unwrap();
        let me = Peer::open(std::process::id() as i32).unwrap();
        let shared = SharedClient::new(client);
        let notifier = Notifier::new(shared.lock().unwrap().waiter()).unwrap();
        let mut locked = shared.lock().unwrap();
        let waiter = locked.waiter();
        in_child(|| {
            let client = &mut locked;
            let refusals = [
                misused(client.send(Kind::Task, b"?")),
                misused(client.claim()),
                misused(client.poll()),
                misused(client.cancel(1)),
                misused(client.call(Kind::Task, b"?", &mut patience())),
                misused(client.wait(&mut patience())),
                misused(client.watch(&me)),
                misused(waiter.wait(&mut patience())),
                misused(waiter.wait_for(99, &mut patience())),
                misused(shared.call(Kind::Task, b"?", &mut patience())),
                misused(notifier.arm()),
                misused(notifier.clear()),
                misused(server.try_recv()),
                misused(server.recv(&mut patience())),
                misused(server.reply(0, b"wrong")),
                misused(server.watch(&me)),
                misused(server.waiter().wait(&mut patience())),
            ];
            for refusal in refusals {
                assert!(refusal.contains(&format!("process {}", me.pid())), "{refusal}");
            }
        });
        // Nor does it give the parent's side up when it drops what it inherited.
        drop(locked);
        let (mut shared, mut server) = (Some(shared), Some(server));
        in_child(|| {
            drop((shared.take(), server.take()));
            for refused in [misused(mailbox.client(None)), misused(mailbox.server(None))] {
                assert!(refused.contains(&format!("process {}", me.pid())), "{refused}");
            }
        });
        let (shared, mut server) = (shared.unwrap(), server.unwrap());
        server.reply(0, b"there as well").unwrap();
        let mut client = shared.lock().unwrap();
        let payloads: Vec<_> = std::iter::from_fn(|| client.poll().unwrap()).map(|reply| reply.payload).collect();
        assert_eq!(payloads, [&b"there"[..], b"there as well"]);
    }

    fn inherited_claims() {
        let mailbox = mailbox();
        let region = Region::anonymous(HeapRing::required_bytes(4096, 64).unwrap(), "test").unwrap();
        let ring = Arc::new(HeapRing::new(&region, 0, 4096, "test", 64).unwrap());
        let mut client = mailbox.client(None).unwrap();
        let mut server = mailbox.server(None).unwrap();
        client.send(Kind::Task, b"held").unwrap();
        server.recv(&mut patience()).unwrap();
        let mut claim = client.claim().unwrap().unwrap();
        claim.copy_from(b"untouched").unwrap();
        let block = Block::alloc(&ring, 100, &mut patience()).unwrap();
        let mut inherited = Some(Block::alloc(&ring, 100, &mut patience()).unwrap());
        let (mut client, mut claim, mut block) = (Some(client), Some(claim), Some(block));
        let me = std::process::id();
        in_child(|| {
            let (mut mine, mut client) = (claim.take().unwrap(), client.take().unwrap());
            let refusals = [
                misused(mine.copy_from(b"spoilt")),
                misused(client.submit(mine, Kind::Task, 9)), // and dropped
                misused(client.request::<u64>()),
                misused(client.make_room()),
                misused(client.take_reply(0)),
                misused(client.abandon(0)),
                misused(client.keep_until_reply(0, inherited.take().unwrap())),
                misused(client.flush()),
                misused(client.call_large(&ring, Kind::Task, b"?", &mut Patience::limited(Duration::ZERO))),
                misused(server.received(0)),
                misused(server.fail(1, "wrong")),
                misused(server.flush()),
            ];
            for refusal in refusals {
                assert!(refusal.contains(&format!("process {me}")), "{refusal}");
            }
            drop(block.take());
        });
        assert_eq!(ring.live(), 2);
        drop((block, inherited));
        assert_eq!(ring.live(), 0);
        server.reply(0, b"!").unwrap();
        assert!(server.try_recv().unwrap().is_none(), "the claim is neither submitted nor given up");
        client.unwrap().submit(claim.unwrap(), Kind::Task, 9).unwrap();
        assert_eq!(server.try_recv().unwrap().unwrap().payload.to_vec(), b"untouched");
    }

    fn inherited_doorbell() {
        let mailbox = mailbox();
        let bells = Region::anonymous(Doorbell::NBYTES, "bells").unwrap();
        let doorbell = Doorbell::new(&bells, 0).unwrap();
        let mut client = mailbox.client(Some(&doorbell)).unwrap();
        client.send(Kind::Task, b"?").unwrap();
        let server = fork(|| {
            let mut server = mailbox.server(None).unwrap();
            server.recv(&mut patience()).unwrap();
            server.reply(0, b"!").unwrap();
        });
        doorbell.wait(0, &mut patience()).unwrap();
        assert_eq!(client.poll().unwrap().unwrap().payload, b"!");
        assert_eq!(wait(server), 0);
    }

    fn under_threads() {
        let forks = env::var("SIMPLER_IPC_FORKS").map_or(1000, |number| number.parse().unwrap());
        let me = Peer::open(std::process::id() as i32).unwrap();
        let stop = AtomicBool::new(false);
        let opens_and_closes = || {
            let nbytes = HeapRing::required_bytes(4096, 64).unwrap();
            let region = Region::anonymous(nbytes + 2 * Doorbell::NBYTES, "threads").unwrap();
            let ring = HeapRing::new(&region, 0, 4096, "threads", 64).unwrap();
            let block = ring.try_alloc(100).unwrap().unwrap();
            ring.release(block).unwrap();
            let mapped_again = Region::from_fd(region.fd()).unwrap();
            Doorbell::new(&mapped_again, nbytes.next_multiple_of(Doorbell::NBYTES)).unwrap().ring();
        };
        let takes_sides = || {
            let mailbox = mailbox();
            check_goes_on(&mut mailbox.client(None).unwrap(), &mailbox);
        };
        let watches = || {
            let region = Region::anonymous(Doorbell::NBYTES, "threads").unwrap();
            let set = WaitSet::new(Doorbell::new(&region, 0).unwrap());
            set.watch(&me).unwrap();
        };
        let inherited = Region::anonymous(Doorbell::NBYTES, "inherited").unwrap();
        let set = WaitSet::new(Doorbell::new(&inherited, 0).unwrap());
        thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    opens_and_closes()
                }
            });
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    takes_sides()
                }
            });
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    watches()
                }
            });
            let status = (0..forks).map(|number| {
                let child = fork(|| {
                    opens_and_closes();
                    takes_sides();
                    watches();
                    set.watch(&me).unwrap();
                });
                (number, wait(child))
            });
            let failed = status.into_iter().find(|(_, status)| *status != 0);
            stop.store(true, Ordering::Relaxed);
            assert_eq!(failed, None, "fork number and status of a child");
        });
        println!("{forks} forks under three threads");
    }
}
