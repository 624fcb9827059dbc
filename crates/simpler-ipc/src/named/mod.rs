//! Names of regions: small files in `/dev/shm` that say which process holds the memory.
//!
//! A named region's memory is a sealed memfd like any other: nobody can shrink it, and it goes with its last user, so
//! that a killed process leaves no memory behind. What it leaves is its name: a [`Record`] in a file that only its user
//! may read. Whoever attaches reads the record, makes sure that the owner is the very process that wrote it, takes the
//! memory from among the owner's descriptors, and checks identity, seals and size before mapping it: nothing that a
//! record says is believed.
//!
//! A name is changed only under its file's lock, by whoever finds the path still leading to the file that it locked.
//! The lock is never waited for without limit, so that a stopped process stops nobody else.

pub mod record;

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::identity::{self, Identity, Maker};
use crate::sys;
use record::Flaw;
pub use record::Record;

/// How long a name's lock is waited for. It is held for some microseconds.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
const LONGEST_NAP: Duration = Duration::from_millis(20);

/// Lets time pass while a lock is not to be had; may end the attempt.
pub type Pause<'a> = &'a mut dyn FnMut(Duration) -> Result<()>;

/// The pause of a caller who has nothing else to do.
pub(crate) fn sleep(nap: Duration) -> Result<()> {
    std::thread::sleep(nap);
    Ok(())
}

pub(crate) fn check_name(name: &str) -> Result<()> {
    if record::is_name(name) {
        return Ok(());
    }
    let most = record::NAME_NBYTES;
    Err(Error::Invalid(format!(
        "{name:?} is no name for a region: 1 to {most} letters, digits, '.', '_' or '-', not beginning with '.'"
    )))
}

fn unusable(name: &str, why: impl Into<String>) -> Error {
    Error::RegionUnusable { name: name.to_owned(), why: why.into() }
}

/// The file of a name, locked; `None` if there is none and it is not to be made.
fn lock(name: &str, create: bool, pause: Pause<'_>) -> Result<Option<sys::NameFile>> {
    let start = Instant::now();
    let mut nap = Duration::from_millis(1);
    loop {
        let Some(mut file) = sys::NameFile::open(name, create)? else { return Ok(None) };
        if file.try_lock()? && file.is_current()? {
            return Ok(Some(file));
        }
        let waited = start.elapsed();
        if waited >= LOCK_PATIENCE {
            let what = "the lock of a region's name, held by another process (is it stopped?)";
            return Err(Error::WaitTimeout { what, waited });
        }
        drop(file);
        pause(nap)?;
        nap = (2 * nap).min(LONGEST_NAP);
    }
}

/// What can be said of the process that a record names.
enum Owner {
    /// It is there and holds the memory, here as a descriptor of ours.
    Holds(OwnedFd, usize),
    /// It is not, or it does not: the name is stale.
    Gone(String),
    /// It cannot be told from here: the name is left alone.
    Unknown(String),
}

fn owner(record: &Record) -> Result<Owner> {
    let pid = record.pid;
    if record.namespace != sys::namespace_of_proc()? {
        return Ok(Owner::Unknown(
            "its owner lives in another pid or time namespace, where this process cannot look for it; hand the region's file \
             descriptor over a socket instead"
                .to_owned(),
        ));
    }
    let gone = || Ok(Owner::Gone(format!("its owner, process {pid}, has ended")));
    if identity::is_gone(pid, Identity::new(pid, record.start_time, 0).start())? {
        return gone();
    }
    Ok(match sys::memory_of(pid, record.fd, record.identity)? {
        sys::Found::Memory(memory, nbytes) if nbytes as u64 == record.nbytes => Owner::Holds(memory, nbytes),
        sys::Found::Memory(_, nbytes) => {
            Owner::Unknown(format!("its record says {} bytes, its memory has {nbytes}", record.nbytes))
        }
        sys::Found::Other => Owner::Gone(format!("its owner, process {pid}, does not hold it any more")),
        sys::Found::Refused(error) => {
            Owner::Unknown(format!("its owner, process {pid}, does not let it be taken: {error}"))
        }
    })
}

