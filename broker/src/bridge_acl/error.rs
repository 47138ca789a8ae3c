//! Why a bridge may not be used.

use std::io;
use std::path::{Path, PathBuf};

use super::grammar::Fault;
use super::{DEFAULT, Place, reader};

/// Why a bridge may not be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What it would be relative to is not the same for everybody.
    #[error("the access list {} is not named by an absolute path; write it from / on", shown(.0))]
    Relative(PathBuf),
    /// The list itself.
    #[error("access list {}: {fault}", shown(.path))]
    List {
        /// Its path.
        path: PathBuf,
        /// What is wrong with it.
        fault: FileFault,
    },
    /// A file that a list includes.
    #[error("{place}: include {}: {fault}", shown(.path))]
    Include {
        /// Where it is included.
        place: Place,
        /// Its path.
        path: PathBuf,
        /// What is wrong with it.
        fault: FileFault,
    },
    /// A line.
    #[error("{place}: {fault}")]
    Line {
        /// Where it stands.
        place: Place,
        /// What is wrong with it.
        fault: Fault,
    },
    /// A rule denies the bridge.
    #[error("bridge {} is denied by {place} ({text:?})", shown(Path::new(bridge)))]
    Denied {
        /// The bridge's name.
        bridge: String,
        /// Where the rule stands.
        place: Place,
        /// The rule.
        text: String,
    },
    /// Nothing allows the bridge.
    #[error(
        "bridge {0}: no rule of {1} allows it to user {uid}; the administrator can add the line \"allow {0}\"",
        shown(Path::new(bridge)),
        shown(.list)
    )]
    NotAllowed {
        /// The bridge's name.
        bridge: String,
        /// The list.
        list: PathBuf,
        /// Who asked.
        uid: u32,
    },
}

impl Error {
    /// About the file at `path`, which stands in the list at `from`, or is the list.
    pub(super) fn of_file(path: &Path, from: Option<&Place>, fault: FileFault) -> Self {
        let path = path.to_owned();
        match from {
            None => Self::List { path, fault },
            Some(place) => Self::Include { place: place.clone(), path, fault },
        }
    }
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum FileFault {
    /// `open(2)`: `ENOENT`.
    #[error("{0}; create it as root, with a line such as \"allow br0\" (the host's list is {DEFAULT})")]
    Missing(io::Error),
    /// `open(2)` or `read(2)`; most often who asks has no right to read it.
    #[error("{0}; who asks for a bridge must be able to read it (rules for some users: allow BRIDGE user:NAME)")]
    Unreadable(io::Error),
    /// A folder, a device, a FIFO.
    #[error("it is no regular file")]
    NotRegular,
    /// Whoever may write it could allow himself anything.
    #[error("others than root, or than who starts this, may change it; chown root and chmod go-w it")]
    Writable,
    /// Nobody has that many bridges.
    #[error("it has more than {} bytes", reader::FILE_LIMIT)]
    TooLong,
    /// It includes itself, perhaps by way of others.
    #[error("it is being read already; remove the include, for it goes round")]
    Loop,
    /// See `DEPTH_LIMIT`.
    #[error("files include each other more than {} deep", reader::DEPTH_LIMIT)]
    TooDeep,
    /// See `FILES_LIMIT`.
    #[error("more than {} files are included", reader::FILES_LIMIT)]
    TooMany,
}

/// A path for a message of one line.
pub(super) fn shown(path: &Path) -> String {
    let text = path.to_string_lossy();
    if text.chars().any(char::is_control) { format!("{text:?}") } else { text.into_owned() }
}
