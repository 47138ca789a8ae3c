//! The folder of the records: where it is, and whether nobody else can write there.

use std::ffi::OsString;
use std::fs::DirBuilder;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use super::files;
use crate::shell;

/// Where the records of this user are, unless `--chain-dir` names another folder.
///
/// # Errors
/// [`Error::Nowhere`].
pub fn default_folder() -> Result<PathBuf, Error> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/broker/chains"));
    }
    user_folder(std::env::var_os("XDG_STATE_HOME"), std::env::var_os("HOME")).ok_or(Error::Nowhere)
}

/// By the XDG Base Directory Specification, by which a relative path counts as none.
fn user_folder(state: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    let absolute = |value: Option<OsString>| value.map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute(state).or_else(|| Some(absolute(home)?.join(".local/state")));
    Some(state?.join("broker/chains"))
}

/// What is to be done with the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Show them: whose they are is all the same.
    Show,
    /// Let them decide about a start.
    Decide,
    /// Write there; the folder is made, with all above it.
    Write,
}

/// Opens the folder for reading its list; `None` if there is none. Somebody else's neither decides nor is written to.
///
/// # Errors
/// [`Error`].
pub fn open(path: &Path, purpose: Purpose) -> Result<Option<OwnedFd>, Error> {
    let to_write = purpose == Purpose::Write;
    if to_write {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
        made.map_err(|source| Error::Make { path: path.to_owned(), source })?;
    }
    let failed = |source: rustix::io::Errno| Error::Open { path: path.to_owned(), source: source.into() };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = match rustix::fs::openat(CWD, path, flags, Mode::empty()) {
        Ok(folder) => folder,
        Err(rustix::io::Errno::NOENT) if !to_write => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let status = rustix::fs::fstat(&folder).map_err(failed)?;
    if status.st_mode & 0o022 != 0 {
        return Err(Error::Writable(path.to_owned()));
    }
    let own = [0, rustix::process::geteuid().as_raw()].contains(&status.st_uid);
    let stranger = || Error::Stranger { path: path.to_owned(), owner: status.st_uid };
    if !own && purpose != Purpose::Show {
        match owner_of_a_new_file(folder.as_fd()) {
            Ok(owner) if owner == status.st_uid => {}
            Err(error) if to_write => return Err(failed(error)),
            // Where nothing can be made, nobody can tell whose it is.
            Ok(_) | Err(_) => return Err(stranger()),
        }
    }
    Ok(Some(folder))
}

/// Who owns what this process makes in `folder`: a file server may take root, or everybody, for somebody else
/// (`root_squash`, `all_squash` of exports(5)). A folder of that owner is as much its own as can be there.
fn owner_of_a_new_file(folder: BorrowedFd<'_>) -> rustix::io::Result<u32> {
    let name = files::temporary_name()?;
    let file = files::create(folder, &name)?;
    let status = rustix::fs::fstat(&file);
    rustix::fs::unlinkat(folder, &name, AtFlags::empty())?;
    Ok(status?.st_uid)
}

/// Why there is no folder for records.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing says where.
    #[error(
        "there is no folder to record image chains in: neither XDG_STATE_HOME nor HOME is set; name one with \
         --chain-dir DIR"
    )]
    Nowhere,
    /// It cannot be made.
    #[error(
        "cannot make {} to record image chains in: {source}; name a folder of yours with --chain-dir DIR",
        shell::word(path.as_os_str())
    )]
    Make {
        /// The folder.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// It cannot be opened, or not written.
    #[error(
        "cannot use {} to record image chains in: {source}; name a folder of yours with --chain-dir DIR",
        shell::word(path.as_os_str())
    )]
    Open {
        /// The folder.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Anybody could say what an image may name.
    #[error(
        "others may write into {word}, where image chains are recorded; chmod go-w {word}, or name another folder \
         with --chain-dir DIR",
        word = shell::word(.0.as_os_str())
    )]
    Writable(PathBuf),
    /// Somebody else could.
    #[error(
        "user {owner} may write into {}, where image chains are recorded; name a folder of yours with --chain-dir DIR",
        shell::word(path.as_os_str())
    )]
    Stranger {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
    },
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, chown};

    use super::*;
    use crate::record::testing::Folder;

    #[test]
    fn a_user_has_the_folder_of_the_xdg_specification() {
        let os = |text: &str| Some(OsString::from(text));
        for (state, home, folder) in [
            (os("/s"), os("/h"), Some("/s/broker/chains")),
            (None, os("/h"), Some("/h/.local/state/broker/chains")),
            (os(""), os("/h"), Some("/h/.local/state/broker/chains")),
            (os("s"), os("h"), None),
            (None, None, None),
        ] {
            assert_eq!(user_folder(state, home), folder.map(PathBuf::from));
        }
    }

    #[test]
    fn the_folder_is_made_for_its_owner_alone_when_it_is_needed() {
        let folder = Folder::new();
        let path = folder.path("a/b");
        assert!(open(&path, Purpose::Show).unwrap().is_none());
        assert!(!path.exists());
        assert!(open(&path, Purpose::Write).unwrap().is_some());
        for made in ["a", "a/b"] {
            assert_eq!(fs::metadata(folder.path(made)).unwrap().permissions().mode() & 0o777, 0o700);
        }
        assert!(open(&path, Purpose::Write).unwrap().is_some());
    }

    #[test]
    fn a_folder_that_others_write_is_refused() {
        let folder = Folder::new();
        for mode in [0o770, 0o707, 0o1777] {
            fs::set_permissions(folder.path(""), fs::Permissions::from_mode(mode)).unwrap();
            for to_write in [Purpose::Show, Purpose::Decide, Purpose::Write] {
                let error = open(&folder.path(""), to_write).unwrap_err();
                assert!(matches!(error, Error::Writable(_)) && error.to_string().contains("--chain-dir"), "{error}");
            }
        }
        fs::set_permissions(folder.path(""), fs::Permissions::from_mode(0o755)).unwrap();
        assert!(open(&folder.path(""), Purpose::Write).is_ok());
        fs::write(folder.path("file"), b"").unwrap();
        assert!(matches!(open(&folder.path("file"), Purpose::Write), Err(Error::Make { .. })));
        assert!(matches!(open(&folder.path("file"), Purpose::Show), Err(Error::Open { .. })));
    }

    #[test]
    fn a_folder_of_somebody_else_is_refused() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let folder = Folder::new();
        chown(folder.path(""), Some(12345), Some(12345)).unwrap();
        for purpose in [Purpose::Decide, Purpose::Write] {
            assert!(matches!(open(&folder.path(""), purpose), Err(Error::Stranger { owner: 12345, .. })));
        }
        assert!(open(&folder.path(""), Purpose::Show).unwrap().is_some());
        // The trial leaves nothing behind.
        assert!(folder.names("").is_empty());
    }
}
