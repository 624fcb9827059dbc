//! `Doorbell`.

use pyo3::prelude::*;

use crate::errors::OrRaise;
use crate::region::Region;
use crate::waiting::{detached, limit};

/// A "something changed" counter in shared memory, on which processes can sleep.
#[pyclass(frozen, module = "simpler_ipc")]
pub struct Doorbell(pub simpler_ipc::Doorbell);

#[pymethods]
impl Doorbell {
    #[classattr]
    const NBYTES: usize = simpler_ipc::Doorbell::NBYTES;

    #[new]
    #[pyo3(signature = (region, offset = 0))]
    fn new(py: Python<'_>, region: &Region, offset: usize) -> PyResult<Self> {
        Ok(Doorbell(simpler_ipc::Doorbell::new(&region.open()?, offset).or_raise(py)?))
    }

    fn ring(&self) {
        self.0.ring();
    }

    #[getter]
    fn value(&self) -> u32 {
        self.0.value()
    }

    #[pyo3(signature = (seen, timeout = None))]
    fn wait(&self, py: Python<'_>, seen: u32, timeout: Option<f64>) -> PyResult<u32> {
        let value = self.0.value();
        if value != seen {
            return Ok(value);
        }
        detached(py, limit(timeout)?, |patience| self.0.wait(seen, patience))
    }

    fn __repr__(&self) -> String {
        format!("Doorbell(value={})", self.0.value())
    }
}
