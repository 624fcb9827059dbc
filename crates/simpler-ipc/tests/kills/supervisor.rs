//! Forks, kills, reaps, and counts.

use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, fs, io};

use simpler_ipc::peer::ORPHANED;
use simpler_ipc::{exit_with, Exit, Limit, Patience, Peer};

use crate::ledger::{now_ns, Doing, Ledger, Random, Scene, ALIGNMENT, CLIENT, DOINGS, ROLES, SERVER};
use crate::players::{play, End};

/// How long a survivor may stay silent before that is called a hang. Far from what is promised: it only has to end.
const HANG: Duration = Duration::from_secs(60);
const TOLD_WITHIN: Duration = Duration::from_millis(100);
/// A player's exit status when it found something wrong: the ledger has its words.
const WRONG: i32 = 70;

pub fn main() {
    let filters: Vec<String> = env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if env::args().any(|argument| argument == "--list") {
        println!("kills: test");
        return;
    }
    if !filters.is_empty() && !filters.iter().any(|filter| "kills".contains(filter.as_str())) {
        return;
    }
    let number = |name: &str| env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")));
    let kills: u64 = number("SIMPLER_IPC_KILLS").unwrap_or(10_000);
    let seed = number("SIMPLER_IPC_SEED")
        .unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64);
    println!("{kills} kills with SIMPLER_IPC_SEED={seed}");
    // SAFETY: no precondition. What a killed parent leaves behind becomes ours to reap.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }, 0);

    let start = Instant::now();
    let before = Held::now();
    let mut random = Random::new(seed);
    let mut seen = Seen::default();
    while seen.kills < kills {
        let left = kills - seen.kills;
        epoch(&mut random, &mut seen, left.min(50));
        assert_eq!(Held::now(), before, "an epoch leaves nothing open, mapped or running");
        assert_eq!(reap(-1), None, "an epoch leaves no process");
    }
    seen.report(start.elapsed());
    seen.check();
}

/// What this process holds.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    fds: usize,
    mappings: usize,
    threads: usize,
}

impl Held {
    fn now() -> Self {
        let count = |folder| fs::read_dir(folder).unwrap().count();
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        Held {
            fds: count("/proc/self/fd"),
            mappings: maps.lines().filter(|line| line.contains("/memfd:")).count(),
            threads: count("/proc/self/task"),
        }
    }
}

/// Moments of death, and what came of them.
#[derive(Default)]
struct Seen {
    kills: u64,
    /// How long survivors were without word, in ns.
    silences: Vec<u64>,
    states: BTreeMap<String, u64>,
    victims: BTreeMap<(usize, u64), u64>,
    survivors: BTreeMap<(usize, u64), u64>,
    requests: u64,
    lost: u64,
}

impl Seen {
    fn frames(&mut self, scene: &Scene) {
        for word in scene.frame_words() {
            *self.states.entry(state_name(word)).or_default() += 1;
        }
    }

    fn victim(&mut self, role: usize, doing: u64) {
        *self.victims.entry((role, doing)).or_default() += 1;
    }

    fn survivor(&mut self, role: usize, doing: u64) {
        *self.survivors.entry((role, doing)).or_default() += 1;
    }

    fn report(&mut self, elapsed: Duration) {
        self.silences.sort_unstable();
        let share = |part: f64| self.silences[((self.silences.len() - 1) as f64 * part) as usize] as f64 / 1e6;
        println!(
            "{} kills in {:.1} s, {} requests, {} blocks lost with their owner",
            self.kills,
            elapsed.as_secs_f64(),
            self.requests,
            self.lost
        );
        println!(
            "{} survivors told after: median {:.3} ms, 90 % {:.3} ms, 99 % {:.3} ms, 99.9 % {:.3} ms, at most {:.3} ms",
            self.silences.len(),
            share(0.5),
            share(0.9),
            share(0.99),
            share(0.999),
            share(1.0)
        );
        println!("frames at the moment of death:");
        for (state, count) in &self.states {
            println!("{count:>12}  {state}");
        }
        for (what, counts) in [("killed", &self.victims), ("surviving", &self.survivors)] {
            println!("{what}, in the middle of:");
            for ((role, doing), count) in counts {
                println!("{count:>12}  {} {}", ROLES[*role], DOINGS[*doing as usize]);
            }
        }
    }

