//! Linux: memfd, futex, pidfd, eventfd.

use std::ffi::{c_void, CStr};
use std::io;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{self, AssertUnwindSafe};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU32, AtomicU8, Ordering};
use std::time::Duration;

use rustix::event::{eventfd, poll, EventfdFlags, PollFd, PollFlags};
use rustix::fs::{FallocateFlags, FileType, MemfdFlags, OFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags};
use rustix::pipe::PipeFlags;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use rustix::thread::futex;
use rustix::time::Timespec;

use crate::error::{Error, Exit, Result};
use crate::protocol::futex::Slept;

/// Anonymous memory of `nbytes`, zero, which nobody can shrink or grow: no access to a mapping of it can fault.
pub fn memory_create(name: &str, nbytes: usize) -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = rustix::fs::memfd_create(name, flags).map_err(|e| match e {
        Errno::NOSYS => Error::UnsupportedPlatform { what: "a region", needs: "memfd_create" },
        error => Error::os("memfd_create", error),
    })?;
    rustix::fs::ftruncate(&fd, nbytes as u64).map_err(|e| Error::os(format!("ftruncate to {nbytes} bytes"), e))?;
    rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
        .map_err(|e| Error::os("sealing a memfd", e))?;
    Ok(fd)
}

/// The file system of memory made of huge pages. (As the kernel's magic.h has it; libc leaves it out on some targets.)
const HUGETLBFS_MAGIC: u64 = 0x9584_58f6;

/// A descriptor of our own for another process's memory, and its size. Refused unless it is sealed against shrinking, can be
/// written, and consists of pages that are there when they are needed.
pub fn memory_open(fd: BorrowedFd<'_>) -> Result<(OwnedFd, usize)> {
    let no_region = |why: &str| Err(Error::Invalid(format!("the file descriptor is no region: {why}")));
    let stat = || rustix::fs::fstat(fd).map_err(|e| Error::os("looking at a file descriptor", e));
    let seals = match rustix::fs::fcntl_get_seals(fd) {
        Ok(seals) => seals,
        // Only memory can be sealed.
        Err(Errno::INVAL) => return no_region(&format!("it is {}, not shared memory", kind_of_file(stat()?.st_mode))),
        Err(error) => return Err(Error::os("reading the seals of a file descriptor", error)),
    };
    if !seals.contains(SealFlags::SHRINK) {
        return no_region("it is not sealed against shrinking, so its owner could take pages away");
    }
    if seals.intersects(SealFlags::WRITE | SealFlags::FUTURE_WRITE) {
        return no_region("it is sealed against writing");
    }
    let system = rustix::fs::fstatfs(fd).map_err(|e| Error::os("looking at a file descriptor", e))?;
    if system.f_type as u64 == HUGETLBFS_MAGIC {
        return no_region(
            "it is of huge pages set aside (MFD_HUGETLB), and an access for which none is left would fault",
        );
    }
    let flags = rustix::fs::fcntl_getfl(fd).map_err(|e| Error::os("looking at a file descriptor", e))?;
    if flags & OFlags::ACCMODE != OFlags::RDWR {
        return no_region("it is not open for reading and writing");
    }
    let fd = rustix::io::fcntl_dupfd_cloexec(fd, 0).map_err(|e| Error::os("duplicating a file descriptor", e))?;
    // After the seals: what was read before them could have been shrunk until they were set.
    let size = stat()?.st_size;
    let nbytes = usize::try_from(size)
        .ok()
        .filter(|&n| n > 0)
        .ok_or_else(|| Error::Invalid(format!("a region of {size} bytes cannot be mapped")))?;
    Ok((fd, nbytes))
}

fn kind_of_file(mode: u32) -> &'static str {
    match FileType::from_raw_mode(mode) {
        FileType::RegularFile => "a file",
        FileType::Directory => "a directory",
        FileType::Fifo => "a pipe",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        _ => "something else",
    }
}

/// What tells this memory from any other as long as it exists.
pub fn memory_identity(fd: BorrowedFd<'_>) -> Result<u64> {
    Ok(rustix::fs::fstat(fd).map_err(|e| Error::os("fstat", e))?.st_ino)
}

/// Gives pages back; the range reads as zero afterwards.
pub fn memory_punch(fd: BorrowedFd<'_>, offset: u64, nbytes: u64) -> Result<()> {
    rustix::fs::fallocate(fd, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, offset, nbytes)
        .map_err(|e| Error::os(format!("giving back {nbytes} bytes at offset {offset}"), e))
}

