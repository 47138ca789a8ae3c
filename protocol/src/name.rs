//! File names as they cross the boundary: bounded bytes, no NUL, no assumption about encoding.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, Visitor};
use serde::ser::{Serialize, Serializer};
use thiserror::Error;

use crate::limits::MAX_NAME;

/// A file name of 1 to [`MAX_NAME`] bytes without NUL; otherwise any bytes, UTF-8 or not.
///
/// Nothing is said about *where* it leads: `..`, doubled slashes and symbolic links are the
/// policy's to judge.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<[u8]>);

/// Why bytes are not a file name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// No byte at all.
    #[error("the file name is empty; name a file")]
    Empty,
    /// More bytes than the kernel would take.
    #[error("the file name has {length} bytes; use at most {MAX_NAME}")]
    TooLong {
        /// Length found, in bytes.
        length: usize,
    },
    /// A NUL inside, where the kernel would see a shorter name than the policy.
    #[error("the file name has a NUL byte at offset {offset}; remove it")]
    Nul {
        /// Offset of the first NUL, in bytes.
        offset: usize,
    },
}

impl Name {
    /// Takes `bytes` (without the NUL at the end) as a file name.
    ///
    /// # Errors
    /// [`NameError`] when `bytes` is empty, longer than [`MAX_NAME`], or holds a NUL.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Result<Self, NameError> {
        let bytes = bytes.into();
        check(&bytes)?;
        Ok(Self(bytes))
    }

    /// The name's bytes, without a NUL at the end.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The name as the standard library's path type.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }
}

fn check(bytes: &[u8]) -> Result<(), NameError> {
    if bytes.is_empty() {
        return Err(NameError::Empty);
    }
    if bytes.len() > MAX_NAME {
        let length = bytes.len();
        return Err(NameError::TooLong { length });
    }
    match bytes.iter().position(|byte| *byte == 0) {
        Some(offset) => Err(NameError::Nul { offset }),
        None => Ok(()),
    }
}

impl TryFrom<&Path> for Name {
    type Error = NameError;

    fn try_from(path: &Path) -> Result<Self, NameError> {
        Self::new(path.as_os_str().as_bytes())
    }
}

/// Printable ASCII as it is, everything else escaped, so that a hostile name cannot move the
/// cursor of the terminal that shows the log.
impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "\"{self}\"")
    }
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_bytes(NameVisitor)
    }
}

struct NameVisitor;

impl Visitor<'_> for NameVisitor {
    type Value = Name;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "a file name of 1 to {MAX_NAME} bytes without NUL")
    }

    /// Judges before it copies: the one allocation on the way of a request is of a valid name.
    fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Name, E> {
        check(bytes).map_err(E::custom)?;
        Ok(Name(bytes.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_any_bytes_within_the_bounds() {
        for bytes in [&b"a"[..], b"/srv/a b.qcow2", b"\xff\xfe", &[b'x'; MAX_NAME]] {
            assert_eq!(Name::new(bytes).unwrap().as_bytes(), bytes);
        }
    }

    #[test]
    fn refuses_what_the_kernel_would_not_see_as_one_name() {
        assert_eq!(Name::new(*b""), Err(NameError::Empty));
        let too_long = NameError::TooLong { length: 4096 };
        assert_eq!(Name::new([b'x'; MAX_NAME + 1]), Err(too_long));
        assert_eq!(Name::new(*b"a\0b"), Err(NameError::Nul { offset: 1 }));
    }

    #[test]
    fn shows_hostile_bytes_escaped() {
        let name = Name::new(*b"a\x1b[2J\n").unwrap();
        assert_eq!(name.to_string(), r"a\x1b[2J\n");
    }

    #[test]
    fn converts_to_and_from_a_path() {
        let path = Path::new("/images/disk.raw");
        assert_eq!(Name::try_from(path).unwrap().as_path(), path);
    }
}
