//! Why a header is refused: which field, which rule.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

use super::format::Format;

/// A part of a header; messages give its name in the description of its format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Field {
    /// What tells formats apart.
    Magic,
    /// The format's version.
    Version,
    /// Where the backing file's name begins (qcow, qcow2, qed).
    BackingFileOffset,
    /// The length of that name.
    BackingFileSize,
    /// That name.
    BackingFileName,
    /// The header extension of qcow2 that states the backing file's format.
    BackingFormat,
    /// The header extension of qcow2 that names the external data file.
    DataFileName,
    /// The size of a cluster, as a power of two (qcow, qcow2) or in bytes (qed).
    ClusterSize,
    /// How the image is encrypted (qcow, qcow2).
    CryptMethod,
    /// Features without which an image is not understood (qcow2, qed).
    IncompatibleFeatures,
    /// How long the header is.
    HeaderLength,
    /// Any header extension of qcow2: its type, its length or its body.
    HeaderExtension,
    /// The size of the disk in the header of a vmdk extent.
    Capacity,
    /// Where the descriptor of a vmdk image begins, in sectors.
    DescriptorOffset,
    /// The text that describes a vmdk image.
    Descriptor,
    /// What kind of vmdk image it is.
    CreateType,
    /// The name in an extent line of a vmdk descriptor.
    ExtentName,
    /// The extent lines of a vmdk descriptor.
    Extents,
    /// The parent of a vmdk image.
    ParentFileNameHint,
    /// The type of a vpc disk.
    DiskType,
    /// The region table of a vhdx image.
    RegionTable,
    /// The metadata table of a vhdx image.
    MetadataTable,
    /// The file parameters of a vhdx image, which say whether it has a parent.
    FileParameters,
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
            Self::DataFileName => "data file name",
            Self::ClusterSize => "cluster size",
            Self::CryptMethod => "crypt_method",
            Self::IncompatibleFeatures => "incompatible_features",
            Self::HeaderLength => "header_length",
            Self::HeaderExtension => "header extension",
            Self::Capacity => "capacity",
            Self::DescriptorOffset => "descriptor offset",
            Self::Descriptor => "descriptor",
            Self::CreateType => "createType",
            Self::ExtentName => "extent name",
            Self::Extents => "number of extents",
            Self::ParentFileNameHint => "parentFileNameHint",
            Self::DiskType => "disk type",
            Self::RegionTable => "region table",
            Self::MetadataTable => "metadata table",
            Self::FileParameters => "file parameters",
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
    #[error("it is no {0} image, for it does not begin like one; state the format that it has")]
    Not(Format),
    /// Nobody can foresee which of two formats QEMU finds.
    #[error("it begins like a {0} and like a {1} image at once; state its format, or take it for forged")]
    Ambiguous(Format, Format),
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
    /// A number that the format wants to be a power of two.
    #[error("its {field} is {value}, which is no power of two; the image is damaged or forged")]
    NotPowerOfTwo {
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
    /// A text that lacks what must be in it.
    #[error("its descriptor has no {field}; the image is damaged or forged")]
    Missing {
        /// What is not there.
        field: Field,
    },
    /// A quoted string whose end QEMU would choose.
    #[error("its {field} has no closing quote within {most} bytes; the image is damaged or forged")]
    Unterminated {
        /// Which string.
        field: Field,
        /// How long it may be, in bytes.
        most: usize,
    },
    /// A kind of vmdk image that QEMU does not read.
    #[error("its createType is none that QEMU reads; convert it with the program that made it")]
    CreateType,
    /// A disk that holds only what differs from its parent's.
    #[error(
        "its {field} says that it is the difference to a parent, which QEMU cannot follow; merge both with the program \
         that made it"
    )]
    Differencing {
        /// What says so.
        field: Field,
    },
}
