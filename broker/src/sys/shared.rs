//! One zeroed value in memory that forked processes share.

use std::io;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};

/// A type for which all-zero bytes are a value, and which may be read and written by several processes at once.
///
/// # Safety
/// Every bit pattern of the type must be valid. What is not atomic may be accessed by one process at a time only, and the
/// type must see to that.
pub unsafe trait Shareable: Sync {}

/// A `T` of all zeroes, shared with every process forked after it was made. It is unmapped at process end.
#[derive(Debug)]
pub struct Shared<T: Shareable + 'static> {
    value: &'static T,
}

impl<T: Shareable> Shared<T> {
    /// Maps a zeroed `T`.
    ///
    /// # Errors
    /// `ENOMEM`: no memory, or a limit on address space.
    pub fn zeroed() -> io::Result<Self> {
        let length = NonZeroUsize::new(size_of::<T>()).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: no address is asked for, so no mapping is replaced; the kernel returns zeroed, page-aligned
        // memory of at least `length` bytes that nothing else in this process refers to.
        let address: NonNull<libc::c_void> = unsafe {
            mmap_anonymous(None, length, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, MapFlags::MAP_SHARED)
        }?;
        // SAFETY: the mapping is aligned to a page, large enough, never unmapped before the process ends, and all
        // zero, which `Shareable` promises to be a value; only shared references to it are ever made.
        let value: &'static T = unsafe { address.cast::<T>().as_ref() };
        Ok(Self { value })
    }
}

impl<T: Shareable> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value
    }
}
