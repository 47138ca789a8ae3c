//! `fchmodat2(2)`, which nix and rustix lack.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Changes the permission bits of what `descriptor` stands for, which may be an `O_PATH` descriptor.
///
/// # Errors
/// `EPERM`: another user owns it. `EROFS`: its mount is read-only. `ENOSYS`: Linux before 6.6.
pub fn change_mode(descriptor: BorrowedFd<'_>, mode: u32) -> io::Result<()> {
    // SAFETY: the path is a static empty C string, which the kernel only reads; it takes no ownership of the descriptor.
    let result =
        unsafe { libc::syscall(libc::SYS_fchmodat2, descriptor.as_raw_fd(), c"".as_ptr(), mode, libc::AT_EMPTY_PATH) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::fs::{CWD, Mode, OFlags};

    use super::*;

    #[test]
    fn a_descriptor_that_opens_nothing_is_enough() {
        let file = rustix::fs::openat(CWD, ".", OFlags::TMPFILE | OFlags::RDWR, Mode::from_raw_mode(0o600)).unwrap();
        let name = format!("/proc/self/fd/{}", file.as_raw_fd());
        let pin = rustix::fs::open(name, OFlags::PATH, Mode::empty()).unwrap();
        let changed = change_mode(pin.as_fd(), 0o640).map_err(|error| error.raw_os_error());
        let mode = rustix::fs::fstat(&file).unwrap().st_mode & 0o7777;
        match changed {
            Ok(()) => assert_eq!(mode, 0o640),
            Err(errno) => assert_eq!((errno, mode), (Some(libc::ENOSYS), 0o600), "Linux before 6.6"),
        }
    }
}
