//! Regions: shared memory that cannot be taken away.
//!
//! A region is a memfd, sealed so that no process can shrink it: an access to its mapping never faults. It is sparse: a
//! page costs nothing until it is touched, [`Region::prefault`] makes pages ahead of time, and [`Region::punch`] gives
//! them back. A fork inherits it at the same address; any other process maps it from its file descriptor with
//! [`Region::from_fd`], or by its name with [`Region::attach`] if it was made with one ([`Region::create`]).

use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::error::{Error, Result};
use crate::identity::Maker;
use crate::named::{self, OwnedName, Pause};
use crate::places::{punch_beside, Places, Thing};
use crate::protocol::bell::Bell;
use crate::protocol::lane::LaneHeader;
use crate::protocol::ring::RingControl;
use crate::protocol::sync::AtomicU64;
use crate::sys;

/// A mapping of shared memory; unmapped when the last clone, and the last thing that lies in it, is dropped.
#[derive(Debug, Clone)]
pub struct Region(Arc<Mapping>);

#[derive(Debug)]
struct Mapping {
    address: NonNull<u8>,
    nbytes: usize,
    fd: OwnedFd,
    identity: u64,
    name: Option<String>,
    /// In the process that gave the name. Locked there only: a child may have been forked while it was.
    owned: Mutex<Option<OwnedName>>,
    maker: Maker,
}

// SAFETY: a mapping belongs to the process, not to a thread; what reaches its bytes says by itself who else may.
unsafe impl Send for Mapping {}
// SAFETY: as above; nothing in `Mapping` itself changes after construction but what is behind a lock.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn fresh(nbytes: usize, label: &str) -> Result<Self> {
        if nbytes == 0 {
            return Err(Error::Invalid("a region needs at least one byte".to_owned()));
        }
        if i64::try_from(nbytes).is_err() {
            return Err(Error::Invalid(format!("a region of {nbytes} bytes is larger than any file")));
        }
        if label.len() > 249 || label.contains('\0') {
            return Err(Error::Invalid("a region's label has at most 249 bytes and no NUL".to_owned()));
        }
        Self::new(sys::memory_create(label, nbytes)?, nbytes, None)
    }

    fn new(fd: OwnedFd, nbytes: usize, name: Option<String>) -> Result<Self> {
        let identity = sys::memory_identity(fd.as_fd())?;
        let address = sys::map(fd.as_fd(), nbytes)?;
        Ok(Mapping { address, nbytes, fd, identity, name, owned: Mutex::new(None), maker: Maker::here() })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // The name goes first: it must not lead to a descriptor that is closed.
        drop(self.owned.get_mut().unwrap_or_else(PoisonError::into_inner).take());
        // SAFETY: the last owner is gone; `Window` and `Overlaid` are owners, so nothing points into the mapping.
        unsafe { sys::unmap(self.address, self.nbytes) };
    }
}

/// Regions mapped in this process, and what was laid out in them, so that one named by another process in
/// shared memory can be found.
pub(crate) type Mapped = Vec<MappedRegion>;
pub(crate) static MAPPED: Mutex<Mapped> = Mutex::new(Vec::new());

#[derive(Debug)]
pub(crate) struct MappedRegion {
    identity: u64,
    mapping: Weak<Mapping>,
    pub(crate) places: Places,
}

impl MappedRegion {
    /// Whether it is that memory, in this mapping or in another.
    pub(crate) fn is_of(&self, region: &Region) -> bool {
        self.identity == region.identity()
    }

    fn has(&self, thing: Thing, offset: usize) -> bool {
        self.places.get(&offset).is_some_and(|place| place.thing == thing)
    }

    /// Whether it is that very mapping.
    pub(crate) fn is_mapping(&self, region: &Region) -> bool {
        self.mapping.as_ptr() == Arc::as_ptr(&region.0)
    }
}

