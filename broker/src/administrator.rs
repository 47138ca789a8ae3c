//! The administrator's policy: a file of this host that narrows what every user of `broker` may have, and never widens it.

use std::path::Path;

use serde::Deserialize;

use crate::administrators_file::{self, Owner};

/// Where it is.
pub const PATH: &str = "/etc/broker/policy.toml";

/// What it says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Policy {
    /// What a header names is granted beneath folders of `--image-root` only, and not in the image's own folder.
    pub strict_roots: bool,
}

impl Policy {
    /// Reads the policy of this host; one that has no such file narrows nothing.
    ///
    /// # Errors
    /// [`Error`]: it cannot be read, is not the administrator's alone, or says what is not understood.
    pub fn of_this_host() -> Result<Self, Error> {
        match administrators_file::read(Path::new(PATH), Owner::Root)? {
            Some(text) => Self::parse(&text),
            None => Ok(Self::default()),
        }
    }

    fn parse(text: &str) -> Result<Self, Error> {
        toml::from_str(text).map_err(|error| Error::Parse(error.message().to_owned()))
    }
}

/// Why the policy does not count; then nothing starts.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file as such.
    #[error(transparent)]
    File(#[from] administrators_file::Error),
    /// A key or a value that is not known.
    #[error("{PATH}: {0}; `strict-roots = true` is what it may say")]
    Parse(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_says_what_it_may_and_nothing_else() {
        assert_eq!(Policy::parse("").unwrap(), Policy::default());
        assert!(Policy::parse("strict-roots = true # one folder, many guests").unwrap().strict_roots);
        for text in ["strict_roots = true", "strict-roots = 1", "strict-roots", "[x]\n", "strict-roots = true\nx = 1"] {
            assert!(matches!(Policy::parse(text), Err(Error::Parse(_))), "{text}");
        }
    }
}
