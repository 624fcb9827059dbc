//! Spinning: a short look around before sleeping, where another CPU may answer meanwhile.
//!
//! Waking a sleeper costs both sides some microseconds, so a spin about that long is worth trying where the other side
//! may run at the same time. Its length follows what it has brought: each spin in vain halves the next one, each one that
//! paid doubles it. Two sides that have both stopped spinning would never find out that the other could answer quickly:
//! so now and then, while sleeps are short, one spin is as long as can be, and the longer until the next such try the
//! more of them were in vain.
//!
//! Whether the other side may run at the same time is told by the CPUs that both may run on: two processes that are tied
//! to one and the same CPU never spin, two that are tied to one CPU each do.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::error::Result;
use crate::sys;

#[doc(hidden)]
#[derive(Debug)]
pub struct Spin {
    budget_ns: AtomicU32,
    /// CPUs that this process may run on: see [`sys::cpus`].
    own_cpus: AtomicU64,
    /// Those that whoever ends the wait may run on.
    other_cpus: AtomicU64,
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
/// Looks between two readings of the clock.
const LOOKS: u32 = 16;

impl Spin {
    /// Knows nothing yet, and takes it that the other side may run on any CPU.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Spin {
            budget_ns: AtomicU32::new(SPIN_FIRST_NS),
            own_cpus: AtomicU64::new(sys::cpus()),
            other_cpus: AtomicU64::new(u64::MAX),
            short_sleeps: AtomicU32::new(0),
            next_long_try: AtomicU32::new(LONG_TRY_FIRST),
        }
    }

    /// Looks again and again for a while; `None` if it was in vain.
    #[inline]
    pub(crate) fn run<T>(&self, mut look: impl FnMut() -> Result<Option<T>>) -> Result<Option<T>> {
        if !self.worth_trying() {
            return Ok(None);
        }
        let budget = self.budget_ns.load(Ordering::Relaxed);
        let next_long_try = self.next_long_try.load(Ordering::Relaxed);
        let long_try = self.short_sleeps.load(Ordering::Relaxed) >= next_long_try;
        let limit = Duration::from_nanos(u64::from(if long_try { SPIN_MOST_NS } else { budget }));
        let mut start = None;
        loop {
            for _ in 0..LOOKS {
                if let Some(found) = look()? {
                    let paid = if long_try { SPIN_MOST_NS } else { (budget * 2).min(SPIN_MOST_NS) };
                    self.budget_ns.store(paid, Ordering::Relaxed);
                    self.short_sleeps.store(0, Ordering::Relaxed);
                    self.next_long_try.store(LONG_TRY_FIRST, Ordering::Relaxed);
                    return Ok(Some(found));
                }
                std::hint::spin_loop();
            }
            // Read first after a round of looks: an answer that comes at once is not kept waiting by the clock.
            if start.get_or_insert_with(Instant::now).elapsed() >= limit {
                self.budget_ns.store((budget / 2).max(SPIN_LEAST_NS), Ordering::Relaxed);
                if long_try {
                    self.short_sleeps.store(0, Ordering::Relaxed);
                    self.next_long_try.store((next_long_try * 2).min(LONG_TRY_LAST), Ordering::Relaxed);
                }
                return Ok(None);
            }
        }
    }

    /// Learns how long a sleep after a spin in vain took.
    pub(crate) fn slept(&self, duration: Duration) {
        if duration < SHORT_SLEEP {
            self.short_sleeps.fetch_add(1, Ordering::Relaxed);
        } else {
            self.short_sleeps.store(0, Ordering::Relaxed);
        }
        // Asked again, because a container or a user may have changed it.
        self.own_cpus.store(sys::cpus(), Ordering::Relaxed);
    }

    /// CPUs that this process may run on, as found after the last sleep.
    pub(crate) fn own_cpus(&self) -> u64 {
        self.own_cpus.load(Ordering::Relaxed)
    }

    /// Whoever ends the wait may run on these.
    #[inline]
    pub(crate) fn set_other_cpus(&self, cpus: u64) {
        self.other_cpus.store(cpus, Ordering::Relaxed);
    }

    /// Whether both sides may run at once. Loom models no spinning: to it, a thread that sleeps and one that looks again
    /// are the same.
    fn worth_trying(&self) -> bool {
        let cpus = self.own_cpus.load(Ordering::Relaxed) | self.other_cpus.load(Ordering::Relaxed);
        !cfg!(loom) && cpus & cpus.wrapping_sub(1) != 0
    }
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
        spin.own_cpus.store(0b11, Ordering::Relaxed);
        spin
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
    fn two_sides_spin_unless_both_are_tied_to_one_cpu() {
        for (own, other, looked) in
            [(0b10, 0b10, false), (0b10, 0b01, true), (0b11, 0b10, true), (0b01, u64::MAX, true)]
        {
            let spin = Spin::new();
            spin.own_cpus.store(own, Ordering::Relaxed);
            spin.set_other_cpus(other);
            let mut looks = 0;
            let mut look = || {
                looks += 1;
                Ok(None::<()>)
            };
            spin.run(&mut look).unwrap();
            assert_eq!(looks > 0, looked, "{own:#b} and {other:#b}");
        }
    }
}
