//! What an image's header says, and why one is refused. Nothing here allocates: it runs behind the prober's filter.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;

use serde::{Deserialize, Serialize};

use super::{detect, qcow2};

/// The longest backing name of qcow2, in bytes (docs/interop/qcow2.txt, `backing_file_size`).
pub const NAME_LIMIT: usize = 1023;
/// The longest backing format name that QEMU takes, in bytes (`backing_format[16]`, block_int-common.h).
pub const FORMAT_LIMIT: usize = 15;

/// An image format whose chain this program can follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// The bytes of the disk and nothing else.
    Raw,
    /// QEMU's own, version 2 or 3.
    Qcow2,
}

impl Format {
    /// The format that QEMU's block drivers call `name`, if it is served.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        match name {
            "raw" => Some(Self::Raw),
            "qcow2" => Some(Self::Qcow2),
            _ => None,
        }
    }

    /// QEMU's name for it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }
}

/// What was found in one image. `B` holds bytes: borrowed where it is read, owned where it was received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header<B> {
    /// The stated format, or the one that QEMU would find.
    pub format: Format,
    /// What the image is an overlay of.
    pub backing: Option<Backing<B>>,
    /// Whether the guest's data lie in another file (incompatible feature bit 2).
    pub data_file: bool,
    /// Whether it needs a key (`crypt_method`).
    pub encrypted: bool,
}

/// A reference to a backing file, as written in the header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backing<B> {
    /// Its name: 1 to [`NAME_LIMIT`] bytes, none of them zero.
    pub name: B,
    /// Its format, where the header states it: at most [`FORMAT_LIMIT`] bytes.
    pub format: Option<B>,
}

impl<B> Header<B> {
    /// An image that says nothing about itself.
    #[must_use]
    pub fn raw() -> Self {
        Self { format: Format::Raw, backing: None, data_file: false, encrypted: false }
    }
}

/// Where the strings of a header are put, since nothing can be allocated.
#[derive(Debug)]
pub struct Scratch {
    pub(super) name: [u8; NAME_LIMIT],
    pub(super) format: [u8; FORMAT_LIMIT],
}

impl Default for Scratch {
    fn default() -> Self {
        Self { name: [0; NAME_LIMIT], format: [0; FORMAT_LIMIT] }
    }
}

/// Something that can be read at any offset.
pub trait ReadAt {
    /// Reads up to `buffer.len()` bytes from byte `offset` on; 0 means that there are none.
    ///
    /// # Errors
    /// Those of `pread(2)`.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl ReadAt for BorrowedFd<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pread(self, buffer, offset)?)
    }
}

#[cfg(test)]
impl ReadAt for Vec<u8> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

/// Reads the header of `image`. With no stated format it is taken for what QEMU would take it for.
///
/// # Errors
/// [`HeaderError`]: the field and the rule that it breaks.
pub fn parse<'s>(
    image: &dyn ReadAt,
    stated: Option<Format>,
    scratch: &'s mut Scratch,
) -> Result<Header<&'s [u8]>, HeaderError> {
    let format = match stated {
        Some(format) => format,
        None => detect::detect(image)?,
    };
    match format {
        Format::Raw => Ok(Header::raw()),
        Format::Qcow2 => qcow2::parse(image, scratch),
    }
}

/// Fills as much of `buffer` as the image has bytes from `offset` on, and says how much that is.
pub(super) fn read_some(
    image: &dyn ReadAt,
    buffer: &mut [u8],
    offset: u64,
    field: Field,
) -> Result<usize, HeaderError> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let position = u64::try_from(filled).unwrap_or(u64::MAX).saturating_add(offset);
        match image.read_at(rest, position) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) => {
                return Err(HeaderError::Read { field, errno: error.raw_os_error().unwrap_or(libc::EIO) });
            }
        }
    }
    Ok(filled)
}

/// Fills `buffer` from byte `offset` on.
pub(super) fn read_all(image: &dyn ReadAt, buffer: &mut [u8], offset: u64, field: Field) -> Result<(), HeaderError> {
    match read_some(image, buffer, offset, field)? {
        filled if filled == buffer.len() => Ok(()),
        _ => Err(HeaderError::PastEnd { field }),
    }
}

/// A part of a header; messages give its name in docs/interop/qcow2.txt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Field {
    /// Bytes 0 to 3.
    Magic,
    /// Bytes 4 to 7.
    Version,
    /// Bytes 8 to 15: where the backing file's name begins.
    BackingFileOffset,
    /// Bytes 16 to 19: the length of that name.
    BackingFileSize,
    /// That name.
    BackingFileName,
    /// The header extension that states the backing file's format.
    BackingFormat,
    /// Bytes 20 to 23.
    ClusterBits,
    /// Bytes 32 to 35.
    CryptMethod,
    /// Bytes 72 to 79.
    IncompatibleFeatures,
    /// Bytes 100 to 103.
    HeaderLength,
    /// Any header extension: its type, its length or its body.
    HeaderExtension,
}

impl fmt::Display for Field {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Magic => "magic",
            Self::Version => "version",
            Self::BackingFileOffset => "backing_file_offset",
            Self::BackingFileSize => "backing_file_size",
            Self::BackingFileName => "backing file name",
            Self::BackingFormat => "backing file format",
            Self::ClusterBits => "cluster_bits",
            Self::CryptMethod => "crypt_method",
            Self::IncompatibleFeatures => "incompatible_features",
            Self::HeaderLength => "header_length",
            Self::HeaderExtension => "header extension",
        })
    }
}

/// Why a header is refused: which field, which rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum HeaderError {
    /// `pread(2)` failed.
    #[error("its {field} cannot be read: {}", io::Error::from_raw_os_error(*errno))]
    Read {
        /// What was being read.
        field: Field,
        /// What the kernel said.
        errno: i32,
    },
    /// The file is too short.
    #[error("its {field} lies past the end of the file; the image is cut short or forged")]
    PastEnd {
        /// What is not all there.
        field: Field,
    },
    /// Another file than the stated format says.
    #[error("it is no qcow2 image (no QFI\\xfb at its start); state the format that it has")]
    NotQcow2,
    /// A format whose chain cannot be followed.
    #[error(
        "it looks like a {0} image, a format that is not served yet; convert it with qemu-img convert -O qcow2, or \
         state format=raw if it is the bare disk of a guest"
    )]
    NotServed(detect::Foreign),
    /// A number out of its range.
    #[error("its {field} is {value}, and must be from {least} to {most}; the image is damaged or forged")]
    OutOfRange {
        /// Which number.
        field: Field,
        /// What it is.
        value: u64,
        /// The least that it may be here.
        least: u64,
        /// The most that it may be here.
        most: u64,
    },
    /// A number that the format wants aligned.
    #[error("its {field} is {value}, which is not a multiple of 8; the image is damaged or forged")]
    NotAligned {
        /// Which number.
        field: Field,
        /// What it is.
        value: u64,
    },
    /// A field that may stand once.
    #[error("its {field} is stated twice; the image is forged")]
    Twice {
        /// Which field.
        field: Field,
    },
    /// QEMU would read such a string up to its zero byte only.
    #[error("its {field} holds a zero byte; the image is forged")]
    ZeroByte {
        /// Which string.
        field: Field,
    },
}
