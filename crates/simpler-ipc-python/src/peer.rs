//! `Peer` and `exit_with`.

use pyo3::prelude::*;

use crate::errors::{peer_died, OrRaise};
use crate::waiting::{detached, limit};

/// Another process, whose death is noticed at once.
#[pyclass(frozen, module = "simpler_ipc")]
pub struct Peer(pub simpler_ipc::Peer);

#[pymethods]
impl Peer {
    #[new]
    #[pyo3(signature = (pid, *, reap = true))]
    fn new(py: Python<'_>, pid: i32, reap: bool) -> PyResult<Self> {
        let peer = if reap { simpler_ipc::Peer::open(pid) } else { simpler_ipc::Peer::observe(pid) };
        Ok(Peer(peer.or_raise(py)?))
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
