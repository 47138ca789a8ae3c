//! Why a backing chain is refused, in words that say what would mend it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::RawFd;
use std::path::PathBuf;

use super::name;
use crate::prober;
use crate::prober::header::ReferenceRole;
use crate::shell;

/// Why the chain of an image cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A stated format that is not known.
    #[error(
        "image {image:?}: the format {format:?} is not served yet; convert the image with qemu-img convert -O qcow2"
    )]
    Format {
        /// The image, as QEMU opens it.
        image: OsString,
        /// The format, as it was stated.
        format: String,
    },
    /// Its header could not be read, or is refused.
    #[error("image {image:?}: {source}")]
    Header {
        /// The image, as QEMU opens it.
        image: OsString,
        /// What is wrong with it.
        source: prober::Error,
    },
    /// Not something that holds an image.
    #[error("image {image:?} is {kind}; name a regular file or a block device")]
    Kind {
        /// The image, as QEMU opens it.
        image: OsString,
        /// What it is.
        kind: &'static str,
    },
    /// A descriptor has no folder.
    #[error(
        "the image of fd:{number} names the {role} {name:?}, which is relative to the image's folder, and a \
         descriptor has none; name it on the command line: backing.driver=FORMAT,backing.file.filename=PATH (or fd:N)"
    )]
    RelativeToDescriptor {
        /// The descriptor.
        number: RawFd,
        /// What the file is to it.
        role: ReferenceRole,
        /// The name in its header.
        name: OsString,
    },
    /// Something is wrong with the next member.
    #[error("image {image:?} names the {role} {name:?}: {refusal}")]
    Member {
        /// The image, as QEMU opens it.
        image: OsString,
        /// What the file is to it.
        role: ReferenceRole,
        /// The name in its header.
        name: OsString,
        /// What is wrong.
        refusal: Box<Refusal>,
    },
}

impl Error {
    /// Whether all that is wrong is that a backing file is not there.
    #[must_use]
    pub fn is_missing_member(&self) -> bool {
        matches!(self, Self::Member { refusal, .. } if matches!(**refusal, Refusal::Missing(..)))
    }
}

/// What is wrong with a file that a header names.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Its name is not that of a file.
    #[error(transparent)]
    Name(#[from] name::Error),
    /// QEMU would guess, and a guest can choose what is guessed.
    #[error(
        "its format is not stated, and is never guessed; state it: {0}, or give backing.driver=FORMAT on the command line"
    )]
    NoFormat(RebaseLine),
    /// QEMU would take the first.
    #[error("its format is stated twice, as {0:?} and as {1:?}; state it once: {2}")]
    TwoFormats(OsString, OsString, RebaseLine),
    /// A format that is not known.
    #[error("its format {0:?} is not served yet; convert it with qemu-img convert -O qcow2, then {1}")]
    Format(OsString, RebaseLine),
    /// It cannot be found.
    #[error("cannot find {0:?}: {1}; {2}")]
    Missing(OsString, io::Error, String),
    /// It may not be read.
    #[error("may not read {0:?}: {1}; give the user who starts broker the right to")]
    Unreadable(PathBuf, io::Error),
    /// Not something that holds an image.
    #[error("it is {0}; only a regular file or a block device can back an image")]
    Kind(&'static str),
    /// A part of an image that is an image of several parts.
    #[error("it names further files itself, which no part of an image does; the image is forged")]
    PartWithParts,
    /// A file of the kernel, whatever the roots are.
    #[error("{0:?} is made by the kernel and cannot be a disk image; the image is forged")]
    Kernel(PathBuf),
    /// Not beneath a declared folder.
    #[error(
        "{path:?} is outside the image roots, or hidden in one; if the guest may read it, add --image-root {folder}"
    )]
    Outside {
        /// Where it is, links resolved.
        path: PathBuf,
        /// Its folder, as a word of the shell.
        folder: String,
    },
    /// It is in the chain already.
    #[error("{0:?} stands in its own backing chain; the image is damaged or forged")]
    Loop(PathBuf),
    /// No honest chain is that long.
    #[error("the chain has more than {0} backing files; shorten it with qemu-img commit or qemu-img rebase")]
    TooDeep(usize),
    /// Nor has an honest image so many parts.
    #[error("more than {0} files belong to the image; convert it to one file with qemu-img convert -O qcow2")]
    TooMany(usize),
}

/// The command that writes name and format of a backing file into an image.
#[derive(Debug)]
pub struct RebaseLine {
    image: String,
    backing: String,
}

impl RebaseLine {
    pub(super) fn of(image: &OsStr, backing: &OsStr) -> Self {
        Self { image: shell::word(image), backing: shell::word(backing) }
    }
}

impl std::fmt::Display for RebaseLine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "qemu-img rebase -u -F FORMAT -b {} {}", self.backing, self.image)
    }
}
