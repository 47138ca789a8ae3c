//! How a file is to be opened, in bits of the protocol's own.

mod linux;

pub use linux::UnknownFlags;

use std::ops::BitOr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Whether the file's contents are to be read, written, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum AccessMode {
    /// `O_RDONLY`
    Read,
    /// `O_WRONLY`
    Write,
    /// `O_RDWR`
    ReadWrite,
}

impl AccessMode {
    /// Whether this access can change the file's contents.
    #[must_use]
    pub const fn writes(self) -> bool {
        !matches!(self, Self::Read)
    }

    /// Whether this access can read the file's contents.
    #[must_use]
    pub const fn reads(self) -> bool {
        !matches!(self, Self::Write)
    }
}

/// A set of the open flags beside the access mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct OpenBits(u32);

impl OpenBits {
    /// No flag.
    pub const NONE: Self = Self(0);
    // Bit 0 is not used: that a file may be created is said by the kind of the request.
    /// `O_EXCL`: with a create, the file must not be there; with an open, of block devices only (open(2))
    pub const EXCLUSIVE: Self = Self(1 << 1);
    /// `O_TRUNC`
    pub const TRUNCATE: Self = Self(1 << 2);
    /// `O_APPEND`
    pub const APPEND: Self = Self(1 << 3);
    /// `O_DIRECT`
    pub const DIRECT: Self = Self(1 << 4);
    /// `O_DSYNC`
    pub const DSYNC: Self = Self(1 << 5);
    /// `O_SYNC`; implies `O_DSYNC`, whose bit is then not set as well
    pub const SYNC: Self = Self(1 << 6);
    /// `O_NOATIME`
    pub const NOATIME: Self = Self(1 << 7);
    /// `O_NONBLOCK`
    pub const NONBLOCK: Self = Self(1 << 8);
    /// `O_DIRECTORY`
    pub const DIRECTORY: Self = Self(1 << 9);
    /// `O_NOFOLLOW`
    pub const NOFOLLOW: Self = Self(1 << 10);
    /// `O_PATH`
    pub const PATH: Self = Self(1 << 11);
    /// `O_NOCTTY`
    pub const NOCTTY: Self = Self(1 << 12);
    /// `O_CLOEXEC`
    pub const CLOEXEC: Self = Self(1 << 13);

    /// Every bit that this version of the protocol defines.
    const ALL: u32 = (1 << 14) - (1 << 1);

    /// The bits as they are sent.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether all of `others` are set.
    #[must_use]
    pub const fn contains(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }
}

impl BitOr for OpenBits {
    type Output = Self;

    fn bitor(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }
}

impl TryFrom<u32> for OpenBits {
    type Error = UnknownBits;

    fn try_from(bits: u32) -> Result<Self, UnknownBits> {
        let unknown = bits & !Self::ALL;
        if unknown != 0 {
            return Err(UnknownBits { bits: unknown });
        }
        Ok(Self(bits))
    }
}

impl From<OpenBits> for u32 {
    fn from(bits: OpenBits) -> u32 {
        bits.0
    }
}

/// Bits in a message that this version of the protocol does not define.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("open flag bits {bits:#x} are not defined; use the same version of the protocol")]
pub struct UnknownBits {
    /// The undefined bits.
    pub bits: u32,
}

/// How a file is to be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OpenFlags {
    access: AccessMode,
    bits: OpenBits,
}

impl OpenFlags {
    /// Flags with `access` and `bits`.
    #[must_use]
    pub const fn new(access: AccessMode, bits: OpenBits) -> Self {
        Self { access, bits }
    }

    /// The access mode.
    #[must_use]
    pub const fn access(self) -> AccessMode {
        self.access
    }

    /// Everything beside the access mode.
    #[must_use]
    pub const fn bits(self) -> OpenBits {
        self.bits
    }

    /// Whether all of `bits` are set.
    #[must_use]
    pub const fn contains(self, bits: OpenBits) -> bool {
        self.bits.contains(bits)
    }

    /// The same with `bits` set.
    #[must_use]
    pub const fn with(self, bits: OpenBits) -> Self {
        Self::new(self.access, OpenBits(self.bits.0 | bits.0))
    }

    /// The same with `bits` cleared.
    #[must_use]
    pub const fn without(self, bits: OpenBits) -> Self {
        Self::new(self.access, OpenBits(self.bits.0 & !bits.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undefined_protocol_bits_are_refused() {
        for bits in [1, 1 << 14, 1 << 31] {
            assert_eq!(OpenBits::try_from(bits), Err(UnknownBits { bits }));
            assert_eq!(OpenBits::try_from(bits | OpenBits::DIRECT.bits()), Err(UnknownBits { bits }));
        }
    }
}
