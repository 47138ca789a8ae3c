//! Files that say what a start may have, or has: they count only if nobody but their owner may change them.

use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The longest file that is read, in bytes.
const LIMIT: u64 = 64 * 1024;

/// Who may own a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The administrator of this host.
    Root,
    /// The administrator, or who runs this process.
    RootOrOneself,
}

/// Reads the file at `path`; nothing if there is none.
///
/// # Errors
/// [`Error`]: it cannot be read, others than its owner may change it, or it is too long.
pub fn read(path: &Path, owner: Owner) -> Result<Option<String>, Error> {
    let failed = |source| Error::Read { path: path.to_owned(), source };
    let mut file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(failed(source)),
    };
    let status = file.metadata().map_err(failed)?;
    // Whoever owns the host's root folder: an id that a user namespace does not map reads as the overflow id, and so
    // root's file looks like nobody's there.
    let root = std::fs::metadata("/").map_err(failed)?.uid();
    let own = owner == Owner::RootOrOneself && status.uid() == rustix::process::geteuid().as_raw();
    if status.mode() & 0o022 != 0 || !(own || status.uid() == root) {
        let owner = if owner == Owner::Root { "root" } else { "its owner" };
        return Err(Error::Owner { path: path.to_owned(), owner });
    }
    let mut text = String::new();
    file.by_ref().take(LIMIT + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > LIMIT {
        return Err(Error::TooLong { path: path.to_owned() });
    }
    Ok(Some(text))
}

/// Why a file does not count; then nothing starts.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `open(2)` or `read(2)`.
    #[error("cannot read {}: {source}; it must be readable for everybody who starts an emulator", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Somebody could change what it says.
    #[error("{} may be changed by others than {owner}; chown it and chmod 644 it", path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// Who may.
        owner: &'static str,
    },
    /// No such file is that long.
    #[error("{} has more than {LIMIT} bytes", path.display())]
    TooLong {
        /// The file.
        path: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;

    #[test]
    fn a_file_that_others_may_write_is_none() {
        let path = std::env::temp_dir().join(format!("administrators-file-test-{}", std::process::id()));
        assert_eq!(read(&path, Owner::Root).unwrap(), None);
        fs::write(&path, "a = true").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o664)).unwrap();
        let shared = read(&path, Owner::RootOrOneself);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let own = read(&path, Owner::RootOrOneself);
        let roots = read(&path, Owner::Root);
        fs::write(&path, " ".repeat(70_000)).unwrap();
        let long = read(&path, Owner::RootOrOneself);
        let is_root = rustix::process::geteuid().is_root();
        let strangers = is_root.then(|| {
            chown(&path, Some(12345), None).unwrap();
            read(&path, Owner::RootOrOneself)
        });
        fs::remove_file(&path).unwrap();
        assert!(strangers.is_none_or(|read| matches!(read, Err(Error::Owner { .. }))));
        assert!(matches!(shared, Err(Error::Owner { .. })));
        assert_eq!(own.unwrap().as_deref(), Some("a = true"));
        assert_eq!(roots.is_ok(), is_root);
        assert!(matches!(long, Err(Error::TooLong { .. })));
    }
}