    fn check(&self) {
        if self.kills < 10_000 {
            return; // too few to ask that all was hit
        }
        // A machine may stall for longer than any limit, so the slowest one in a hundred is not held against us.
        let told = Duration::from_nanos(self.silences[self.silences.len() * 99 / 100]);
        assert!(told <= TOLD_WITHIN, "99 % of the survivors were told within {told:?}, not within {TOLD_WITHIN:?}");
        for state in STATES {
            assert!(self.states.contains_key(state), "no frame was {state} at a moment of death");
        }
        for (role, doings) in [(CLIENT, CLIENT_DOINGS), (SERVER, SERVER_DOINGS)] {
            // The shortest calls are over before a kill arrives, most of the time: `crash_points` dies in all of them.
            let hit = |doing: &&Doing| {
                ![Doing::Allocating, Doing::Releasing, Doing::Cancelling, Doing::Receiving].contains(doing)
            };
            for doing in doings.iter().filter(hit).map(|doing| *doing as u64) {
                let what = format!("{} {}", ROLES[role], DOINGS[doing as usize]);
                assert!(self.victims.contains_key(&(role, doing)), "no {what} was killed");
                assert!(self.survivors.contains_key(&(role, doing)), "no {what} survived");
            }
        }
    }
}

/// What each role is to be killed in the middle of, and told of a death in the middle of.
const CLIENT_DOINGS: &[Doing] = &[
    Doing::Starting,
    Doing::Thinking,
    Doing::Posting,
    Doing::Polling,
    Doing::AwaitingReply,
    Doing::Calling,
    Doing::Allocating,
    Doing::Releasing,
    Doing::Cancelling,
    Doing::Mourning,
];
const SERVER_DOINGS: &[Doing] = &[
    Doing::Starting,
    Doing::Thinking,
    Doing::Releasing,
    Doing::AwaitingRequest,
    Doing::Receiving,
    Doing::Replying,
    Doing::Mourning,
];

const STATES: [&str; 4] = ["IDLE", "TASK_READY", "TASK_DONE", "CANCELLED"];

fn state_name(word: u64) -> String {
    STATES.get((word & 7) as usize).map_or_else(|| format!("in no known state ({word:#x})"), |name| (*name).to_owned())
}

/// One mailbox of some depth, one ring, and a number of kills.
fn epoch(random: &mut Random, seen: &mut Seen, kills: u64) {
    let depth = [1, 2, 3, 4, 8, 16, 64][random.below(7) as usize];
    let ring_nbytes = ALIGNMENT * (2 + random.below(60) as usize);
    let mut epoch = Epoch {
        scene: Scene::new(depth, ring_nbytes),
        parent_role: random.below(2) as usize,
        armed: random.one_in(4),
        seed: random.next(),
        parent: 0,
        child: 0,
        replaced: true,
    };
    epoch.fork_parent();
    let end = seen.kills + kills;
    while seen.kills < end {
        let both = random.one_in(4);
        let victims: &[usize] =
            if both { &[CLIENT, SERVER] } else { &[CLIENT, SERVER][random.below(2) as usize..][..1] };
        epoch.kill(victims, random, seen);
    }
    epoch.end(seen);
}

struct Epoch {
    scene: Scene,
    /// What the parent plays; the child plays the other.
    parent_role: usize,
    /// Whether children end with their parents.
    armed: bool,
    seed: u64,
    parent: libc::pid_t,
    /// The child last known, and whether another is to come.
    child: libc::pid_t,
    replaced: bool,
}

impl Epoch {
    fn fork_parent(&mut self) {
        self.seed += 1;
        // SAFETY: this process has one thread.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0, "fork: {}", io::Error::last_os_error());
        if pid == 0 {
            playing(&self.scene, || self.parent_plays());
        }
        self.parent = pid;
        self.scene.ledger().pids[self.parent_role].set(pid as u64);
        self.scene.bell.ring();
    }

    fn parent_plays(&self) {
        let (scene, role) = (&self.scene, self.parent_role);
        let ledger = scene.ledger();
        let mut random = Random::new(self.seed);
        let me = Peer::open(std::process::id() as i32).unwrap();
        let mut held = None;
        loop {
            let orphan = ledger.orphan.get();
            let (peer, ours) = if orphan != 0 {
                ledger.orphan.set(0);
                (Peer::open(orphan as i32).unwrap(), false)
            } else {
                let child_seed = random.next();
                // SAFETY: the one other thread there may be, the watcher, has ended with what it watched.
                let pid = unsafe { libc::fork() };
                assert!(pid >= 0, "fork: {}", io::Error::last_os_error());
                if pid == 0 {
                    playing(scene, || self.child_plays(&me, Random::new(child_seed)));
                }
                (Peer::open(pid).unwrap(), true)
            };
            let end = play(scene, role, &peer, ours, &mut random);
            if end == End::Finished {
                if ours {
                    let exit = peer.wait(&mut Patience::forever()).unwrap();
                    assert_eq!(exit, Exit { status: Some(0), signal: None }, "the child finishes as well");
                }
                return;
            }
            drop(peer);
            let fds = Held::now().fds;
            assert_eq!(*held.get_or_insert(fds), fds, "however many peers a survivor survives, it has as much open");
        }
    }