/// Gives a range of a mapping its pages now, so that no later access to it waits for one. Its bytes stay as they are.
///
/// # Safety
/// The range lies in a mapping made by [`map`] of `fd`, at `offset` of it, and begins and ends with pages.
pub unsafe fn populate(fd: BorrowedFd<'_>, address: NonNull<u8>, offset: u64, nbytes: usize) -> Result<()> {
    loop {
        // SAFETY: the caller's promise; the advice makes pages and changes no byte.
        match unsafe { rustix::mm::madvise(address.as_ptr().cast(), nbytes, Advice::LinuxPopulateWrite) } {
            Ok(()) => return Ok(()),
            Err(Errno::INTR | Errno::AGAIN) => {}
            // A kernel before 5.14, or a sandbox that does not know the advice.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                // SAFETY: the caller's promise.
                return unsafe { touch(fd, address, offset, nbytes) };
            }
            // It would have ended in a SIGBUS: there is no memory left to be had.
            Err(Errno::FAULT) => return Err(Error::os(format!("making pages for {nbytes} bytes"), Errno::NOMEM)),
            Err(error) => return Err(Error::os(format!("making pages for {nbytes} bytes"), error)),
        }
    }
}

/// The same by hand: has the system set the pages aside (which may fail, while a touch would kill), then touches each.
///
/// # Safety
/// As for [`populate`].
unsafe fn touch(fd: BorrowedFd<'_>, address: NonNull<u8>, offset: u64, nbytes: usize) -> Result<()> {
    match rustix::fs::fallocate(fd, FallocateFlags::KEEP_SIZE, offset, nbytes as u64) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
        Err(error) => return Err(Error::os(format!("setting {nbytes} bytes aside"), error)),
    }
    for at in (0..nbytes).step_by(page_nbytes()) {
        // SAFETY: in the mapping, by the caller's promise; an atomic that leaves the byte as it is disturbs no peer.
        unsafe { AtomicU8::from_ptr(address.as_ptr().add(at)) }.fetch_or(0, Ordering::Relaxed);
    }
    Ok(())
}

/// Bytes of a page.
pub fn page_nbytes() -> usize {
    rustix::param::page_size()
}

/// Maps all of `fd`, shared, without reserving swap for it.
pub fn map(fd: BorrowedFd<'_>, nbytes: usize) -> Result<NonNull<u8>> {
    let flags = MapFlags::SHARED | MapFlags::NORESERVE;
    // SAFETY: no address is asked for, so the kernel picks one where nothing is mapped.
    let address =
        unsafe { rustix::mm::mmap(ptr::null_mut(), nbytes, ProtFlags::READ | ProtFlags::WRITE, flags, fd, 0) }
            .map_err(|e| Error::os(format!("mapping {nbytes} bytes"), e))?;
    NonNull::new(address.cast()).ok_or_else(|| Error::os("mmap", io::Error::other("it returned the null address")))
}

/// Ends a mapping.
///
/// # Safety
/// `address` and `nbytes` are those of a mapping made by [`map`], and nothing points into it any more.
pub unsafe fn unmap(address: NonNull<u8>, nbytes: usize) {
    // SAFETY: the caller's promise.
    let unmapped = unsafe { rustix::mm::munmap(address.as_ptr().cast(), nbytes) };
    debug_assert_eq!(unmapped, Ok(()), "munmap of a whole mapping of ours cannot fail");
}

fn timespec(duration: Duration) -> Timespec {
    // A duration whose seconds overflow is longer than any wait: 2^63 seconds.
    Timespec::try_from(duration).unwrap_or(Timespec { tv_sec: i64::MAX, tv_nsec: 0 })
}

/// Sleeps while `word` is `expected`, at most `timeout`; works across processes.
pub fn futex_wait(word: &AtomicU32, expected: u32, timeout: Option<Duration>) -> Result<Slept> {
    let timeout = timeout.map(timespec);
    match futex::wait(word, futex::Flags::empty(), expected, timeout.as_ref()) {
        Ok(()) | Err(Errno::AGAIN) => Ok(Slept::Woken),
        Err(Errno::TIMEDOUT) => Ok(Slept::TimedOut),
        Err(Errno::INTR) => Ok(Slept::Interrupted),
        Err(error) => Err(Error::os("futex wait", error)),
    }
}

/// Wakes everyone who sleeps on `word`.
pub fn futex_wake_all(word: &AtomicU32) {
    // It can only fail for an address that is not mapped or not aligned, and `word` is a reference.
    let woken = futex::wake(word, futex::Flags::empty(), i32::MAX as u32);
    debug_assert!(woken.is_ok(), "futex wake: {woken:?}");
}

