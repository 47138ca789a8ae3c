//! The ioctls of taps and macvtaps, which no crate of the workspace wraps (Documentation/networking/tuntap.rst, include/uapi/
//! linux/if_tun.h).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Attaches the open `/dev/net/tun` `descriptor` to the interface `name` as a queue of it, and makes the interface where
/// there is none; on a macvtap the name counts for nothing, and only the flags are set. `flags` are `IFF_*` of if_tun.h.
/// Returns the interface's name, which the kernel finds for a pattern with `%d`.
///
/// # Errors
/// `EPERM`: it is another user's, or making it takes `CAP_NET_ADMIN`. `EBUSY`: somebody else has its only queue.
/// `EINVAL`: it is no tap, has another `IFF_MULTI_QUEUE`, or the name is none.
pub fn set_interface(descriptor: BorrowedFd<'_>, name: &str, flags: u16) -> io::Result<String> {
    let mut request = request(name, flags);
    // SAFETY: TUNSETIFF reads one `ifreq` and writes the name back into it; the structure lives across the call, its name
    // is NUL-terminated (`request` leaves the last byte zero), and the flags member of the union is initialised.
    let result = unsafe { libc::ioctl(descriptor.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    if result == 0 { Ok(name_of(&request)) } else { Err(io::Error::last_os_error()) }
}

/// Lets nobody but `user` attach to the tap that `descriptor` is a queue of, unless with `CAP_NET_ADMIN`.
///
/// # Errors
/// `EINVAL`: this user namespace has no such user. `EBADFD`: of none yet.
pub fn set_owner(descriptor: BorrowedFd<'_>, user: u32) -> io::Result<()> {
    // SAFETY: TUNSETOWNER takes a number, and no pointer.
    let result = unsafe { libc::ioctl(descriptor.as_raw_fd(), libc::TUNSETOWNER, libc::c_ulong::from(user)) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The name of the interface that `descriptor`, of a tap or macvtap, is a queue of, and the queue's flags.
///
/// # Errors
/// `EBADFD`: of none yet. `ENOLINK`: the macvtap is gone. `ENOTTY` or `EINVAL`: it is something else.
pub fn interface(descriptor: BorrowedFd<'_>) -> io::Result<(String, u16)> {
    let mut request = request("", 0);
    // SAFETY: TUNGETIFF writes one `ifreq`, which lives across the call: the name, NUL-terminated, and the flags.
    let result = unsafe { libc::ioctl(descriptor.as_raw_fd(), libc::TUNGETIFF, &raw mut request) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: every bit pattern is a number, and the union was initialised as a whole by `request`, then by the kernel.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    Ok((name_of(&request), flags.cast_unsigned()))
}

/// The flags that the kernel knows for [`set_interface`].
///
/// # Errors
/// `ENOTTY`: `descriptor` is neither `/dev/net/tun` nor a macvtap.
pub fn features(descriptor: BorrowedFd<'_>) -> io::Result<u32> {
    let mut features: libc::c_uint = 0;
    // SAFETY: TUNGETFEATURES writes one unsigned int, which lives across the call.
    let result = unsafe { libc::ioctl(descriptor.as_raw_fd(), libc::TUNGETFEATURES, &raw mut features) };
    if result == 0 { Ok(features) } else { Err(io::Error::last_os_error()) }
}

/// A request about `name`, of which as much is taken as fits before a final NUL.
fn request(name: &str, flags: u16) -> libc::ifreq {
    // SAFETY: `ifreq` is plain numbers, and pointers that may be null: all zero is a valid value of each union member.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *slot = libc::c_char::from_ne_bytes([byte]);
    }
    request.ifr_ifru.ifru_flags = flags.cast_signed();
    request
}

fn name_of(request: &libc::ifreq) -> String {
    let bytes = request.ifr_name.iter().map(|byte| byte.to_ne_bytes()[0]).take_while(|byte| *byte != 0);
    String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned()
}
