//! `MailboxClient`, and the frames that are filled in place.

use std::ffi::c_int;

use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyMemoryView, PySequence};
use simpler_ipc::{Claim, Error, Kind, Window};

use crate::bytes::{fill_view, memoryview, with_bytes, Payload};
use crate::errors::OrRaise;
use crate::notifier::Notifier;
use crate::peer::Peer;
use crate::reply::Reply;
use crate::waiting::{detached, limit};

/// Posts requests, takes replies in the same order. Several threads may call at a time.
#[pyclass(module = "simpler_ipc", weakref)]
pub struct MailboxClient {
    client: simpler_ipc::MailboxClient,
    /// What `reserve` makes its memoryviews of, one for each frame, made when first needed.
    payloads: Vec<Option<Py<Payload>>>,
    /// What `reserve` gave out, until it is posted.
    reserved: Option<Claim>,
    /// What `simpler_ipc.aio` keeps here.
    #[pyo3(get, set)]
    _aio: Option<Py<PyAny>>,
}

impl MailboxClient {
    pub fn new(client: simpler_ipc::MailboxClient, depth: usize) -> Self {
        MailboxClient { client, payloads: (0..depth).map(|_| None).collect(), reserved: None, _aio: None }
    }

    /// Sends, in the frame that is reserved if there is one: the server waits for that.
    ///
    /// # Safety
    /// `payload` is valid for reads of `nbytes`.
    unsafe fn send_raw(&mut self, kind: Kind, payload: *const u8, nbytes: usize) -> simpler_ipc::Result<Option<u64>> {
        let frame_bytes = self.client.frame_bytes();
        if nbytes > frame_bytes {
            return Err(Error::FrameTooLarge { nbytes, frame_bytes }); // what is reserved stays so
        }
        match self.reserved.take() {
            // SAFETY: the caller's promise.
            Some(claim) => unsafe { self.client.submit_raw(claim, kind, payload, nbytes) }.map(Some),
            // SAFETY: as above.
            None => unsafe { self.client.send_raw(kind, payload, nbytes) },
        }
    }

    pub fn waits_at(&self, doorbell: &simpler_ipc::Doorbell) -> bool {
        self.client.waits_at(doorbell)
    }
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

    #[getter]
    fn frame_bytes(&self) -> usize {
        self.client.frame_bytes()
    }

