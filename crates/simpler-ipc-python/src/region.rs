//! `Region`.

use std::ffi::c_int;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::bytes::fill_view;
use crate::errors::OrRaise;

/// Anonymous shared memory: sealed, sparse, inherited by fork, mapped elsewhere from its file descriptor.
#[pyclass(frozen, module = "simpler_ipc")]
pub struct Region {
    region: Mutex<Option<simpler_ipc::Region>>,
    views: AtomicUsize,
}

impl Region {
    fn of(region: simpler_ipc::Region) -> Self {
        Region { region: Mutex::new(Some(region)), views: AtomicUsize::new(0) }
    }

    /// The region, unless it is closed.
    pub fn open(&self) -> PyResult<simpler_ipc::Region> {
        let region = self.region.lock().unwrap_or_else(PoisonError::into_inner);
        region.clone().ok_or_else(|| PyValueError::new_err("the region is closed"))
    }
}

#[pymethods]
impl Region {
    #[new]
    #[pyo3(signature = (nbytes, *, name = "simpler-ipc"))]
    fn new(py: Python<'_>, nbytes: usize, name: &str) -> PyResult<Self> {
        Ok(Self::of(simpler_ipc::Region::anonymous(nbytes, name).or_raise(py)?))
    }

    #[staticmethod]
    fn from_fd(py: Python<'_>, fd: i32) -> PyResult<Self> {
        if fd < 0 {
            return Err(PyValueError::new_err(format!("{fd} is no file descriptor")));
        }
        // SAFETY: it is used for the duration of this call only, in which the GIL keeps Python code from closing it; a
        // number that is no open descriptor is refused by the kernel.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        Ok(Self::of(simpler_ipc::Region::from_fd(fd).or_raise(py)?))
    }

    #[getter]
    fn nbytes(&self) -> PyResult<usize> {
        Ok(self.open()?.nbytes())
    }

    #[getter]
    fn address(&self) -> PyResult<usize> {
        Ok(self.open()?.address())
    }

    #[getter]
    fn fd(&self) -> PyResult<i32> {
        Ok(self.open()?.fd().as_raw_fd())
    }

    #[pyo3(signature = (dtype = None, shape = None, offset = 0))]
    fn numpy<'py>(
        slf: &Bound<'py, Self>,
        dtype: Option<&Bound<'py, PyAny>>,
        shape: Option<&Bound<'py, PyAny>>,
        offset: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let numpy = py.import("numpy")?;
        let dtype = match dtype {
            Some(dtype) => numpy.call_method1("dtype", (dtype,))?,
            None => numpy.call_method1("dtype", ("uint8",))?,
        };
        let nbytes = slf.get().open()?.nbytes();
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
        // frombuffer, other than ndarray(buffer=...), holds the buffer as long as a view lives, so that close() knows.
        let arguments = PyDict::new(py);
        arguments.set_item("dtype", dtype)?;
        arguments.set_item("count", count)?;
        arguments.set_item("offset", offset)?;
        numpy.call_method("frombuffer", (slf,), Some(&arguments))?.call_method1("reshape", (shape,))
    }

    #[pyo3(signature = (address, nbytes = 1))]
    fn contains(&self, address: usize, nbytes: usize) -> PyResult<bool> {
        Ok(self.open()?.contains(address, nbytes))
    }

    fn discard(&self, py: Python<'_>, offset: usize, nbytes: usize) -> PyResult<()> {
        let region = self.open()?;
        py.detach(|| region.discard(offset, nbytes)).or_raise(py)
    }

    fn close(&self) -> PyResult<()> {
        let views = self.views.load(Ordering::Relaxed);
        if views > 0 {
            return Err(PyBufferError::new_err(format!(
                "the region cannot be closed: {views} views of it exist (memoryviews, arrays); delete them first"
            )));
        }
        let region = self.region.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(region);
        Ok(())
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __exit__(&self, _type: &Bound<'_, PyAny>, _value: &Bound<'_, PyAny>, _trace: &Bound<'_, PyAny>) -> PyResult<()> {
        self.close()
    }

    fn __len__(&self) -> PyResult<usize> {
        self.nbytes()
    }

    fn __repr__(&self) -> String {
        match self.open() {
            Ok(region) => {
                format!("Region({} bytes at {:#x}, fd {})", region.nbytes(), region.address(), region.fd().as_raw_fd())
            }
            Err(_) => "Region(closed)".to_owned(),
        }
    }

    unsafe fn __getbuffer__(slf: &Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let region = slf.get().open()?;
        let address = region.address() as *mut u8;
        // SAFETY: Python made the view; while views exist, close() refuses, so this object keeps its region mapped.
        unsafe { fill_view(slf.as_any(), view, address, region.nbytes(), flags)? };
        slf.get().views.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {
        self.views.fetch_sub(1, Ordering::Relaxed);
    }
}
