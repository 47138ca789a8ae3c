//! What a list is read from: files that nobody but root may change, and the host's users.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::{Group, User};
use rustix::fs::{Mode, OFlags};

use super::error::FileFault;
use super::reader::FILE_LIMIT;

/// Where files and names come from.
pub trait Host {
    /// The file at the absolute path `path`.
    ///
    /// # Errors
    /// [`FileFault`].
    fn read(&self, path: &Path) -> Result<Text, FileFault>;

    /// The number of the user `name`, if there is one.
    ///
    /// # Errors
    /// The users cannot be looked up.
    fn user(&self, name: &str) -> io::Result<Option<u32>>;

    /// The number of the group `name`, if there is one.
    ///
    /// # Errors
    /// The groups cannot be looked up.
    fn group(&self, name: &str) -> io::Result<Option<u32>>;
}

/// A file that was read.
#[derive(Debug, Clone, Default)]
pub struct Text {
    /// All that is in it, `FILE_LIMIT` bytes at most.
    pub bytes: Vec<u8>,
    /// Its device and inode.
    pub identity: (u64, u64),
}

/// The host on which this runs.
#[derive(Debug, Clone, Copy)]
pub struct ThisHost {
    /// Files may also be those of who runs this; not for a process that may do more than who started it.
    pub own_files: bool,
}

impl Host for ThisHost {
    fn read(&self, path: &Path) -> Result<Text, FileFault> {
        // A FIFO must not block, nor a terminal become this process's own.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let file = File::from(rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| match errno {
            rustix::io::Errno::NOENT => FileFault::Missing(errno.into()),
            errno => FileFault::Unreadable(errno.into()),
        })?);
        let status = file.metadata().map_err(FileFault::Unreadable)?;
        if !status.is_file() {
            return Err(FileFault::NotRegular);
        }
        if !self.judge_owner(&status).map_err(FileFault::Unreadable)? {
            return Err(FileFault::Writable);
        }
        let mut bytes = Vec::new();
        file.take(FILE_LIMIT + 1).read_to_end(&mut bytes).map_err(FileFault::Unreadable)?;
        if bytes.len() as u64 > FILE_LIMIT {
            return Err(FileFault::TooLong);
        }
        Ok(Text { bytes, identity: (status.dev(), status.ino()) })
    }

    fn user(&self, name: &str) -> io::Result<Option<u32>> {
        Ok(User::from_name(name)?.map(|user| user.uid.as_raw()))
    }

    fn group(&self, name: &str) -> io::Result<Option<u32>> {
        Ok(Group::from_name(name)?.map(|group| group.gid.as_raw()))
    }
}

impl ThisHost {
    /// Whether nobody but root, or with `own_files` who runs this, may write the file. Root is whoever owns the host's
    /// root folder: an id that a user namespace does not map reads as the overflow id there. The group's bit also tells
    /// of entries for users in a POSIX access control list (acl(5)), so no group is an exception.
    fn judge_owner(self, status: &Metadata) -> io::Result<bool> {
        let is_roots = status.uid() == std::fs::metadata("/")?.uid();
        let is_own = self.own_files && status.uid() == rustix::process::geteuid().as_raw();
        Ok((is_roots || is_own) && status.mode() & 0o022 == 0)
    }
}
