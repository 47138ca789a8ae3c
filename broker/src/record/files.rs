//! Files of the folder of the records: read no further than they may be long, and written whole or not at all.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

/// An unfinished file this old has no writer any more: writing one is a matter of milliseconds.
const ABANDONED: Duration = Duration::from_secs(3600);

/// Makes a new file, which only its owner may read.
///
/// # Errors
/// Those of `open(2)`.
pub fn create(folder: BorrowedFd<'_>, name: &str) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(folder, name, flags, Mode::RUSR | Mode::WUSR)
}

/// How the name of a file ends that is being written.
pub const TEMPORARY: &str = ".new";

/// A name that no other file has.
///
/// # Errors
/// Those of `getrandom(2)`.
pub fn temporary_name() -> rustix::io::Result<String> {
    let mut bytes = [0; 8];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(format!("{:016x}{TEMPORARY}", u64::from_ne_bytes(bytes)))
}

/// Writes a file so that at any moment the whole of the old one, or of the new one, is there.
///
/// # Errors
/// Those of `open(2)`, `write(2)`, `fsync(2)` and `rename(2)`.
pub fn replace(folder: BorrowedFd<'_>, name: &str, bytes: &[u8]) -> Result<(), Errno> {
    let temporary = temporary_name()?;
    let file = create(folder, &temporary)?;
    finish(folder, &temporary, file.as_fd(), name, bytes)
}

/// Waits until the names of what was written are as safe as the files themselves.
///
/// # Errors
/// Those of `fsync(2)`.
pub fn settle(folder: BorrowedFd<'_>) -> Result<(), Errno> {
    match rustix::fs::fsync(folder) {
        // There are file systems that know no fsync of folders.
        Err(Errno::INVAL) => Ok(()),
        done => done,
    }
}

/// Writes `bytes` to the new file `temporary`, and gives it its name; if that fails, the file is removed.
///
/// # Errors
/// Those of `write(2)`, `fsync(2)` and `rename(2)`.
pub fn finish(
    folder: BorrowedFd<'_>,
    temporary: &str,
    file: BorrowedFd<'_>,
    name: &str,
    bytes: &[u8],
) -> Result<(), Errno> {
    let written = write_whole(file, bytes)
        .and_then(|()| rustix::fs::fsync(file))
        .and_then(|()| rustix::fs::renameat(folder, temporary, folder, name));
    if written.is_err() {
        // The first failure is the one to tell of.
        let _ = rustix::fs::unlinkat(folder, temporary, AtFlags::empty());
    }
    written
}

fn write_whole(file: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads at most `limit` bytes and a buffer more, so that who asks sees that a file is too long.
///
/// # Errors
/// Those of `open(2)` and `read(2)`; `EINVAL`: it is no regular file.
pub fn read(folder: BorrowedFd<'_>, name: &str, limit: usize) -> Result<Vec<u8>, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(folder, name, flags, Mode::empty())?;
    if FileType::from_raw_mode(rustix::fs::fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    let mut bytes = Vec::new();
    let mut buffer = [0; 8192];
    while bytes.len() <= limit {
        match rustix::io::read(&file, &mut buffer) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(buffer.get(..count).unwrap_or_default()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(bytes)
}

/// Whether the writer of an unfinished file must be dead.
#[must_use]
pub fn is_abandoned(folder: BorrowedFd<'_>, name: &str) -> bool {
    let Ok(status) = rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) else { return false };
    let Ok(seconds) = u64::try_from(status.st_mtime) else { return true };
    let written = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    written.elapsed().is_ok_and(|age| age > ABANDONED)
}
