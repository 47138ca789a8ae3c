//! Small numbers with bounds: the mode of a new file and the errno of a refusal.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::limits::{MAX_ERRNO, MAX_MODE};

/// A number outside the bounds of its field.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ValueError {
    /// Bits beyond the permission bits.
    #[error("file mode {mode:#o} has bits beyond {MAX_MODE:#o}; send permission bits only")]
    Mode {
        /// The mode found.
        mode: u32,
    },
    /// Not an error number.
    #[error("{errno} is not an errno; use 1 to {MAX_ERRNO}")]
    Errno {
        /// The number found.
        errno: u16,
    },
}

/// Permission bits for a file that a request may create, 0 to 0o7777.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct FileMode(u32);

impl FileMode {
    /// Keeps the bits that open(2) looks at. The kernel ignores the others, and the whole
    /// argument when nothing is created, so a caller's register may hold anything.
    #[must_use]
    pub const fn from_raw(raw: u32) -> Self {
        Self(raw & MAX_MODE)
    }

    /// The permission bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }
}

impl TryFrom<u32> for FileMode {
    type Error = ValueError;

    fn try_from(mode: u32) -> Result<Self, ValueError> {
        if mode > MAX_MODE {
            return Err(ValueError::Mode { mode });
        }
        Ok(Self(mode))
    }
}

impl From<FileMode> for u32 {
    fn from(mode: FileMode) -> u32 {
        mode.0
    }
}

impl fmt::Debug for FileMode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:#o}", self.0)
    }
}

/// The errno with which a request failed, 1 to 4095, in the numbering of the machine both sides
/// run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Errno(u16);

impl Errno {
    /// Permission denied: what a refusal by policy looks like to the emulator.
    pub const ACCES: Self = Self::of(rustix::io::Errno::ACCESS);
    /// Stands in for a failure that has no errno of its own.
    pub const IO: Self = Self::of(rustix::io::Errno::IO);

    /// For the two constants above, which are small and positive on every architecture.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    const fn of(errno: rustix::io::Errno) -> Self {
        Self(errno.raw_os_error() as u16)
    }

    /// The errno behind `error`, or EIO where there is none.
    #[must_use]
    pub fn from_io(error: &io::Error) -> Self {
        let raw = error.raw_os_error().map(u16::try_from);
        match raw.map(|number| number.map(Self::try_from)) {
            Some(Ok(Ok(errno))) => errno,
            _ => Self::IO,
        }
    }

    /// The number, as errno(3) has it.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl TryFrom<u16> for Errno {
    type Error = ValueError;

    fn try_from(errno: u16) -> Result<Self, ValueError> {
        if errno == 0 || errno > MAX_ERRNO {
            return Err(ValueError::Errno { errno });
        }
        Ok(Self(errno))
    }
}

impl From<Errno> for u16 {
    fn from(errno: Errno) -> u16 {
        errno.0
    }
}

impl From<Errno> for io::Error {
    fn from(errno: Errno) -> io::Error {
        io::Error::from_raw_os_error(i32::from(errno.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_hold_permission_bits_only() {
        assert_eq!(FileMode::try_from(0o7777).unwrap().bits(), 0o7777);
        let mode = 0o10000;
        assert_eq!(FileMode::try_from(mode), Err(ValueError::Mode { mode }));
        assert_eq!(FileMode::from_raw(0o100_644).bits(), 0o644);
    }

    #[test]
    fn errnos_are_bounded() {
        for errno in [0, 4096, u16::MAX] {
            assert_eq!(Errno::try_from(errno), Err(ValueError::Errno { errno }));
        }
        assert_eq!(Errno::try_from(4095).unwrap().get(), 4095);
        assert_eq!(Errno::ACCES.get(), 13);
    }

    #[test]
    fn an_error_without_errno_is_eio() {
        let error = io::Error::from_raw_os_error(2);
        assert_eq!(Errno::from_io(&error).get(), 2);
        assert_eq!(Errno::from_io(&io::Error::other("no number")), Errno::IO);
        assert_eq!(io::Error::from(Errno::IO).raw_os_error(), Some(5));
    }
}
