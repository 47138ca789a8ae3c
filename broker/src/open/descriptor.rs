//! Images that the caller opened and that the command line names by number (`fd:N`).
//!
//! What is kept of such a descriptor is a pin of its inode and the access it was opened with; the descriptor itself is
//! closed before the emulator exists. Every later open is a fresh one, so that neither locks nor `O_DIRECT` are shared
//! with whoever else has the caller's.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::RawFd;

use rustix::fs::{FileType, OFlags};

use super::pin::{Origin, Pin};
use crate::sys::process;

/// The descriptors that are named as images, by number.
#[derive(Debug, Default)]
pub struct Images(BTreeMap<RawFd, Inherited>);

/// Checks that the descriptors are there, before others may get their numbers.
///
/// # Errors
/// [`Error::NotOpen`].
pub fn check_open(mut numbers: impl Iterator<Item = RawFd>) -> Result<(), Error> {
    let missing = numbers.find(|number| !process::is_open(*number));
    missing.map_or(Ok(()), |number| Err(Error::NotOpen { number }))
}

/// What is kept of one descriptor.
#[derive(Debug)]
struct Inherited {
    pin: Pin,
    direct: bool,
}

impl Images {
    /// Pins what the descriptors `numbers` have open, and closes those that are not `passed_on` to the emulator as well.
    ///
    /// # Errors
    /// [`Error`]: not open, no image, or not open for reading.
    pub fn take(numbers: impl Iterator<Item = RawFd>, passed_on: &BTreeSet<RawFd>) -> Result<Self, Error> {
        let numbers: BTreeSet<RawFd> = numbers.collect();
        let mut images = BTreeMap::new();
        for number in &numbers {
            images.insert(*number, Inherited::take(*number)?);
        }
        for number in numbers.difference(passed_on) {
            process::close_range(*number, *number).map_err(|source| Error::Pin { number: *number, source })?;
        }
        Ok(Self(images))
    }

    /// A pin of what descriptor `number` had open, for one of the names that the command line gives it.
    ///
    /// # Errors
    /// `EBADF`: it was not taken. `EMFILE`: no descriptor is left.
    pub fn pin(&self, number: RawFd) -> io::Result<Pin> {
        let inherited = self.0.get(&number).ok_or_else(|| io::Error::from_raw_os_error(libc::EBADF))?;
        inherited.pin.duplicate()
    }

    /// Whether descriptor `number` was opened with `O_DIRECT`.
    #[must_use]
    pub fn is_direct(&self, number: RawFd) -> bool {
        self.0.get(&number).is_some_and(|inherited| inherited.direct)
    }
}

impl Inherited {
    fn take(number: RawFd) -> Result<Self, Error> {
        let flags = match process::status_flags(number) {
            Err(error) if error.raw_os_error() == Some(libc::EBADF) => return Err(Error::NotOpen { number }),
            other => other.map_err(|source| Error::Pin { number, source })?,
        };
        if flags.contains(OFlags::PATH) {
            return Err(Error::Kind { number, found: "only a place in the file system (O_PATH)" });
        }
        let writable = flags.contains(OFlags::RDWR);
        let pin = Pin::of_inherited(Origin { number, writable }).map_err(|source| Error::Pin { number, source })?;
        if let Some(found) = not_an_image(pin.file_type()) {
            return Err(Error::Kind { number, found });
        }
        if flags.contains(OFlags::WRONLY) {
            return Err(Error::WriteOnly { number });
        }
        Ok(Self { pin, direct: flags.contains(OFlags::DIRECT) })
    }
}

fn not_an_image(kind: FileType) -> Option<&'static str> {
    match kind {
        FileType::RegularFile | FileType::BlockDevice => None,
        FileType::Directory => Some("a folder"),
        FileType::Fifo => Some("a pipe"),
        FileType::Socket => Some("a socket"),
        FileType::CharacterDevice => Some("a character device or a terminal"),
        _ => Some("no file"),
    }
}

/// Why a descriptor cannot be an image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A bad number.
    #[error(
        "fd:{number} names a descriptor that is not open; open it in the process that starts broker, without \
         close-on-exec (a file of that name is ./fd:{number})"
    )]
    NotOpen {
        /// The number.
        number: RawFd,
    },
    /// Something else.
    #[error("fd:{number} is {found}; an image must be a regular file or a block device")]
    Kind {
        /// The number.
        number: RawFd,
        /// What it is.
        found: &'static str,
    },
    /// It cannot be read.
    #[error("fd:{number} is open for writing only; open it for reading too (O_RDWR)")]
    WriteOnly {
        /// The number.
        number: RawFd,
    },
    /// The broker may not open again what the caller could.
    #[error(
        "fd:{number} ({path:?}) cannot be opened anew {wanted} by the user who starts broker: {source}; give that user \
         the right to, or hand the descriptor to QEMU itself: -add-fd fd={number},set=1 and file=/dev/fdset/1"
    )]
    Anew {
        /// The number.
        number: RawFd,
        /// Where its file is.
        path: std::path::PathBuf,
        /// How it has to be opened.
        wanted: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file of this very name.
    #[error(
        "fd:{number} names a descriptor, so {name:?} cannot name a file of the folder too; rename that file, or name it by another path"
    )]
    Ambiguous {
        /// The number.
        number: RawFd,
        /// The file.
        name: std::path::PathBuf,
    },
    /// The kernel would not.
    #[error("cannot hold the file of fd:{number}: {source}; is /proc mounted?")]
    Pin {
        /// The number.
        number: RawFd,
        /// What the kernel said.
        source: io::Error,
    },
}
