//! Every state that shared memory passes through on the way, as the state that a killed process leaves.
//!
//! A child does one thing and is stepped through it, an instruction at a time (ptrace). After each instruction that has
//! changed the shared memory, that is what a process killed there would leave: survivor and successor have to get along
//! with it. Naming a region goes by files, so there the moments are the calls to the system.
//! Where `kills` hits the long moments ten thousand times, this hits every moment once.
//!
//! A program of its own, because a process that forks has to have one thread.

#[cfg(not(all(target_os = "linux", not(loom))))]
fn main() {}

#[cfg(all(target_os = "linux", not(loom)))]
fn main() {
    linux::main();
}

#[cfg(all(target_os = "linux", not(loom)))]
mod linux {
    use std::ops::Range;

    use simpler_ipc::{Doorbell, Error, HeapRing, Kind, Mailbox, MailboxClient, MailboxServer, Region, Status};

    const DEPTH: usize = 3;
    const FRAME_BYTES: usize = 40;
    const RING: usize = 8 * 64;
    const RING_AT: usize = 4096;

    /// Memory, a client and a server on it, and what they have done so far.
    struct Stage {
        region: Region,
        mailbox: Mailbox,
        doorbell: Doorbell,
        client: Option<MailboxClient>,
        server: Option<MailboxServer>,
        posted: Vec<Vec<u8>>,
        taken: u64,
        blocks: Vec<Range<usize>>,
    }

    fn memory_for_one() -> Region {
        Region::anonymous(RING_AT + HeapRing::required_bytes(RING, 64).unwrap(), "crash points").unwrap()
    }

    fn answer(request: &[u8]) -> Vec<u8> {
        request.iter().rev().map(|byte| byte ^ 0xff).collect()
    }

    impl Stage {
        fn new() -> Self {
            Self::on(&memory_for_one())
        }

        /// On memory that is zero.
        fn on(region: &Region) -> Self {
            let mailbox = Mailbox::new(region, 0, DEPTH, FRAME_BYTES).unwrap();
            let doorbell = Doorbell::new(region, RING_AT - Doorbell::NBYTES).unwrap();
            let (client, server) = (mailbox.client(None).ok(), mailbox.server(None).ok());
            let region = region.clone();
            Stage { region, mailbox, doorbell, client, server, posted: vec![], taken: 0, blocks: vec![] }
        }

        fn client(&mut self) -> &mut MailboxClient {
            self.client.as_mut().unwrap()
        }

        fn server(&mut self) -> &mut MailboxServer {
            self.server.as_mut().unwrap()
        }

        /// In the place of those that went before: those that have died, or that let go of it here.
        fn start_client(&mut self, doorbell: Option<Doorbell>) {
            self.client = None;
            self.client = Some(self.mailbox.client(doorbell.as_ref()).unwrap());
        }

        fn start_server(&mut self, doorbell: Option<Doorbell>) {
            self.server = None;
            self.server = Some(self.mailbox.server(doorbell.as_ref()).unwrap());
        }

        /// Another process has the client's place, or the server's, when it dies.
        fn dies_elsewhere(&mut self, start: fn(&mut Self, Option<Doorbell>)) {
            let exited = fork(|| {
                start(self, None);
                // SAFETY: no precondition. Nothing is let go of.
                unsafe { libc::_exit(0) };
            });
            assert_eq!(wait(exited), 0);
        }

        fn ring(&self) -> HeapRing {
            HeapRing::new(&self.region, RING_AT, RING, "crash points", 64).unwrap()
        }

        fn send(&mut self) {
            let ticket = self.posted.len() as u8;
            let request = vec![ticket.wrapping_mul(37) ^ 0x5a; 1 + ticket as usize * 7 % FRAME_BYTES];
            self.posted.push(request.clone());
            assert!(self.client().send(Kind::Task, &request).unwrap().is_some());
        }

