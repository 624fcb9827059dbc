//! A frame while it is being filled.

use std::ffi::c_int;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyMemoryView, PyWeakrefMethods, PyWeakrefReference};
use simpler_ipc::{Claim, Window};

use crate::bytes::{fill_view, memoryview, references};
use crate::errors::OrRaise;

/// A claimed frame and the views of it that Python code has: each has a reference to this object, whoever made it, and also
/// those that keep nothing else (`numpy.ndarray(buffer=view)`). The claim is handed over when there is no view any more; if
/// that comes to nothing, the frame is given back when the last view goes.
#[pyclass(frozen, module = "simpler_ipc")]
pub struct Filling {
    window: Window,
    claim: Mutex<Option<Claim>>,
    /// Those that this side gave out, to be released by it. Weak, as they have the filling: it goes with the last of them.
    given: Mutex<Vec<Py<PyWeakrefReference>>>,
}

impl Filling {
    pub fn new(py: Python<'_>, mut claim: Claim) -> PyResult<Self> {
        let window = claim.window().or_raise(py)?;
        Ok(Filling { window, claim: Mutex::new(Some(claim)), given: Mutex::new(Vec::new()) })
    }

    /// The same frame, claimed once more.
    pub fn renew(&self, claim: Claim) {
        *locked(&self.claim) = Some(claim);
    }

    pub fn frame_bytes(&self) -> usize {
        self.window.nbytes()
    }

    pub fn address(&self) -> usize {
        self.window.as_ptr() as usize
    }

    /// A memoryview of it, which ends with the filling.
    pub fn view<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyMemoryView>> {
        let py = slf.py();
        let view = memoryview(slf.as_any())?;
        let weak = PyWeakrefReference::new(&view)?.unbind();
        let mut given = locked(&slf.get().given);
        if given.len() == given.capacity() {
            // Those that are gone make room; the next time when there are twice as many.
            given.retain(|view| view.bind(py).upgrade().is_some());
            let living = given.len();
            given.reserve(living + 1);
        }
        given.push(weak);
        drop(given);
        Ok(view)
    }

    /// Whether nobody can write to the frame any more but `slf`, the only reference of this side: the views that were given
    /// out are released here; what was made of them, an array say, keeps its bytes.
    fn is_let_go(slf: &Py<Self>, py: Python<'_>) -> bool {
        let mut given = std::mem::take(&mut *locked(&slf.get().given));
        // Those that somebody has a buffer of cannot be released yet.
        given.retain(|view| {
            let view = view.bind(py).upgrade();
            view.is_some_and(|view| view.call_method0(intern!(py, "release")).is_err())
        });
        locked(&slf.get().given).append(&mut given);
        references(slf, py) == 1
    }

    /// The claim, to be handed over: nobody has a view of the frame any more.
    pub fn end(slf: &Py<Self>, py: Python<'_>) -> PyResult<Claim> {
        if !Self::is_let_go(slf, py) {
            return Err(PyBufferError::new_err(
                "nothing was sent: views of the frame exist (arrays, memoryviews made of it), and it is the server's once \
                 posted; delete them first, or write into slices of the frame",
            ));
        }
        locked(&slf.get().claim).take().ok_or_else(|| PyBufferError::new_err("the frame is posted already"))
    }

    /// Gives the frame back, as soon as nobody has a view of it.
    pub fn abandon(slf: &Py<Self>, py: Python<'_>) {
        if Self::is_let_go(slf, py) {
            drop(locked(&slf.get().claim).take());
        }
    }
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Filling {
    /// Fills `view` with the frame's bytes.
    ///
    /// # Errors
    /// BufferError once the frame is posted, or given up: it is the server's.
    ///
    /// # Safety
    /// `view` is what Python handed to `__getbuffer__`.
    pub unsafe fn buffer(slf: &Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let this = slf.get();
        if locked(&this.claim).is_none() {
            return Err(PyBufferError::new_err("the frame is posted, or given up: it cannot be written any more"));
        }
        // SAFETY: Python made the view; the window keeps its bytes mapped as long as this object lives.
        unsafe { fill_view(slf.as_any(), view, this.window.as_ptr(), this.window.nbytes(), flags) }
    }
}

#[pymethods]
impl Filling {
    unsafe fn __getbuffer__(slf: &Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        // SAFETY: Python made the view.
        unsafe { Self::buffer(slf, view, flags) }
    }
}
