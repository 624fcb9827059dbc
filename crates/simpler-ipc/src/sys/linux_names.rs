//! Linux: the files that hold regions' names, and looking at the processes that own them.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{FileType, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;

use crate::error::{Error, Result};

const DIRECTORY: &str = "/dev/shm";

/// The beginning of the file names of this user's regions.
fn prefix() -> String {
    format!("simpler-ipc.{}.", rustix::process::geteuid().as_raw())
}

/// Where the record of a name lies.
pub fn name_path(name: &str) -> String {
    format!("{DIRECTORY}/{}{name}", prefix())
}

/// The names of this user, whatever lies behind them.
pub fn names() -> Result<Vec<String>> {
    let listing = |error: io::Error| Error::os(format!("listing {DIRECTORY}"), error);
    let prefix = prefix();
    let mut names = Vec::new();
    let entries = match fs::read_dir(DIRECTORY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(names),
        entries => entries.map_err(listing)?,
    };
    for entry in entries {
        let file = entry.map_err(listing)?.file_name();
        names.extend(file.to_str().and_then(|file| file.strip_prefix(&prefix)).map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

/// The open file of a name, which only its user may read or write.
#[derive(Debug)]
pub struct NameFile {
    name: String,
    path: String,
    fd: OwnedFd,
    locked: bool,
}

impl NameFile {
    /// Opens it, for writing only where it may be made; `None` if there is none and it is not to be made.
    pub fn open(name: &str, create: bool) -> Result<Option<Self>> {
        let path = name_path(name);
        let unusable = |why: String| Error::RegionUnusable { name: name.to_owned(), why: format!("{path} {why}") };
        let access = if create { OFlags::RDWR | OFlags::CREATE } else { OFlags::RDONLY };
        let flags = access | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let fd = match rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR) {
            Ok(fd) => fd,
            Err(Errno::NOENT) if create => {
                return Err(Error::UnsupportedPlatform { what: "a named region", needs: DIRECTORY })
            }
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(unusable("is a symbolic link".to_owned())),
            Err(Errno::ACCESS | Errno::PERM) => return Err(unusable("may not be opened by this user".to_owned())),
            Err(error) => return Err(Error::os(format!("opening {path}"), error)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(|e| Error::os("fstat", e))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(unusable("is no plain file".to_owned()));
        }
        if stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(unusable(format!("belongs to another user, {}", stat.st_uid)));
        }
        if stat.st_mode & 0o077 != 0 {
            let mode = stat.st_mode & 0o7777;
            return Err(unusable(format!("is open to other users (mode {mode:o}); remove it if it is yours")));
        }
        Ok(Some(NameFile { name: name.to_owned(), path, fd, locked: false }))
    }

    fn os(&self, doing: &str, error: Errno) -> Error {
        Error::os(format!("{doing} {}", self.path), error)
    }

    fn stat(&self) -> Result<Stat> {
        rustix::fs::fstat(&self.fd).map_err(|e| self.os("looking at", e))
    }

    /// Whether the name is now this process's alone to change, until this object goes.
    pub fn try_lock(&mut self) -> Result<bool> {
        match rustix::fs::flock(&self.fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                self.locked = true;
                Ok(true)
            }
            Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(false),
            Err(error) => Err(self.os("locking", error)),
        }
    }

    /// Whether the path still leads to this file: not so when it was removed before it was locked.
    pub fn is_current(&self) -> Result<bool> {
        let here = self.stat()?;
        match rustix::fs::lstat(&self.path) {
            Ok(there) => Ok((here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(self.os("looking at", error)),
        }
    }

    /// What it holds, up to twice what a record is: enough to see that it is too long.
    pub fn read(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; 2 * crate::named::record::NBYTES];
        let count = rustix::io::pread(&self.fd, &mut bytes[..], 0).map_err(|e| self.os("reading", e))?;
        bytes.truncate(count);
        Ok(bytes)
    }

    /// Makes these its bytes.
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        // Another umask may have taken the owner's own permissions.
        rustix::fs::fchmod(&self.fd, Mode::RUSR | Mode::WUSR).map_err(|e| self.os("setting permissions of", e))?;
        match rustix::io::pwrite(&self.fd, bytes, 0).map_err(|e| self.os("writing", e))? {
            count if count == bytes.len() => Ok(()),
            _ => Err(self.os("writing all of", Errno::NOSPC)),
        }
    }

    /// Takes the name away. For whoever has it locked.
    pub fn unlink(&self) -> Result<()> {
        rustix::fs::unlink(&self.path).map_err(|e| self.os("removing", e))
    }

    /// When it was written: seconds since 1970.
    pub fn written(&self) -> Result<f64> {
        let stat = self.stat()?;
        Ok(stat.st_mtime as f64 + stat.st_mtime_nsec as f64 * 1e-9)
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for NameFile {
    fn drop(&mut self) {
        if self.locked {
            // Closing is not enough where a child was forked meanwhile: it has the same open file.
            let unlocked = rustix::fs::flock(&self.fd, FlockOperation::Unlock);
            debug_assert_eq!(unlocked, Ok(()), "unlocking a file of ours cannot fail");
        }
    }
}

/// When a process started, in clock ticks since boot; `None` if there is none.
pub fn process_start_time(pid: i32) -> Result<Option<u64>> {
    let path = format!("/proc/{pid}/stat");
    match fs::read(&path) {
        Ok(stat) => start_time_in(&stat).map(Some).ok_or_else(|| {
            Error::os(format!("reading {path}"), io::Error::new(io::ErrorKind::InvalidData, "it has no start time"))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => Ok(None),
        Err(error) => Err(Error::os(format!("reading {path}"), error)),
    }
}

/// Field 22 of /proc/PID/stat. Field 2 is the program's name in parentheses, which may hold anything.
fn start_time_in(stat: &[u8]) -> Option<u64> {
    let behind_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    std::str::from_utf8(&stat[behind_name..]).ok()?.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Whether /proc is there, and counts process ids as this process does: not so where it is another pid namespace's.
pub fn proc_is_own() -> bool {
    fs::read_link("/proc/self").is_ok_and(|own| own.to_str() == Some(&super::current_pid().to_string()))
}

/// The namespaces of this process ([`own_namespace`](super::own_namespace)), if /proc is of the same.
pub fn namespace_of_proc() -> Result<u64> {
    if !proc_is_own() {
        return Err(Error::UnsupportedPlatform { what: "a named region", needs: "/proc of its own pid namespace" });
    }
    super::own_namespace()
}

/// A descriptor of another process, as far as it is the memory looked for.
#[derive(Debug)]
pub enum Found {
    /// The memory, and its size.
    Memory(OwnedFd, usize),
    /// That process has nothing there, or something else.
    Other,
    /// It may not be looked at.
    Refused(Error),
}

/// A descriptor that only stands for what another process has open there.
fn look_at(pid: i32, fd: i32) -> rustix::io::Result<OwnedFd> {
    let open = |path: &str| rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
    let first = open(&format!("/proc/{pid}/fd/{fd}"));
    if !matches!(first, Err(Errno::NOENT)) {
        return first;
    }
    // A process whose first thread has ended has its descriptors under another one.
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut found = threads.map(|thread| open(&format!("{}/fd/{fd}", thread.path().display())));
    found.find(|found| found.is_ok()).unwrap_or(first)
}

/// Opens descriptor `fd` of process `pid` if it is the memory of that identity. Anything else is not opened, only
/// looked at: opening may do things to a device.
pub fn memory_of(pid: i32, fd: i32, identity: u64) -> Result<Found> {
    let path = format!("/proc/{pid}/fd/{fd}");
    let there = match look_at(pid, fd) {
        Ok(there) => there,
        Err(Errno::NOENT | Errno::SRCH) => return Ok(Found::Other),
        Err(error @ (Errno::ACCESS | Errno::PERM)) => {
            return Ok(Found::Refused(Error::os(format!("opening {path}"), error)))
        }
        Err(error) => return Err(Error::os(format!("opening {path}"), error)),
    };
    let stat = rustix::fs::fstat(&there).map_err(|e| Error::os("fstat", e))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_ino != identity {
        return Ok(Found::Other);
    }
    let again = format!("/proc/self/fd/{}", there.as_raw_fd());
    let memory = match rustix::fs::open(&again, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        Ok(memory) => memory,
        Err(error) => return Ok(Found::Refused(Error::os(format!("opening {path} for writing"), error))),
    };
    Ok(match super::memory_open(memory.as_fd()) {
        Ok((memory, nbytes)) => Found::Memory(memory, nbytes),
        Err(error) => Found::Refused(error),
    })
}

/// Bytes of the memory that pages hold.
pub fn memory_resident(fd: &OwnedFd) -> Result<u64> {
    Ok(rustix::fs::fstat(fd).map_err(|e| Error::os("fstat", e))?.st_blocks as u64 * 512)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_name_with_spaces_and_parentheses_does_not_shift_the_fields() {
        let fields: Vec<String> = (4..=52).map(|field| field.to_string()).collect();
        let stat = format!("77 (a (b) c) S {}\n", fields.join(" "));
        assert_eq!(start_time_in(stat.as_bytes()), Some(22));
        assert_eq!(start_time_in(b"77 (cut) S 4 5"), None);
        assert_eq!(start_time_in(b""), None);
        assert_eq!(start_time_in(b"\xff)\xff"), None);
    }

    #[test]
    fn this_process_started_and_keeps_having_started() {
        let pid = super::super::current_pid();
        let started = process_start_time(pid).unwrap().unwrap();
        assert!(started > 0);
        assert_eq!(process_start_time(pid).unwrap(), Some(started));
        assert_eq!(process_start_time(i32::MAX).unwrap(), None);
    }
}
