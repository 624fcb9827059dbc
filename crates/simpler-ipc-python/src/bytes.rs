//! Bytes in and out: Python's buffer protocol.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;

use pyo3::exceptions::PyBufferError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMemoryView};

/// Calls `body` with the bytes of any object that has contiguous ones; they may lie in shared memory.
pub fn with_bytes<T>(object: &Bound<'_, PyAny>, body: impl FnOnce(*const u8, usize) -> PyResult<T>) -> PyResult<T> {
    if let Ok(bytes) = object.cast_exact::<PyBytes>() {
        let bytes = bytes.as_bytes();
        return body(bytes.as_ptr(), bytes.len());
    }
    let mut view = MaybeUninit::<ffi::Py_buffer>::uninit();
    // SAFETY: the object is alive and the GIL is held; `view` stays in place until it is released below.
    if unsafe { ffi::PyObject_GetBuffer(object.as_ptr(), view.as_mut_ptr(), ffi::PyBUF_SIMPLE) } != 0 {
        return Err(PyErr::fetch(object.py()));
    }
    // SAFETY: the call above succeeded, so it filled the view.
    let held = Held(unsafe { view.assume_init_mut() });
    body(held.0.buf as *const u8, held.0.len as usize)
}

/// A buffer view that is released whatever happens.
struct Held<'a>(&'a mut ffi::Py_buffer);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        // SAFETY: the view was filled by PyObject_GetBuffer and is released once; the GIL is held, as a `Held` does
        // not leave `with_bytes`.
        unsafe { ffi::PyBuffer_Release(self.0) }
    }
}

/// Fills `view` with writable bytes that `owner` keeps valid.
///
/// # Safety
/// `view` is what Python handed to `__getbuffer__`; `address` is valid for `nbytes` as long as `owner` lives (or until
/// it learns of the view's release).
pub unsafe fn fill_view(
    owner: &Bound<'_, PyAny>,
    view: *mut ffi::Py_buffer,
    address: *mut u8,
    nbytes: usize,
    flags: c_int,
) -> PyResult<()> {
    if view.is_null() {
        return Err(PyBufferError::new_err("a null view"));
    }
    let address = address.cast::<c_void>();
    // SAFETY: the caller's promise; the call takes its own reference to the owner.
    let filled = unsafe { ffi::PyBuffer_FillInfo(view, owner.as_ptr(), address, nbytes as isize, 0, flags) };
    if filled != 0 {
        return Err(PyErr::fetch(owner.py()));
    }
    Ok(())
}

/// A new memoryview of an object with a buffer.
pub fn memoryview<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyMemoryView>> {
    PyMemoryView::from(object)
}
