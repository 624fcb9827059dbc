//! `MailboxServer` and `Request`.

use std::ffi::c_int;

use pyo3::exceptions::{PyException, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyMemoryView, PySequence};
use simpler_ipc::{Kind, Status, Window};

use crate::bytes::{fill_view, memoryview, numpy_of, with_bytes};
use crate::errors::{is_frame_too_large, OrRaise};
use crate::peer::Peer;
use crate::waiting::{detached, limit};

/// Receives requests in order, replies to them in order.
#[pyclass(module = "simpler_ipc")]
pub struct MailboxServer(simpler_ipc::MailboxServer);

impl MailboxServer {
    pub fn new(server: simpler_ipc::MailboxServer) -> Self {
        MailboxServer(server)
    }

    fn try_recv(&mut self, py: Python<'_>) -> PyResult<Option<Request>> {
        let Some(request) = self.0.try_recv().or_raise(py)? else { return Ok(None) };
        let (ticket, kind) = (request.ticket, request.kind);
        let (first, nbytes) = (request.payload.as_ptr() as usize, request.payload.nbytes());
        let region = self.0.region();
        Ok(Some(Request { ticket, kind, payload: region.window(first - region.address(), nbytes).or_raise(py)? }))
    }
}

#[pymethods]
impl MailboxServer {
    #[pyo3(signature = (timeout = None))]
    fn recv(slf: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<Request> {
        let py = slf.py();
        let waiter = {
            let mut this = slf.try_borrow_mut()?;
            if let Some(request) = this.try_recv(py)? {
                return Ok(request);
            }
            this.0.waiter()
        };
        let limit = limit(timeout)?;
        // A request that comes at once is not worth letting go of the GIL.
        let mut here = waiter.glance();
        loop {
            if !here {
                detached(py, limit, |patience| waiter.wait(patience))?;
            }
            here = false;
            // None only if it was cancelled, or another thread took it.
            if let Some(request) = slf.try_borrow_mut()?.try_recv(py)? {
                return Ok(request);
            }
        }
    }

    #[pyo3(signature = (limit = None, timeout = None))]
    fn recv_many(slf: &Bound<'_, Self>, limit: Option<usize>, timeout: Option<f64>) -> PyResult<Vec<Py<Request>>> {
        let py = slf.py();
        let limit = limit.unwrap_or(usize::MAX);
        if limit == 0 {
            return Err(PyValueError::new_err("recv_many() receives one request at least, not 0"));
        }
        let mut requests = vec![Py::new(py, Self::recv(slf, timeout)?)?];
        let mut this = slf.try_borrow_mut()?;
        while requests.len() < limit && this.0.has_room() {
            match this.try_recv(py)? {
                Some(request) => requests.push(Py::new(py, request)?),
                None => break,
            }
        }
        Ok(requests)
    }

    #[pyo3(signature = (code = 0, payload = None))]
    fn reply(slf: &Bound<'_, Self>, code: i32, payload: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let py = slf.py();
        match payload {
            None => slf.try_borrow_mut()?.0.reply(code, &[]).or_raise(py),
            Some(payload) => with_bytes(payload, |bytes, nbytes| {
                // SAFETY: `with_bytes` holds the buffer during this call.
                unsafe { slf.try_borrow_mut()?.0.reply_raw(code, bytes, nbytes) }.or_raise(py)
            }),
        }
    }

    fn reply_many(slf: &Bound<'_, Self>, payloads: &Bound<'_, PySequence>) -> PyResult<()> {
        let py = slf.py();
        let mut outcome = Ok(());
        for payload in payloads.try_iter()? {
            outcome = payload.and_then(|payload| {
                with_bytes(&payload, |bytes, nbytes| {
                    // SAFETY: `with_bytes` holds the buffer during this call.
                    unsafe { slf.try_borrow_mut()?.0.queue_reply_raw(Status::Ok, 0, bytes, nbytes) }.or_raise(py)
                })
            });
            if outcome.is_err() {
                break;
            }
        }
        slf.try_borrow_mut()?.0.flush().or_raise(py)?;
        outcome
    }

    #[pyo3(signature = (message, code = 1))]
    fn fail(&mut self, py: Python<'_>, message: &str, code: i32) -> PyResult<()> {
        self.0.fail(code, message).or_raise(py)
    }

    #[pyo3(signature = (handler, timeout = None))]
    fn serve(slf: &Bound<'_, Self>, handler: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<()> {
        let py = slf.py();
        loop {
            let request = Bound::new(py, Self::recv(slf, timeout)?)?;
            if request.get().kind == Kind::Shutdown {
                return Self::reply(slf, 0, None);
            }
            let replied = handler.call1((request,)).and_then(|payload| {
                let payload = (!payload.is_none()).then_some(&payload);
                Self::reply(slf, 0, payload)
            });
            let Err(error) = replied else { continue };
            // KeyboardInterrupt and SystemExit are meant for this process.
            if !error.is_instance_of::<PyException>(py) {
                return Err(error);
            }
            let text = text_of(py, &error)?;
            let message = if is_frame_too_large(py, &error)? {
                format!("the reply is too large: {text}")
            } else {
                format!("{}: {text}", error.get_type(py).qualname()?)
            };
            slf.try_borrow_mut()?.fail(py, &message, 1)?;
        }
    }

    fn watch(&self, py: Python<'_>, peer: &Peer) -> PyResult<()> {
        self.0.watch(&peer.0).or_raise(py)
    }

    fn forget(&self, peer: &Peer) {
        self.0.forget(&peer.0);
    }

    fn __repr__(&self) -> String {
        format!("MailboxServer(unreplied={})", self.0.unreplied())
    }
}

/// What an exception says of itself, or why it cannot.
fn text_of(py: Python<'_>, error: &PyErr) -> PyResult<String> {
    match error.value(py).str() {
        Ok(text) => Ok(text.to_string_lossy().into_owned()),
        Err(failed) if failed.is_instance_of::<PyException>(py) => {
            Ok(format!("no text, its __str__ raised {}", failed.get_type(py).qualname()?))
        }
        Err(leaving) => Err(leaving),
    }
}

/// A request in its frame; its bytes are valid until it is replied to.
#[pyclass(frozen, module = "simpler_ipc")]
pub struct Request {
    pub ticket: u64,
    pub kind: Kind,
    pub payload: Window,
}

#[pymethods]
impl Request {
    #[getter]
    fn ticket(&self) -> u64 {
        self.ticket
    }

    #[getter]
    fn kind(&self) -> u32 {
        self.kind as u32
    }

    #[getter]
    fn payload<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyMemoryView>> {
        memoryview(slf.as_any())
    }

    #[pyo3(signature = (dtype = None, shape = None, offset = 0))]
    fn numpy<'py>(
        slf: &Bound<'py, Self>,
        dtype: Option<&Bound<'py, PyAny>>,
        shape: Option<&Bound<'py, PyAny>>,
        offset: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        numpy_of(slf.as_any(), slf.get().nbytes(), dtype, shape, offset)
    }

    #[getter]
    fn address(&self) -> usize {
        self.payload.as_ptr() as usize
    }

    #[getter]
    fn nbytes(&self) -> usize {
        self.payload.nbytes()
    }

    fn __repr__(&self) -> String {
        format!("Request(ticket={}, kind={}, {} bytes)", self.ticket, self.kind as u32, self.nbytes())
    }

    unsafe fn __getbuffer__(slf: &Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let window = &slf.get().payload;
        // SAFETY: Python made the view; the window keeps its bytes mapped as long as this object lives.
        unsafe { fill_view(slf.as_any(), view, window.as_ptr(), window.nbytes(), flags) }
    }
}