    fn child_plays(&self, parent: &Peer, mut random: Random) {
        let (scene, role) = (&self.scene, 1 - self.parent_role);
        let ledger = scene.ledger();
        ledger.pids[role].set(u64::from(std::process::id()));
        scene.bell.ring();
        if self.armed {
            exit_with(parent).unwrap();
        }
        let mut parent = parent.clone();
        while play(scene, role, &parent, false, &mut random) == End::Told {
            let dead = parent.pid() as u64;
            let next = || Some(ledger.pids[1 - role].get()).filter(|pid| *pid != dead);
            parent = Peer::open(await_word(scene, "the next parent", next) as i32).unwrap();
        }
    }

    fn kill(&mut self, victims: &[usize], random: &mut Random, seen: &mut Seen) {
        self.await_child();
        self.await_moment(victims[0], random);
        let ledger = self.scene.ledger();
        let kills_parent = victims.contains(&self.parent_role);
        let kills_child = victims.contains(&(1 - self.parent_role));
        let doing = [CLIENT, SERVER].map(|role| ledger.doing[role].get());
        let killed_at = now_ns();
        // The parent first: a process that has a kill coming forks no more.
        if kills_parent {
            kill(self.parent, ledger);
        }
        if kills_child {
            kill(self.child, ledger);
        }
        seen.kills += victims.len() as u64;
        seen.frames(&self.scene);
        let ends = kills_child || self.armed;
        if let &[victim] = victims {
            let survivor = 1 - victim;
            seen.survivor(survivor, doing[survivor]);
            let told = &ledger.told[survivor];
            if kills_parent && self.armed {
                // Whether or not it was told as well, it ends.
                let exit = Peer::open(self.child).unwrap().wait(&mut Patience::limited(HANG));
                seen.silences.push(now_ns() - killed_at);
                check_failure(ledger);
                // It may have become ours, from its parent that was just dying, only after it was asked for.
                let status = exit.unwrap().status.map(|status| status << 8).or_else(|| reap(self.child));
                assert_eq!(status, Some(ORPHANED << 8));
                seen.victim(victim, ledger.doing[victim].get());
            } else {
                let told_of = || Some(told.pid.get()).filter(|pid| *pid != 0);
                let pid = await_word(&self.scene, "the survivor to be told", told_of) as libc::pid_t;
                assert_eq!(pid, if kills_parent { self.parent } else { self.child });
                seen.silences.push(told.at.get() - killed_at);
                seen.victim(victim, told.victim_doing.get());
            }
        }
        // Until here, whoever is nobody's child but ours was a zombie.
        if kills_parent {
            let status = reap(self.parent);
            check_failure(ledger);
            assert_eq!(status, Some(libc::SIGKILL));
        }
        if kills_child {
            // Its parent's to reap where that is alive; and one that ends with its parent may have been faster.
            let status = reap(self.child);
            let ended = kills_parent && self.armed && status == Some(ORPHANED << 8);
            assert!(ended || [None, Some(libc::SIGKILL)].contains(&status), "{status:?}");
        }
        if victims.len() == 2 {
            for role in [CLIENT, SERVER] {
                seen.victim(role, ledger.doing[role].get());
            }
        }
        self.replaced = ends;
        for told in &ledger.told {
            told.pid.set(0);
        }
        if kills_parent {
            ledger.orphan.set(if ends { 0 } else { self.child as u64 });
            self.fork_parent();
        }
    }

    /// Spins for a random time; often until the victim is in the middle of something random, and a little longer.
    fn await_moment(&self, victim: usize, random: &mut Random) {
        let start = now_ns();
        let longest_ns = [3_000, 30_000, 300_000][random.below(3) as usize];
        let mut pause_ns = random.below(longest_ns);
        if random.below(4) > 0 {
            let doings = [CLIENT_DOINGS, SERVER_DOINGS][victim];
            let doing = doings[random.below(doings.len() as u64) as usize] as u64;
            while self.scene.ledger().doing[victim].get() != doing && now_ns() - start < 2_000_000 {
                std::hint::spin_loop();
            }
            pause_ns = now_ns() - start + random.below(2_000);
        }
        while now_ns() - start < pause_ns {
            std::hint::spin_loop();
        }
    }

