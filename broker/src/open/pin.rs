//! A pin: the broker's hold on an inode, taken once, at start. Every later open goes through it.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};

/// An `O_PATH` descriptor on an inode, and what was known of it when it was taken.
#[derive(Debug)]
pub struct Pin {
    descriptor: OwnedFd,
    path: PathBuf,
    status: Stat,
}

impl Pin {
    /// Pins what `path` leads to now, symbolic links included.
    ///
    /// # Errors
    /// Those of `open(2)` with `O_PATH`: `ENOENT`, `EACCES` on the way, `ELOOP`. The file itself is not opened.
    pub fn take(path: &Path) -> io::Result<Self> {
        let descriptor = rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        Self::of(descriptor)
    }

    /// Makes a pin of an `O_PATH` descriptor.
    ///
    /// # Errors
    /// `ENOENT`: no `/proc`, which every reopening needs.
    pub fn of(descriptor: OwnedFd) -> io::Result<Self> {
        let status = rustix::fs::fstat(&descriptor)?;
        let path = real_path(descriptor.as_fd())?;
        Ok(Self { descriptor, path, status })
    }

    /// Where the inode was when it was pinned, with every link resolved; for messages and for checks against
    /// roots, never for opening.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What kind of inode it is.
    #[must_use]
    pub fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.status.st_mode)
    }

    /// Major and minor number of the device that a block device node stands for.
    #[must_use]
    pub fn block_device(&self) -> Option<(u32, u32)> {
        let device = self.status.st_rdev;
        let numbers = (rustix::fs::major(device), rustix::fs::minor(device));
        (self.file_type() == FileType::BlockDevice).then_some(numbers)
    }

    /// Device and inode number, which tell whether two pins hold the same file.
    #[must_use]
    pub fn identity(&self) -> (u64, u64) {
        (self.status.st_dev, self.status.st_ino)
    }

    /// Opens the pinned inode anew, with a file description of its own.
    ///
    /// # Errors
    /// Those of `open(2)`, with the credentials of this moment: `EACCES`, `EROFS`, `ESTALE` (removed on an NFS
    /// server) ...
    pub fn reopen(&self, flags: OFlags) -> io::Result<OwnedFd> {
        reopen(self.descriptor.as_fd(), flags)
    }
}

impl AsFd for Pin {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// Opens the inode behind `descriptor` anew, through `/proc/self/fd`.
///
/// # Errors
/// Those of `open(2)`.
pub fn reopen(descriptor: BorrowedFd<'_>, flags: OFlags) -> io::Result<OwnedFd> {
    let link = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
    Ok(rustix::fs::openat(CWD, link, flags | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty())?)
}

/// The path that the kernel knows for `descriptor`.
///
/// # Errors
/// `ENOENT`: `/proc` is not mounted.
pub fn real_path(descriptor: BorrowedFd<'_>) -> io::Result<PathBuf> {
    let link = format!("/proc/self/fd/{}", descriptor.as_raw_fd());
    let target = rustix::fs::readlinkat(CWD, link, Vec::new())?;
    Ok(PathBuf::from(OsStr::from_bytes(target.as_bytes())))
}

/// Whether the process may open `pin` for reading, or for writing too, with its effective credentials.
///
/// # Errors
/// `EACCES` or `EROFS`: it may not. `ENOSYS`: Linux before 5.8.
pub fn check_access(pin: BorrowedFd<'_>, write: bool) -> io::Result<()> {
    let mut access = rustix::fs::Access::READ_OK;
    if write {
        access |= rustix::fs::Access::WRITE_OK;
    }
    let link = format!("/proc/self/fd/{}", pin.as_raw_fd());
    Ok(rustix::fs::accessat(CWD, link, access, AtFlags::EACCESS)?)
}