/// The CPU that this thread is on.
#[inline]
pub fn current_cpu() -> Option<u32> {
    // SAFETY: it has no precondition, and fails with -1. (The C library keeps the answer in memory that the kernel
    // updates; rustix asks the kernel's shared object, which takes ten times as long.)
    u32::try_from(unsafe { libc::sched_getcpu() }).ok()
}

/// How often the kernel has taken the CPU from this thread for another; it wraps.
pub fn preemptions() -> u32 {
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the call fills the struct it is given; a zeroed one is valid should it fail, which it cannot with RUSAGE_THREAD.
    unsafe {
        libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr());
        usage.assume_init().ru_nivcsw as u32
    }
}

/// Has this thread go on on another CPU than the one it is on, if it may run on another. Best effort: it may stay.
///
/// The kernel likes to put a thread on the CPU of the one that wakes it. So a thread of our own goes to another CPU, wakes
/// this one from there, and ends. This thread's affinity is not touched: whoever sets it meanwhile (`taskset`, a scheduler
/// of the user's) is obeyed, which no order of reading, changing and restoring it could promise.
pub fn leave_cpu() {
    let (Ok(allowed), Some(here)) = (rustix::thread::sched_getaffinity(None), current_cpu()) else { return };
    let mut others = allowed;
    others.unset(here as usize);
    if others.count() == 0 {
        return;
    }
    // A pipe, because its writer is known to the kernel to be about to stop: the more reason to take its place.
    let Ok((wait, wake)) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC) else { return };
    let there = move || {
        let _ = rustix::thread::sched_setaffinity(None, &others);
        // Though it did not move: a child forked meanwhile keeps the pipe open, whose end would not come.
        let _ = rustix::io::write(&wake, &[0]);
    };
    let Ok(there) = Thread::spawn(c"ipc-move", there) else { return };
    // A signal that comes meanwhile has its handler run, and the thread stay.
    let _ = rustix::io::read(&wait, &mut [0u8]);
    there.join();
}

/// Whether this is the thread that the process began with: the one the kernel prefers to give signals to.
pub fn on_main_thread() -> bool {
    rustix::thread::gettid().as_raw_nonzero().get() == super::current_pid()
}

/// Ends this process now, without running anything of it.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no precondition; it runs no handler and touches no memory of ours.
    unsafe { libc::_exit(code) }
}

/// A descriptor for process `pid`; `None` if there is no such process.
pub fn process_open(pid: i32) -> Result<Option<OwnedFd>> {
    let pid = Pid::from_raw(pid)
        .filter(|pid| pid.as_raw_nonzero().get() > 0)
        .ok_or_else(|| Error::Invalid(format!("{pid} is no process id")))?;
    match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => Ok(Some(fd)),
        // The number is nobody's, or that of a thread of some other process by now (newer kernels, older ones).
        Err(Errno::SRCH | Errno::NOENT | Errno::INVAL) => Ok(None),
        Err(Errno::NOSYS) => Err(Error::UnsupportedPlatform { what: "watching a process", needs: "pidfd_open" }),
        Err(error) => Err(Error::os(format!("pidfd_open of process {pid}"), error)),
    }
}

/// How the process ended, reaping it if it is our child and `reap` says so; `None` while it runs.
pub fn process_exit(process: BorrowedFd<'_>, reap: bool) -> Result<Option<Exit>> {
    match child_exit(process, reap)? {
        Child::Ended(exit) => return Ok(Some(exit)),
        Child::Runs => return Ok(None),
        Child::NotOurs => {}
    }
    // Not our child, or reaped by someone else: the kernel still tells whether it is gone.
    if !poll_readable(&[process], Some(Duration::ZERO))?.is_some_and(|ready| ready[0]) {
        return Ok(None);
    }
    // A grandchild whose parent has just died is ours now, if we are who takes orphans.
    Ok(Some(match child_exit(process, reap)? {
        Child::Ended(exit) => exit,
        Child::Runs | Child::NotOurs => Exit { status: None, signal: None },
    }))
}

enum Child {
    Runs,
    Ended(Exit),
    NotOurs,
}

