//! `MailboxClient`, and the frames that are filled in place.

use std::ffi::c_int;

use pyo3::exceptions::{PyBufferError, PyRuntimeError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView, PySequence};
use simpler_ipc::mailbox::ReplyWaiter;
use simpler_ipc::{Claim, Error, Kind, Limit};

use crate::bytes::{is_held_by_the_object_alone, numpy_of, with_bytes};
use crate::errors::OrRaise;
use crate::filling::Filling;
use crate::heap_ring::HeapRing;
use crate::notifier::Notifier;
use crate::peer::Peer;
use crate::reply::Reply;
use crate::waiting::{detached, limit};

/// Posts requests, takes replies in the same order. Several threads may call at a time.
#[pyclass(module = "simpler_ipc", weakref)]
pub struct MailboxClient {
    pub client: simpler_ipc::MailboxClient,
    /// What `reserve` makes its memoryviews of, one for each frame, made when first needed.
    fillings: Vec<Option<Py<Filling>>>,
    /// The frame that `reserve` gave out, until it is posted.
    reserved: Option<usize>,
    /// What `simpler_ipc.aio` keeps here.
    #[pyo3(get, set)]
    _aio: Option<Py<PyAny>>,
}

impl MailboxClient {
    pub fn new(client: simpler_ipc::MailboxClient, depth: usize) -> Self {
        MailboxClient { client, fillings: (0..depth).map(|_| None).collect(), reserved: None, _aio: None }
    }

    /// Sends, in the frame that is reserved if there is one: the server waits for that.
    ///
    /// # Safety
    /// `payload` is valid for reads of `nbytes`.
    unsafe fn send_raw(
        &mut self,
        py: Python<'_>,
        kind: Kind,
        payload: *const u8,
        nbytes: usize,
    ) -> PyResult<Option<u64>> {
        if self.reserved.is_none() {
            // SAFETY: the caller's promise.
            return unsafe { self.client.send_raw(kind, payload, nbytes) }.or_raise(py);
        }
        let claim = self.take_reserved(py, "send", nbytes)?;
        // SAFETY: as above.
        unsafe { self.client.submit_raw(claim, kind, payload, nbytes) }.map(Some).or_raise(py)
    }

    /// What is reserved, to be handed over with that many bytes; on an error it stays reserved.
    fn take_reserved(&mut self, py: Python<'_>, what: &str, nbytes: usize) -> PyResult<Claim> {
        let frame_bytes = self.client.frame_bytes();
        if nbytes > frame_bytes {
            return Err(Error::FrameTooLarge { nbytes, frame_bytes }).or_raise(py);
        }
        let filling = self.reserved.and_then(|frame| self.fillings[frame].as_ref());
        let filling = filling.ok_or_else(|| Error::Misused(format!("{what}() without a frame: reserve() one first")));
        let claim = Filling::end(filling.or_raise(py)?, py)?;
        self.reserved = None;
        Ok(claim)
    }

    /// As `begin`, waiting for a free frame.
    fn begin_when_free(
        slf: &Bound<'_, Self>,
        kind: u32,
        payload: &Bound<'_, PyAny>,
        limit: Limit,
        waiter: &ReplyWaiter,
    ) -> PyResult<u64> {
        loop {
            if let Some(ticket) = Self::begin(slf, kind, payload)? {
                return Ok(ticket);
            }
            detached(slf.py(), limit, |patience| waiter.wait_for_room(patience))?;
        }
    }

