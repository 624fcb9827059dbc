//! Bytes in and out: Python's buffer protocol.

use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;

use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyMemoryView};

use crate::server::Request;

/// Calls `body` with the bytes of any object that has contiguous ones; they may lie in shared memory.
pub fn with_bytes<T>(object: &Bound<'_, PyAny>, body: impl FnOnce(*const u8, usize) -> PyResult<T>) -> PyResult<T> {
    if let Ok(bytes) = object.cast_exact::<PyBytes>() {
        let bytes = bytes.as_bytes();
        return body(bytes.as_ptr(), bytes.len());
    }
    if let Ok(request) = object.cast_exact::<Request>() {
        let payload = &request.get().payload;
        return body(payload.as_ptr(), payload.nbytes());
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

/// How many references there are to an object.
pub fn references<T>(object: &Py<T>, _py: Python<'_>) -> isize {
    // SAFETY: the object is alive, and the GIL is held.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) }
}

/// Whether a buffer is asked for as `memoryview` does, which holds it as long as it lives. Of others that is not known.
pub fn is_held(flags: c_int) -> bool {
    flags & ffi::PyBUF_FULL_RO == ffi::PyBUF_FULL_RO
}

/// Whether a buffer is asked for as `numpy.ndarray(buffer=object)` does: that releases it at once, and keeps a reference to
/// the object (or, of a memoryview, to what that has) as long as the array lives.
pub fn is_held_by_the_object_alone(flags: c_int) -> bool {
    flags & (ffi::PyBUF_ANY_CONTIGUOUS | ffi::PyBUF_FORMAT) == ffi::PyBUF_ANY_CONTIGUOUS
}

/// A new memoryview of an object with a buffer.
pub fn memoryview<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyMemoryView>> {
    PyMemoryView::from(object)
}

/// A numpy array over the bytes of an object with a buffer of `nbytes`: as many elements as fit, unless a shape is given.
pub fn numpy_of<'py>(
    owner: &Bound<'py, PyAny>,
    nbytes: usize,
    dtype: Option<&Bound<'py, PyAny>>,
    shape: Option<&Bound<'py, PyAny>>,
    offset: usize,
) -> PyResult<Bound<'py, PyAny>> {
    let py = owner.py();
    let numpy = py.import("numpy")?;
    let dtype = match dtype {
        Some(dtype) => numpy.call_method1("dtype", (dtype,))?,
        None => numpy.call_method1("dtype", ("uint8",))?,
    };
    let (shape, count) = match shape {
        None => {
            let itemsize: usize = dtype.getattr("itemsize")?.extract()?;
            let count = nbytes.saturating_sub(offset) / itemsize.max(1);
            ((count,).into_pyobject(py)?.into_any(), count as isize)
        }
        Some(shape) => {
            let shape = match shape.extract::<isize>() {
                Ok(length) => (length,).into_pyobject(py)?.into_any(),
                Err(_) => shape.clone(),
            };
            let count: isize = py.import("math")?.call_method1("prod", (&shape,))?.extract()?;
            if count < 0 {
                return Err(PyValueError::new_err(format!("the shape {shape} has a negative dimension")));
            }
            (shape, count)
        }
    };
    // frombuffer, other than ndarray(buffer=...), holds the buffer as long as an array lives: see above.
    let arguments = PyDict::new(py);
    arguments.set_item("dtype", dtype)?;
    arguments.set_item("count", count)?;
    arguments.set_item("offset", offset)?;
    numpy.call_method("frombuffer", (owner,), Some(&arguments))?.call_method1("reshape", (shape,))
}