        fn receive(&mut self) {
            assert!(self.server().try_recv().unwrap().is_some());
        }

        fn reply(&mut self) {
            let ticket = self.posted.len() - self.client().in_flight();
            let reply = answer(&self.posted[ticket]);
            self.server().reply(0, &reply).unwrap();
        }

        fn poll(&mut self) {
            assert!(self.client().poll().unwrap().is_some());
            self.taken += 1;
        }

        fn alloc(&mut self, granules: usize) {
            let block = self.ring().try_alloc(granules * 64).unwrap().unwrap();
            self.blocks.push(block..block + granules * 64);
        }

        fn release(&mut self, number: usize) {
            self.ring().release(self.blocks.remove(number).start).unwrap();
        }
    }

    /// Something done after something else. What it adds to or takes from the stage may have happened or not.
    struct Act {
        what: &'static str,
        before: fn(&mut Stage),
        act: fn(&mut Stage),
    }

    const ACTS: &[Act] = &[
        Act { what: "sends", before: |_| {}, act: Stage::send },
        Act { what: "sends into the last free frame", before: |s| (0..2).for_each(|_| s.send()), act: Stage::send },
        Act {
            what: "sends into a frame used before",
            before: |s| {
                (0..4).for_each(|_| {
                    s.send();
                    s.receive();
                    s.reply();
                    s.poll();
                })
            },
            act: Stage::send,
        },
        Act {
            what: "fills a frame in place",
            before: Stage::send,
            act: |s| {
                let mut claim = s.client().claim().unwrap().unwrap();
                claim.copy_from(&[9; 20]).unwrap();
                s.posted.push(vec![9; 20]);
                s.client().submit(claim, Kind::Control, 20).unwrap();
            },
        },
        Act {
            what: "polls",
            before: |s| {
                s.send();
                s.send();
                s.receive();
                s.reply();
            },
            act: Stage::poll,
        },
        Act {
            what: "cancels",
            before: |s| (0..3).for_each(|_| s.send()),
            act: |s| assert!(s.client().cancel(1).unwrap()),
        },
        Act {
            what: "starts as a client",
            before: |s| {
                s.send();
                s.send();
                s.receive();
                s.reply();
            },
            act: |s| s.start_client(Some(s.doorbell.clone())),
        },
        Act {
            what: "follows a killed client",
            before: |s| {
                s.send();
                s.send();
                s.receive();
                s.reply();
                s.client = None;
                s.dies_elsewhere(Stage::start_client);
            },
            act: |s| s.start_client(None),
        },
        Act { what: "receives", before: |s| (0..2).for_each(|_| s.send()), act: Stage::receive },
        Act {
            what: "receives past what was cancelled",
            before: |s| {
                s.send();
                s.send();
                assert!(s.client().cancel(0).unwrap());
            },
            act: Stage::receive,
        },
        Act {
            what: "replies",
            before: |s| {
                s.send();
                s.send();
                s.receive();
            },
            act: Stage::reply,
        },
        Act {
            what: "replies before what was cancelled",
            before: |s| {
                s.send();
                s.send();
                s.receive();
                assert!(s.client().cancel(1).unwrap());
                assert!(s.server().try_recv().unwrap().is_none());
            },
            act: Stage::reply,
        },
        Act {
            what: "replies with nothing",
            before: |s| {
                s.send();
                s.receive();
            },
            act: |s| s.server().reply(7, &[]).unwrap(),
        },
        Act {
            what: "fails",
            before: |s| {
                s.send();
                s.receive();
            },
            act: |s| s.server().fail(5, "it did not work out").unwrap(),
        },
        Act {
            what: "starts as a server",
            before: |s| {
                s.send();
                s.send();
                s.receive();
                s.reply();
                s.receive();
            },
            act: |s| s.start_server(Some(s.doorbell.clone())),
        },
        Act {
            what: "follows a killed server",
            before: |s| {
                s.send();
                s.send();
                s.receive();
                s.server = None;
                s.dies_elsewhere(Stage::start_server);
            },
            act: |s| s.start_server(None),
        },
        Act { what: "makes a ring", before: |_| {}, act: |s| drop(s.ring()) },
        Act { what: "allocates", before: |s| s.alloc(2), act: |s| s.alloc(3) },
        Act { what: "allocates in a fresh ring", before: |_| {}, act: |s| s.alloc(8) },
        Act {
            what: "allocates around the end",
            before: |s| {
                s.alloc(3);
                s.alloc(3);
                s.release(0);
            },
            act: |s| s.alloc(3),
        },
        Act {
            what: "allocates in a ring that has become empty",
            before: |s| {
                s.alloc(3);
                s.alloc(2);
                s.release(0);
                s.release(0);
            },
            act: |s| s.alloc(8),
        },
        Act {
            what: "allocates where much is to be reclaimed",
            before: |s| {
                (0..8).for_each(|_| s.alloc(1));
                (0..5).for_each(|_| s.release(0));
            },
            act: |s| s.alloc(4),
        },
        Act {
            what: "releases",
            before: |s| {
                s.alloc(2);
                s.alloc(2);
            },
            act: |s| s.release(0),
        },
        Act { what: "releases the last one", before: |s| s.alloc(2), act: |s| s.release(0) },
    ];