    fn await_child(&mut self) {
        if self.replaced {
            let word = &self.scene.ledger().pids[1 - self.parent_role];
            let old = self.child as u64;
            let next = || Some(word.get()).filter(|pid| *pid != 0 && *pid != old);
            self.child = await_word(&self.scene, "the child to be there", next) as libc::pid_t;
            self.replaced = false;
        }
    }

    /// No more requests: all there are get their replies, and nothing is left in the mailbox or the ring.
    fn end(mut self, seen: &mut Seen) {
        self.await_child();
        let ledger = self.scene.ledger();
        ledger.stop.set(1);
        let finished = || (ledger.finished[0].get() & ledger.finished[1].get() != 0).then_some(1);
        await_word(&self.scene, "both to finish", finished);
        assert_eq!(reap(self.parent), Some(0));
        assert!([None, Some(0)].contains(&reap(self.child)));
        (self.parent, self.child) = (0, 0);

        let client = self.scene.mailbox.client(None).unwrap();
        let mut server = self.scene.mailbox.server(None).unwrap();
        assert_eq!(client.in_flight(), 0);
        assert!(server.try_recv().unwrap().is_none());
        assert_eq!(ledger.blocks(), 0, "every request's block is released");
        let ring = self.scene.ring();
        assert!(ring.live() <= ledger.lost.get(), "{} blocks live, {} lost", ring.live(), ledger.lost.get());
        while let Some(oldest) = ring.stats().unwrap().oldest {
            ring.release(oldest).unwrap();
        }
        assert!(ring.try_alloc(self.scene.ring_nbytes).unwrap().is_some(), "no byte is lost");
        seen.requests += ledger.sent.get();
        seen.lost += ledger.lost.get();
    }
}

impl Drop for Epoch {
    fn drop(&mut self) {
        // Nobody is left behind when a check failed.
        for pid in [self.parent, self.child].into_iter().filter(|pid| *pid != 0) {
            // SAFETY: no precondition. It may have been reaped a moment ago; no other process has its number yet.
            unsafe { libc::kill(pid, libc::SIGKILL) };
            reap(pid);
        }
    }
}

/// The life of a forked process.
fn playing(scene: &Scene, body: impl FnOnce()) -> ! {
    let ledger = std::ptr::from_ref(scene.ledger()) as usize;
    panic::set_hook(Box::new(move |info| {
        // SAFETY: the scene outlives this process, which leaves before anything is unmapped.
        let ledger = unsafe { &*(ledger as *const Ledger) };
        ledger.fail(&format!("process {}: {info}", std::process::id()));
    }));
    let status = match panic::catch_unwind(AssertUnwindSafe(body)) {
        Ok(()) => 0,
        Err(_) => WRONG,
    };
    scene.bell.ring();
    // SAFETY: no precondition. Nothing of the process that forked this one is torn down here.
    unsafe { libc::_exit(status) }
}

fn check_failure(ledger: &Ledger) {
    if let Some(failure) = ledger.failure() {
        panic!("{failure}");
    }
}

/// Waits for a word in the ledger. Panics with what a player found wrong, or when nothing comes.
fn await_word(scene: &Scene, what: &str, mut look: impl FnMut() -> Option<u64>) -> u64 {
    let ledger = scene.ledger();
    let limit = Limit::new(Some(HANG));
    loop {
        let seen = scene.bell.value();
        check_failure(ledger);
        if let Some(word) = look() {
            return word;
        }
        if let Err(error) = scene.bell.wait(seen, &mut Patience::new(limit)) {
            let doing =
                [CLIENT, SERVER].map(|role| format!("{} {}", ROLES[role], DOINGS[ledger.doing[role].get() as usize]));
            panic!("{error}, for {what}; {doing:?}, frames {:x?}", scene.frame_words());
        }
    }
}

fn kill(pid: libc::pid_t, ledger: &Ledger) {
    // SAFETY: no precondition. The process is not reaped, so the number is its own.
    if unsafe { libc::kill(pid, libc::SIGKILL) } != 0 {
        let error = io::Error::last_os_error();
        check_failure(ledger); // the likely reason that it is gone
        panic!("kill: {error}");
    }
}

/// How a child ended, in the kernel's words; `None` if it is none of ours.
fn reap(pid: libc::pid_t) -> Option<i32> {
    let mut status = 0;
    // SAFETY: `status` is valid for writing.
    let reaped = unsafe { libc::waitpid(pid, &mut status, 0) };
    (reaped > 0).then_some(status)
}
