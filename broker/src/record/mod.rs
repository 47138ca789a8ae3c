//! What is remembered of disk images between starts: the format of each and the files that its header names. Whoever
//! takes the emulator over can rewrite the header of an image that it may write; what it then names was not granted to
//! it, and the next start must not grant it either.
//!
//! - [`identity`]: which file it is, whatever it is called;
//! - [`text`]: how a record is written down;
//! - [`place`]: the folder of the records;
//! - [`store`]: reading and writing there;
//! - [`journal`]: the files that a running guest creates;
//! - [`compare()`]: what a start finds, beside what is recorded;
//! - [`change`]: what the operator reads if that is not the same;
//! - [`headers`], [`command`]: `broker chain`.

pub mod change;
pub mod command;
pub mod compare;
mod files;
pub mod headers;
pub mod identity;
pub mod journal;
pub mod place;
mod show;
pub mod store;
pub mod text;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use change::Change;
pub use compare::{Memory, Verdict, compare};
pub use identity::Identity;
use journal::Told;

/// What is known about one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Where it was, every link resolved; a block device: the name that it was given by, for the kernel's own (dm-3, sdb)
    /// may be another device's after the next boot.
    pub image: PathBuf,
    /// Which file it was.
    pub file: Identity,
    /// What it was opened as, in QEMU's words.
    pub format: String,
    /// The files that its header named.
    pub references: Vec<RecordedReference>,
}

/// A file that a header named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedReference {
    /// What for.
    pub role: Role,
    /// Where it was, like [`Record::image`].
    pub path: PathBuf,
    /// Which file it was.
    pub file: Identity,
    /// The format that the header stated.
    pub format: String,
}

/// What a header names a file for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// What it is an overlay of; only ever read.
    Backing,
    /// Where its data lie, which are written with it.
    DataFile,
    /// A part of it, which is written with it.
    Extent,
}

impl Role {
    /// As it stands in records and messages.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Backing => "backing",
            Self::DataFile => "data-file",
            Self::Extent => "extent",
        }
    }
}

/// An image as it is found at a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// As [`Record::image`].
    pub path: PathBuf,
    /// Which file it is.
    pub identity: Identity,
    /// What it is opened as.
    pub format: String,
    /// Whether the references are what its header says. If not, the operator named them, who may name what he likes.
    pub follows_header: bool,
    /// The images that are opened because of it.
    pub references: Vec<NodeReference>,
}

/// A reference from one image to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeReference {
    /// What for.
    pub role: Role,
    /// The number of the [`Node`] that it leads to.
    pub target: usize,
    /// The format that is stated there.
    pub format: String,
}

/// What is known about a file that is found at a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// There is a record.
    Recorded(Record, How),
    /// A guest created it, and no start has seen it since.
    Created(Told),
    /// Nothing.
    Unknown,
}

/// Why a record is that of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Path and file are the recorded ones.
    Same,
    /// The path is, and the file is another one: somebody restored or exchanged it.
    Replaced,
    /// The file is, and its recorded path leads to it no more: it was renamed.
    Moved,
    /// The file is, and its recorded path leads to it too: a hard link, or another mount of the file system.
    Linked,
}

#[cfg(test)]
mod testing;
