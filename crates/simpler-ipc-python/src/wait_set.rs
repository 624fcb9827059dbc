//! `WaitSet`.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::client::MailboxClient;
use crate::doorbell::Doorbell;
use crate::errors::{peer_died, OrRaise};
use crate::peer::Peer;
use crate::reply::Reply;
use crate::waiting::{detached, limit};

/// One wait for whatever rings a doorbell and for the death of any watched peer; a fair harvest of replies.
#[pyclass(frozen, module = "simpler_ipc")]
pub struct WaitSet {
    set: simpler_ipc::WaitSet,
    clients: Mutex<Vec<Py<MailboxClient>>>,
}

type Harvest = Vec<(Py<MailboxClient>, Reply)>;

impl WaitSet {
    fn lock(&self) -> MutexGuard<'_, Vec<Py<MailboxClient>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is there now.
    fn sweep(&self, py: Python<'_>, limit: usize) -> PyResult<Harvest> {
        let clients: Vec<_> = self.lock().iter().map(|client| client.clone_ref(py)).collect();
        let poll = |client: usize| clients[client].bind(py).try_borrow_mut()?.poll(py);
        let replies = self.set.sweep(clients.len(), limit, poll)?;
        Ok(replies.into_iter().map(|(client, reply)| (clients[client].clone_ref(py), reply)).collect())
    }
}

#[pymethods]
impl WaitSet {
    #[new]
    fn new(doorbell: &Doorbell) -> Self {
        WaitSet { set: simpler_ipc::WaitSet::new(doorbell.doorbell.clone()), clients: Mutex::default() }
    }

    fn add(&self, py: Python<'_>, client: Py<MailboxClient>) -> PyResult<()> {
        if !client.bind(py).try_borrow()?.waits_at(self.set.doorbell()) {
            return Err(PyValueError::new_err(
                "the client waits elsewhere: make it with this wait set's doorbell, mailbox.client(doorbell)",
            ));
        }
        let mut clients = self.lock();
        if !clients.iter().any(|known| known.is(&client)) {
            clients.push(client);
        }
        Ok(())
    }

    fn remove(&self, client: Py<MailboxClient>) {
        self.lock().retain(|known| !known.is(&client));
    }

    #[pyo3(signature = (timeout = None, limit = None))]
    fn harvest(&self, py: Python<'_>, timeout: Option<f64>, limit: Option<usize>) -> PyResult<Harvest> {
        let until = crate::waiting::limit(timeout)?;
        let limit = limit.unwrap_or(usize::MAX);
        if limit == 0 {
            return Err(PyValueError::new_err("harvest() takes one reply at least, not 0"));
        }
        loop {
            let seen = self.set.doorbell().value();
            let replies = self.sweep(py, limit)?;
            if !replies.is_empty() {
                return Ok(replies);
            }
            let Some(peer) = detached(py, until, |patience| self.set.wait_or_death(seen, patience))? else { continue };
            let last = self.sweep(py, limit)?;
            if last.is_empty() {
                let exit = peer.died().or_raise(py)?.unwrap_or(simpler_ipc::Exit { status: None, signal: None });
                return Err(PyErr::from_value(peer_died(py, peer.pid(), exit)?));
            }
            self.set.unreport(&peer);
            return Ok(last);
        }
    }

    fn watch(&self, py: Python<'_>, peer: &Peer) -> PyResult<()> {
        self.set.watch(&peer.0).or_raise(py)
    }

    fn forget(&self, peer: &Peer) {
        self.set.forget(&peer.0);
    }

    #[pyo3(signature = (seen, timeout = None))]
    fn wait(&self, py: Python<'_>, seen: u32, timeout: Option<f64>) -> PyResult<u32> {
        detached(py, limit(timeout)?, |patience| self.set.wait(seen, patience))
    }

    fn close(&self) {
        self.set.close();
        let clients = std::mem::take(&mut *self.lock());
        drop(clients);
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __exit__(&self, _type: &Bound<'_, PyAny>, _value: &Bound<'_, PyAny>, _trace: &Bound<'_, PyAny>) {
        self.close();
    }
}
