//! Spinning: a short look around before sleeping, where another CPU may answer meanwhile.
//!
//! Waking a sleeper costs both sides some microseconds, so a spin about that long is worth trying where the other side
//! may run at the same time. Its length follows what it has brought: each spin in vain halves the next one, each one that
//! paid doubles it. Where the kernel took the CPU away for another process meanwhile, somebody has better use for it than
//! looking around: the next spin is as short as can be. Two sides that have both stopped spinning would never find out
//! that the other could answer quickly: so now and then, while sleeps are short, one spin is as long as can be, and the
//! longer until the next such try the more of them were in vain.
//!
//! Whether the other side may run at the same time is told by the CPU that each was on when it last waited: two that
//! share one never spin. The kernel likes to wake a process on the CPU of the one that wakes it, and two that only ever
//! take turns look to it as if one CPU were enough for them: after a number of short sleeps on one CPU, one of the two
//! moves to another that it may run on (if it is one that does: see [`Spin::moving`], [`Spin::prepare`]), and less often
//! the less that helps.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::protocol::sync::AtomicU32 as SharedU32;
use crate::sys;

/// What is known of the waits at one place. See the module's text.
#[doc(hidden)]
#[derive(Debug)]
pub struct Spin {
    budget_ns: AtomicU32,
    /// The CPU of whoever ends the wait, when it last waited itself.
    other_cpu: AtomicU32,
    /// Whether to move where both are on one CPU; short sleeps there since the last move; how many it takes for the next.
    moves: bool,
    together: AtomicU32,
    next_move: AtomicU32,
    /// How often this thread had been preempted when it last spun in vain.
    preemptions: AtomicU32,
    /// Short sleeps since the last long try, and how many it takes for the next.
    short_sleeps: AtomicU32,
    next_long_try: AtomicU32,
}

const SPIN_LEAST_NS: u32 = 500;
const SPIN_FIRST_NS: u32 = 20_000;
const SPIN_MOST_NS: u32 = 50_000;
/// A sleep that a spin might have replaced, had both sides been awake.
const SHORT_SLEEP: Duration = Duration::from_micros(100);
/// How many of those it takes for a long try: after one that paid, and after many in vain.
const LONG_TRY_FIRST: u32 = 16;
const LONG_TRY_LAST: u32 = 1024;
/// How many short sleeps on one CPU it takes for a move: the first time, and after many that did not help.
const MOVE_FIRST: u32 = 64;
const MOVE_LAST: u32 = 65_536;
/// A move may take that long: a CPU that is to be woken for it sleeps deeply.
const MOVE: Duration = Duration::from_micros(200);
/// Looks between two readings of the clock.
const LOOKS: u32 = 16;
/// Looks before anything else is done: some tenths of a microsecond, the time that another CPU's answer takes.
const GLANCES: u32 = 32;

