//! `Mailbox`, its two sides, and what travels between them.

use std::ffi::c_int;

use pyo3::exceptions::PyRuntimeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView};
use simpler_ipc::{Kind, Window};

use crate::bytes::{fill_view, memoryview, with_bytes, Payload};
use crate::doorbell::Doorbell;
use crate::errors::OrRaise;
use crate::peer::Peer;
use crate::region::Region;
use crate::waiting::{detached, limit};

/// An ordered lane of request/reply frames between one client and one server.
#[pyclass(frozen, module = "simpler_ipc")]
pub struct Mailbox(simpler_ipc::Mailbox);

#[pymethods]
impl Mailbox {
    #[staticmethod]
    fn required_bytes(py: Python<'_>, depth: usize, frame_bytes: usize) -> PyResult<usize> {
        simpler_ipc::Mailbox::required_bytes(depth, frame_bytes).or_raise(py)
    }

    #[new]
    #[pyo3(signature = (region, *, offset = 0, depth = 1, frame_bytes = 65536))]
    fn new(py: Python<'_>, region: &Region, offset: usize, depth: usize, frame_bytes: usize) -> PyResult<Self> {
        Ok(Mailbox(simpler_ipc::Mailbox::new(&region.open()?, offset, depth, frame_bytes).or_raise(py)?))
    }

    #[getter]
    fn depth(&self) -> usize {
        self.0.depth()
    }

    #[getter]
    fn frame_bytes(&self) -> usize {
        self.0.frame_bytes()
    }

    #[pyo3(signature = (doorbell = None))]
    fn client(&self, py: Python<'_>, doorbell: Option<&Doorbell>) -> PyResult<MailboxClient> {
        let client = self.0.client(doorbell.map(|doorbell| &doorbell.0)).or_raise(py)?;
        let payloads = (0..self.0.depth()).map(|_| None).collect();
        Ok(MailboxClient { client, payloads })
    }

    #[pyo3(signature = (doorbell = None))]
    fn server(&self, py: Python<'_>, doorbell: Option<&Doorbell>) -> PyResult<MailboxServer> {
        Ok(MailboxServer(self.0.server(doorbell.map(|doorbell| &doorbell.0)).or_raise(py)?))
    }

    fn __repr__(&self) -> String {
        format!("Mailbox(depth={}, frame_bytes={})", self.0.depth(), self.0.frame_bytes())
    }
}

fn kind_of(py: Python<'_>, kind: u32) -> PyResult<Kind> {
    Kind::try_from(kind).or_raise(py)
}

/// Posts requests, takes replies in the same order.
#[pyclass(module = "simpler_ipc")]
pub struct MailboxClient {
    client: simpler_ipc::MailboxClient,
    /// What `reserve` makes its memoryviews of, one for each frame, made when first needed.
    payloads: Vec<Option<Py<Payload>>>,
}

#[pymethods]
impl MailboxClient {
    #[getter]
    fn in_flight(&self) -> usize {
        self.client.in_flight()
    }

    #[getter]
    fn free(&self) -> usize {
        self.client.free()
    }

    fn reserve<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyMemoryView>>> {
        if !self.client.reserve_frame().or_raise(py)? {
            return Ok(None);
        }
        let frame = self.client.reserved_frame().ok_or_else(|| PyRuntimeError::new_err("no frame is reserved"))?;
        let payload = match &self.payloads[frame] {
            Some(payload) => payload.bind(py),
            None => {
                let window = self.client.reserve().or_raise(py)?;
                let window = window.ok_or_else(|| PyRuntimeError::new_err("no frame is reserved"))?;
                self.payloads[frame].insert(Py::new(py, Payload(window))?).bind(py)
            }
        };
        memoryview(payload.as_any()).map(Some)
    }

    fn post(&mut self, py: Python<'_>, kind: u32, nbytes: usize) -> PyResult<u64> {
        self.client.post(kind_of(py, kind)?, nbytes).or_raise(py)
    }

    fn send(slf: &Bound<'_, Self>, kind: u32, payload: &Bound<'_, PyAny>) -> PyResult<Option<u64>> {
        let py = slf.py();
        let kind = kind_of(py, kind)?;
        with_bytes(payload, |bytes, nbytes| {
            // SAFETY: `with_bytes` holds the buffer during this call.
            unsafe { slf.try_borrow_mut()?.client.send_raw(kind, bytes, nbytes) }.or_raise(py)
        })
    }

    fn poll(&mut self, py: Python<'_>) -> PyResult<Option<Reply>> {
        if let Some(kept) = self.client.poll_kept() {
            return Ok(Some(Reply::copied(py, &kept)));
        }
        self.client.poll_with(|view| Reply::taken(py, &view)).or_raise(py)?.transpose()
    }

