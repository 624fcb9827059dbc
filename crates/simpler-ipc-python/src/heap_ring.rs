//! `HeapRing`.

use std::sync::Arc;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyType};
use simpler_ipc::{Block, Error, Limit, RoomFor};

use crate::bytes::with_bytes;
use crate::client::MailboxClient;
use crate::errors::OrRaise;
use crate::peer::Peer;
use crate::region::Region;
use crate::server::Request;
use crate::waiting::{detached, limit};

/// A ring allocator: one process allocates, any process releases, space is reclaimed first-in-first-out.
#[pyclass(frozen, module = "simpler_ipc")]
pub struct HeapRing {
    ring: Arc<simpler_ipc::HeapRing>,
    /// To pickle it by.
    region: Py<Region>,
    offset: usize,
}

static STATS: PyOnceLock<Py<PyType>> = PyOnceLock::new();

#[pymethods]
impl HeapRing {
    #[staticmethod]
    #[pyo3(signature = (nbytes, alignment = simpler_ipc::HeapRing::ALIGNMENT))]
    fn required_bytes(py: Python<'_>, nbytes: usize, alignment: usize) -> PyResult<usize> {
        simpler_ipc::HeapRing::required_bytes(nbytes, alignment).or_raise(py)
    }

    #[new]
    #[pyo3(signature = (
        region, *, offset = 0, nbytes, name = "heap", alignment = simpler_ipc::HeapRing::ALIGNMENT, poison = false
    ))]
    fn new(
        region: &Bound<'_, Region>,
        offset: usize,
        nbytes: usize,
        name: &str,
        alignment: usize,
        poison: bool,
    ) -> PyResult<Self> {
        let make = if poison { simpler_ipc::HeapRing::poisoning } else { simpler_ipc::HeapRing::new };
        let ring = make(&region.get().open()?, offset, nbytes, name, alignment).or_raise(region.py())?;
        Ok(HeapRing { ring: Arc::new(ring), region: region.clone().unbind(), offset })
    }

    /// For pickle and copy: the region, and the shape to join the ring with.
    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<((Py<Region>,), Bound<'py, PyDict>)> {
        let shape = PyDict::new(py);
        shape.set_item("offset", self.offset)?;
        shape.set_item("nbytes", self.ring.nbytes())?;
        shape.set_item("name", self.ring.name())?;
        shape.set_item("alignment", self.ring.alignment())?;
        shape.set_item("poison", self.ring.poisons())?;
        Ok(((self.region.clone_ref(py),), shape))
    }

    #[getter]
    fn nbytes(&self) -> usize {
        self.ring.nbytes()
    }

    #[getter]
    fn used(&self) -> u64 {
        self.ring.used()
    }

    #[getter]
    fn live(&self) -> u64 {
        self.ring.live()
    }

    #[getter]
    fn name(&self) -> &str {
        self.ring.name()
    }

    #[getter]
    fn alignment(&self) -> usize {
        self.ring.alignment()
    }

    #[getter]
    fn poisons(&self) -> bool {
        self.ring.poisons()
    }

    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let stats = self.ring.stats().or_raise(py)?;
        STATS.import(py, "simpler_ipc.heap_ring", "HeapRingStats")?.call1((
            stats.nbytes,
            stats.live_blocks,
            stats.live_bytes,
            stats.held_bytes,
            stats.peak_bytes,
            stats.allocated,
            stats.wraps,
            stats.waits,
            stats.oldest,
            stats.oldest_nbytes,
        ))
    }

    fn watch(&self, py: Python<'_>, peer: &Peer) -> PyResult<()> {
        self.ring.watch(&peer.0).or_raise(py)
    }

    fn forget(&self, peer: &Peer) {
        self.ring.forget(&peer.0);
    }

    #[pyo3(signature = (nbytes, timeout = Some(0.0)))]
    fn alloc(&self, py: Python<'_>, nbytes: usize, timeout: Option<f64>) -> PyResult<usize> {
        match self.ring.try_alloc(nbytes) {
            Ok(Some(address)) => Ok(address),
            Ok(None) => self.alloc_slowly(py, nbytes, timeout),
            Err(error) => Err(error).or_raise(py),
        }
    }

    fn received(&self, py: Python<'_>, request: &Bound<'_, Request>) -> PyResult<Request> {
        let request = request.get();
        // SAFETY: the GIL is held; whoever writes to a request that was received does so at its own risk.
        let payload = unsafe { request.payload.bytes() };
        let bytes = self.ring.referred(request.ticket, payload).or_raise(py)?;
        let region = self.region.get().open()?;
        let payload = region.window(bytes.as_ptr() as usize - region.address(), bytes.nbytes()).or_raise(py)?;
        Ok(Request { ticket: request.ticket, kind: request.kind, payload })
    }

    fn release(&self, py: Python<'_>, address: usize) -> PyResult<()> {
        self.ring.release(address).or_raise(py)
    }

    fn __repr__(&self) -> String {
        let (name, nbytes, live, used) = (self.ring.name(), self.ring.nbytes(), self.ring.live(), self.ring.used());
        format!("HeapRing({name:?}, {nbytes} bytes, {live} live blocks hold {used})")
    }
}

impl HeapRing {
    /// A fresh block with those bytes, for a request of `client`. Waits for space until the limit.
    pub fn filled(
        &self,
        payload: &Bound<'_, PyAny>,
        client: &Bound<'_, MailboxClient>,
        limit: Limit,
    ) -> PyResult<Block> {
        let py = payload.py();
        with_bytes(payload, |bytes, nbytes| {
            let mut room = RoomFor::new(&self.ring, nbytes);
            let mut block = loop {
                if let Some(block) = room.look(&mut client.try_borrow_mut()?.client).or_raise(py)? {
                    break block;
                }
                if let Some(block) = detached(py, limit, |patience| room.wait(patience))? {
                    break block;
                }
            };
            // SAFETY: the block has that size; `with_bytes` holds the source during this call.
            unsafe { std::ptr::copy(bytes, block.as_mut_ptr(), nbytes) };
            Ok(block)
        })
    }

    #[cold]
    fn alloc_slowly(&self, py: Python<'_>, nbytes: usize, timeout: Option<f64>) -> PyResult<usize> {
        let limit = limit(timeout)?;
        if limit.is_zero() {
            return Err::<usize, Error>(self.ring.full(nbytes)).or_raise(py);
        }
        detached(py, limit, |patience| self.ring.alloc(nbytes, patience))
    }
}