/// What a name's file says; `Err(flaw)` if nothing.
fn read(file: &sys::NameFile) -> Result<std::result::Result<Record, Flaw>> {
    Ok(match Record::decode(&file.read()?) {
        Ok(record) if record.name != file.name() => Err(Flaw::Impossible("it is that of another name")),
        decoded => decoded,
    })
}

/// A name that this process gave to memory of its own, until this is dropped. A forked child's copy does nothing.
#[derive(Debug)]
pub(crate) struct OwnedName {
    record: Option<Record>,
    maker: Maker,
}

impl OwnedName {
    /// Gives memory a name, if no living process has given it to other memory.
    pub fn publish(name: &str, memory: i32, identity: u64, nbytes: usize, pause: Pause<'_>) -> Result<Self> {
        check_name(name)?;
        let pid = sys::current_pid();
        let namespace = sys::namespace_of_proc()?;
        let start_time = sys::process_start_time(pid)?
            .ok_or(Error::UnsupportedPlatform { what: "a named region", needs: "/proc" })?;
        let nbytes = nbytes as u64;
        let record = Record { name: name.to_owned(), nbytes, identity, pid, fd: memory, start_time, namespace };
        let Some(file) = lock(name, true, pause)? else { return Err(unusable(name, "its file cannot be made")) };
        match read(&file)? {
            Ok(before) => match owner(&before)? {
                Owner::Holds(..) => return Err(Error::RegionExists { name: name.to_owned(), pid: before.pid }),
                Owner::Unknown(why) => return Err(unusable(name, why)),
                Owner::Gone(_) => {}
            },
            // We hold the lock, so whoever began to write it is dead.
            Err(Flaw::Unfinished) => {}
            Err(flaw) => return Err(unusable(name, format!("{flaw} (remove {})", sys::name_path(name)))),
        }
        if let Err(error) = file.write(&record.encode()) {
            file.unlink()?;
            return Err(error);
        }
        Ok(OwnedName { record: Some(record), maker: Maker::here() })
    }

    /// Takes the name away, if it is this process's and still its own.
    pub fn release(&mut self, pause: Pause<'_>) -> Result<()> {
        let Some(record) = self.record.take().filter(|_| self.maker.is_here()) else { return Ok(()) };
        let Some(file) = lock(&record.name, false, pause)? else { return Ok(()) };
        if read(&file)?.is_ok_and(|found| found == record) {
            file.unlink()?;
        }
        Ok(())
    }
}

impl Drop for OwnedName {
    fn drop(&mut self) {
        // A name that cannot be taken away is stale as soon as the memory is closed, and the next to want it takes it.
        let _ = self.release(&mut sleep);
    }
}

/// The memory that a name stands for.
pub(crate) fn memory(name: &str, pause: Pause<'_>) -> Result<(OwnedFd, usize)> {
    check_name(name)?;
    let not_found = |why: String| Err(Error::RegionNotFound { name: name.to_owned(), why });
    let path = sys::name_path(name);
    let mut before = None;
    loop {
        let Some(file) = sys::NameFile::open(name, false)? else {
            return not_found(format!("there is no {path}; another process of this user has to create it first"));
        };
        let mut found = read(&file)?;
        drop(file);
        if found == Err(Flaw::Unfinished) {
            // Being written just now, if anybody holds the lock.
            let Some(file) = lock(name, false, pause)? else { continue };
            found = read(&file)?;
        }
        let record = match found {
            Ok(record) => record,
            Err(Flaw::Unfinished) => {
                return not_found(format!(
                    "whoever began to create it has ended ({path} is unfinished); create it anew"
                ))
            }
            Err(flaw) => return Err(unusable(name, format!("{flaw} (in {path})"))),
        };
        match owner(&record)? {
            Owner::Holds(memory, nbytes) => return Ok((memory, nbytes)),
            Owner::Unknown(why) => return Err(unusable(name, why)),
            // Perhaps another has taken the name over, or the owner has taken it away, since it was read.
            Owner::Gone(_) if before.as_ref() != Some(&record) => before = Some(record),
            Owner::Gone(why) => {
                return not_found(format!(
                    "{why}; create it anew, which takes the name over, or remove it: python -m simpler_ipc clean"
                ))
            }
        }
    }
}

