//! Making rings of io_uring, and what may go through them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::io_uring::{IoringRegisterOp, io_uring_register, io_uring_restriction};

/// `struct io_uring_params` (include/uapi/linux/io_uring.h) in words of 32 bits: 10, and 10 for the offsets of each of the
/// two rings.
pub type Parameters = [u32; 30];

/// Makes a ring, close-on-exec; the kernel fills `parameters` in.
///
/// # Errors
/// `EPERM`: io_uring is disabled (`kernel.io_uring_disabled`). `EINVAL`: flags that the kernel does not know, or too many
/// entries. `EMFILE`, `ENOMEM`.
pub fn set_up(entries: u32, parameters: &mut Parameters) -> io::Result<OwnedFd> {
    // SAFETY: io_uring_setup(2) reads and writes 120 bytes, which is the size of the array, exclusively borrowed for the
    // call. Pages of ours are used for the rings themselves only with IORING_SETUP_NO_MMAP and an address in the parameters,
    // which [`crate::agent::ring`] never passes.
    let result = unsafe { libc::syscall(libc::SYS_io_uring_setup, entries, parameters.as_mut_ptr()) };
    match RawFd::try_from(result) {
        // SAFETY: the call has just made this descriptor, and nobody else knows its number.
        Ok(number) if number >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(number) }),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Has a ring that is still disabled carry nothing but what `allowed` lists, for good (Linux 5.10).
///
/// # Errors
/// `EBADFD`: it is not disabled. `EBUSY`: it has such a list already. `EINVAL`: operations that the kernel does not know.
pub fn restrict(ring: BorrowedFd<'_>, allowed: &[io_uring_restriction]) -> io::Result<()> {
    let count = u32::try_from(allowed.len()).map_err(io::Error::other)?;
    // SAFETY: the kernel copies `count` elements of a slice of that length, which is borrowed for the call.
    unsafe { io_uring_register(ring, IoringRegisterOp::RegisterRestrictions, allowed.as_ptr().cast(), count) }?;
    Ok(())
}

/// Lets a ring that was made disabled be used (Linux 5.10).
///
/// # Errors
/// `EBADFD`: it is not disabled.
pub fn enable(ring: &OwnedFd) -> io::Result<()> {
    // SAFETY: this operation takes no argument.
    unsafe { io_uring_register(ring.as_fd(), IoringRegisterOp::RegisterEnableRings, std::ptr::null(), 0) }?;
    Ok(())
}