    fn reserve<'py>(&mut self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyMemoryView>>> {
        if self.reserved.is_none() {
            self.reserved = self.client.claim().or_raise(py)?;
        }
        let Some(claim) = &self.reserved else { return Ok(None) };
        let payload = match &self.payloads[claim.frame()] {
            Some(payload) => payload.bind(py),
            None => self.payloads[claim.frame()].insert(Py::new(py, Payload(claim.payload.clone()))?).bind(py),
        };
        memoryview(payload.as_any()).map(Some)
    }

    fn post(&mut self, py: Python<'_>, kind: u32, nbytes: usize) -> PyResult<u64> {
        let kind = kind_of(py, kind)?;
        let frame_bytes = self.client.frame_bytes();
        if nbytes > frame_bytes {
            return Err(Error::FrameTooLarge { nbytes, frame_bytes }).or_raise(py);
        }
        let claim = self.reserved.take();
        let claim = claim.ok_or_else(|| Error::Misused("post() without a frame: reserve() one first".to_owned()));
        self.client.submit(claim.or_raise(py)?, kind, nbytes).or_raise(py)
    }

    #[pyo3(signature = (kind = 1, timeout = None))]
    fn request(slf: Py<Self>, py: Python<'_>, kind: u32, timeout: Option<f64>) -> PyResult<RequestFrame> {
        kind_of(py, kind)?;
        limit(timeout)?;
        Ok(RequestFrame { client: slf, kind, timeout, claim: None, nbytes: 0, ticket: None })
    }

    fn send(slf: &Bound<'_, Self>, kind: u32, payload: &Bound<'_, PyAny>) -> PyResult<Option<u64>> {
        let py = slf.py();
        let kind = kind_of(py, kind)?;
        with_bytes(payload, |bytes, nbytes| {
            // SAFETY: `with_bytes` holds the buffer during this call.
            unsafe { slf.try_borrow_mut()?.send_raw(kind, bytes, nbytes) }.or_raise(py)
        })
    }

    fn send_many(slf: &Bound<'_, Self>, kind: u32, payloads: &Bound<'_, PySequence>) -> PyResult<usize> {
        let py = slf.py();
        let kind = kind_of(py, kind)?;
        let mut sent = 0;
        let mut outcome = Ok(());
        for payload in payloads.try_iter()? {
            let queued = payload.and_then(|payload| {
                with_bytes(&payload, |bytes, nbytes| {
                    let mut this = slf.try_borrow_mut()?;
                    // SAFETY: `with_bytes` holds the buffer during this call.
                    unsafe {
                        match this.reserved {
                            Some(_) => this.send_raw(kind, bytes, nbytes),
                            None => this.client.queue_raw(kind, bytes, nbytes),
                        }
                    }
                    .or_raise(py)
                })
            });
            match queued {
                Ok(Some(_)) => sent += 1,
                Ok(None) => break,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        slf.try_borrow_mut()?.client.flush().or_raise(py)?;
        outcome.map(|()| sent)
    }

    pub fn poll(&mut self, py: Python<'_>) -> PyResult<Option<Reply>> {
        if let Some(kept) = self.client.poll_kept() {
            return Ok(Some(Reply::copied(py, &kept)));
        }
        self.client.poll_with(|view| Reply::taken(py, &view)).or_raise(py)?.transpose()
    }

    #[pyo3(signature = (limit = None))]
    fn poll_many(&mut self, py: Python<'_>, limit: Option<usize>) -> PyResult<Vec<Py<Reply>>> {
        let mut replies = Vec::new();
        while replies.len() < limit.unwrap_or(usize::MAX) {
            match self.poll(py)? {
                Some(reply) => replies.push(Py::new(py, reply)?),
                None => break,
            }
        }
        Ok(replies)
    }

    fn cancel(&mut self, py: Python<'_>, ticket: u64) -> PyResult<bool> {
        self.client.cancel(ticket).or_raise(py)
    }

    fn begin(slf: &Bound<'_, Self>, kind: u32, payload: &Bound<'_, PyAny>) -> PyResult<Option<u64>> {
        let py = slf.py();
        let kind = kind_of(py, kind)?;
        with_bytes(payload, |bytes, nbytes| {
            let mut this = slf.try_borrow_mut()?;
            loop {
                // SAFETY: `with_bytes` holds the buffer during this call.
                if let Some(ticket) = unsafe { this.send_raw(kind, bytes, nbytes) }.or_raise(py)? {
                    this.client.expect_reply(ticket);
                    return Ok(Some(ticket));
                }
                // Nobody may be about to poll the reply that is in the way.
                if !this.client.make_room().or_raise(py)? {
                    return Ok(None);
                }
            }
        })
    }

    fn take(&mut self, py: Python<'_>, ticket: u64) -> PyResult<Option<Reply>> {
        let (in_frame, kept) = (
            |view: simpler_ipc::ReplyView<'_>| Reply::taken(py, &view),
            |reply: simpler_ipc::Reply| Ok(Reply::copied(py, &reply)),
        );
        self.client.take_reply_with(ticket, in_frame, kept).or_raise(py)?.transpose()
    }

    fn abandon(&mut self, py: Python<'_>, ticket: u64) -> PyResult<()> {
        self.client.abandon(ticket).or_raise(py)
    }

    #[pyo3(signature = (kind, payload, timeout = None))]
    fn call(slf: &Bound<'_, Self>, kind: u32, payload: &Bound<'_, PyAny>, timeout: Option<f64>) -> PyResult<Reply> {
        let py = slf.py();
        let limit = limit(timeout)?;
        let waiter = slf.try_borrow()?.client.waiter();
        let ticket = loop {
            if let Some(ticket) = Self::begin(slf, kind, payload)? {
                break ticket;
            }
            detached(py, limit, |patience| waiter.wait_for_room(patience))?;
        };
        loop {
            if let Err(error) = detached(py, limit, |patience| waiter.wait_for(ticket, patience)) {
                slf.try_borrow_mut()?.abandon(py, ticket)?;
                return Err(error);
            }
            if let Some(reply) = slf.try_borrow_mut()?.take(py, ticket)? {
                return Ok(reply);
            }
        }
    }

    #[pyo3(signature = (kind, payload, timeout = None))]
    fn acall<'py>(
        slf: &Bound<'py, Self>,
        kind: u32,
        payload: &Bound<'py, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("simpler_ipc.aio")?.call_method1("call", (slf, kind, payload, timeout))
    }

    fn notifier(&self, py: Python<'_>) -> PyResult<Notifier> {
        Ok(Notifier(simpler_ipc::Notifier::new(self.client.waiter()).or_raise(py)?))
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

    fn forget(&self, peer: &Peer) {
        self.client.forget(&peer.0);
    }

    fn __repr__(&self) -> String {
        format!("MailboxClient(in_flight={}, free={})", self.client.in_flight(), self.client.free())
    }
}

/// A frame that is filled in place, in a `with` block, and posted at its end.
#[pyclass(module = "simpler_ipc")]
pub struct RequestFrame {
    client: Py<MailboxClient>,
    kind: u32,
    timeout: Option<f64>,
    claim: Option<Claim>,
    nbytes: usize,
    ticket: Option<u64>,
}

impl RequestFrame {
    fn window(&self) -> PyResult<&Window> {
        let claim = self.claim.as_ref();
        claim.map(|claim| &claim.payload).ok_or_else(|| {
            PyValueError::new_err("the frame is the client's only inside the `with` block: it is posted at its end")
        })
    }
}

#[pymethods]
impl RequestFrame {
    #[getter]
    fn ticket(&self) -> Option<u64> {
        self.ticket
    }

    #[getter]
    fn nbytes(&self) -> usize {
        self.nbytes
    }

    #[setter]
    fn set_nbytes(&mut self, py: Python<'_>, nbytes: usize) -> PyResult<()> {
        let frame_bytes = self.window()?.nbytes();
        if nbytes > frame_bytes {
            return Err(Error::FrameTooLarge { nbytes, frame_bytes }).or_raise(py);
        }
        self.nbytes = nbytes;
        Ok(())
    }

    #[getter]
    fn payload<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyMemoryView>> {
        memoryview(slf.as_any())
    }

    fn __enter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        let py = slf.py();
        let (client, limit) = {
            let this = slf.try_borrow()?;
            if this.claim.is_some() || this.ticket.is_some() {
                return Err(PyRuntimeError::new_err("a request is entered once: make another with client.request()"));
            }
            (this.client.clone_ref(py).into_bound(py), limit(this.timeout)?)
        };
        let waiter = client.try_borrow()?.client.waiter();
        let claim = loop {
            let claimed = client.try_borrow_mut()?.client.claim().or_raise(py)?;
            if let Some(claim) = claimed {
                break claim;
            }
            detached(py, limit, |patience| waiter.wait_for_room(patience))?;
            client.try_borrow_mut()?.client.make_room().or_raise(py)?;
        };
        let mut this = slf.try_borrow_mut()?;
        this.nbytes = claim.payload.nbytes();
        this.claim = Some(claim);
        drop(this);
        Ok(slf.clone())
    }

    fn __exit__(
        &mut self,
        py: Python<'_>,
        exception: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _trace: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let Some(claim) = self.claim.take() else { return Ok(()) };
        let mut client = self.client.bind(py).try_borrow_mut()?;
        if !exception.is_none() {
            return client.client.give_up(claim).or_raise(py);
        }
        self.ticket = Some(client.client.submit(claim, kind_of(py, self.kind)?, self.nbytes).or_raise(py)?);
        Ok(())
    }

    fn __repr__(&self) -> String {
        match (self.ticket, &self.claim) {
            (Some(ticket), _) => format!("RequestFrame(posted, ticket={ticket})"),
            (None, Some(_)) => format!("RequestFrame({} bytes to be posted)", self.nbytes),
            (None, None) => "RequestFrame(not entered)".to_owned(),
        }
    }

    unsafe fn __getbuffer__(slf: &Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let window = slf.try_borrow()?.window()?.clone();
        let payload = Bound::new(slf.py(), Payload(window))?;
        let window = &payload.get().0;
        // SAFETY: Python made the view; it owns `payload`, which keeps its bytes mapped.
        unsafe { fill_view(payload.as_any(), view, window.as_ptr(), window.nbytes(), flags) }
    }
}

/// A kind as Python gives it.
fn kind_of(py: Python<'_>, kind: u32) -> PyResult<Kind> {
    Kind::try_from(kind).or_raise(py)
}
