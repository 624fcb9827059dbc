//! `Peer`, `WaitSet` and `exit_with`.

use pyo3::prelude::*;

use crate::doorbell::Doorbell;
use crate::errors::{peer_died, OrRaise};
use crate::waiting::{detached, limit};

/// Another process, whose death is noticed at once.
#[pyclass(frozen, module = "simpler_ipc")]
pub struct Peer(pub simpler_ipc::Peer);

#[pymethods]
impl Peer {
    #[new]
    fn new(py: Python<'_>, pid: i32) -> PyResult<Self> {
        Ok(Peer(simpler_ipc::Peer::open(pid).or_raise(py)?))
    }

    #[getter]
    fn pid(&self) -> i32 {
        self.0.pid()
    }

    fn alive(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.0.died().or_raise(py)?.is_none())
    }

    fn died<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0.died().or_raise(py)?.map(|exit| peer_died(py, self.0.pid(), exit)).transpose()
    }

    #[pyo3(signature = (timeout = None))]
    fn wait<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyAny>> {
        let exit = detached(py, limit(timeout)?, |patience| self.0.wait(patience))?;
        peer_died(py, self.0.pid(), exit)
    }

    #[pyo3(signature = (signal = 9))]
    fn kill(&self, py: Python<'_>, signal: i32) -> PyResult<()> {
        self.0.kill(signal).or_raise(py)
    }

    fn __repr__(&self) -> String {
        format!("Peer(pid={})", self.0.pid())
    }
}

/// exit_with(peer): ends this process as soon as the peer has ended, even while Python is busy.
#[pyfunction]
pub fn exit_with(py: Python<'_>, peer: &Peer) -> PyResult<()> {
    simpler_ipc::exit_with(&peer.0).or_raise(py)
}

/// One wait for whatever rings a doorbell and for the death of any watched peer.
#[pyclass(frozen, module = "simpler_ipc")]
pub struct WaitSet(simpler_ipc::WaitSet);

#[pymethods]
impl WaitSet {
    #[new]
    fn new(doorbell: &Doorbell) -> Self {
        WaitSet(simpler_ipc::WaitSet::new(doorbell.0.clone()))
    }

    fn watch(&self, py: Python<'_>, peer: &Peer) -> PyResult<()> {
        self.0.watch(&peer.0).or_raise(py)
    }

    fn forget(&self, peer: &Peer) {
        self.0.forget(&peer.0);
    }

    #[pyo3(signature = (seen, timeout = None))]
    fn wait(&self, py: Python<'_>, seen: u32, timeout: Option<f64>) -> PyResult<u32> {
        detached(py, limit(timeout)?, |patience| self.0.wait(seen, patience))
    }

    fn close(&self) {
        self.0.close();
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __exit__(&self, _type: &Bound<'_, PyAny>, _value: &Bound<'_, PyAny>, _trace: &Bound<'_, PyAny>) {
        self.close();
    }
}
