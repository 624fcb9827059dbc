//! `Region`, and the names of regions.

use std::ffi::c_int;
use std::io::ErrorKind;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyBufferError, PyValueError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use simpler_ipc::named::{self, Pause};
use simpler_ipc::Error;

use crate::bytes::{fill_view, is_held, numpy_of, references};
use crate::errors::OrRaise;

/// What every view of a region has a reference to, whoever made it: its memory is mapped as long as this object lives.
#[pyclass(frozen, module = "simpler_ipc")]
struct Mapping(simpler_ipc::Region);

#[pymethods]
impl Mapping {
    /// It is what an array of the region has for its base: numpy asks that whether the array may be written.
    unsafe fn __getbuffer__(slf: &Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let region = &slf.get().0;
        // SAFETY: Python made the view, which gets a reference to what keeps the region mapped.
        unsafe { fill_view(slf.as_any(), view, region.address() as *mut u8, region.nbytes(), flags) }
    }

    /// See `Region`.
    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {}
}

enum State {
    Open(Py<Mapping>),
    /// Mapped all the same if somebody may have kept its address.
    Closed(#[allow(dead_code, reason = "it is there to be dropped with the object")] Option<Py<Mapping>>),
}

/// Shared memory: sealed, sparse, inherited by fork, mapped elsewhere by file descriptor, by name, or by pickling.
#[pyclass(frozen, module = "simpler_ipc")]
pub struct Region {
    state: Mutex<State>,
    /// A buffer went to somebody who may have kept this object in its place, as `numpy.ndarray(buffer=region)` does.
    lent: AtomicBool,
}

impl Region {
    /// A Python object of its own for a region: what lies in one pickles as this and its shape.
    fn of(py: Python<'_>, region: simpler_ipc::Region) -> PyResult<Self> {
        let state = Mutex::new(State::Open(Py::new(py, Mapping(region))?));
        Ok(Region { state, lent: AtomicBool::new(false) })
    }

