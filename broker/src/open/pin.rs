//! A pin: the broker's hold on an inode, taken once, at start. Every later open goes through it.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};

/// An `O_PATH` descriptor on an inode, and what was known of it when it was taken.
#[derive(Debug)]
pub struct Pin {
    descriptor: OwnedFd,
    path: PathBuf,
    status: Stat,
    origin: Option<Origin>,
    shown: bool,
}

/// The descriptor that a pin was taken of, where no path was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// Its number in the caller.
    pub number: RawFd,
    /// Whether it was open for writing too.
    pub writable: bool,
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
        Ok(Self { descriptor, path, status, origin: None, shown: true })
    }

    /// Pins what an inherited descriptor has open.
    ///
    /// # Errors
    /// `EBADF`: it is not open. `ENOENT`: no `/proc`.
    pub fn of_inherited(origin: Origin) -> io::Result<Self> {
        let link = format!("/proc/self/fd/{}", origin.number);
        let pin = Self::of(rustix::fs::openat(CWD, link, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)?;
        // A file that was removed, or that has never had a name (memfd_create(2)), cannot be shown at any path.
        let shown = Self::take(pin.path()).is_ok_and(|found| found.identity() == pin.identity());
        Ok(Self { origin: Some(origin), shown, ..pin })
    }

    /// The same hold once more.
    ///
    /// # Errors
    /// `EMFILE`: no descriptor is left.
    pub fn duplicate(&self) -> io::Result<Self> {
        let Self { path, status, origin, shown, .. } = self;
        let descriptor = self.descriptor.try_clone()?;
        Ok(Self { descriptor, path: path.clone(), status: *status, origin: *origin, shown: *shown })
    }

    /// The descriptor that it was taken of, where no path was given.
    #[must_use]
    pub fn origin(&self) -> Option<Origin> {
        self.origin
    }

    /// Whether the file can be shown in a mount of its own: a path leads to it.
    #[must_use]
    pub fn is_shown(&self) -> bool {
        self.shown
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

    /// The same of a character device node.
    #[must_use]
    pub fn character_device(&self) -> Option<(u32, u32)> {
        let device = self.status.st_rdev;
        let numbers = (rustix::fs::major(device), rustix::fs::minor(device));
        (self.file_type() == FileType::CharacterDevice).then_some(numbers)
    }

    /// Whether it is a device node that had a name when it was pinned, and has none any more.
    ///
    /// # Errors
    /// `fstat(2)`'s.
    pub fn is_removed_node(&self) -> io::Result<bool> {
        if !matches!(self.file_type(), FileType::BlockDevice | FileType::CharacterDevice) || self.status.st_nlink == 0 {
            return Ok(false);
        }
        Ok(rustix::fs::fstat(&self.descriptor)?.st_nlink == 0)
    }

    /// User and group id of its owner.
    #[must_use]
    pub fn owner(&self) -> (u32, u32) {
        (self.status.st_uid, self.status.st_gid)
    }

    /// Major and minor number of the file system that it is on.
    #[must_use]
    pub fn device(&self) -> (u32, u32) {
        (rustix::fs::major(self.status.st_dev), rustix::fs::minor(self.status.st_dev))
    }

    /// Device and inode number, which tell whether two pins hold the same file.
    #[must_use]
    pub fn identity(&self) -> (u64, u64) {
        (self.status.st_dev, self.status.st_ino)
    }

    /// Whether it is a file that has never had a name (`memfd_create(2)`), on no file system that is mounted.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        !self.shown && self.path.as_os_str().as_bytes().starts_with(b"/memfd:")
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