impl Spin {
    /// Knows nothing yet.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Spin {
            budget_ns: AtomicU32::new(SPIN_FIRST_NS),
            other_cpu: AtomicU32::new(UNKNOWN_CPU),
            moves: false,
            together: AtomicU32::new(0),
            next_move: AtomicU32::new(MOVE_FIRST),
            preemptions: AtomicU32::new(0),
            short_sleeps: AtomicU32::new(0),
            next_long_try: AtomicU32::new(LONG_TRY_FIRST),
        }
    }

    /// As `new`, for the one of two sides that moves to another CPU where both take turns on one: unless
    /// `SIMPLER_IPC_MOVE` is 0 in the environment.
    pub fn moving() -> Self {
        Spin { moves: std::env::var_os(MOVE_SWITCH).is_none_or(|value| value != "0"), ..Self::new() }
    }

    /// Looks for what another CPU may be about to do, before a wait is begun: whether it came. What is known of the waits
    /// does not change by that.
    #[inline(always)]
    pub(crate) fn glance(&self, has_come: impl Fn() -> bool) -> bool {
        if cfg!(loom) || self.is_together() {
            return false;
        }
        for _ in 0..GLANCES {
            if has_come() {
                return true;
            }
            std::hint::spin_loop();
        }
        false
    }

    /// Looks again and again for a while; `None` if it was in vain.
    #[inline]
    pub(crate) fn run<T>(&self, mut look: impl FnMut() -> Result<Option<T>>) -> Result<Option<T>> {
        // Loom models no spinning: to it, a thread that sleeps and one that looks again are the same.
        if cfg!(loom) || self.is_together() {
            return Ok(None);
        }
        let budget = self.budget_ns.load(Ordering::Relaxed);
        let next_long_try = self.next_long_try.load(Ordering::Relaxed);
        let long_try = self.short_sleeps.load(Ordering::Relaxed) >= next_long_try;
        let limit = match self.other_cpu.load(Ordering::Relaxed) {
            MOVING => MOVE,
            _ => Duration::from_nanos(u64::from(if long_try { SPIN_MOST_NS } else { budget })),
        };
        let mut start = None;
        loop {
            for _ in 0..LOOKS {
                if let Some(found) = look()? {
                    let paid = if long_try { SPIN_MOST_NS } else { (budget * 2).min(SPIN_MOST_NS) };
                    set(&self.budget_ns, paid);
                    set(&self.short_sleeps, 0);
                    set(&self.next_long_try, LONG_TRY_FIRST);
                    set(&self.next_move, MOVE_FIRST);
                    return Ok(Some(found));
                }
                std::hint::spin_loop();
            }
            // Read first after a round of looks: an answer that comes at once is not kept waiting by the clock.
            if start.get_or_insert_with(Instant::now).elapsed() >= limit {
                let less = if self.was_preempted(sys::preemptions()) { 0 } else { budget / 2 };
                self.budget_ns.store(less.max(SPIN_LEAST_NS), Ordering::Relaxed);
                if long_try {
                    self.short_sleeps.store(0, Ordering::Relaxed);
                    self.next_long_try.store((next_long_try * 2).min(LONG_TRY_LAST), Ordering::Relaxed);
                }
                return Ok(None);
            }
        }
    }

    /// Whether the kernel has taken the CPU from this thread for another since the last time this was asked.
    fn was_preempted(&self, preemptions: u32) -> bool {
        self.preemptions.swap(preemptions, Ordering::Relaxed) != preemptions
    }

    /// Learns how long a sleep after a spin in vain took.
    pub(crate) fn slept(&self, duration: Duration) {
        if duration < SHORT_SLEEP {
            self.short_sleeps.fetch_add(1, Ordering::Relaxed);
        } else {
            self.short_sleeps.store(0, Ordering::Relaxed);
        }
        if self.moves && self.is_together() && duration < SHORT_SLEEP {
            self.together.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// At the beginning of a wait for a side that was on `other_cpu` when it last waited: tells it where this one is.
    ///
    /// This is the moment to move apart. The other side was handed something just now, so it is awake or about to be,
    /// where it is. If both look around until they meet again, none needs to be woken; a side that is woken follows, as
    /// the kernel puts it on the CPU of the one that wakes it.
    #[inline]
    pub(crate) fn prepare(&self, other_cpu: u32, tell: &SharedU32) {
        self.other_cpu.store(other_cpu, Ordering::Relaxed);
        if self.moves && self.together.load(Ordering::Relaxed) >= self.next_move.load(Ordering::Relaxed) {
            self.move_apart(tell);
        }
        let cpu = current_cpu();
        if tell.load(Ordering::Relaxed) != cpu {
            tell.store(cpu, Ordering::Relaxed);
        }
    }

    /// Anybody may end the wait.
    pub(crate) fn prepare_for_anyone(&self) {
        self.other_cpu.store(UNKNOWN_CPU, Ordering::Relaxed);
    }

    /// Whether both sides are on one CPU, as far as is known.
    #[inline]
    fn is_together(&self) -> bool {
        let other = self.other_cpu.load(Ordering::Relaxed);
        other != UNKNOWN_CPU && other == current_cpu()
    }

    #[cold]
    fn move_apart(&self, tell: &SharedU32) {
        self.together.store(0, Ordering::Relaxed);
        if self.is_together() {
            tell.store(MOVING, Ordering::Relaxed);
            let next_move = self.next_move.load(Ordering::Relaxed);
            self.next_move.store((next_move * 2).min(MOVE_LAST), Ordering::Relaxed);
            sys::leave_cpu();
            // Long enough for the other side to come back.
            self.short_sleeps.store(self.next_long_try.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

/// `SIMPLER_IPC_MOVE=0` in the environment when a server is made: it never moves itself to another CPU.
const MOVE_SWITCH: &str = "SIMPLER_IPC_MOVE";

/// Mostly it is that already, where every wait is answered soon.
#[inline(always)]
fn set(number: &AtomicU32, value: u32) {
    if number.load(Ordering::Relaxed) != value {
        number.store(value, Ordering::Relaxed);
    }
}

/// What stands in shared memory where nobody has said.
pub const UNKNOWN_CPU: u32 = 0;

/// What stands there while a side moves to another CPU.
const MOVING: u32 = u32::MAX;

/// The CPU that this thread is on, from 1.
#[inline]
pub fn current_cpu() -> u32 {
    sys::current_cpu().map_or(UNKNOWN_CPU, |cpu| cpu + 1)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn vain(spin: &Spin) {
        assert_eq!(spin.run(|| Ok(None::<()>)).unwrap(), None);
    }

    fn budget(spin: &Spin) -> u32 {
        spin.budget_ns.load(Ordering::Relaxed)
    }

    fn eager() -> Spin {
        let spin = Spin::new();
        spin.was_preempted(sys::preemptions());
        spin
    }

    #[test]
    fn a_cpu_that_others_want_is_not_spun_on() {
        let spin = eager();
        assert_eq!(budget(&spin), SPIN_FIRST_NS);
        spin.preemptions.fetch_sub(1, Ordering::Relaxed); // as if there had been one since
        vain(&spin);
        assert_eq!(budget(&spin), SPIN_LEAST_NS);
    }

    #[test]
    fn spins_in_vain_grow_short_and_spins_that_pay_grow_long() {
        let spin = eager();
        for _ in 0..20 {
            vain(&spin);
        }
        assert_eq!(budget(&spin), SPIN_LEAST_NS);
        for _ in 0..20 {
            spin.run(|| Ok(Some(()))).unwrap();
        }
        assert_eq!(budget(&spin), SPIN_MOST_NS);
    }

    #[test]
    fn short_sleeps_lead_to_a_long_try_and_those_in_vain_to_fewer() {
        let spin = eager();
        for after in [LONG_TRY_FIRST, 2 * LONG_TRY_FIRST, 4 * LONG_TRY_FIRST] {
            assert_eq!(spin.next_long_try.load(Ordering::Relaxed), after);
            for _ in 0..after {
                spin.short_sleeps.fetch_add(1, Ordering::Relaxed);
            }
            vain(&spin);
        }
        spin.short_sleeps.store(8 * LONG_TRY_FIRST, Ordering::Relaxed);
        spin.run(|| Ok(Some(()))).unwrap();
        assert_eq!((budget(&spin), spin.next_long_try.load(Ordering::Relaxed)), (SPIN_MOST_NS, LONG_TRY_FIRST));
    }

    #[test]
    fn a_long_sleep_calls_for_no_long_try() {
        let spin = eager();
        spin.slept(SHORT_SLEEP / 2);
        assert_eq!(spin.short_sleeps.load(Ordering::Relaxed), 1);
        spin.slept(SHORT_SLEEP);
        assert_eq!(spin.short_sleeps.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn two_sides_spin_unless_both_are_on_one_cpu() {
        let looks_with = |other_cpu: fn() -> u32| {
            let spin = Spin::new();
            let mut looks = 0;
            // This thread may be moved in between: what is asked for is seen once in a while at least.
            for _ in 0..100 {
                spin.prepare(other_cpu(), &SharedU32::new(0));
                let mut look = || {
                    looks += 1;
                    Ok(None::<()>)
                };
                spin.run(&mut look).unwrap();
            }
            looks
        };
        assert!(looks_with(|| UNKNOWN_CPU) >= 100 * LOOKS);
        assert!(looks_with(|| current_cpu() + 1) >= 100 * LOOKS);
        assert!(looks_with(current_cpu) < 50 * LOOKS);
    }
}
