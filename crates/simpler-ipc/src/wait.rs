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
/// can answer meanwhile. Each spin in vain halves the next one, each one that paid doubles it.
#[doc(hidden)]
#[derive(Debug)]
pub struct Spin {
    budget_ns: AtomicU32,
    worth_trying: AtomicBool,
}

const SPIN_LEAST_NS: u32 = 500;
const SPIN_FIRST_NS: u32 = 20_000;
const SPIN_MOST_NS: u32 = 50_000;
/// Looks between two readings of the clock.
const LOOKS: u32 = 16;

impl Spin {
    /// Knows nothing yet.
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Spin { budget_ns: AtomicU32::new(SPIN_FIRST_NS), worth_trying: AtomicBool::new(worth_spinning()) }
    }

    /// Looks again and again for a while; `None` if it was in vain.
    #[inline]
    pub(crate) fn run<T>(&self, mut look: impl FnMut() -> Result<Option<T>>) -> Result<Option<T>> {
        if !self.worth_trying.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let budget = self.budget_ns.load(Ordering::Relaxed);
        let start = Instant::now();
        loop {
            for _ in 0..LOOKS {
                if let Some(found) = look()? {
                    self.budget_ns.store((budget * 2).min(SPIN_MOST_NS), Ordering::Relaxed);
                    return Ok(Some(found));
                }
                std::hint::spin_loop();
            }
            if start.elapsed() >= Duration::from_nanos(u64::from(budget)) {
                self.budget_ns.store((budget / 2).max(SPIN_LEAST_NS), Ordering::Relaxed);
                return Ok(None);
            }
        }
    }

    /// Asks again on how many CPUs this process may run: a container or a user may have changed it.
    fn refresh(&self) {
        self.worth_trying.store(worth_spinning(), Ordering::Relaxed);
    }
}

/// Loom models no spinning: to it, a thread that sleeps and one that looks again are the same.
fn worth_spinning() -> bool {
    !cfg!(loom) && sys::available_cpus() > 1
}

/// Waits until `look` finds something: a look, a spin, then sleeps on `bell`, which is rung after each change.
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
        // Read before looking: a change after the look makes the bell differ, and the sleep return at once.
        let seen = bell.value();
        if let Some(found) = look()? {
            return Ok(found);
        }
        if let Err(error) = trouble() {
            return look()?.ok_or(error);
        }
        let sleep = patience.next_sleep(what)?;
        bell.sleep(seen, sleep)?;
        spin.refresh();
    }
}
