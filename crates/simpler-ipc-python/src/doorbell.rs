//! `Doorbell`.

use pyo3::prelude::*;

use crate::errors::OrRaise;
use crate::region::Region;
use crate::waiting::{detached, limit};

/// A "something changed" counter in shared memory, on which processes can sleep.
#[pyclass(frozen, module = "simpler_ipc")]
pub struct Doorbell {
    pub doorbell: simpler_ipc::Doorbell,
    region: Py<Region>,
}

#[pymethods]
impl Doorbell {
    #[classattr]
    const NBYTES: usize = simpler_ipc::Doorbell::NBYTES;

    #[new]
    #[pyo3(signature = (region, offset = 0))]
    fn new(py: Python<'_>, region: Py<Region>, offset: usize) -> PyResult<Self> {
        let doorbell = simpler_ipc::Doorbell::new(&region.get().open()?, offset).or_raise(py)?;
        Ok(Doorbell { doorbell, region })
    }

    fn ring(&self) {
        self.doorbell.ring();
    }

    #[getter]
    fn value(&self) -> u32 {
        self.doorbell.value()
    }

    #[pyo3(signature = (seen, timeout = None))]
    fn wait(&self, py: Python<'_>, seen: u32, timeout: Option<f64>) -> PyResult<u32> {
        let value = self.doorbell.value();
        if value != seen {
            return Ok(value);
        }
        detached(py, limit(timeout)?, |patience| self.doorbell.wait(seen, patience))
    }

    fn __getnewargs__(&self, py: Python<'_>) -> (Py<Region>, usize) {
        (self.region.clone_ref(py), self.doorbell.offset())
    }

    fn __repr__(&self) -> String {
        format!("Doorbell(value={})", self.doorbell.value())
    }
}
