//! `mount_setattr(2)`, which nix and rustix lack.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// `MOUNT_ATTR_RDONLY`, include/uapi/linux/mount.h.
pub const READ_ONLY: u64 = libc::MOUNT_ATTR_RDONLY;
/// `MOUNT_ATTR_NOSUID`, include/uapi/linux/mount.h.
pub const NO_SUID: u64 = libc::MOUNT_ATTR_NOSUID;
/// `MOUNT_ATTR_NODEV`, include/uapi/linux/mount.h.
pub const NO_DEV: u64 = libc::MOUNT_ATTR_NODEV;
/// `MOUNT_ATTR_NOEXEC`, include/uapi/linux/mount.h.
pub const NO_EXEC: u64 = libc::MOUNT_ATTR_NOEXEC;

/// Sets mount attributes on the mount that `mount` refers to; on all below it too, if `recursive`.
///
/// # Errors
/// `EPERM`: no `CAP_SYS_ADMIN` over the mount's user namespace. `EINVAL`: not a mount root.
/// `ENOSYS`: Linux before 5.12.
pub fn set_attributes(mount: BorrowedFd<'_>, set: u64, recursive: bool) -> io::Result<()> {
    let attributes = libc::mount_attr { attr_set: set, attr_clr: 0, propagation: libc::MS_PRIVATE, userns_fd: 0 };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a static empty C string, the attribute structure lives across the call and its
    // size is passed with it; the kernel only reads both and takes no ownership of the descriptor.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
