//! Which Landlock ABI the kernel offers; the landlock crate keeps that to itself.

use std::io;

/// `LANDLOCK_CREATE_RULESET_VERSION`, include/uapi/linux/landlock.h.
const CREATE_RULESET_VERSION: libc::c_uint = 1;

/// The Landlock ABI version of the running kernel.
///
/// # Errors
/// `ENOSYS`: not built into the kernel. `EOPNOTSUPP`: built in, but not among the `lsm=` of the boot line.
pub fn abi_version() -> io::Result<i32> {
    // SAFETY: with a null attribute pointer, size 0 and the version flag, the kernel reads no memory of
    // ours and makes no descriptor; it only returns a number (landlock_create_ruleset(2)).
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0_usize,
            CREATE_RULESET_VERSION,
        )
    };
    match i32::try_from(version) {
        Ok(version) if version >= 0 => Ok(version),
        _ => Err(io::Error::last_os_error()),
    }
}
