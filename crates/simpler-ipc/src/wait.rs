//! Waiting: how long, and ended by what.

use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::protocol::bell::Bell;
use crate::spin::Spin;
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

    /// How long that is from now; `None`: no limit.
    fn left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
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

    /// The same, but for at most that long from now.
    pub(crate) fn at_most(&mut self, duration: Duration) -> Patience<'_> {
        let limit = match self.limit.left() {
            Some(left) if left < duration => self.limit,
            _ => Limit::new(Some(duration)),
        };
        let check = self.check.as_mut().map(|check| Check { interrupted: &mut *check.interrupted, every: check.every });
        Patience { limit, check }
    }

    /// Whether the time is up.
    pub(crate) fn is_over(&self) -> bool {
        self.limit.left().is_some_and(|left| left.is_zero())
    }

    /// Whether not to wait at all.
    pub(crate) fn only_looks(&self) -> bool {
        self.limit.is_zero()
    }

    /// Asks whether to go on: for how long to sleep next. Fails when the time is up or the check says so.
    pub(crate) fn next_sleep(&mut self, what: &'static str) -> Result<Option<Duration>> {
        if let Some(check) = &mut self.check {
            (check.interrupted)().map_err(|Interrupted| Error::Interrupted)?;
        }
        let every = self.check.as_ref().map(|check| check.every);
        let Some(left) = self.limit.left() else { return Ok(every) };
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
