//! Bringing the loopback interface of an empty network namespace up.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sets `IFF_UP` on `lo` in the network namespace that `socket` was made in.
///
/// # Errors
/// `EPERM`: no `CAP_NET_ADMIN` over the namespace. `ENODEV`: it has no loopback interface.
pub fn loopback_up(socket: BorrowedFd<'_>) -> io::Result<()> {
    let mut request = libc::ifreq {
        ifr_name: [0; libc::IFNAMSIZ],
        ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: libc::c_short::try_from(libc::IFF_UP).unwrap_or(1) },
    };
    for (slot, byte) in request.ifr_name.iter_mut().zip(*b"lo") {
        *slot = libc::c_char::from_ne_bytes([byte]);
    }
    // SAFETY: SIOCSIFFLAGS reads one `ifreq` (netdevice(7)); the structure lives across the call, its name is
    // NUL-terminated, and the flags member of the union is the one initialised above.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
