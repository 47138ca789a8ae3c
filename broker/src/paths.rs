//! Paths by their letters alone.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

/// `name` as an absolute path without `.`, `..` and doubled slashes, read from `folder`. Links are not looked at.
#[must_use]
pub fn absolute(folder: &Path, name: &[u8]) -> Vec<u8> {
    let mut path = PathBuf::from("/");
    for component in folder.join(OsStr::from_bytes(name)).components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::ParentDir => {
                path.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    path.into_os_string().into_vec()
}

/// The same as a path.
#[must_use]
pub fn absolute_path(folder: &Path, name: &OsStr) -> PathBuf {
    PathBuf::from(OsString::from_vec(absolute(folder, name.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names_as_a_person_would() {
        let read = |name: &[u8]| absolute(Path::new("/home/u"), name);
        assert_eq!(read(b"a"), b"/home/u/a");
        assert_eq!(read(b"./a//b/."), b"/home/u/a/b");
        assert_eq!(read(b"../v/a"), b"/home/v/a");
        assert_eq!(read(b"../../../../a"), b"/a");
        assert_eq!(read(b"/usr/bin/../share"), b"/usr/share");
        assert_eq!(read(b"\xff"), b"/home/u/\xff");
    }
}