    fn memory(region: &Region) -> &[u8] {
        // SAFETY: the region is mapped; the one other process that writes there is stopped.
        unsafe { std::slice::from_raw_parts(region.address() as *const u8, region.nbytes()) }
    }

    /// Memory as the act finds it, in a process that has both sides.
    fn staged(region: &Region, act: &Act) -> Stage {
        region.punch(0, region.nbytes()).unwrap();
        let mut stage = Stage::on(region);
        (act.before)(&mut stage);
        stage
    }

    /// Where it stands which process has a side.
    const OWNERS: [usize; 2] = [256 + 40, 128 + 40];
    const OWNER_NBYTES: usize = 16;

    fn fork(body: impl FnOnce()) -> libc::pid_t {
        // SAFETY: this process has one thread.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
        if pid == 0 {
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
            // SAFETY: no precondition.
            unsafe { libc::_exit(i32::from(done.is_err())) };
        }
        pid
    }

    fn wait(pid: libc::pid_t) -> i32 {
        let mut status = 0;
        // SAFETY: `status` is valid for writing.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
        status
    }

    fn stop() {
        // SAFETY: no precondition.
        unsafe { libc::raise(libc::SIGSTOP) };
    }

    /// What memory held before and after each instruction of the act that changed it; none if tracing is not allowed.
    fn memories(region: &Region, act: &Act) -> Option<Vec<Vec<u8>>> {
        let ptrace = |request, pid: libc::pid_t| {
            // SAFETY: these requests take neither an address nor data.
            unsafe { libc::ptrace(request, pid, 0usize, 0usize) }
        };
        let pid = fork(|| {
            let mut stage = staged(region, act);
            if ptrace(libc::PTRACE_TRACEME, 0) == 0 {
                stop();
                (act.act)(&mut stage);
                stop();
            }
        });
        if !libc::WIFSTOPPED(wait(pid)) {
            return None;
        }
        let mut memories = vec![memory(region).to_vec()];
        loop {
            assert_eq!(ptrace(libc::PTRACE_SINGLESTEP, pid), 0);
            let status = wait(pid);
            assert!(libc::WIFSTOPPED(status), "a process that {} ended with status {status:#x}", act.what);
            if memory(region) != *memories.last().unwrap() {
                memories.push(memory(region).to_vec());
            }
            if libc::WSTOPSIG(status) == libc::SIGSTOP {
                break;
            }
        }
        // SAFETY: no precondition; it is not reaped.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
        wait(pid);
        Some(memories)
    }

