//! Names of network interfaces.

use std::fmt;

/// A name that an interface can have: 1 to 15 bytes (`IFNAMSIZ` counts a final NUL), no slash, colon or white space, not
/// `.` or `..` (`dev_valid_name` in the kernel's `net/core/dev.c`). Control letters, which the kernel takes, are none here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName(String);

impl InterfaceName {
    /// Checks `text`.
    ///
    /// # Errors
    /// [`Invalid`].
    pub fn new(text: &str) -> Result<Self, Invalid> {
        let unfit = |letter: char| matches!(letter, '/' | ':' | ' ') || letter.is_control();
        if text.is_empty() || text.len() >= libc::IFNAMSIZ || matches!(text, "." | "..") || text.contains(unfit) {
            return Err(Invalid(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }

    /// The pattern that QEMU and its helper name a new tap by: the kernel puts the first free number in.
    #[must_use]
    pub fn tap_pattern() -> Self {
        Self("tap%d".to_owned())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A name that no interface can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name of a network interface: 1 to 15 bytes, without blanks, slashes and colons")]
pub struct Invalid(String);