    #[pyo3(signature = (kind, payload, timeout = None))]
    fn call(slf: &Bound<'_, Self>, kind: u32, payload: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<Reply> {
        let py = slf.py();
        let limit = limit(timeout)?;
        let waiter = slf.try_borrow()?.client.waiter();
        let ticket = loop {
            if let Some(ticket) = Self::send(slf, kind, payload)? {
                break ticket;
            }
            detached(py, limit, |patience| waiter.wait(patience))?;
            slf.try_borrow_mut()?.client.keep().or_raise(py)?;
        };
        loop {
            detached(py, limit, |patience| waiter.wait(patience))?;
            if let Some(reply) = slf.try_borrow_mut()?.client.keep_until(ticket).or_raise(py)? {
                return Ok(Reply::copied(py, &reply));
            }
        }
    }

    #[pyo3(signature = (timeout = None))]
    fn wait(slf: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<()> {
        let limit = limit(timeout)?;
        let waiter = {
            let this = slf.try_borrow()?;
            if this.client.has_kept() {
                return Ok(());
            }
            this.client.waiter()
        };
        detached(slf.py(), limit, |patience| waiter.wait(patience))
    }

    fn watch(&self, py: Python<'_>, peer: &Peer) -> PyResult<()> {
        self.client.watch(&peer.0).or_raise(py)
    }

    fn __repr__(&self) -> String {
        format!("MailboxClient(in_flight={}, free={})", self.client.in_flight(), self.client.free())
    }
}

/// Receives requests in order, replies to them in order.
#[pyclass(module = "simpler_ipc")]
pub struct MailboxServer(simpler_ipc::MailboxServer);

#[pymethods]
impl MailboxServer {
    #[pyo3(signature = (timeout = None))]
    fn recv(slf: &Bound<'_, Self>, timeout: Option<f64>) -> PyResult<Request> {
        let py = slf.py();
        let waiter = {
            let mut this = slf.try_borrow_mut()?;
            if let Some(request) = this.0.try_recv().or_raise(py)? {
                return Ok(Request(request));
            }
            this.0.waiter()
        };
        let limit = limit(timeout)?;
        loop {
            detached(py, limit, |patience| waiter.wait(patience))?;
            // None only if another thread took it.
            if let Some(request) = slf.try_borrow_mut()?.0.try_recv().or_raise(py)? {
                return Ok(Request(request));
            }
        }
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

    fn watch(&self, py: Python<'_>, peer: &Peer) -> PyResult<()> {
        self.0.watch(&peer.0).or_raise(py)
    }

    fn __repr__(&self) -> String {
        format!("MailboxServer(unreplied={})", self.0.unreplied())
    }
}

/// A reply, copied out of its frame.
#[pyclass(frozen, get_all, module = "simpler_ipc")]
pub struct Reply {
    ticket: u64,
    kind: u32,
    code: i32,
    payload: Py<PyBytes>,
}

impl Reply {
    fn copied(py: Python<'_>, reply: &simpler_ipc::Reply) -> Self {
        let payload = PyBytes::new(py, &reply.payload).unbind();
        Reply { ticket: reply.ticket, kind: reply.kind as u32, code: reply.code, payload }
    }

    fn taken(py: Python<'_>, view: &simpler_ipc::ReplyView) -> PyResult<Self> {
        let payload = PyBytes::new_with(py, view.payload.nbytes(), |bytes| {
            view.payload.copy_to(bytes);
            Ok(())
        })?;
        Ok(Reply { ticket: view.ticket, kind: view.kind as u32, code: view.code, payload: payload.unbind() })
    }
}

#[pymethods]
impl Reply {
    fn __repr__(&self, py: Python<'_>) -> String {
        let nbytes = self.payload.bind(py).as_bytes().len();
        format!("Reply(ticket={}, kind={}, code={}, {nbytes} bytes)", self.ticket, self.kind, self.code)
    }
}

/// A request in its frame; its bytes are valid until it is replied to.
#[pyclass(frozen, module = "simpler_ipc")]
pub struct Request(simpler_ipc::Request);

impl Request {
    fn window(&self) -> &Window {
        &self.0.payload
    }
}

#[pymethods]
impl Request {
    #[getter]
    fn ticket(&self) -> u64 {
        self.0.ticket
    }

    #[getter]
    fn kind(&self) -> u32 {
        self.0.kind as u32
    }

    #[getter]
    fn payload<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyMemoryView>> {
        memoryview(slf.as_any())
    }

    #[getter]
    fn address(&self) -> usize {
        self.window().as_ptr() as usize
    }

    #[getter]
    fn nbytes(&self) -> usize {
        self.window().nbytes()
    }

    fn __repr__(&self) -> String {
        format!("Request(ticket={}, kind={}, {} bytes)", self.0.ticket, self.0.kind as u32, self.nbytes())
    }

    unsafe fn __getbuffer__(slf: &Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let window = slf.get().window();
        // SAFETY: Python made the view; the window keeps its bytes mapped as long as this object lives.
        unsafe { fill_view(slf.as_any(), view, window.as_ptr(), window.nbytes(), flags) }
    }
}
