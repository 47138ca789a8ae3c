//! Files that the broker makes for the emulator, as the operator: logs, the pid file, files for guest memory.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use super::pin::Pin;

/// The folder that a file was made or found in, and its name there; what is needed to remove it.
#[derive(Debug)]
pub struct Home {
    /// The folder, as an `O_PATH` descriptor.
    pub folder: OwnedFd,
    /// The file's name in it.
    pub name: OsString,
    /// Whether the file was made for this start.
    pub created: bool,
}

/// Pins the file `path`, which is made, empty, if it is missing; `mode` less the umask are its permissions. What it
/// holds stays.
///
/// # Errors
/// Those of `open(2)` for writing: `EACCES`, `ENOENT` (no such folder), `EISDIR`, `EROFS`.
pub fn make(path: &Path, mode: u32) -> io::Result<(Pin, Home)> {
    let (folder, name) = open_folder(path)?;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
    let existing = rustix::fs::openat(&folder, &name, flags, Mode::empty());
    let (file, created) = match existing {
        Err(rustix::io::Errno::NOENT) => {
            let create = flags | OFlags::CREATE | OFlags::EXCL;
            (rustix::fs::openat(&folder, &name, create, Mode::from_raw_mode(mode))?, true)
        }
        other => (other?, false),
    };
    let pin = super::pin::reopen(file.as_fd(), OFlags::PATH)?;
    Ok((Pin::of(pin)?, Home { folder, name, created }))
}

/// Where the file `path` is, which was there before.
///
/// # Errors
/// Those of `open(2)` for its folder.
pub fn home(path: &Path) -> io::Result<Home> {
    let (folder, name) = open_folder(path)?;
    Ok(Home { folder, name, created: false })
}

/// Pins the folder that `path` lies in, and says which name it has there.
///
/// # Errors
/// As [`home`].
pub fn parent(path: &Path) -> io::Result<(Pin, OsString)> {
    let (folder, name) = open_folder(path)?;
    Ok((Pin::of(folder)?, name))
}

/// Removes the name of `pin`'s file, if it still is that file's.
///
/// # Errors
/// `ENOENT`: another file has the name now, or none. `EACCES`: the folder cannot be written any more.
pub fn remove(home: &Home, pin: &Pin) -> io::Result<()> {
    remove_file(home, pin.identity())
}

/// The same for a file that is not pinned, by device and inode number.
///
/// # Errors
/// As [`remove`].
pub fn remove_file(home: &Home, identity: (u64, u64)) -> io::Result<()> {
    let status = rustix::fs::statat(&home.folder, &home.name, AtFlags::SYMLINK_NOFOLLOW)?;
    if (status.st_dev, status.st_ino) != identity {
        return Err(io::Error::from_raw_os_error(libc::ENOENT));
    }
    Ok(rustix::fs::unlinkat(&home.folder, &home.name, AtFlags::empty())?)
}

fn open_folder(path: &Path) -> io::Result<(OwnedFd, OsString)> {
    let name = path.file_name().ok_or_else(|| io::Error::from_raw_os_error(libc::EISDIR))?;
    let folder = match path.parent() {
        None => Path::new("/"),
        Some(parent) if parent == OsStr::new("") => Path::new("."),
        Some(parent) => parent,
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok((rustix::fs::openat(CWD, folder, flags, Mode::empty())?, name.to_owned()))
}
