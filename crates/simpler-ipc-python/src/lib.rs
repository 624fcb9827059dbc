//! Python bindings of simpler-ipc: `simpler_ipc._native`, re-exported by `simpler_ipc`.
//!
//! One module for each Python class or group of them. Calls that may wait try once without letting go of the GIL,
//! then release it; calls that cannot wait keep it, so that no lock of the library is held when Python forks. The module
//! says so itself (`gil_used`): what keeps a descriptor open or a buffer in place during a call is that lock.

mod bytes;
mod client;
mod doorbell;
mod errors;
mod filling;
mod heap_ring;
mod mailbox;
mod notifier;
mod peer;
mod region;
mod reply;
mod server;
mod wait_set;
mod waiting;

use pyo3::prelude::*;
use simpler_ipc::{Kind, Status};

/// Shared memory between processes. Import it as `simpler_ipc`.
#[pymodule(gil_used = true)]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<region::Region>()?;
    module.add_class::<region::NamedRegion>()?;
    module.add_function(wrap_pyfunction!(region::named_regions, module)?)?;
    module.add_function(wrap_pyfunction!(region::clean_names, module)?)?;
    module.add_class::<doorbell::Doorbell>()?;
    module.add_class::<peer::Peer>()?;
    module.add_class::<wait_set::WaitSet>()?;
    module.add_class::<mailbox::Mailbox>()?;
    module.add_class::<client::MailboxClient>()?;
    module.add_class::<server::MailboxServer>()?;
    module.add_class::<reply::Reply>()?;
    module.add_class::<server::Request>()?;
    module.add_class::<client::RequestFrame>()?;
    module.add_class::<notifier::Notifier>()?;
    module.add_class::<heap_ring::HeapRing>()?;
    module.add_function(wrap_pyfunction!(peer::exit_with, module)?)?;
    module.add("TASK", Kind::Task as u32)?;
    module.add("CONTROL", Kind::Control as u32)?;
    module.add("SHUTDOWN", Kind::Shutdown as u32)?;
    module.add("OK", Status::Ok as u32)?;
    module.add("FAILED", Status::Failed as u32)?;
    module.add("CANCELLED", Status::Cancelled as u32)?;
    Ok(())
}