fn child_exit(process: BorrowedFd<'_>, reap: bool) -> Result<Child> {
    let keep = if reap { WaitIdOptions::empty() } else { WaitIdOptions::NOWAIT };
    match rustix::process::waitid(WaitId::PidFd(process), WaitIdOptions::EXITED | WaitIdOptions::NOHANG | keep) {
        Ok(Some(status)) => {
            Ok(Child::Ended(Exit { status: status.exit_status(), signal: status.terminating_signal() }))
        }
        Ok(None) => Ok(Child::Runs),
        Err(Errno::CHILD) => Ok(Child::NotOurs),
        Err(error) => Err(Error::os("waitid", error)),
    }
}

/// Sends a signal; nothing happens if the process is gone.
pub fn process_signal(process: BorrowedFd<'_>, signal: i32) -> Result<()> {
    let signal =
        Signal::from_named_raw(signal).ok_or_else(|| Error::Invalid(format!("{signal} is no signal number")))?;
    match rustix::process::pidfd_send_signal(process, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(Error::os(format!("sending signal {}", signal.as_raw()), error)),
    }
}

/// Sleeps until one of `fds` is readable: which ones are. `None` if a signal handler ran.
pub fn poll_readable(fds: &[BorrowedFd<'_>], timeout: Option<Duration>) -> Result<Option<Vec<bool>>> {
    let mut polled: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    match poll(&mut polled, timeout.map(timespec).as_ref()) {
        Ok(_) => Ok(Some(polled.iter().map(|fd| !fd.revents().is_empty()).collect())),
        Err(Errno::INTR) => Ok(None),
        Err(error) => Err(Error::os("poll", error)),
    }
}

/// What one thread tells another to look up from its [`poll_readable`].
#[derive(Debug)]
pub struct Nudge(OwnedFd);

impl Nudge {
    /// An eventfd.
    pub fn new() -> Result<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        Ok(Nudge(eventfd(0, flags).map_err(|e| Error::os("eventfd", e))?))
    }

    /// Makes it readable.
    pub fn nudge(&self) -> Result<()> {
        match rustix::io::write(&self.0, &1u64.to_ne_bytes()) {
            Ok(_) | Err(Errno::AGAIN) => Ok(()), // AGAIN: the counter is at its limit, so readable already
            Err(error) => Err(Error::os("writing to an eventfd", error)),
        }
    }

    /// Makes it unreadable.
    pub fn reset(&self) -> Result<()> {
        match rustix::io::read(&self.0, &mut [0u8; 8]) {
            Ok(_) | Err(Errno::AGAIN) => Ok(()),
            Err(error) => Err(Error::os("reading from an eventfd", error)),
        }
    }
}

impl AsFd for Nudge {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// A thread in which no signal handler ever runs, so that signals reach the threads that wait for them. One that is not
/// joined goes on by itself.
///
/// None of the standard library's: that one notes the stack of each thread in a list behind a lock, which a fork in that
/// moment copies held, and no thread can be started in the child.
#[derive(Debug)]
pub struct Thread {
    id: libc::pthread_t,
    generation: u64,
    name: &'static CStr,
}

type Body = Box<dyn FnOnce() + Send>;

extern "C" fn run_body(body: *mut c_void) -> *mut c_void {
    // SAFETY: `Thread::spawn` made it of a box, for this thread alone.
    let body = unsafe { Box::from_raw(body.cast::<Body>()) };
    let done = panic::catch_unwind(AssertUnwindSafe(body));
    match done {
        Ok(()) => ptr::null_mut(),
        Err(_) => NonNull::dangling().as_ptr(),
    }
}

impl Thread {
    /// Starts it. The name has at most 15 bytes.
    pub fn spawn(name: &'static CStr, body: impl FnOnce() + Send + 'static) -> Result<Self> {
        let body: *mut Body = Box::into_raw(Box::new(Box::new(body)));
        let mask = |how, set: &libc::sigset_t| {
            let mut old = MaybeUninit::<libc::sigset_t>::uninit();
            // SAFETY: `set` is initialised, `old` is written before the call returns 0, which it does for a valid `how`.
            unsafe {
                let refused = libc::pthread_sigmask(how, set, old.as_mut_ptr());
                assert_eq!(refused, 0, "pthread_sigmask with a valid argument");
                old.assume_init()
            }
        };
        let mut every = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigfillset initialises the set it is given.
        let every = unsafe {
            libc::sigfillset(every.as_mut_ptr());
            every.assume_init()
        };
        // A new thread starts with the mask of the one that makes it.
        let before = mask(libc::SIG_SETMASK, &every);
        let mut id = MaybeUninit::uninit();
        // SAFETY: `id` is written if the call returns 0; null asks for the usual attributes; the body is the thread's.
        let refused = unsafe { libc::pthread_create(id.as_mut_ptr(), ptr::null(), run_body, body.cast()) };
        mask(libc::SIG_SETMASK, &before);
        if refused != 0 {
            // SAFETY: no thread was started, so it is nobody's.
            drop(unsafe { Box::from_raw(body) });
            return Err(Error::os(format!("starting the thread {name:?}"), io::Error::from_raw_os_error(refused)));
        }
        // SAFETY: the call succeeded.
        let id = unsafe { id.assume_init() };
        // SAFETY: the thread is neither joined nor detached, so its id means it. A thread without a name works as well.
        unsafe { libc::pthread_setname_np(id, name.as_ptr()) };
        Ok(Thread { id, generation: super::generation(), name })
    }