    /// Whoever is left and whoever comes anew answer and take all that was posted, and go on.
    fn check_mailbox(stage: &mut Stage, act: &Act) {
        let before = stage.posted.len();
        if act.what.contains("send") || act.what.contains("fills") {
            // May have been posted: what it would have been is found by doing it once more, elsewhere.
            let mut other = Stage::new();
            (act.before)(&mut other);
            (act.act)(&mut other);
            stage.posted.push(other.posted.pop().unwrap());
        }
        let mut expected = None;
        for _ in 0..20 {
            while let Some(request) = stage.server().try_recv().unwrap() {
                let (ticket, bytes) = (request.ticket, request.payload.to_vec());
                assert_eq!(bytes, stage.posted[ticket as usize], "request {ticket} is whole");
                stage.server().reply(0, &answer(&bytes)).unwrap();
            }
            while let Some(reply) = stage.client().poll().unwrap() {
                let first = expected.is_none() && act.what == "polls";
                let next = expected.unwrap_or(stage.taken);
                assert!(reply.ticket == next || first && reply.ticket == next + 1, "reply {} for {next}", reply.ticket);
                expected = Some(reply.ticket + 1);
                let request = &stage.posted[reply.ticket as usize];
                match reply.status {
                    Status::Ok if act.what == "replies with nothing" && reply.code == 7 => {
                        assert_eq!(reply.payload, [])
                    }
                    Status::Ok => assert_eq!(reply.payload, answer(request), "reply {} is whole", reply.ticket),
                    Status::Cancelled => assert!(act.what.contains("cancel")),
                    Status::Failed => assert_eq!(act.what, "fails"),
                }
            }
        }
        assert_eq!(stage.client().in_flight(), 0, "something was posted and is never answered");
        let answered = expected.unwrap_or(stage.taken) as usize;
        assert!((before..=stage.posted.len()).contains(&answered), "{answered} answered of {before} posted");
        for _ in 0..2 * DEPTH {
            stage.client().send(Kind::Task, b"and on").unwrap().unwrap();
            assert_eq!(stage.server().try_recv().unwrap().unwrap().payload.to_vec(), b"and on");
            stage.server().reply(0, b"it goes").unwrap();
            assert_eq!(stage.client().poll().unwrap().unwrap().payload, b"it goes");
        }
    }

    /// Blocks that were live are, but for the one that was being released; no byte is lost.
    fn check_ring(stage: &mut Stage, act: &Act) {
        let ring = stage.ring();
        let stats = ring.stats().unwrap();
        let known = stage.blocks.len() as u64;
        let (least, most) = if act.what.contains("releases") { (known - 1, known) } else { (known, known + 1) };
        assert!((least..=most).contains(&stats.live_blocks), "{} live, {known} known", stats.live_blocks);
        let live = &stage.blocks[usize::from(act.what.contains("releases"))..];
        let mut others = Vec::new();
        while let Some(block) = ring.try_alloc(1).unwrap() {
            assert!(!live.iter().any(|range| range.contains(&block)), "{block:#x} is allocated twice");
            others.push(block);
        }
        for block in others {
            ring.release(block).unwrap();
        }
        for (number, block) in stage.blocks.iter().enumerate() {
            let released = ring.release(block.start);
            assert!(released.is_ok() || number == 0 && act.what.contains("releases"), "block {number}: {released:?}");
        }
        while let Some(oldest) = ring.stats().unwrap().oldest {
            ring.release(oldest).unwrap();
        }
        assert!(ring.try_alloc(RING).unwrap().is_some(), "no byte is lost");
    }

