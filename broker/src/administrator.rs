//! The administrator's policy: a file of this host that narrows what every user of `broker` may have, and never widens it.

use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::Deserialize;

/// Where it is.
pub const PATH: &str = "/etc/broker/policy.toml";

/// The longest file that is read, in bytes.
const LIMIT: u64 = 64 * 1024;

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
        Self::read(Path::new(PATH))
    }

    fn read(path: &Path) -> Result<Self, Error> {
        let mut file = match std::fs::File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(Error::Read(source)),
        };
        let status = file.metadata().map_err(Error::Read)?;
        // Whoever owns the host's root folder: an id that a user namespace does not map reads as the overflow id, and so
        // root's file looks like nobody's there.
        let root = std::fs::metadata("/").map_err(Error::Read)?.uid();
        if status.mode() & 0o022 != 0 || status.uid() != root {
            return Err(Error::Owner);
        }
        let mut text = String::new();
        file.by_ref().take(LIMIT + 1).read_to_string(&mut text).map_err(Error::Read)?;
        if text.len() as u64 > LIMIT {
            return Err(Error::TooLong);
        }
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self, Error> {
        toml::from_str(text).map_err(|error| Error::Parse(error.message().to_owned()))
    }
}

/// Why the policy does not count; then nothing starts.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `open(2)` or `read(2)`.
    #[error("cannot read {PATH}: {0}; the administrator's policy must be readable for everybody")]
    Read(io::Error),
    /// Somebody could widen it.
    #[error("{PATH} may be changed by others than root; chown root:root and chmod 644 it")]
    Owner,
    /// No policy is that long.
    #[error("{PATH} has more than {LIMIT} bytes")]
    TooLong,
    /// A key or a value that is not known.
    #[error("{PATH}: {0}; `strict-roots = true` is what it may say")]
    Parse(String),
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_policy_says_what_it_may_and_nothing_else() {
        assert_eq!(Policy::parse("").unwrap(), Policy::default());
        assert!(Policy::parse("strict-roots = true # one folder, many guests").unwrap().strict_roots);
        for text in ["strict_roots = true", "strict-roots = 1", "strict-roots", "[x]\n", "strict-roots = true\nx = 1"] {
            assert!(matches!(Policy::parse(text), Err(Error::Parse(_))), "{text}");
        }
    }

    #[test]
    fn a_file_that_others_may_write_is_none() {
        let path = std::env::temp_dir().join(format!("policy-test-{}", std::process::id()));
        assert_eq!(Policy::read(&path).unwrap(), Policy::default());
        fs::write(&path, "strict-roots = true").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o664)).unwrap();
        let shared = Policy::read(&path);
        fs::write(&path, " ".repeat(70_000)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let long = Policy::read(&path);
        let own = rustix::process::geteuid().is_root();
        let strangers = own.then(|| {
            std::os::unix::fs::chown(&path, Some(12345), None).unwrap();
            Policy::read(&path)
        });
        fs::remove_file(&path).unwrap();
        assert!(strangers.is_none_or(|read| matches!(read, Err(Error::Owner))));
        assert!(matches!(shared, Err(Error::Owner)));
        assert!(if own { matches!(long, Err(Error::TooLong)) } else { matches!(long, Err(Error::Owner)) });
    }
}
