//! Waiting without the GIL, ended by signals.

use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use simpler_ipc::wait::on_main_thread;
use simpler_ipc::{Error, Interrupted, Limit, Patience, Result};

use crate::errors::OrRaise;

/// A signal that comes in the microsecond between asking for signals and falling asleep is noticed after this long.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// A Python timeout: seconds, or `None` for no limit.
pub fn limit(timeout: Option<f64>) -> PyResult<Limit> {
    let duration = match timeout {
        None => None,
        Some(seconds) if seconds >= 0.0 => Duration::try_from_secs_f64(seconds).ok(), // centuries are no limit
        Some(seconds) => {
            return Err(PyValueError::new_err(format!("a timeout is None or not negative, not {seconds}")))
        }
    };
    Ok(Limit::new(duration))
}

/// Runs `body` without the GIL. In the main thread a signal whose Python handler raises ends it with that exception.
pub fn detached<T: Send>(
    py: Python<'_>,
    limit: Limit,
    body: impl Send + FnOnce(&mut Patience<'_>) -> Result<T>,
) -> PyResult<T> {
    let mut raised = None;
    let result = py.detach(|| {
        let mut ask = || {
            Python::attach(|py| py.check_signals()).map_err(|error| {
                raised = Some(error);
                Interrupted
            })
        };
        let patience = Patience::new(limit);
        if on_main_thread() {
            body(&mut patience.interrupted_by(&mut ask, ASK_EVERY))
        } else {
            body(&mut { patience })
        }
    });
    match (result, raised) {
        (Err(Error::Interrupted), Some(raised)) => Err(raised),
        (result, _) => result.or_raise(py),
    }
}
