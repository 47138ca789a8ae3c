//! The empty folders, files and links of the new root that things are mounted on.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::mounts::{Error, open_place};

/// Folders are seen by everybody in the sandbox; nothing in it is worth hiding.
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o755);

/// The folder `path` beneath `root`, made if it is missing, with all above it.
///
/// # Errors
/// [`Error::MountPoint`]: a part of the path is not a folder, or lies in a read-only tree that lacks it.
pub fn make_directory(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Error> {
    match open_place(root, path) {
        Err(Errno::NOENT) => {
            let (parent, name) = parent_of(root, path)?;
            match rustix::fs::mkdirat(&parent, name, DIRECTORY_MODE) {
                Ok(()) | Err(Errno::EXIST) => open_place(parent.as_fd(), Path::new(name)),
                Err(errno) => Err(errno),
            }
        }
        other => other,
    }
    .map_err(|source| failed(path, source))
}

/// An empty file `path` beneath `root`, made if it is missing, with the folders above it.
///
/// # Errors
/// [`Error::MountPoint`].
pub fn make_file(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Error> {
    match open_place(root, path) {
        Err(Errno::NOENT) => {
            let (parent, name) = parent_of(root, path)?;
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            rustix::fs::openat(&parent, name, flags, Mode::empty())
                .and_then(|_| open_place(parent.as_fd(), Path::new(name)))
        }
        other => other,
    }
    .map_err(|source| failed(path, source))
}

/// A place for a character device at `path` beneath `root`, made if it is missing, with the folders above it. Who lists the
/// folder reads its kind there, not that of what is mounted on it.
///
/// # Errors
/// [`Error::MountPoint`].
pub fn make_character_node(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Error> {
    match open_place(root, path) {
        Err(Errno::NOENT) => {
            let (parent, name) = parent_of(root, path)?;
            // The one device that takes no right to be made (mknod(2), Linux 5.8), for it is none: overlayfs's whiteout.
            rustix::fs::mknodat(&parent, name, FileType::CharacterDevice, Mode::empty(), rustix::fs::makedev(0, 0))
                .and_then(|()| open_place(parent.as_fd(), Path::new(name)))
        }
        other => other,
    }
    .map_err(|source| failed(path, source))
}

/// A file `path` beneath `root` that holds `content`, for everybody to read.
///
/// # Errors
/// [`Error::MountPoint`]: there is such a file already, or the folder lies in a read-only tree.
pub fn make_text(root: BorrowedFd<'_>, path: &Path, content: &[u8]) -> Result<(), Error> {
    let (parent, name) = parent_of(root, path)?;
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o444));
    let file = file.map_err(|source| failed(path, source))?;
    let written = std::fs::File::from(file).write_all(content);
    written.map_err(|source| Error::MountPoint { path: path.to_owned(), source })
}

/// A symbolic link `path` beneath `root`.
///
/// # Errors
/// [`Error::MountPoint`].
pub fn make_link(root: BorrowedFd<'_>, path: &Path, target: &Path) -> Result<(), Error> {
    let (parent, name) = parent_of(root, path)?;
    rustix::fs::symlinkat(target, &parent, name).map_err(|source| failed(path, source))
}

fn parent_of<'a>(root: BorrowedFd<'_>, path: &'a Path) -> Result<(OwnedFd, &'a Path), Error> {
    let name = path.file_name().ok_or_else(|| failed(path, Errno::INVAL))?;
    let parent = make_directory(root, path.parent().unwrap_or(Path::new("/")))?;
    Ok((parent, Path::new(name)))
}

fn failed(path: &Path, source: Errno) -> Error {
    Error::MountPoint { path: path.to_owned(), source: source.into() }
}