pub(crate) fn mapped() -> MutexGuard<'static, Mapped> {
    MAPPED.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Region {
    /// Fresh memory of `nbytes`, all zero. `label` is for humans: it shows in `/proc/PID/maps`.
    ///
    /// # Errors
    /// [`Error::Invalid`] for zero bytes or a bad label; [`Error::Os`] when the system refuses;
    /// [`Error::UnsupportedPlatform`].
    pub fn anonymous(nbytes: usize, label: &str) -> Result<Self> {
        Ok(Self::register(Mapping::fresh(nbytes, label)?))
    }

    /// Fresh memory under a name, by which any process of this user can [`attach`](Region::attach) to it.
    ///
    /// This process is its owner: the name goes when the region is dropped here, and is free for the taking as soon as
    /// this process has ended in whatever way. The memory lives as long as anybody has it mapped.
    ///
    /// # Errors
    /// [`Error::RegionExists`] if a living process owns the name; [`Error::RegionUnusable`] if what has the name may not
    /// be taken over (another user's, another version's); [`Error::WaitTimeout`] if a stopped process holds the name's
    /// lock; [`Error::Invalid`] for a bad name or size; [`Error::Os`]; [`Error::UnsupportedPlatform`].
    pub fn create(name: &str, nbytes: usize) -> Result<Self> {
        Self::create_pausing(name, nbytes, &mut named::sleep)
    }

    /// [`create`](Region::create), for callers with something to do while a name's lock is not to be had.
    #[doc(hidden)]
    pub fn create_pausing(name: &str, nbytes: usize, pause: Pause<'_>) -> Result<Self> {
        named::check_name(name)?;
        // Mapped before it has a name: what cannot be mapped is never seen by others.
        let mut mapping = Mapping::fresh(nbytes, name)?;
        let owned = OwnedName::publish(name, mapping.fd.as_raw_fd(), mapping.identity, nbytes, pause)?;
        mapping.name = Some(name.to_owned());
        mapping.owned = Mutex::new(Some(owned));
        Ok(Self::register(mapping))
    }

    /// The memory that a living process of this user has created under that name.
    ///
    /// # Errors
    /// [`Error::RegionNotFound`] if there is none, or its owner has ended; [`Error::RegionUnusable`] if it is not to be
    /// had from here; [`Error::Invalid`] for a bad name; [`Error::Os`]; [`Error::UnsupportedPlatform`].
    pub fn attach(name: &str) -> Result<Self> {
        Self::attach_pausing(name, &mut named::sleep)
    }

    /// [`attach`](Region::attach), for callers with something to do while a name's lock is not to be had.
    #[doc(hidden)]
    pub fn attach_pausing(name: &str, pause: Pause<'_>) -> Result<Self> {
        let (memory, nbytes) = named::memory(name, pause)?;
        Ok(Self::register(Mapping::new(memory, nbytes, Some(name.to_owned()))?))
    }

    /// Takes the name away now, if this process gave it; the memory stays until the region is dropped.
    ///
    /// # Errors
    /// [`Error::Os`], [`Error::WaitTimeout`]; the name is free for the taking all the same once the memory is dropped.
    pub fn release_name(&self) -> Result<()> {
        self.release_name_pausing(&mut named::sleep)
    }

    /// [`release_name`](Region::release_name), for callers with something to do meanwhile.
    #[doc(hidden)]
    pub fn release_name_pausing(&self, pause: Pause<'_>) -> Result<()> {
        if !self.0.maker.is_here() {
            return Ok(());
        }
        let owned = self.0.owned.lock().unwrap_or_else(PoisonError::into_inner).take();
        owned.map_or(Ok(()), |mut owned| owned.release(pause))
    }

    /// Takes all names away that this process gave: for when it is about to exit without dropping its regions.
    #[doc(hidden)]
    pub fn release_all_names() -> Result<()> {
        let regions: Vec<Region> = mapped().iter().filter_map(|known| known.mapping.upgrade()).map(Region).collect();
        regions.iter().try_for_each(Region::release_name)
    }

    /// Maps the region behind another process's file descriptor, which is duplicated: the caller keeps its own.
    ///
    /// # Errors
    /// [`Error::Invalid`] if it is not sealed against shrinking, or of huge pages (`MFD_HUGETLB`); [`Error::Os`]; [`Error::UnsupportedPlatform`].
    pub fn from_fd(fd: BorrowedFd<'_>) -> Result<Self> {
        let (fd, nbytes) = sys::memory_open(fd)?;
        Ok(Self::register(Mapping::new(fd, nbytes, None)?))
    }

    /// [`from_fd`](Region::from_fd), but if this process has that memory mapped already: that very mapping.
    #[doc(hidden)]
    pub fn join(fd: BorrowedFd<'_>, name: Option<&str>) -> Result<Self> {
        let (fd, nbytes) = sys::memory_open(fd)?;
        match Self::find(sys::memory_identity(fd.as_fd())?) {
            Some(region) => Ok(region),
            None => Ok(Self::register(Mapping::new(fd, nbytes, name.map(str::to_owned))?)),
        }
    }

    fn register(mapping: Mapping) -> Self {
        let region = Region(Arc::new(mapping));
        let mut mapped = mapped();
        mapped.retain(|known| known.mapping.strong_count() > 0);
        let (identity, mapping) = (region.identity(), Arc::downgrade(&region.0));
        mapped.push(MappedRegion { identity, mapping, places: Places::new() });
        drop(mapped);
        region
    }

    /// The region of that identity, if this process has it mapped.
    pub(crate) fn find(identity: u64) -> Option<Self> {
        let found =
            mapped().iter().filter(|known| known.identity == identity).find_map(|known| known.mapping.upgrade());
        found.map(Region)
    }

    /// The region of that identity in which a doorbell was opened at `offset` by this process, or by one that it was
    /// forked from.
    pub(crate) fn with_doorbell(identity: u64, offset: usize) -> Option<Self> {
        let mapped = mapped();
        let opened = mapped.iter().filter(|known| known.identity == identity && known.has(Thing::Doorbell, offset));
        opened.filter_map(|known| known.mapping.upgrade()).next().map(Region)
    }

    pub(crate) fn downgrade(&self) -> WeakRegion {
        WeakRegion(Arc::downgrade(&self.0))
    }

    /// What tells this memory from any other, the same in every process that maps it.
    pub(crate) fn identity(&self) -> u64 {
        self.0.identity
    }

    /// Its name, if it was created or attached to by one.
    pub fn name(&self) -> Option<&str> {
        self.0.name.as_deref()
    }

    /// Its size.
    pub fn nbytes(&self) -> usize {
        self.0.nbytes
    }

    /// Where it starts in this process.
    pub fn address(&self) -> usize {
        self.0.address.as_ptr() as usize
    }

    /// The file descriptor to hand to another process. To write through it (`write_at`) is to write behind the back of all that
    /// lies in the region, as another process could.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.fd.as_fd()
    }

    /// Whether all of `nbytes` at `address` lie in the region.
    pub fn contains(&self, address: usize, nbytes: usize) -> bool {
        address.checked_sub(self.address()).is_some_and(|offset| self.check_range(offset, nbytes).is_ok())
    }

    /// Makes the pages of a range now, so that the first access to each does not have to. Bytes stay as they are.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the range leaves the region; [`Error::Os`] when there is no memory for it.
    pub fn prefault(&self, offset: usize, nbytes: usize) -> Result<()> {
        self.check_range(offset, nbytes)?;
        if nbytes == 0 {
            return Ok(());
        }
        let page = sys::page_nbytes();
        let first = offset - offset % page;
        let whole = (offset + nbytes).div_ceil(page) * page - first;
        // SAFETY: the range lies in the mapping, which starts with a page and is made of whole ones.
        unsafe { sys::populate(self.fd(), self.0.address.add(first), first as u64, whole) }
    }

    /// Gives the pages of a range back to the system; the range reads as zero from then on, in every process.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the range leaves the region; [`Error::Misused`] if this process has a mailbox there, or has
    /// opened a doorbell there since it mapped the region; [`Error::Os`].
    pub fn punch(&self, offset: usize, nbytes: usize) -> Result<()> {
        self.check_range(offset, nbytes)?;
        if nbytes == 0 {
            return Ok(());
        }
        punch_beside(self, offset, nbytes, || sys::memory_punch(self.fd(), offset as u64, nbytes as u64))
    }

    /// A range of the region's bytes.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the range leaves the region.
    pub fn window(&self, offset: usize, nbytes: usize) -> Result<Window> {
        self.check_range(offset, nbytes)?;
        Ok(Window { region: self.clone(), offset, nbytes })
    }

    fn check_range(&self, offset: usize, nbytes: usize) -> Result<()> {
        match offset.checked_add(nbytes) {
            Some(end) if end <= self.0.nbytes => Ok(()),
            _ => Err(Error::Invalid(format!(
                "{nbytes} bytes at offset {offset} do not lie in a region of {} bytes",
                self.0.nbytes
            ))),
        }
    }

    /// `count` values of `T` at `offset`, in place.
    pub(crate) fn overlay<T: Overlay>(&self, offset: usize, count: usize) -> Result<Overlaid<T>> {
        let nbytes = count.saturating_mul(size_of::<T>());
        self.check_range(offset, nbytes)?;
        if (self.address() + offset) % align_of::<T>() != 0 {
            return Err(Error::Invalid(format!("offset {offset} is not a multiple of {}", align_of::<T>())));
        }
        // SAFETY: offset + nbytes was just checked to lie in the mapping, which starts at `address`.
        let first = unsafe { self.0.address.add(offset) }.cast();
        Ok(Overlaid { _region: self.clone(), first, count, values: PhantomData })
    }
}

