//! Linux: what this process knows of itself, and what a fork makes of that.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use crate::error::{Error, Result};

/// What is remembered of this process; 0 is not known yet. Whole pages, which a child has as zeros however it was forked.
#[cfg_attr(target_arch = "aarch64", repr(C, align(65536)))] // the largest page there is
#[cfg_attr(not(target_arch = "aarch64"), repr(C, align(4096)))]
struct Known {
    generation: AtomicU64,
    pid: AtomicI32,
    start_time: AtomicU64,
    namespace: AtomicU64,
}

static KNOWN: Known = Known {
    generation: AtomicU64::new(0),
    pid: AtomicI32::new(0),
    start_time: AtomicU64::new(0),
    namespace: AtomicU64::new(0),
};
/// Whether a child forgets: without that nothing may be remembered.
static FORGOTTEN_BY_CHILDREN: AtomicBool = AtomicBool::new(false);
/// The last generation that was given out to this process or to one that it descends from: a fork copies it.
static LAST_GENERATION: AtomicU64 = AtomicU64::new(0);

/// Has the kernel give children zeros instead of what is known. Best effort: `fork` itself calls `after_fork_in_child`, but
/// there are ways around it (a bare `clone`, `_Fork`).
fn wipe_in_children() -> bool {
    let known = std::ptr::from_ref(&KNOWN);
    // SAFETY: the pages hold `KNOWN` alone, all atomics for which zero is a value, and are private and anonymous as all
    // memory is that a program begins with as zeros (where they are not, the call fails).
    unsafe { libc::madvise(known.cast_mut().cast(), size_of::<Known>(), libc::MADV_WIPEONFORK) == 0 }
}

extern "C" fn before_fork() {
    crate::forks::before();
}

extern "C" fn after_fork_in_parent() {
    crate::forks::after();
}

extern "C" fn after_fork_in_child() {
    KNOWN.generation.store(0, Ordering::Relaxed);
    KNOWN.pid.store(0, Ordering::Relaxed);
    KNOWN.start_time.store(0, Ordering::Relaxed);
    KNOWN.namespace.store(0, Ordering::Relaxed);
    crate::forks::after();
}

extern "C" fn at_load() {
    // SAFETY: the handlers are there as long as this library, which is told of forks for as long as it is loaded.
    let refused =
        unsafe { libc::pthread_atfork(Some(before_fork), Some(after_fork_in_parent), Some(after_fork_in_child)) };
    FORGOTTEN_BY_CHILDREN.store(wipe_in_children() || refused == 0, Ordering::Relaxed);
}

/// Called when the library is loaded. Registering later would need a lock, which a fork in that moment would copy held.
#[used]
#[link_section = ".init_array"]
static AT_LOAD: extern "C" fn() = at_load;

/// Tells this process from those that it descends from: what they have made it inherits, and their ids say nothing (each may
/// be the first of a pid namespace, or have the id of one that has ended). Asked by every call, so remembered until a fork.
/// The upper half counts the generations; the lower one is random, and tells siblings and copies of this library apart, mostly.
#[inline]
pub fn generation() -> u64 {
    match KNOWN.generation.load(Ordering::Relaxed) {
        0 => new_generation(),
        generation => generation,
    }
}

#[cold]
fn new_generation() -> u64 {
    if !FORGOTTEN_BY_CHILDREN.load(Ordering::Relaxed) {
        return current_pid() as u64;
    }
    let mut chance = [0u8; 4];
    // SAFETY: as many bytes are valid for writes. Where the kernel has none yet, the number is as good without.
    unsafe { libc::getrandom(chance.as_mut_ptr().cast(), chance.len(), libc::GRND_NONBLOCK) };
    let count = LAST_GENERATION.fetch_add(1, Ordering::Relaxed) + 1;
    let new = count << 32 | u64::from(u32::from_ne_bytes(chance));
    match KNOWN.generation.compare_exchange(0, new, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => new,
        Err(other) => other, // a thread was faster
    }
}

/// This process's id. Remembered until a fork.
#[inline]
pub fn current_pid() -> i32 {
    match KNOWN.pid.load(Ordering::Relaxed) {
        0 => ask_pid(),
        pid => pid,
    }
}

#[cold]
fn ask_pid() -> i32 {
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    if FORGOTTEN_BY_CHILDREN.load(Ordering::Relaxed) {
        KNOWN.pid.store(pid, Ordering::Relaxed);
    }
    pid
}

/// What `ask` answers, remembered until a fork.
fn remembered(place: &AtomicU64, ask: impl FnOnce() -> Result<u64>) -> Result<u64> {
    match place.load(Ordering::Relaxed) {
        0 => {
            let answer = ask()?;
            if FORGOTTEN_BY_CHILDREN.load(Ordering::Relaxed) {
                place.store(answer, Ordering::Relaxed);
            }
            Ok(answer)
        }
        known => Ok(known),
    }
}

/// When this process started, in clock ticks since boot as its time namespace counts them; 0 where there is no /proc of its
/// pid namespace to tell.
pub fn own_start_time() -> Result<u64> {
    remembered(&KNOWN.start_time, || match super::proc_is_own() {
        true => Ok(super::process_start_time(current_pid())?.unwrap_or(0)),
        false => Ok(0),
    })
}

/// In which pid and time namespaces this process is, as one word: what process ids and start times are counted in.
/// [`UNKNOWN_NAMESPACE`](super::UNKNOWN_NAMESPACE) where there is no /proc to tell.
pub fn own_namespace() -> Result<u64> {
    remembered(&KNOWN.namespace, || {
        let Some(pids) = inode("/proc/self/ns/pid")? else { return Ok(super::UNKNOWN_NAMESPACE) };
        // There are kernels without.
        let times = inode("/proc/self/ns/time")?.unwrap_or(0);
        // A namespace's inode has 32 bits.
        Ok(times << 32 | pids)
    })
}

fn inode(path: &str) -> Result<Option<u64>> {
    match std::fs::metadata(path) {
        Ok(found) => Ok(Some(found.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::os(format!("looking at {path}"), error)),
    }
}

/// A number for the program that this process runs, which one that it replaces itself by (exec) does not have, and every
/// copy of this library in it has. The kernel hands each program sixteen random bytes; so few bits of them tell nothing of
/// the rest.
pub fn own_program() -> u16 {
    // SAFETY: no precondition.
    let random = unsafe { libc::getauxval(libc::AT_RANDOM) } as *const [u64; 2];
    if random.is_null() {
        return 0;
    }
    // SAFETY: the kernel has put sixteen bytes there, which nobody changes, aligned as bytes are.
    let [first, second] = unsafe { random.read_unaligned() };
    // The finaliser of splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
    let mut mixed = first ^ second.rotate_left(32);
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ mixed >> 31) >> 48) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_process_is_wiped_in_its_children() {
        assert!(wipe_in_children());
        let known = std::ptr::from_ref(&KNOWN) as usize;
        // Nobody else's memory is wiped with it.
        assert_eq!((known % 4096, size_of::<Known>() % 4096), (0, 0));
    }

    #[test]
    fn a_program_has_one_number() {
        assert_eq!(own_program(), own_program());
    }
}