    /// The region, unless it is closed.
    pub fn open(&self) -> PyResult<simpler_ipc::Region> {
        match &*self.state() {
            State::Open(mapping) => Ok(mapping.get().0.clone()),
            State::Closed(_) => Err(closed()),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed() -> PyErr {
    PyValueError::new_err("the region is closed")
}

/// Prefaulting looks for signals after this much: some hundredths of a second.
const PREFAULT_STEP: usize = 64 << 20;

/// Runs `body`, which may have to pause: without the GIL then, and ended by signals. Between pauses the GIL is kept, so
/// that no fork copies a lock that is held.
fn pausing<T>(py: Python<'_>, body: impl FnOnce(Pause<'_>) -> simpler_ipc::Result<T>) -> PyResult<T> {
    let mut raised = None;
    let result = body(&mut |nap| {
        py.detach(|| std::thread::sleep(nap));
        py.check_signals().map_err(|error| {
            raised = Some(error);
            Error::Interrupted
        })
    });
    match (result, raised) {
        (Err(Error::Interrupted), Some(raised)) => Err(raised),
        (result, _) => result.or_raise(py),
    }
}

/// Takes away the names of regions that outlive the interpreter's objects.
#[pyfunction]
fn release_names(py: Python<'_>) -> PyResult<()> {
    simpler_ipc::Region::release_all_names().or_raise(py)
}

/// Has `release_names` called when this process ends as Python programs do.
fn release_names_at_exit(py: Python<'_>) -> PyResult<()> {
    static REGISTERED_IN: AtomicU32 = AtomicU32::new(0);
    let here = std::process::id();
    if REGISTERED_IN.swap(here, Ordering::Relaxed) == here {
        return Ok(());
    }
    let release = wrap_pyfunction!(release_names, py)?;
    py.import("atexit")?.call_method1("register", (&release,))?;
    // Forked children of multiprocessing leave without atexit, but call what is registered there.
    let modules = py.import("sys")?.getattr("modules")?;
    if modules.contains("multiprocessing.util")? {
        let arguments = PyDict::new(py);
        arguments.set_item("exitpriority", 0)?;
        let util = py.import("multiprocessing.util")?;
        util.call_method("Finalize", (py.None(), &release), Some(&arguments))?;
    }
    Ok(())
}

#[pymethods]
impl Region {
    #[new]
    #[pyo3(signature = (nbytes, *, label = "simpler-ipc"))]
    fn new(py: Python<'_>, nbytes: usize, label: &str) -> PyResult<Self> {
        Self::of(py, simpler_ipc::Region::anonymous(nbytes, label).or_raise(py)?)
    }

    #[staticmethod]
    fn from_fd(py: Python<'_>, fd: i32) -> PyResult<Self> {
        if fd < 0 {
            return Err(PyValueError::new_err(format!("{fd} is no file descriptor")));
        }
        // SAFETY: it is used for the duration of this call only, in which the GIL keeps Python code from closing it; a
        // number that is no open descriptor is refused by the kernel.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        Self::of(py, simpler_ipc::Region::from_fd(fd).or_raise(py)?)
    }

    #[staticmethod]
    fn create(py: Python<'_>, name: &str, nbytes: usize) -> PyResult<Self> {
        let region = pausing(py, |pause| simpler_ipc::Region::create_pausing(name, nbytes, pause))?;
        release_names_at_exit(py)?;
        Self::of(py, region)
    }

    #[staticmethod]
    fn attach(py: Python<'_>, name: &str) -> PyResult<Self> {
        Self::of(py, pausing(py, |pause| simpler_ipc::Region::attach_pausing(name, pause))?)
    }

    /// For unpickling: as `from_fd`, but the mapping that this process has already if it has one.
    #[staticmethod]
    fn _join(py: Python<'_>, fd: i32, name: Option<&str>) -> PyResult<Self> {
        if fd < 0 {
            return Err(std::io::Error::new(ErrorKind::InvalidInput, format!("{fd} is no file descriptor")).into());
        }
        // SAFETY: as in `from_fd`; the descriptor comes from multiprocessing or from a region.
        let fd = unsafe { BorrowedFd::borrow_raw(fd) };
        Self::of(py, simpler_ipc::Region::join(fd, name).or_raise(py)?)
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("simpler_ipc._pickling")?.call_method1("reduce", (slf,))
    }

    #[getter]
    fn name(&self) -> PyResult<Option<String>> {
        Ok(self.open()?.name().map(str::to_owned))
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
        numpy_of(slf.as_any(), slf.get().open()?.nbytes(), dtype, shape, offset)
    }

    #[pyo3(signature = (address, nbytes = 1))]
    fn contains(&self, address: usize, nbytes: usize) -> PyResult<bool> {
        Ok(self.open()?.contains(address, nbytes))
    }

    #[pyo3(signature = (offset = 0, nbytes = None))]
    fn prefault(&self, py: Python<'_>, offset: usize, nbytes: Option<usize>) -> PyResult<()> {
        let region = self.open()?;
        let nbytes = nbytes.unwrap_or_else(|| region.nbytes().saturating_sub(offset));
        region.window(offset, nbytes).or_raise(py)?; // all of it, before the first step
        for done in (0..nbytes).step_by(PREFAULT_STEP) {
            py.detach(|| region.prefault(offset + done, PREFAULT_STEP.min(nbytes - done))).or_raise(py)?;
            py.check_signals()?;
        }
        Ok(())
    }

    fn punch(&self, py: Python<'_>, offset: usize, nbytes: usize) -> PyResult<()> {
        let region = self.open()?;
        py.detach(|| region.punch(offset, nbytes)).or_raise(py)
    }

    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let region = {
            let mut state = self.state();
            let State::Open(mapping) = &*state else { return Ok(()) };
            let views = references(mapping, py) - 1; // one is this object's own
            if views > 0 {
                return Err(PyBufferError::new_err(format!(
                    "the region cannot be closed: {views} views of it exist (memoryviews, arrays); delete them first"
                )));
            }
            let region = mapping.get().0.clone();
            let kept = self.lent.load(Ordering::Relaxed).then(|| mapping.clone_ref(py));
            *state = State::Closed(kept);
            region
        };
        pausing(py, |pause| region.release_name_pausing(pause))
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __exit__(&self, kind: &Bound<'_, PyAny>, _value: &Bound<'_, PyAny>, _trace: &Bound<'_, PyAny>) -> PyResult<()> {
        self.close(kind.py())
    }

    fn __len__(&self) -> PyResult<usize> {
        self.nbytes()
    }

    fn __repr__(&self) -> String {
        match self.open() {
            Ok(region) => {
                let name = region.name().map_or_else(String::new, |name| format!("{name:?}, "));
                format!(
                    "Region({name}{} bytes at {:#x}, fd {})",
                    region.nbytes(),
                    region.address(),
                    region.fd().as_raw_fd()
                )
            }
            Err(_) => "Region(closed)".to_owned(),
        }
    }

    unsafe fn __getbuffer__(slf: &Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let this = slf.get();
        let mapping = match &*this.state() {
            State::Open(mapping) => mapping.clone_ref(slf.py()),
            State::Closed(_) => return Err(closed()),
        };
        if !is_held(flags) {
            this.lent.store(true, Ordering::Relaxed);
        }
        // SAFETY: Python made the view.
        unsafe { Mapping::__getbuffer__(mapping.bind(slf.py()), view, flags) }
    }

    /// Nothing is to be done. That this is here tells `numpy.frombuffer` to hold a buffer as long as an array of it lives.
    unsafe fn __releasebuffer__(&self, _view: *mut ffi::Py_buffer) {}
}

/// A name of a region and what is known of it.
#[pyclass(frozen, get_all, module = "simpler_ipc")]
pub struct NamedRegion {
    name: String,
    nbytes: Option<u64>,
    resident: Option<u64>,
    pid: Option<i32>,
    start_time: Option<u64>,
    created: f64,
    alive: Option<bool>,
    note: String,
}

impl From<named::NamedRegion> for NamedRegion {
    fn from(region: named::NamedRegion) -> Self {
        let named::NamedRegion { name, nbytes, resident, pid, start_time, created, alive, note } = region;
        NamedRegion { name, nbytes, resident, pid, start_time, created, alive, note }
    }
}

#[pymethods]
impl NamedRegion {
    fn __repr__(&self) -> String {
        let standing = match self.alive {
            Some(true) => "alive",
            Some(false) => "stale",
            None => "unknown",
        };
        format!("NamedRegion({:?}, {standing})", self.name)
    }
}

/// named_regions(): the names of this user's regions, and who owns them.
#[pyfunction]
pub fn named_regions(py: Python<'_>) -> PyResult<Vec<NamedRegion>> {
    Ok(named::named_regions().or_raise(py)?.into_iter().map(NamedRegion::from).collect())
}

/// clean_names(names=None): removes names whose owner is gone, of those given or of all.
#[pyfunction]
#[pyo3(signature = (names = None))]
pub fn clean_names(py: Python<'_>, names: Option<Vec<String>>) -> PyResult<Vec<NamedRegion>> {
    let chosen = |name: &str| names.as_ref().is_none_or(|names| names.iter().any(|chosen| chosen == name));
    Ok(named::clean(chosen).or_raise(py)?.into_iter().map(NamedRegion::from).collect())
}