    /// Waits for its end.
    pub fn join(self) {
        let this = ManuallyDrop::new(self);
        let mut panicked = ptr::null_mut();
        // SAFETY: as in `spawn`; it is used up here.
        let refused = unsafe { libc::pthread_join(this.id, &mut panicked) };
        debug_assert_eq!(refused, 0, "joining a thread of ours");
        debug_assert!(panicked.is_null(), "the thread {:?} panicked", this.name);
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        // In a forked child there is no such thread.
        if self.generation == super::generation() {
            // SAFETY: as in `spawn`; it is used up here.
            unsafe { libc::pthread_detach(self.id) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::thread::CpuSet;
    use std::sync::atomic::AtomicBool;

    /// Twenty moves to come or more, of a thread beside one that has its CPU busy; what is done meanwhile.
    fn while_moving(meanwhile: impl FnOnce(Pid, &AtomicU32)) -> (u32, u32) {
        let (moves, moved, stop) = (AtomicU32::new(0), AtomicU32::new(0), AtomicBool::new(false));
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                tell.send(rustix::thread::gettid()).unwrap();
                while !stop.load(Ordering::Relaxed) {
                    let before = current_cpu();
                    leave_cpu();
                    moved.fetch_add(u32::from(current_cpu() != before), Ordering::Relaxed);
                    moves.fetch_add(1, Ordering::Relaxed);
                }
            });
            meanwhile(told.recv().unwrap(), &moves);
            stop.store(true, Ordering::Relaxed);
        });
        (moves.into_inner(), moved.into_inner())
    }

    fn await_moves(moves: &AtomicU32, count: u32) {
        let before = moves.load(Ordering::Relaxed);
        while moves.load(Ordering::Relaxed).wrapping_sub(before) < count {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_thread_that_moves_undoes_no_change_of_its_affinity() {
        let allowed = rustix::thread::sched_getaffinity(None).unwrap();
        let cpus: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(*cpu)).take(2).collect();
        let only = |cpu: usize| {
            let mut set = CpuSet::new();
            set.set(cpu);
            set
        };
        let sets: Vec<CpuSet> = cpus.iter().flat_map(|cpu| [only(*cpu), allowed]).collect();
        while_moving(|thread, moves| {
            for round in 0..300 {
                let set = &sets[round % sets.len()];
                rustix::thread::sched_setaffinity(Some(thread), set).unwrap();
                await_moves(moves, 2);
                assert_eq!(&rustix::thread::sched_getaffinity(Some(thread)).unwrap(), set, "round {round}");
            }
        });
    }

    #[test]
    fn a_thread_leaves_a_cpu_that_others_want() {
        let allowed = rustix::thread::sched_getaffinity(None).unwrap();
        if allowed.count() < 2 {
            return; // there is no other to go to
        }
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // One busy thread more than there are others to go to would be no reason to stay: one is enough here.
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop()
                }
            });
            let (moves, moved) = while_moving(|_, moves| await_moves(moves, 100));
            stop.store(true, Ordering::Relaxed);
            assert!(moved > 0, "{moves} times it stayed");
        });
    }

    #[test]
    fn pages_touched_by_hand_are_there_and_keep_their_bytes() {
        let nbytes = 4 << 20;
        let fd = memory_create("test", nbytes).unwrap();
        let address = map(fd.as_fd(), nbytes).unwrap();
        let blocks = || rustix::fs::fstat(&fd).unwrap().st_blocks;
        // SAFETY: the mapping just made, and whole pages of it.
        unsafe {
            address.as_ptr().add(nbytes - 1).write(7);
            assert!(blocks() < nbytes as i64 / 512);
            touch(fd.as_fd(), address, 0, nbytes).unwrap();
            assert_eq!(address.as_ptr().add(nbytes - 1).read(), 7);
            assert_eq!(blocks(), nbytes as i64 / 512);
            unmap(address, nbytes);
        }
    }
}
