//! The path of a UNIX socket: its folder is pinned when the guest is started, and what is removed there is only ever a
//! socket of this guest, or one that it found.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// The path of a UNIX socket.
#[derive(Debug)]
pub struct SocketPath {
    /// As the command line spells it.
    pub name: Vec<u8>,
    /// The same as an absolute path, by its letters.
    pub absolute: Vec<u8>,
    /// Where it is; or what the kernel said of its folder at the start.
    pub home: Result<SocketHome, rustix::io::Errno>,
}

/// The folder of a UNIX socket, and its name there.
#[derive(Debug)]
pub struct SocketHome {
    /// The folder, as an `O_PATH` descriptor.
    folder: OwnedFd,
    name: OsString,
    /// The socket that was there at the start.
    found: Option<OwnedFd>,
    /// The socket that was bound for the emulator. Held, so that no other file gets its inode number.
    bound: Mutex<Option<OwnedFd>>,
}

/// Why a socket's path is not removed.
#[derive(Debug)]
pub enum NotRemoved {
    /// The kernel refused.
    Errno(rustix::io::Errno),
    /// It is no socket.
    NoSocket,
    /// It is a socket, but neither this guest's nor the one that was there when it was started.
    Strange,
}

impl From<rustix::io::Errno> for NotRemoved {
    fn from(errno: rustix::io::Errno) -> Self {
        Self::Errno(errno)
    }
}

impl SocketHome {
    /// Pins `folder`'s socket `name`, as far as there is one.
    #[must_use]
    pub fn new(folder: OwnedFd, name: OsString) -> Self {
        let mut home = Self { folder, name, found: None, bound: Mutex::default() };
        home.found = home.open().ok().filter(is_socket);
        home
    }

    /// What it holds for the life of the guest.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        std::iter::once(self.folder.as_fd()).chain(self.found.as_ref().map(AsFd::as_fd))
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> BorrowedFd<'_> {
        self.folder.as_fd()
    }

    /// Whatever has the name now, as an `O_PATH` descriptor. A link is not followed.
    ///
    /// # Errors
    /// `openat(2)`'s: `ENOENT`, `EACCES`.
    pub fn open(&self) -> rustix::io::Result<OwnedFd> {
        rustix::fs::openat(&self.folder, &self.name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
    }

    /// Notes that a socket was bound here.
    ///
    /// # Errors
    /// `ENOENT`: it was removed meanwhile, or another folder has this one's path.
    pub fn note_bound(&self) -> rustix::io::Result<()> {
        let socket = self.open()?;
        if !is_socket(&socket) {
            return Err(rustix::io::Errno::NOENT);
        }
        *self.bound() = Some(socket);
        Ok(())
    }

    /// Removes the name, if it is that of the socket that was found or bound.
    ///
    /// # Errors
    /// [`NotRemoved`]; `ENOENT`: there is nothing.
    pub fn remove(&self) -> Result<(), NotRemoved> {
        let there = self.open()?;
        if !is_socket(&there) {
            return Err(NotRemoved::NoSocket);
        }
        let mut bound = self.bound();
        if !bound.iter().chain(&self.found).any(|ours| is_same(ours, &there)) {
            return Err(NotRemoved::Strange);
        }
        rustix::fs::unlinkat(&self.folder, &self.name, AtFlags::empty())?;
        *bound = None;
        Ok(())
    }

    /// Removes the name, if it is that of the socket that was bound here, and nobody has that socket any more. Returned is
    /// whether it was.
    ///
    /// # Errors
    /// `openat(2)`'s, `unlinkat(2)`'s and `socket(2)`'s.
    pub fn remove_dead(&self) -> rustix::io::Result<bool> {
        let there = self.open()?;
        let mut bound = self.bound();
        if !bound.as_ref().is_some_and(|ours| is_same(ours, &there)) || !is_dead(&there)? {
            return Ok(false);
        }
        rustix::fs::unlinkat(&self.folder, &self.name, AtFlags::empty())?;
        *bound = None;
        Ok(true)
    }

    /// Removes the name at the end of the guest, if it is still that of the socket that was bound for it.
    pub fn remove_bound(&self) {
        let bound = self.bound().take();
        if let (Some(bound), Ok(there)) = (bound, self.open())
            && is_same(&bound, &there)
        {
            // Nobody is left to be told.
            let _ = rustix::fs::unlinkat(&self.folder, &self.name, AtFlags::empty());
        }
    }

    fn bound(&self) -> MutexGuard<'_, Option<OwnedFd>> {
        // No code that holds the lock can panic half-way through a change.
        self.bound.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a descriptor is of a socket's name.
#[must_use]
pub fn is_socket(descriptor: &OwnedFd) -> bool {
    rustix::fs::fstat(descriptor).is_ok_and(|status| FileType::from_raw_mode(status.st_mode) == FileType::Socket)
}

/// Whether no process has the socket of this name any more. The kernel says `EPROTOTYPE` to a socket of another kind while
/// there is one, listening or not (`unix_find_bsd` of Linux's `net/unix/af_unix.c`).
fn is_dead(name: &OwnedFd) -> rustix::io::Result<bool> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let other_kind = rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
    let link = format!("/proc/self/fd/{}", name.as_raw_fd());
    let found = rustix::net::connect(&other_kind, &SocketAddrUnix::new(link)?);
    Ok(found == Err(rustix::io::Errno::CONNREFUSED))
}

fn is_same(one: &OwnedFd, other: &OwnedFd) -> bool {
    let identity = |descriptor| -> io::Result<(u64, u64)> {
        let status = rustix::fs::fstat(descriptor)?;
        Ok((status.st_dev, status.st_ino))
    };
    matches!((identity(one), identity(other)), (Ok(one), Ok(other)) if one == other)
}
