//! A grant: one file, and what the emulator may do with it.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use protocol::{AccessMode, OpenBits, OpenFlags};
use rustix::fs::FileType;

use crate::open::output::Home;
use crate::open::pin::Pin;

/// The greatest access that a grant gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Reading.
    ReadOnly,
    /// Opening to append; what is there cannot be truncated.
    AppendOnly,
    /// Writing.
    WriteOnly,
    /// Reading and writing.
    ReadWrite,
}

impl Access {
    /// Whether an open with `flags` stays within this access.
    #[must_use]
    pub fn allows(self, flags: OpenFlags) -> bool {
        let truncates = flags.contains(OpenBits::TRUNCATE);
        match self {
            Self::ReadOnly => only_reads(flags),
            Self::AppendOnly => flags.access() == AccessMode::Write && flags.contains(OpenBits::APPEND) && !truncates,
            Self::WriteOnly => flags.access() == AccessMode::Write,
            Self::ReadWrite => true,
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::ReadOnly => "read-only",
            Self::AppendOnly => "append-only",
            Self::WriteOnly => "write-only",
            Self::ReadWrite => "read-write",
        })
    }
}

/// Whether an open with `flags` leaves the file as it is.
#[must_use]
pub fn only_reads(flags: OpenFlags) -> bool {
    flags.access() == AccessMode::Read && !flags.contains(OpenBits::TRUNCATE)
}

/// What a granted file is to the emulator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// An image that the command line names, or the operator granted later.
    Image,
    /// A member of an image's backing chain, which the image's header names.
    Backing,
    /// An image that is there already and that a tool writes anew.
    Target,
    /// A file that is only read: kernel, firmware, secret ...
    File,
    /// A file that the emulator writes: a log, a character device's output.
    Output,
    /// The pid file, which the emulator removes at its end.
    PidFile,
    /// A file that guest memory lives in.
    Memory,
    /// A device node.
    Device,
    /// A FIFO or a port that a character device reads and writes.
    Stream,
    /// A pseudo-terminal that was made for the emulator.
    Terminal,
    /// A medium that may be inserted later.
    Medium,
    /// A file that was created for the emulator while it ran.
    Created,
}

/// What the emulator may do with one file that the broker has pinned.
#[derive(Debug)]
pub struct Grant {
    /// What it is.
    pub role: Role,
    /// The option that brought it, as typed; for messages.
    pub option: String,
    /// The greatest access.
    pub access: Access,
    /// The inode.
    pub pin: Arc<Pin>,
    /// The inode through a read-only mount, which it is opened by where it must not be written.
    pub view: Option<OwnedFd>,
    /// The name that the emulator uses for it.
    pub name: Vec<u8>,
    /// Where its name is, for a file that the broker may have to remove.
    pub home: Option<Home>,
    /// Whether the emulator has ever opened it.
    pub opened: AtomicBool,
}

impl Grant {
    /// What an open with `flags` goes through: a descriptor opened on a read-only mount cannot be made writable, nor its
    /// inode's attributes changed through it.
    #[must_use]
    pub fn source(&self, flags: OpenFlags) -> BorrowedFd<'_> {
        let seldom_written = self.access == Access::ReadOnly || self.role == Role::Backing;
        // A device is written through a read-only mount as well.
        let is_node = matches!(self.role, Role::Device | Role::Stream) && self.pin.file_type() != FileType::RegularFile;
        match &self.view {
            Some(view) if is_node || (seldom_written && only_reads(flags)) => view.as_fd(),
            _ => self.pin.as_fd(),
        }
    }
}
