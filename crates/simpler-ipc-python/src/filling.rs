//! A frame while it is being filled.

use std::ffi::c_int;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyMemoryView, PyWeakrefMethods, PyWeakrefReference};
use simpler_ipc::{Claim, Window};

use crate::bytes::{fill_view, memoryview};
use crate::errors::OrRaise;

/// A claimed frame and the views of it that Python code has. The claim is handed over when there is no view any more; if
/// that comes to nothing, the frame is given back when the last view goes.
#[pyclass(frozen, module = "simpler_ipc")]
pub struct Filling {
    window: Window,
    claim: Mutex<Option<Claim>>,
    /// Those that this side gave out, to be released by it. Weak, as they have the filling: it goes with the last of them.
    given: Mutex<Vec<Py<PyWeakrefReference>>>,
    /// Buffers that exist, whoever asked for them.
    buffers: AtomicUsize,
}

impl Filling {
    pub fn new(py: Python<'_>, mut claim: Claim) -> PyResult<Self> {
        let window = claim.window().or_raise(py)?;
        let (claim, given) = (Mutex::new(Some(claim)), Mutex::new(Vec::new()));
        Ok(Filling { window, claim, given, buffers: AtomicUsize::new(0) })
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
        let view = memoryview(slf.as_any())?;
        locked(&slf.get().given).push(PyWeakrefReference::new(&view)?.unbind());
        Ok(view)
    }

    /// Whether nobody can write to the frame any more: the views that were given out are released here; what was made of
    /// them, an array say, keeps its bytes.
    fn is_let_go(&self, py: Python<'_>) -> bool {
        let given = std::mem::take(&mut *locked(&self.given));
        for view in given {
            if let Some(view) = view.bind(py).upgrade() {
                // It says what the count of buffers says.
                let _ = view.call_method0(intern!(py, "release"));
            }
        }
        self.buffers.load(Ordering::Relaxed) == 0
    }

    /// The claim, to be handed over: nobody has a view of the frame any more.
    pub fn end(&self, py: Python<'_>) -> PyResult<Claim> {
        if !self.is_let_go(py) {
            return Err(PyBufferError::new_err(
                "nothing was sent: views of the frame exist (arrays, memoryviews made of it), and it is the server's once \
                 posted; delete them first, or write into slices of the frame",
            ));
        }
        locked(&self.claim).take().ok_or_else(|| PyBufferError::new_err("the frame is posted already"))
    }

    /// Gives the frame back, as soon as nobody has a view of it.
    pub fn abandon(&self, py: Python<'_>) {
        if self.is_let_go(py) {
            drop(locked(&self.claim).take());
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
        unsafe { fill_view(slf.as_any(), view, this.window.as_ptr(), this.window.nbytes(), flags)? };
        this.buffers.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

#[pymethods]
impl Filling {
    unsafe fn __getbuffer__(slf: &Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        // SAFETY: Python made the view.
        unsafe { Self::buffer(slf, view, flags) }
    }

    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {
        self.buffers.fetch_sub(1, Ordering::Relaxed);
    }
}