/// A region that is not kept mapped.
#[derive(Debug)]
pub(crate) struct WeakRegion(Weak<Mapping>);

impl WeakRegion {
    pub(crate) fn upgrade(&self) -> Option<Region> {
        self.0.upgrade().map(Region)
    }
}

/// What may be laid over shared bytes.
///
/// # Safety
/// `T` is `repr(C)` and holds nothing but atomics, so that any bytes are a valid `T` and another process may change
/// them at any time.
pub(crate) unsafe trait Overlay {}

// SAFETY: an atomic.
unsafe impl Overlay for AtomicU64 {}
// SAFETY: repr(C), two atomics.
unsafe impl Overlay for Bell {}
// SAFETY: repr(C), lines of atomics only.
unsafe impl Overlay for LaneHeader {}
// SAFETY: repr(C), lines of atomics only.
unsafe impl Overlay for RingControl {}

/// Values that lie in a region, and keep it mapped.
#[derive(Debug)]
pub(crate) struct Overlaid<T> {
    _region: Region,
    first: NonNull<T>,
    count: usize,
    values: PhantomData<T>,
}

// SAFETY: it only gives out `&T` to atomics (see `Overlay`), which any thread may use.
unsafe impl<T: Overlay> Send for Overlaid<T> {}
// SAFETY: as above.
unsafe impl<T: Overlay> Sync for Overlaid<T> {}

