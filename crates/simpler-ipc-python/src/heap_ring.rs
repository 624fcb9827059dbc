//! `HeapRing`.

use pyo3::prelude::*;

use crate::errors::OrRaise;
use crate::region::Region;
use crate::waiting::{detached, limit};

/// A ring allocator: one process allocates, any process releases, space is reclaimed first-in-first-out.
#[pyclass(frozen, module = "simpler_ipc")]
pub struct HeapRing(simpler_ipc::HeapRing);

#[pymethods]
impl HeapRing {
    #[staticmethod]
    #[pyo3(signature = (nbytes, alignment = simpler_ipc::HeapRing::ALIGNMENT))]
    fn required_bytes(py: Python<'_>, nbytes: usize, alignment: usize) -> PyResult<usize> {
        simpler_ipc::HeapRing::required_bytes(nbytes, alignment).or_raise(py)
    }

    #[new]
    #[pyo3(signature = (region, *, offset = 0, nbytes, name = "heap", alignment = simpler_ipc::HeapRing::ALIGNMENT))]
    fn new(
        py: Python<'_>,
        region: &Region,
        offset: usize,
        nbytes: usize,
        name: &str,
        alignment: usize,
    ) -> PyResult<Self> {
        let ring = simpler_ipc::HeapRing::new(&region.open()?, offset, nbytes, name, alignment);
        Ok(HeapRing(ring.or_raise(py)?))
    }

    #[getter]
    fn nbytes(&self) -> usize {
        self.0.nbytes()
    }

    #[getter]
    fn used(&self) -> u64 {
        self.0.used()
    }

    #[getter]
    fn live(&self) -> u64 {
        self.0.live()
    }

    #[getter]
    fn name(&self) -> &str {
        self.0.name()
    }

    #[getter]
    fn alignment(&self) -> usize {
        self.0.alignment()
    }

    #[pyo3(signature = (nbytes, timeout = Some(0.0)))]
    fn alloc(&self, py: Python<'_>, nbytes: usize, timeout: Option<f64>) -> PyResult<usize> {
        if let Some(address) = self.0.try_alloc(nbytes).or_raise(py)? {
            return Ok(address);
        }
        detached(py, limit(timeout)?, |patience| self.0.alloc(nbytes, patience))
    }

    fn release(&self, py: Python<'_>, address: usize) -> PyResult<()> {
        self.0.release(address).or_raise(py)
    }

    fn __repr__(&self) -> String {
        let (name, nbytes, live, used) = (self.0.name(), self.0.nbytes(), self.0.live(), self.0.used());
        format!("HeapRing({name:?}, {nbytes} bytes, {live} live blocks hold {used})")
    }
}
