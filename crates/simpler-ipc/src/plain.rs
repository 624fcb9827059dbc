//! Plain data: values that are their bytes, and so may lie in shared memory.

use std::mem::{align_of, size_of, MaybeUninit};
use std::ops::{Deref, DerefMut};

use crate::error::{Error, Result};
use crate::mailbox::{Claim, MailboxClient};
use crate::protocol::frame::Kind;
use crate::region::SharedBytes;

/// A type whose values another process may read and write as bytes.
///
/// # Safety
/// All of these hold of `T`, and of every field of it:
///
/// - **Any bytes are a value.** No `bool`, `char`, enum or `NonZero`: the peer may be wrong, or hostile.
/// - **Every byte belongs to a field.** No padding, between fields or at the end: what is copied out is never uninitialised.
/// - **It means the same elsewhere.** No pointer, reference, `Box`, `Vec`, `String` or function: addresses differ between
///   processes. No `usize`: programs of 32 and 64 bits may share a region. Offsets into a region instead.
/// - **Its layout is fixed**: `#[repr(C)]` or `#[repr(transparent)]`. Both programs are compiled from one definition.
/// - It has no interior mutability, and dropping it does nothing (`Copy` sees to that).
///
/// ```
/// #[repr(C)]
/// #[derive(Clone, Copy)]
/// struct Order {
///     number: u64,
///     price: f64,
///     lots: [u32; 2],
/// }
/// // SAFETY: repr(C), plain fields of 8, 8 and 2 × 4 bytes with no padding.
/// unsafe impl simpler_ipc::Plain for Order {}
/// ```
pub unsafe trait Plain: Copy + Send + Sync + 'static {}

macro_rules! plain {
    ($($of:ty)*) => {
        // SAFETY: a number of fixed size: any bytes are one, and all of them are its own.
        $(unsafe impl Plain for $of {})*
    };
}
plain!(u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 f32 f64);

// SAFETY: elements lie side by side, with nothing between.
unsafe impl<T: Plain, const N: usize> Plain for [T; N] {}

/// The bytes of a value: to send it, or to reply with it.
pub fn bytes_of<T: Plain>(value: &T) -> &[u8] {
    // SAFETY: no byte of a `Plain` is padding.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

#[cold]
pub(crate) fn wrong_size<T: Plain>(nbytes: usize) -> Error {
    let (name, size) = (std::any::type_name::<T>(), size_of::<T>());
    Error::Invalid(format!("a payload of {nbytes} bytes is no {name}, which has {size} bytes"))
}

/// Where a `T` lies, if it may lie there: in that many bytes at that address.
fn place<T: Plain>(first: *mut u8, nbytes: usize, fits: bool) -> Result<*mut T> {
    let name = std::any::type_name::<T>();
    if !fits {
        return Err(wrong_size::<T>(nbytes));
    }
    if first.addr() % align_of::<T>() != 0 {
        return Err(Error::Invalid(format!(
            "a {name} is aligned to {} bytes, the payload of a frame to 16: give it a smaller alignment, or read() a copy",
            align_of::<T>()
        )));
    }
    Ok(first.cast())
}

impl<'a> SharedBytes<'a> {
    /// The payload as a value, in place.
    ///
    /// No thread of this process writes there meanwhile, and a peer that keeps to the protocol does not either. To write there
    /// all the same (a peer that does not keep to it; this process through the region's file descriptor) is what to write to
    /// another program's memory is: the compiler counts on it not to happen. Between processes that do not trust each other
    /// use [`SharedBytes::read`], and check the copy.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the payload has not the size of a `T`, naming both, or a `T` is aligned to more than 16 bytes.
    pub fn get<T: Plain>(&self) -> Result<&'a T> {
        let first = place::<T>(self.as_ptr(), self.nbytes(), self.nbytes() == size_of::<T>())?;
        // SAFETY: size and alignment were checked, the bytes stay mapped for 'a, and any bytes are a `T`. That nobody
        // writes meanwhile is what the frame's turn is for.
        Ok(unsafe { &*first })
    }

    /// A copy of the payload as a value.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the payload has not the size of a `T`, naming both.
    pub fn read<T: Plain>(&self) -> Result<T> {
        if self.nbytes() != size_of::<T>() {
            return Err(wrong_size::<T>(self.nbytes()));
        }
        // SAFETY: there are as many bytes as a `T` has, and any bytes are one.
        Ok(unsafe { self.as_ptr().cast::<T>().read_unaligned() })
    }
}

/// A claimed frame with a place for a `T` in it, not written yet. See [`MailboxClient::request`].
///
/// # Panics
/// Where a forked child writes to what it inherits: the frame is its parent's.
#[derive(Debug)]
#[must_use = "the server waits for it until it is posted or dropped"]
pub struct TypedClaim<T: Plain> {
    claim: Claim,
    place: *mut T,
}

// SAFETY: the place is the claim's, which may go to another thread, and a `T` may.
unsafe impl<T: Plain> Send for TypedClaim<T> {}
// SAFETY: a shared one gives out `&MaybeUninit<T>` only, and a `T` may be looked at by several threads.
unsafe impl<T: Plain> Sync for TypedClaim<T> {}

impl<T: Plain> TypedClaim<T> {
    pub(crate) fn new(mut claim: Claim) -> Result<Self> {
        let (first, nbytes) = (claim.as_mut_ptr(), claim.frame_bytes());
        let place = place::<T>(first, nbytes, size_of::<T>() <= nbytes)?;
        Ok(TypedClaim { claim, place })
    }

    pub(crate) fn into_claim(self) -> Claim {
        self.claim
    }
}

impl<T: Plain> Deref for TypedClaim<T> {
    type Target = MaybeUninit<T>;

    fn deref(&self) -> &MaybeUninit<T> {
        // SAFETY: size and alignment were checked; the frame is the claim's as long as it lives.
        unsafe { &*self.place.cast() }
    }
}

impl<T: Plain> DerefMut for TypedClaim<T> {
    fn deref_mut(&mut self) -> &mut MaybeUninit<T> {
        if let Err(error) = self.claim.check_here() {
            panic!("{error}");
        }
        // SAFETY: as above.
        unsafe { &mut *self.place.cast() }
    }
}

impl MailboxClient {
    /// A free frame with a place for a `T` in it; `None` when every frame is in flight. Write it (it is a
    /// [`MaybeUninit`]), then [`MailboxClient::post`].
    ///
    /// # Errors
    /// [`Error::Invalid`] if a `T` does not fit into a frame, naming both sizes, or is aligned to more than 16 bytes;
    /// [`Error::Corrupted`].
    pub fn request<T: Plain>(&mut self) -> Result<Option<TypedClaim<T>>> {
        self.claim()?.map(TypedClaim::new).transpose()
    }

    /// Writes a value into its frame and hands that to the server: the ticket.
    ///
    /// # Errors
    /// As [`MailboxClient::submit`].
    pub fn post<T: Plain>(&mut self, mut request: TypedClaim<T>, kind: Kind, value: T) -> Result<u64> {
        request.claim.check_here()?;
        request.write(value);
        self.submit(request.into_claim(), kind, size_of::<T>())
    }

    /// As [`MailboxClient::post`], of a value that was written in place, field by field.
    ///
    /// # Safety
    /// All of it was written.
    ///
    /// # Errors
    /// As [`MailboxClient::submit`].
    pub unsafe fn post_written<T: Plain>(&mut self, request: TypedClaim<T>, kind: Kind) -> Result<u64> {
        self.submit(request.into_claim(), kind, size_of::<T>())
    }
}