/// A name and what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedRegion {
    /// The name.
    pub name: String,
    /// The region's size, if the record could be read.
    pub nbytes: Option<u64>,
    /// How much of it holds pages, if its owner let us look.
    pub resident: Option<u64>,
    /// The process that created it.
    pub pid: Option<i32>,
    /// When that process started, in clock ticks since boot.
    pub start_time: Option<u64>,
    /// When the name was given: seconds since 1970.
    pub created: f64,
    /// Whether the owner lives and holds the memory; `None` if that cannot be told from here.
    pub alive: Option<bool>,
    /// Why it is not alive, or why that cannot be told.
    pub note: String,
}

impl NamedRegion {
    fn of(mut file: sys::NameFile) -> Result<Self> {
        let mut region = NamedRegion {
            name: file.name().to_owned(),
            nbytes: None,
            resident: None,
            pid: None,
            start_time: None,
            created: file.written()?,
            alive: None,
            note: String::new(),
        };
        let mut found = read(&file)?;
        if found == Err(Flaw::Unfinished) {
            if !file.try_lock()? {
                region.note = "it is being created".to_owned();
                return Ok(region);
            }
            found = read(&file)?;
        }
        match found {
            Ok(record) => {
                region.nbytes = Some(record.nbytes);
                region.pid = Some(record.pid);
                region.start_time = Some(record.start_time);
                match owner(&record)? {
                    Owner::Holds(memory, _) => {
                        region.alive = Some(true);
                        region.resident = Some(sys::memory_resident(&memory)?);
                    }
                    Owner::Gone(why) => {
                        region.alive = Some(false);
                        region.note = why;
                    }
                    Owner::Unknown(why) => region.note = why,
                }
            }
            Err(flaw) => {
                region.alive = (flaw == Flaw::Unfinished).then_some(false);
                region.note = flaw.to_string();
            }
        }
        Ok(region)
    }
}

/// All names of this user, sorted. What is no plain file of the user's own is not among them.
///
/// # Errors
/// [`Error::Os`]; [`Error::UnsupportedPlatform`].
pub fn named_regions() -> Result<Vec<NamedRegion>> {
    let mut regions = Vec::new();
    for name in sys::names()? {
        match sys::NameFile::open(&name, false) {
            Ok(Some(file)) => regions.push(NamedRegion::of(file)?),
            Ok(None) | Err(Error::RegionUnusable { .. }) => {} // gone meanwhile, or not ours
            Err(error) => return Err(error),
        }
    }
    Ok(regions)
}

/// Removes those of the chosen names whose owner is gone: which ones. A name that someone is busy with is left to them.
///
/// # Errors
/// [`Error::Os`]; [`Error::UnsupportedPlatform`].
pub fn clean(chosen: impl Fn(&str) -> bool) -> Result<Vec<NamedRegion>> {
    let mut removed = Vec::new();
    for name in sys::names()?.into_iter().filter(|name| chosen(name)) {
        let mut file = match sys::NameFile::open(&name, false) {
            Ok(Some(file)) => file,
            Ok(None) | Err(Error::RegionUnusable { .. }) => continue,
            Err(error) => return Err(error),
        };
        if !(file.try_lock()? && file.is_current()?) {
            continue;
        }
        let stale = match read(&file)? {
            Ok(record) => matches!(owner(&record)?, Owner::Gone(_)),
            Err(flaw) => flaw == Flaw::Unfinished,
        };
        if stale {
            file.unlink()?;
            removed.push(NamedRegion::of(file)?);
        }
    }
    Ok(removed)
}
