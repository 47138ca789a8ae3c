//! How a descriptor that is known by its number alone becomes an owned one, without `unsafe`.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use crate::error::Error;
use crate::socket::{self, SocketMode, socketpair};

/// Duplicates the descriptor `number` of this process. The copy is close-on-exec; `number` itself stays open.
///
/// The number goes through a socket pair as `SCM_RIGHTS` (unix(7)) and comes back as a descriptor of our own. dup(2)
/// would do the same, but takes a number from safe code in no library. Nothing but a copy is made, so a number that
/// belongs to another part of the program does not lose its owner.
///
/// # Errors
/// `EBADF` where `number` is not open, `EMFILE` where no descriptor is free; otherwise as socketpair(2) and
/// sendmsg(2).
pub(crate) fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    let (sender, receiver) = socketpair(SocketMode::NonBlocking)?;
    let numbers = [number];
    let rights = [ControlMessage::ScmRights(&numbers)];
    sendmsg::<()>(sender.as_raw_fd(), &[IoSlice::new(b"\0")], &rights, MsgFlags::MSG_NOSIGNAL, None)?;
    let received = socket::receive(receiver.as_fd(), &mut [0]).map_err(into_io)?;
    // The packet is there; without its descriptor only if this process's table is full (MSG_CTRUNC).
    received.and_then(|packet| packet.descriptor).ok_or_else(|| io::Error::from_raw_os_error(libc::EMFILE))
}

/// The system's error within `error`.
fn into_io(error: Error) -> io::Error {
    match error {
        Error::Receive(source) => source,
        other => io::Error::other(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_is_the_same_file_and_the_number_stays_open() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let copy = duplicate(file.as_raw_fd()).unwrap();
        assert_ne!(copy.as_raw_fd(), file.as_raw_fd());
        let (original, copied) = (rustix::fs::fstat(&file).unwrap(), rustix::fs::fstat(&copy).unwrap());
        assert_eq!((original.st_dev, original.st_ino), (copied.st_dev, copied.st_ino));
        let flags = rustix::io::fcntl_getfd(&copy).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        drop(copy);
        assert!(rustix::fs::fstat(&file).is_ok());
    }

    #[test]
    fn a_number_that_is_not_open_is_an_error() {
        for number in [-1, RawFd::MAX] {
            assert_eq!(duplicate(number).unwrap_err().raw_os_error(), Some(libc::EBADF), "{number}");
        }
    }
}
