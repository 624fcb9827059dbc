//! `Reply`.

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use simpler_ipc::{ReplyView, Status};

use crate::errors::request_error;

/// A reply, copied out of its frame.
#[pyclass(frozen, get_all, module = "simpler_ipc")]
pub struct Reply {
    ticket: u64,
    kind: u32,
    status: u32,
    code: i32,
    payload: Py<PyBytes>,
}

impl Reply {
    /// Of one that the library has copied already.
    pub fn copied(py: Python<'_>, reply: &simpler_ipc::Reply) -> Self {
        let payload = PyBytes::new(py, &reply.payload).unbind();
        let (kind, status) = (reply.kind as u32, reply.status as u32);
        Reply { ticket: reply.ticket, kind, status, code: reply.code, payload }
    }

    /// Of one still in its frame: copied once.
    pub fn taken(py: Python<'_>, view: &ReplyView<'_>) -> PyResult<Self> {
        let payload = PyBytes::new_with(py, view.payload.nbytes(), |bytes| {
            view.payload.copy_to(bytes);
            Ok(())
        })?;
        let (kind, status) = (view.kind as u32, view.status as u32);
        Ok(Reply { ticket: view.ticket, kind, status, code: view.code, payload: payload.unbind() })
    }

    fn is(&self, status: Status) -> bool {
        self.status == status as u32
    }
}

#[pymethods]
impl Reply {
    #[getter]
    fn message(&self, py: Python<'_>) -> String {
        if self.is(Status::Failed) {
            return String::from_utf8_lossy(self.payload.bind(py).as_bytes()).into_owned();
        }
        String::new()
    }

    fn result(&self, py: Python<'_>) -> PyResult<Py<PyBytes>> {
        if self.is(Status::Ok) {
            return Ok(self.payload.clone_ref(py));
        }
        Err(request_error(py, self.is(Status::Cancelled), self.ticket, self.code, self.message(py))?)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        let (ticket, kind, code) = (self.ticket, self.kind, self.code);
        let status = ["OK", "FAILED", "CANCELLED"].get(self.status as usize).unwrap_or(&"?");
        let nbytes = self.payload.bind(py).as_bytes().len();
        format!("Reply(ticket={ticket}, kind={kind}, {status}, code={code}, {nbytes} bytes)")
    }
}
