//! `Notifier`.

use std::os::fd::AsRawFd;

use pyo3::prelude::*;

use crate::errors::OrRaise;

/// An eventfd that becomes readable when a client has a reply to take, for event loops.
#[pyclass(frozen, module = "simpler_ipc")]
pub struct Notifier(pub simpler_ipc::Notifier);

#[pymethods]
impl Notifier {
    fn fileno(&self) -> i32 {
        self.0.fd().as_raw_fd()
    }

    fn arm(&self, py: Python<'_>) -> PyResult<()> {
        self.0.arm().or_raise(py)
    }

    fn clear(&self, py: Python<'_>) -> PyResult<()> {
        self.0.clear().or_raise(py)
    }

    fn __repr__(&self) -> String {
        format!("Notifier(fd={})", self.fileno())
    }
}
