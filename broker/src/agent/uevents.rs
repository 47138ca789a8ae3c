//! What libusb does to hear of devices that come and go, for an emulator that is given one and is to see no other.
//!
//! libudev makes a socket of netlink, puts a packet filter on it and binds it (`device_monitor_new_full` and
//! `sd_device_monitor_start` in systemd's `device-monitor.c`), and libusb does not start without. Both are wide doors into
//! the kernel, for nothing: the sandbox's network hears of no device of the host. So the emulator gets a UNIX socket on
//! which nothing ever comes, and is told that what it does to it has worked.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::address::Purpose;
use super::call::SocketCall;
use super::judge::{Verdict, report};
use super::socket::{Step, copy, errno};
use super::{Agent, Notification, Waiting, thread_of};

/// The answer to who asks for a socket of netlink.
pub(super) fn give(close_on_exec: bool) -> Verdict {
    match deaf() {
        Ok(socket) => Verdict::Give(socket, close_on_exec),
        Err(errno) => Verdict::Refuse(errno),
    }
}

/// A socket on which nothing ever comes. It never blocks who reads it.
fn deaf() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // Its peer is gone, and it has no name by which another one could reach it.
    let pair = rustix::net::socketpair(AddressFamily::UNIX, SocketType::DGRAM, flags, None);
    pair.map(|(socket, _)| socket).map_err(errno)
}

impl Agent<'_> {
    /// What is done about a packet filter for a socket of the emulator.
    pub(super) fn attach_filter(&mut self, notification: &Notification, socket: u32, waiting: Waiting) -> Verdict {
        match self.is_deaf(notification, socket) {
            Ok(true) => Verdict::Done,
            Ok(false) => report(notification, waiting),
            Err(errno) => Verdict::Refuse(errno),
        }
    }

    /// What is done about a call to bind or connect a socket of the emulator to an address of netlink.
    ///
    /// # Errors
    /// `EAFNOSUPPORT`: it is none to bind that [`give`] made. As [`copy`] and `getsockopt(2)`.
    pub(super) fn name_on_netlink(&mut self, notification: &Notification, call: &SocketCall) -> Result<Step, Errno> {
        if call.purpose == Purpose::Bind && self.is_deaf(notification, call.socket)? {
            return Ok(Step::Done);
        }
        Err(Errno::EAFNOSUPPORT)
    }

    /// Whether a socket of the emulator is of the kind that [`give`] makes: to these such an address, and a packet filter,
    /// mean nothing.
    fn is_deaf(&mut self, notification: &Notification, socket: u32) -> Result<bool, Errno> {
        let process = self.leaders.process_of(thread_of(notification)?)?;
        let socket = copy(process.as_fd(), i32::try_from(socket).map_err(|_| Errno::EBADF)?)?;
        let is_unix = sockopt::socket_domain(&socket).map_err(errno)? == AddressFamily::UNIX;
        Ok(is_unix && sockopt::socket_type(&socket).map_err(errno)? == SocketType::DGRAM)
    }
}

#[cfg(test)]
mod tests {
    use std::mem::MaybeUninit;

    use rustix::net::RecvFlags;

    use super::*;

    #[test]
    fn nothing_comes_on_a_deaf_socket_and_nobody_waits_for_it() {
        let socket = deaf().unwrap();
        let mut space = [MaybeUninit::<u8>::uninit(); 1];
        let heard = rustix::net::recv(&socket, &mut space[..], RecvFlags::PEEK | RecvFlags::TRUNC);
        assert_eq!(heard.map(|(_, length)| length), Err(rustix::io::Errno::AGAIN));
        assert!(rustix::net::send(&socket, b"x", rustix::net::SendFlags::NOSIGNAL).is_err());
    }
}
