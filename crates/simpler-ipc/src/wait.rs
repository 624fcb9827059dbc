//! Waiting: how long, ended by what, and first by a short spin.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::protocol::bell::Bell;
use crate::sys;

/// What an interrupt check answers to end the wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interrupted;

/// Until when to wait. It is fixed when made, however often it is used.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    duration: Option<Duration>,
    deadline: Option<Instant>,
}

impl Limit {
    /// That long from now; `None`: no limit.
    pub fn new(duration: Option<Duration>) -> Self {
        // A deadline beyond the clock's range is none.
        Limit { duration, deadline: duration.and_then(|duration| Instant::now().checked_add(duration)) }
    }

    /// Whether it was over from the beginning: only to look, not to wait.
    pub fn is_zero(&self) -> bool {
        self.duration.is_some_and(|duration| duration.is_zero())
    }
}

/// Whether this is the thread that the process began with.
pub fn on_main_thread() -> bool {
    sys::on_main_thread()
}

/// How long a caller is willing to wait, and what else ends the wait.
pub struct Patience<'a> {
    limit: Limit,
    check: Option<Check<'a>>,
}

struct Check<'a> {
    interrupted: &'a mut dyn FnMut() -> std::result::Result<(), Interrupted>,
    every: Duration,
}

impl<'a> Patience<'a> {
    /// As long as it takes.
    pub fn forever() -> Self {
        Self::new(Limit::new(None))
    }

    /// At most that long from now.
    pub fn limited(duration: Duration) -> Self {
        Self::new(Limit::new(Some(duration)))
    }

    /// Until `limit`.
    pub fn new(limit: Limit) -> Self {
        Patience { limit, check: None }
    }

    /// Also asks `interrupted` before each sleep, after a signal handler ran in the waiting thread, and at least
    /// `every` so often: a signal that comes between the question and the sleep is noticed then.
    pub fn interrupted_by(
        mut self,
        interrupted: &'a mut dyn FnMut() -> std::result::Result<(), Interrupted>,
        every: Duration,
    ) -> Self {
        self.check = Some(Check { interrupted, every });
        self
    }

    /// Asks whether to go on: for how long to sleep next. Fails when the time is up or the check says so.
    pub(crate) fn next_sleep(&mut self, what: &'static str) -> Result<Option<Duration>> {
        if let Some(check) = &mut self.check {
            (check.interrupted)().map_err(|Interrupted| Error::Interrupted)?;
        }
        let every = self.check.as_ref().map(|check| check.every);
        let Some(deadline) = self.limit.deadline else { return Ok(every) };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Error::WaitTimeout { what, waited: self.limit.duration.unwrap_or_default() });
        }
        Ok(Some(every.map_or(left, |every| left.min(every))))
    }
}

impl std::fmt::Debug for Patience<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Patience").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// A short spin before sleeping, whose length follows what it has brought.
///
/// Waking a sleeper costs both sides some microseconds, so a spin about that long is worth trying where another CPU
/// can answer meanwhile. Each spin in vain halves the next one, each one that paid doubles it. Two sides that have both
/// stopped spinning would never find out that the other could answer quickly: so now and then, while sleeps are short,
/// one spin is as long as can be, and the longer until the next such try the more of them were in vain.
#[doc(hidden)]
#[derive(Debug)]
pub struct Spin {
    budget_ns: AtomicU32,
    worth_trying: AtomicBool,
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
    /// Knows nothing yet.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Spin {
            budget_ns: AtomicU32::new(SPIN_FIRST_NS),
            worth_trying: AtomicBool::new(worth_spinning()),
            short_sleeps: AtomicU32::new(0),
            next_long_try: AtomicU32::new(LONG_TRY_FIRST),
        }
    }

    /// Looks again and again for a while; `None` if it was in vain.
    #[inline]
    pub(crate) fn run<T>(&self, mut look: impl FnMut() -> Result<Option<T>>) -> Result<Option<T>> {
        if !self.worth_trying.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let budget = self.budget_ns.load(Ordering::Relaxed);
        let next_long_try = self.next_long_try.load(Ordering::Relaxed);
        let long_try = self.short_sleeps.load(Ordering::Relaxed) >= next_long_try;
        let limit = Duration::from_nanos(u64::from(if long_try { SPIN_MOST_NS } else { budget }));
        let start = Instant::now();
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
            if start.elapsed() >= limit {
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
    fn slept(&self, duration: Duration) {
        if duration < SHORT_SLEEP {
            self.short_sleeps.fetch_add(1, Ordering::Relaxed);
        } else {
            self.short_sleeps.store(0, Ordering::Relaxed);
        }
        // Asked again, because a container or a user may have changed it.
        self.worth_trying.store(worth_spinning(), Ordering::Relaxed);
    }
}

/// Loom models no spinning: to it, a thread that sleeps and one that looks again are the same.
fn worth_spinning() -> bool {
    !cfg!(loom) && sys::available_cpus() > 1
}

/// Waits until `look` finds something: a look, a spin, then sleeps on `bell`, whose sleepers are woken after each change.
///
/// `look` is cheap and is called often; `trouble` is called before each sleep, and ends the wait with its error. It is
/// followed by one more look: what came before the trouble is not lost to it.
#[doc(hidden)]
pub fn wait_for<T>(
    bell: &Bell,
    spin: &Spin,
    patience: &mut Patience<'_>,
    what: &'static str,
    mut look: impl FnMut() -> Result<Option<T>>,
    mut trouble: impl FnMut() -> Result<()>,
) -> Result<T> {
    if let Some(found) = look()? {
        return Ok(found);
    }
    if !patience.limit.is_zero() {
        if let Some(found) = spin.run(&mut look)? {
            return Ok(found);
        }
    }
    loop {
        let announced = bell.announce();
        if let Some(found) = look()? {
            return Ok(found);
        }
        if let Err(error) = trouble() {
            return look()?.ok_or(error);
        }
        let sleep = patience.next_sleep(what)?;
        let start = Instant::now();
        announced.sleep(sleep)?;
        drop(announced);
        spin.slept(start.elapsed());
        // What came with the wake is found without announcing a sleep that will not be.
        if let Some(found) = look()? {
            return Ok(found);
        }
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
        spin.worth_trying.store(true, Ordering::Relaxed);
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
    fn nothing_is_spun_where_there_is_one_cpu() {
        let spin = eager();
        spin.worth_trying.store(false, Ordering::Relaxed);
        let mut looks = 0;
        let mut look = || {
            looks += 1;
            Ok(None::<()>)
        };
        spin.run(&mut look).unwrap();
        assert_eq!(looks, 0);
    }
}