    /// Kills a process at its `stops`th entry into or return from the system, in the midst of the work: whether it came
    /// to its end before.
    fn killed_after(stops: usize, work: impl FnOnce()) -> bool {
        let ptrace = |request, pid: libc::pid_t| {
            // SAFETY: these requests take neither an address nor data.
            unsafe { libc::ptrace(request, pid, 0usize, 0usize) }
        };
        let pid = fork(|| {
            assert_eq!(ptrace(libc::PTRACE_TRACEME, 0), 0);
            stop();
            work();
            stop();
        });
        wait(pid);
        let mut ended = false;
        for _ in 0..stops {
            assert_eq!(ptrace(libc::PTRACE_SYSCALL, pid), 0);
            let status = wait(pid);
            assert!(libc::WIFSTOPPED(status), "it ended with status {status:#x}");
            ended = libc::WSTOPSIG(status) == libc::SIGSTOP;
            if ended {
                break;
            }
        }
        // SAFETY: no precondition; it is not reaped.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
        wait(pid);
        ended
    }

    /// A name whose owner was killed while it gave it, or took it away, is nobody's: not to be attached, free to be
    /// given.
    fn names() -> usize {
        let name = format!("crash-points-{}", std::process::id());
        let mut points = 0;
        let give: fn(&str) = |name| std::mem::forget(Region::create(name, 4096).unwrap());
        let give_and_take: fn(&str) = |name| drop(Region::create(name, 4096).unwrap());
        for (what, work) in [("gives a name", give), ("gives a name and takes it away", give_and_take)] {
            let mut stops = 0;
            while !killed_after(stops, || work(&name)) {
                stops += 1;
                let attached = Region::attach(&name);
                assert!(matches!(attached, Err(Error::RegionNotFound { .. })), "after {stops} stops: {attached:?}");
                let region = Region::create(&name, 8192).unwrap();
                assert_eq!(Region::attach(&name).unwrap().nbytes(), 8192);
                drop(region);
                points += 1;
            }
            simpler_ipc::named::clean(|stale| stale == name).unwrap();
            println!("{stops:4} moments of a process that {what}");
        }
        points
    }

    pub fn main() {
        let mut points = 0;
        let region = memory_for_one();
        for act in ACTS {
            let Some(memories) = memories(&region, act) else {
                println!("not run: this system does not let a process trace its child");
                return;
            };
            assert!(memories.len() > 1, "a process that {} changes nothing", act.what);
            for (point, memory) in memories.iter().enumerate() {
                for successors in [[true, false], [false, true], [true, true]] {
                    // The one that died cannot survive.
                    let server_died =
                        ["receives", "replies", "fails", "server"].iter().any(|word| act.what.contains(word));
                    if !successors[usize::from(server_died)] {
                        continue;
                    }
                    let checking = fork(|| {
                        // SAFETY: no precondition. What hangs is killed.
                        unsafe { libc::alarm(60) };
                        // Whoever survives is this process, and has done what came before.
                        let mut stage = staged(&region, act);
                        if successors[0] {
                            stage.client = None;
                        }
                        if successors[1] {
                            stage.server = None;
                        }
                        // SAFETY: nobody else is at it, here and below: the process that was stepped is gone.
                        let owners = OWNERS.map(|at| unsafe { region.window(at, OWNER_NBYTES).unwrap().to_vec() });
                        // SAFETY: as above.
                        unsafe { region.window(0, memory.len()).unwrap().copy_from(memory) };
                        for (side, at) in OWNERS.into_iter().enumerate().filter(|(side, _)| !successors[*side]) {
                            // SAFETY: as above.
                            unsafe { region.window(at, OWNER_NBYTES).unwrap().copy_from(&owners[side]) };
                        }
                        if successors[0] {
                            stage.start_client(None);
                        }
                        if successors[1] {
                            stage.start_server(None);
                        }
                        check_mailbox(&mut stage, act);
                        check_ring(&mut stage, act);
                    });
                    let status = wait(checking);
                    assert_eq!(
                        status,
                        0,
                        "killed at point {point} of {}: {} ({successors:?} new)",
                        memories.len(),
                        act.what
                    );
                    points += 1;
                }
            }
            println!("{:4} states on the way of a process that {}", memories.len(), act.what);
        }
        points += names();
        println!("{points} crashes, all got over");
    }
}
