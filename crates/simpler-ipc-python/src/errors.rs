//! The library's errors as Python exceptions.
//!
//! The classes are written in Python (`simpler_ipc.errors`): they have two bases each, and pickle.

use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;
use simpler_ipc::{Error, Exit};

static IPC_ERROR: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static MISUSED: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static CORRUPTED: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static PEER_DIED: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static HEAP_RING_FULL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static WAIT_TIMEOUT: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static FRAME_TOO_LARGE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static REQUEST_FAILED: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static REQUEST_CANCELLED: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static REGION_EXISTS: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static REGION_NOT_FOUND: PyOnceLock<Py<PyType>> = PyOnceLock::new();
static UNSUPPORTED_PLATFORM: PyOnceLock<Py<PyType>> = PyOnceLock::new();

const MODULE: &str = "simpler_ipc.errors";

/// A `PeerDied` that nobody has raised.
pub fn peer_died(py: Python<'_>, pid: i32, exit: Exit) -> PyResult<Bound<'_, PyAny>> {
    PEER_DIED.import(py, MODULE, "PeerDied")?.call1((pid, exit.status, exit.signal))
}

/// What the result of a reply that is not OK raises.
pub fn request_error(py: Python<'_>, cancelled: bool, ticket: u64, code: i32, message: String) -> PyResult<PyErr> {
    let made = if cancelled {
        REQUEST_CANCELLED.import(py, MODULE, "RequestCancelled")?.call1((ticket,))?
    } else {
        REQUEST_FAILED.import(py, MODULE, "RequestFailed")?.call1((ticket, code, message))?
    };
    Ok(PyErr::from_value(made))
}

/// Whether an exception is a `FrameTooLarge`.
pub fn is_frame_too_large(py: Python<'_>, error: &PyErr) -> PyResult<bool> {
    Ok(error.is_instance(py, FRAME_TOO_LARGE.import(py, MODULE, "FrameTooLarge")?))
}

fn exception(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    let message = error.to_string();
    let made = match error {
        Error::PeerDied { pid, exit } => peer_died(py, *pid, *exit)?,
        Error::HeapRingFull { name, nbytes, requested, live_blocks, live_bytes, oldest, oldest_nbytes, .. } => {
            HEAP_RING_FULL.import(py, MODULE, "HeapRingFull")?.call1((
                message,
                name,
                *nbytes,
                *requested,
                *live_blocks,
                *live_bytes,
                *oldest,
                *oldest_nbytes,
            ))?
        }
        Error::Misused(_) => MISUSED.import(py, MODULE, "Misused")?.call1((message,))?,
        Error::Corrupted(_) => CORRUPTED.import(py, MODULE, "Corrupted")?.call1((message,))?,
        Error::WaitTimeout { .. } => WAIT_TIMEOUT.import(py, MODULE, "WaitTimeout")?.call1((message,))?,
        Error::FrameTooLarge { .. } => FRAME_TOO_LARGE.import(py, MODULE, "FrameTooLarge")?.call1((message,))?,
        Error::Invalid(_) | Error::UnknownBlock { .. } => return Ok(PyValueError::new_err(message)),
        Error::RegionExists { name, pid } => {
            REGION_EXISTS.import(py, MODULE, "RegionExists")?.call1((message, name, *pid))?
        }
        Error::RegionNotFound { name, .. } => {
            REGION_NOT_FOUND.import(py, MODULE, "RegionNotFound")?.call1((message, name))?
        }
        Error::UnsupportedPlatform { .. } => {
            UNSUPPORTED_PLATFORM.import(py, MODULE, "UnsupportedPlatform")?.call1((message,))?
        }
        Error::Os { source, .. } => return Ok(PyOSError::new_err((source.raw_os_error(), message))),
        _ => IPC_ERROR.import(py, MODULE, "IpcError")?.call1((message,))?,
    };
    Ok(PyErr::from_value(made))
}

/// Turns the library's results into Python's.
pub trait OrRaise<T> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> OrRaise<T> for simpler_ipc::Result<T> {
    #[inline]
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| exception(py, &error).unwrap_or_else(|importing| importing))
    }
}
