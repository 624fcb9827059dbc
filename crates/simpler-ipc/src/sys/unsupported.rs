//! Systems without memfd, futex and pidfd: everything compiles, and says so when called.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use crate::error::{Error, Exit, Result};
use crate::protocol::futex::Slept;

fn unsupported<T>(what: &'static str) -> Result<T> {
    Err(Error::UnsupportedPlatform { what, needs: "memfd, futex and pidfd" })
}

pub fn memory_create(_name: &str, _nbytes: usize) -> Result<OwnedFd> {
    unsupported("a region")
}

pub fn memory_open(_fd: BorrowedFd<'_>) -> Result<(OwnedFd, usize)> {
    unsupported("a region")
}

pub fn memory_identity(_fd: BorrowedFd<'_>) -> Result<u64> {
    unsupported("a region")
}

pub fn memory_punch(_fd: BorrowedFd<'_>, _offset: u64, _nbytes: u64) -> Result<()> {
    unsupported("a region")
}

/// # Safety
/// None: there are no mappings here.
pub unsafe fn populate(_fd: BorrowedFd<'_>, _address: NonNull<u8>, _offset: u64, _nbytes: usize) -> Result<()> {
    unsupported("a region")
}

pub fn page_nbytes() -> usize {
    4096
}

pub fn map(_fd: BorrowedFd<'_>, _nbytes: usize) -> Result<NonNull<u8>> {
    unsupported("a region")
}

/// # Safety
/// None: there are no mappings here.
pub unsafe fn unmap(_address: NonNull<u8>, _nbytes: usize) {}

/// Never sleeps: says that it cannot.
pub fn futex_wait(_word: &AtomicU32, _expected: u32, _timeout: Option<Duration>) -> Result<Slept> {
    unsupported("waiting on shared memory")
}

/// Nobody sleeps here.
pub fn futex_wake_all(_word: &AtomicU32) {}

pub fn current_cpu() -> Option<u32> {
    None
}

pub fn preemptions() -> u32 {
    0
}

pub fn leave_cpu() {}

pub fn generation() -> u64 {
    u64::from(std::process::id())
}

pub fn own_program() -> u16 {
    0
}

pub fn current_pid() -> i32 {
    std::process::id() as i32
}

pub fn own_start_time() -> Result<u64> {
    unsupported("a mailbox")
}

pub fn own_namespace() -> Result<u64> {
    unsupported("a mailbox")
}

pub fn on_main_thread() -> bool {
    true
}

pub fn exit_now(code: i32) -> ! {
    std::process::exit(code)
}

pub fn process_open(_pid: i32) -> Result<Option<OwnedFd>> {
    unsupported("watching a process")
}

pub fn process_exit(_process: BorrowedFd<'_>, _reap: bool) -> Result<Option<Exit>> {
    unsupported("watching a process")
}

pub fn process_signal(_process: BorrowedFd<'_>, _signal: i32) -> Result<()> {
    unsupported("signalling a process by its descriptor")
}

pub fn poll_readable(_fds: &[BorrowedFd<'_>], _timeout: Option<Duration>) -> Result<Option<Vec<bool>>> {
    unsupported("watching a process")
}

#[derive(Debug)]
pub struct Nudge(OwnedFd);

impl Nudge {
    pub fn new() -> Result<Self> {
        unsupported("watching a process")
    }

    pub fn nudge(&self) -> Result<()> {
        unsupported("watching a process")
    }

    pub fn reset(&self) -> Result<()> {
        unsupported("watching a process")
    }
}

impl Drop for NameFile {
    fn drop(&mut self) {}
}

impl AsFd for Nudge {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// There are none here.
#[derive(Debug)]
pub struct Thread(std::convert::Infallible);

impl Thread {
    pub fn spawn(_name: &'static CStr, _body: impl FnOnce() + Send + 'static) -> Result<Self> {
        unsupported("watching a process")
    }

    pub fn join(self) {
        match self.0 {}
    }
}

pub fn name_path(name: &str) -> String {
    name.to_owned()
}

pub fn names() -> Result<Vec<String>> {
    unsupported("a named region")
}

/// There are none here.
#[derive(Debug)]
pub struct NameFile(std::convert::Infallible);

impl NameFile {
    pub fn open(_name: &str, _create: bool) -> Result<Option<Self>> {
        unsupported("a named region")
    }

    pub fn try_lock(&mut self) -> Result<bool> {
        match self.0 {}
    }

    pub fn is_current(&self) -> Result<bool> {
        match self.0 {}
    }

    pub fn read(&self) -> Result<Vec<u8>> {
        match self.0 {}
    }

    pub fn write(&self, _bytes: &[u8]) -> Result<()> {
        match self.0 {}
    }

    pub fn unlink(&self) -> Result<()> {
        match self.0 {}
    }

    pub fn written(&self) -> Result<f64> {
        match self.0 {}
    }

    pub fn name(&self) -> &str {
        match self.0 {}
    }
}

pub fn process_start_time(_pid: i32) -> Result<Option<u64>> {
    unsupported("a named region")
}

pub fn proc_is_own() -> bool {
    false
}

pub fn namespace_of_proc() -> Result<u64> {
    unsupported("a named region")
}

#[allow(dead_code)] // never made here
#[derive(Debug)]
pub enum Found {
    Memory(OwnedFd, usize),
    Other,
    Refused(Error),
}

pub fn memory_of(_pid: i32, _fd: i32, _identity: u64) -> Result<Found> {
    unsupported("a named region")
}

pub fn memory_resident(_fd: &OwnedFd) -> Result<u64> {
    unsupported("a named region")
}
