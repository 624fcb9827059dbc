//! `Mailbox`: the memory; its two sides have modules of their own.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::client::MailboxClient;
use crate::doorbell::Doorbell;
use crate::errors::OrRaise;
use crate::region::Region;
use crate::server::MailboxServer;

/// An ordered lane of request/reply frames between one client and one server.
#[pyclass(frozen, module = "simpler_ipc")]
pub struct Mailbox {
    mailbox: simpler_ipc::Mailbox,
    region: Py<Region>,
}

#[pymethods]
impl Mailbox {
    #[staticmethod]
    fn required_bytes(py: Python<'_>, depth: usize, frame_bytes: usize) -> PyResult<usize> {
        simpler_ipc::Mailbox::required_bytes(depth, frame_bytes).or_raise(py)
    }

    #[new]
    #[pyo3(signature = (region, *, offset = 0, depth = 1, frame_bytes = 65536))]
    fn new(py: Python<'_>, region: Py<Region>, offset: usize, depth: usize, frame_bytes: usize) -> PyResult<Self> {
        let mailbox = simpler_ipc::Mailbox::new(&region.get().open()?, offset, depth, frame_bytes).or_raise(py)?;
        Ok(Mailbox { mailbox, region })
    }

    #[getter]
    fn depth(&self) -> usize {
        self.mailbox.depth()
    }

    #[getter]
    fn frame_bytes(&self) -> usize {
        self.mailbox.frame_bytes()
    }

    #[pyo3(signature = (doorbell = None))]
    fn client(&self, py: Python<'_>, doorbell: Option<&Doorbell>) -> PyResult<MailboxClient> {
        let client = self.mailbox.client(doorbell.map(|doorbell| &doorbell.doorbell)).or_raise(py)?;
        Ok(MailboxClient::new(client, self.mailbox.depth()))
    }

    #[pyo3(signature = (doorbell = None))]
    fn server(&self, py: Python<'_>, doorbell: Option<&Doorbell>) -> PyResult<MailboxServer> {
        let server = self.mailbox.server(doorbell.map(|doorbell| &doorbell.doorbell)).or_raise(py)?;
        Ok(MailboxServer::new(server))
    }

    fn __getnewargs_ex__<'py>(&self, py: Python<'py>) -> PyResult<(Bound<'py, PyTuple>, Bound<'py, PyDict>)> {
        let shape = PyDict::new(py);
        shape.set_item("offset", self.mailbox.offset())?;
        shape.set_item("depth", self.depth())?;
        shape.set_item("frame_bytes", self.frame_bytes())?;
        Ok((PyTuple::new(py, [&self.region])?, shape))
    }

    fn __repr__(&self) -> String {
        format!("Mailbox(depth={}, frame_bytes={})", self.mailbox.depth(), self.mailbox.frame_bytes())
    }
}