    /// The reply to what was begun, waiting for it; if that fails, nobody waits for it any more.
    fn finish_call(slf: &Bound<'_, Self>, ticket: u64, limit: Limit, waiter: &ReplyWaiter) -> PyResult<Reply> {
        let py = slf.py();
        loop {
            if let Some(reply) = slf.try_borrow_mut()?.take(py, ticket)? {
                return Ok(reply);
            }
            if let Err(error) = detached(py, limit, |patience| waiter.wait_for(ticket, patience)) {
                slf.try_borrow_mut()?.abandon(py, ticket)?;
                return Err(error);
            }
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
        let frame = match self.reserved {
            Some(frame) => frame,
            None => {
                let Some(claim) = self.client.claim().or_raise(py)? else { return Ok(None) };
                let frame = claim.frame();
                match &self.fillings[frame] {
                    Some(filling) => filling.get().renew(claim),
                    None => self.fillings[frame] = Some(Py::new(py, Filling::new(py, claim)?)?),
                }
                *self.reserved.insert(frame)
            }
        };
        self.fillings[frame].as_ref().map(|filling| Filling::view(filling.bind(py))).transpose()
    }

    fn post(&mut self, py: Python<'_>, kind: u32, nbytes: usize) -> PyResult<u64> {
        let kind = kind_of(py, kind)?;
        let claim = self.take_reserved(py, "post", nbytes)?;
        self.client.submit(claim, kind, nbytes).or_raise(py)
    }

    #[pyo3(signature = (kind = 1, timeout = None))]
    fn request(slf: Py<Self>, py: Python<'_>, kind: u32, timeout: Option<f64>) -> PyResult<RequestFrame> {
        kind_of(py, kind)?;
        limit(timeout)?;
        Ok(RequestFrame { client: slf, kind, timeout, filling: None, nbytes: 0, ticket: None })
    }

    fn send(slf: &Bound<'_, Self>, kind: u32, payload: &Bound<'_, PyAny>) -> PyResult<Option<u64>> {
        let py = slf.py();
        let kind = kind_of(py, kind)?;
        with_bytes(payload, |bytes, nbytes| {
            // SAFETY: `with_bytes` holds the buffer during this call.
            unsafe { slf.try_borrow_mut()?.send_raw(py, kind, bytes, nbytes) }
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
                            Some(_) => this.send_raw(py, kind, bytes, nbytes),
                            None => this.client.queue_raw(kind, bytes, nbytes).or_raise(py),
                        }
                    }
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
                if let Some(ticket) = unsafe { this.send_raw(py, kind, bytes, nbytes) }? {
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
        let limit = limit(timeout)?;
        let waiter = slf.try_borrow()?.client.waiter();
        let ticket = Self::begin_when_free(slf, kind, payload, limit, &waiter)?;
        // An answer that comes at once is not worth letting go of the GIL.
        waiter.glance(ticket);
        Self::finish_call(slf, ticket, limit, &waiter)
    }

    #[pyo3(signature = (ring, kind, payload, timeout = None))]
    fn call_large(
        slf: &Bound<'_, Self>,
        ring: &HeapRing,
        kind: u32,
        payload: &Bound<'_, PyAny>,
        timeout: Option<f64>,
    ) -> PyResult<Reply> {
        let py = slf.py();
        let limit = limit(timeout)?;
        let block = ring.filled(payload, slf, limit)?;
        let reference = PyBytes::new(py, &block.reference());
        let waiter = slf.try_borrow()?.client.waiter();
        let ticket = Self::begin_when_free(slf, kind, reference.as_any(), limit, &waiter)?;
        slf.try_borrow_mut()?.client.keep_until_reply(ticket, block).or_raise(py)?;
        Self::finish_call(slf, ticket, limit, &waiter)
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
            let waiter = this.client.waiter();
            waiter.check_here().or_raise(slf.py())?;
            if this.client.has_kept() {
                return Ok(());
            }
            waiter
        };
        if waiter.glance(waiter.oldest()) {
            return Ok(());
        }
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
    filling: Option<Py<Filling>>,
    nbytes: usize,
    ticket: Option<u64>,
}

impl RequestFrame {
    fn filling(&self) -> PyResult<&Py<Filling>> {
        self.filling.as_ref().ok_or_else(|| {
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
        let frame_bytes = self.filling()?.get().frame_bytes();
        if nbytes > frame_bytes {
            return Err(Error::FrameTooLarge { nbytes, frame_bytes }).or_raise(py);
        }
        self.nbytes = nbytes;
        Ok(())
    }

    #[getter]
    fn payload<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyMemoryView>> {
        Filling::view(self.filling()?.bind(py))
    }

    #[pyo3(signature = (dtype = None, shape = None, offset = 0))]
    fn numpy<'py>(
        slf: &Bound<'py, Self>,
        dtype: Option<&Bound<'py, PyAny>>,
        shape: Option<&Bound<'py, PyAny>>,
        offset: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        let frame_bytes = slf.try_borrow()?.filling()?.get().frame_bytes();
        numpy_of(slf.as_any(), frame_bytes, dtype, shape, offset)
    }

    fn __enter__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, Self>> {
        let py = slf.py();
        let (client, limit) = {
            let this = slf.try_borrow()?;
            if this.filling.is_some() || this.ticket.is_some() {
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
        this.nbytes = claim.frame_bytes();
        this.filling = Some(Py::new(py, Filling::new(py, claim)?)?);
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
        let Some(filling) = self.filling.take() else { return Ok(()) };
        if !exception.is_none() {
            Filling::abandon(&filling, py);
            return Ok(());
        }
        let mut client = self.client.bind(py).try_borrow_mut()?;
        let claim = Filling::end(&filling, py)?;
        self.ticket = Some(client.client.submit(claim, kind_of(py, self.kind)?, self.nbytes).or_raise(py)?);
        Ok(())
    }

    fn __repr__(&self) -> String {
        match (self.ticket, &self.filling) {
            (Some(ticket), _) => format!("RequestFrame(posted, ticket={ticket})"),
            (None, Some(_)) => format!("RequestFrame({} bytes to be posted)", self.nbytes),
            (None, None) => "RequestFrame(not entered)".to_owned(),
        }
    }

    unsafe fn __getbuffer__(slf: &Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        // What it keeps is the request, which is there after the frame was posted as well.
        if is_held_by_the_object_alone(flags) {
            return Err(PyBufferError::new_err(
                "numpy.ndarray(buffer=frame) does not tell when it ends: take frame.numpy(dtype, shape, offset), or \
                 buffer=frame.payload",
            ));
        }
        let filling = slf.try_borrow()?.filling()?.clone_ref(slf.py());
        // SAFETY: Python made the view.
        unsafe { Filling::buffer(filling.bind(slf.py()), view, flags) }
    }

    /// Nothing is to be done. That this is here tells `numpy.frombuffer` to hold a buffer as long as an array of it lives.
    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {}
}

/// A kind as Python gives it.
fn kind_of(py: Python<'_>, kind: u32) -> PyResult<Kind> {
    Kind::try_from(kind).or_raise(py)
}