impl<T: Overlay> std::ops::Deref for Overlaid<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: range and alignment were checked by `Region::overlay`; the region cannot shrink (it is sealed) and
        // `_region` keeps it mapped; any bytes are valid values of an `Overlay`, changed through atomics only.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.count) }
    }
}

/// A range of a region's bytes, which it keeps mapped.
///
/// Other processes may write there at any time, so there is no `&[u8]` to be had: bytes are copied in and out. Nor does
/// anything keep the threads of this process from writing where others read, so it is the caller who knows that copying
/// is no data race.
#[derive(Debug, Clone)]
pub struct Window {
    region: Region,
    offset: usize,
    nbytes: usize,
}

impl Window {
    /// Its size.
    pub fn nbytes(&self) -> usize {
        self.nbytes
    }

    /// Its first byte. Valid for reads and writes of [`Window::nbytes`] bytes as long as a window or region lives.
    #[inline]
    pub fn as_ptr(&self) -> *mut u8 {
        // SAFETY: the offset was checked against the mapping when the window was made.
        unsafe { self.region.0.address.as_ptr().add(self.offset) }
    }

    /// A copy of its bytes.
    ///
    /// # Safety
    /// No other thread of this process writes them meanwhile.
    pub unsafe fn to_vec(&self) -> Vec<u8> {
        // SAFETY: the caller's promise.
        unsafe { self.bytes() }.to_vec()
    }

