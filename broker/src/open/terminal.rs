//! Pseudo-terminals: what new ones are made of.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::pty::OpenptFlags;

use super::pin::{Pin, check_access};

/// What a program opens for a new pseudo-terminal (pts(4)).
pub const MULTIPLEXER: &[u8] = b"/dev/ptmx";

/// Where the kernel makes the nodes of pseudo-terminals.
const NODES: &str = "/dev/pts";

/// The host's multiplexer, and the folder in which the nodes appear.
#[derive(Debug)]
pub struct Multiplexer {
    /// `/dev/ptmx`.
    pub device: Pin,
    nodes: Pin,
}

impl Multiplexer {
    /// Pins both.
    ///
    /// # Errors
    /// `ENOENT`: the host has none. `EACCES`: this process may not make terminals.
    pub fn take() -> io::Result<Self> {
        use std::os::unix::ffi::OsStrExt;
        let device = Pin::take(Path::new(std::ffi::OsStr::from_bytes(MULTIPLEXER)))?;
        check_access(device.as_fd(), true)?;
        Ok(Self { device, nodes: Pin::take(Path::new(NODES))? })
    }

    /// Both, as descriptors.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [&self.device, &self.nodes].into_iter().map(AsFd::as_fd)
    }
}

/// Name and inode of the terminal whose other side is `master`. It is not opened, so nothing happens at either side; and
/// it is asked for by that descriptor, not by its name. No other terminal ever has the same inode, not even one that gets
/// the same name later.
///
/// # Errors
/// `ENOENT`: no `devpts` beside the multiplexer. `ENOTTY`: `master` is no pseudo-terminal.
pub fn node_of(master: BorrowedFd<'_>) -> io::Result<(Vec<u8>, Pin)> {
    // TIOCGPTPEER (ioctl_tty(2), Linux 4.13) opens with the flags of open(2).
    let flags = OpenptFlags::from_bits_retain((OFlags::PATH | OFlags::CLOEXEC).bits());
    let node: OwnedFd = rustix::pty::ioctl_tiocgptpeer(master, flags)?;
    let name = rustix::pty::ptsname(master, Vec::new())?.into_bytes();
    Ok((name, Pin::of(node)?))
}

/// Whether the terminal of this node is gone: the kernel removes the node when the other side is closed for the last time.
#[must_use]
pub fn is_gone(node: &Pin) -> bool {
    rustix::fs::fstat(node).is_ok_and(|status| status.st_nlink == 0)
}
