//! Folders on disk that belong to one guest: made at its start, removed with all they hold at its end.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Uid};

use super::pin::Pin;

/// Attempts to find a name that nobody has; with 64 random bits the second is never needed.
const ATTEMPTS: usize = 8;

/// A folder of one guest, and the folder it lies in.
#[derive(Debug)]
pub struct PrivateFolder {
    /// The folder itself.
    pub pin: Arc<Pin>,
    /// The folder around it, as an `O_PATH` descriptor.
    pub parent: OwnedFd,
    name: OsString,
}

impl PrivateFolder {
    /// Makes a folder with an unguessable name in `parent`, mode 0700, for `uid` and `gid`.
    ///
    /// # Errors
    /// Those of `mkdir(2)` and `chown(2)`.
    pub fn make(parent: &Path, uid: u32, gid: u32) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = rustix::fs::openat(CWD, parent, flags, Mode::empty())?;
        let name = make_unique(parent.as_fd())?;
        let folder = rustix::fs::openat(&parent, &name, flags | OFlags::NOFOLLOW, Mode::empty())?;
        if rustix::process::geteuid().as_raw() != uid || rustix::process::getegid().as_raw() != gid {
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            rustix::fs::chownat(&folder, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
        }
        Ok(Self { pin: Arc::new(Pin::of(folder)?), parent, name })
    }

    /// Removes the folder and all that is in it. Nothing outside is touched: links are removed, not followed.
    ///
    /// # Errors
    /// Those of `unlink(2)` and `rmdir(2)`.
    pub fn remove(&self) -> io::Result<()> {
        empty(self.pin.as_fd())?;
        Ok(rustix::fs::unlinkat(&self.parent, &self.name, AtFlags::REMOVEDIR)?)
    }
}

fn make_unique(parent: BorrowedFd<'_>) -> io::Result<OsString> {
    for _ in 0..ATTEMPTS {
        let mut random = [0; 8];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
        let name = OsString::from(format!("broker-{:016x}", u64::from_ne_bytes(random)));
        match rustix::fs::mkdirat(parent, &name, Mode::RWXU) {
            Err(rustix::io::Errno::EXIST) => {}
            other => return other.map(|()| name).map_err(io::Error::from),
        }
    }
    Err(io::Error::from_raw_os_error(libc::EEXIST))
}

fn empty(folder: BorrowedFd<'_>) -> io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let readable = rustix::fs::openat(folder, ".", flags, Mode::empty())?;
    for entry in Dir::read_from(&readable)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if entry.file_type() == FileType::Directory {
            let inner = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            empty(rustix::fs::openat(&readable, name, inner, Mode::empty())?.as_fd())?;
            rustix::fs::unlinkat(&readable, name, AtFlags::REMOVEDIR)?;
        } else {
            rustix::fs::unlinkat(&readable, name, AtFlags::empty())?;
        }
    }
    Ok(())
}