    /// Copies its first bytes out.
    ///
    /// # Safety
    /// No other thread of this process writes them meanwhile.
    ///
    /// # Panics
    /// If `bytes` is longer than the window.
    pub unsafe fn copy_to(&self, bytes: &mut [u8]) {
        // SAFETY: the caller's promise.
        unsafe { self.bytes() }.copy_to(bytes);
    }

    /// Copies bytes in, from its start.
    ///
    /// # Safety
    /// No other thread of this process reads or writes them meanwhile: through a mailbox or a ring that lies there, say.
    ///
    /// # Panics
    /// If `bytes` is longer than the window.
    pub unsafe fn copy_from(&self, bytes: &[u8]) {
        assert!(bytes.len() <= self.nbytes, "{} bytes into a window of {}", bytes.len(), self.nbytes);
        // SAFETY: both are valid for that many bytes; overlap is allowed.
        unsafe { ptr::copy(bytes.as_ptr(), self.as_ptr(), bytes.len()) }
    }

    /// The same as borrowed bytes.
    ///
    /// # Safety
    /// No other thread of this process writes them as long as they are borrowed.
    #[doc(hidden)]
    pub unsafe fn bytes(&self) -> SharedBytes<'_> {
        SharedBytes { first: self.as_ptr(), nbytes: self.nbytes, region: PhantomData }
    }
}

/// Bytes in the frame of a mailbox, which no other thread of this process writes as long as they are borrowed: the frame's
/// turn is this side's.
#[derive(Debug, Clone, Copy)]
pub struct SharedBytes<'a> {
    first: *mut u8,
    nbytes: usize,
    region: PhantomData<&'a Region>,
}

impl<'a> SharedBytes<'a> {
    /// # Safety
    /// `nbytes` at `first` lie in `_region`.
    pub(crate) unsafe fn new(_region: &'a Region, first: *mut u8, nbytes: usize) -> Self {
        SharedBytes { first, nbytes, region: PhantomData }
    }

    /// # Safety
    /// `nbytes` at `first` stay mapped for 'a.
    pub(crate) unsafe fn within(first: *mut u8, nbytes: usize) -> Self {
        SharedBytes { first, nbytes, region: PhantomData }
    }

    /// How many.
    pub fn nbytes(&self) -> usize {
        self.nbytes
    }

    /// The first of them, valid for as long as the borrow.
    pub fn as_ptr(&self) -> *mut u8 {
        self.first
    }

    /// A copy of them.
    pub fn to_vec(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.nbytes);
        // SAFETY: as in `copy_to`; the capacity was just asked for, and what is copied is initialised then.
        unsafe {
            ptr::copy_nonoverlapping(self.first, bytes.as_mut_ptr(), self.nbytes);
            bytes.set_len(self.nbytes);
        }
        bytes
    }

    /// Copies the first of them out.
    ///
    /// # Panics
    /// If `bytes` is longer.
    pub fn copy_to(&self, bytes: &mut [u8]) {
        assert!(bytes.len() <= self.nbytes, "{} bytes out of {} shared ones", bytes.len(), self.nbytes);
        // SAFETY: they lie in the mapping (`new`), of which only raw pointers are given out. Bytes that a misbehaving
        // peer changes meanwhile are still bytes.
        unsafe { ptr::copy_nonoverlapping(self.first, bytes.as_mut_ptr(), bytes.len()) }
    }
}
