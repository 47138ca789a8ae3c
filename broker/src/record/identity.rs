//! Which file it is, whatever its name.

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, StatxFlags};

/// Inode number and time of birth. A number is used again when its file is gone, and then the time is another one.
/// The device is left out: its number is another one on each host, and after each mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Inode number.
    pub inode: u64,
    /// Seconds and nanoseconds since 1970, where the file system knows them (NFS often does not).
    pub born: Option<(i64, u32)>,
}

impl Identity {
    /// That of what `pin` holds, which may be an `O_PATH` descriptor.
    ///
    /// # Errors
    /// Those of `statx(2)`: `ESTALE`, `EIO` of a file server.
    pub fn of(pin: BorrowedFd<'_>) -> io::Result<Self> {
        Self::look(pin, Path::new(""), AtFlags::EMPTY_PATH)
    }

    /// That of what `path` leads to, links included.
    ///
    /// # Errors
    /// Those of `statx(2)`: `ENOENT` ...
    pub fn at(path: &Path) -> io::Result<Self> {
        Self::look(CWD, path, AtFlags::empty())
    }

    fn look(folder: BorrowedFd<'_>, name: &Path, flags: AtFlags) -> io::Result<Self> {
        let found = rustix::fs::statx(folder, name, flags, StatxFlags::INO | StatxFlags::BTIME)?;
        let is_told = StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::BTIME);
        let born = (found.stx_btime.tv_sec, found.stx_btime.tv_nsec);
        // No file is that old: some file systems say 0 for "unknown".
        Ok(Self { inode: found.stx_ino, born: Some(born).filter(|born| is_told && *born != (0, 0)) })
    }

    /// Whether both can be the same file: nothing says otherwise. Enough where the path is the same as well.
    #[must_use]
    pub fn may_be(self, other: Self) -> bool {
        let differ = self.born.zip(other.born).is_some_and(|(one, another)| one != another);
        self.inode == other.inode && !differ
    }

    /// Whether both are the same file, whatever the paths.
    #[must_use]
    pub fn is_surely(self, other: Self) -> bool {
        self.born.is_some() && self == other
    }

    /// Time of birth in text: seconds, a dot, nine digits.
    #[must_use]
    pub fn born_text(self) -> Option<String> {
        self.born.map(|(seconds, nanoseconds)| format!("{seconds}.{nanoseconds:09}"))
    }

    /// Reads both parts back.
    #[must_use]
    pub fn read(inode: &str, born: Option<&str>) -> Option<Self> {
        let born = match born {
            None => None,
            Some(text) => {
                let (seconds, nanoseconds) = text.split_once('.').filter(|(_, digits)| digits.len() == 9)?;
                Some((seconds.parse().ok()?, nanoseconds.parse().ok()?))
            }
        };
        Some(Self { inode: inode.parse().ok()?, born })
    }
}

/// As in the names of records: `INODE-BORN`, with 0 for a birth that is not known.
impl fmt::Display for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{}", self.inode, self.born_text().as_deref().unwrap_or("0"))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::open::pin::Pin;
    use crate::record::testing::Folder;

    fn identity(inode: u64, born: Option<(i64, u32)>) -> Identity {
        Identity { inode, born }
    }

    #[test]
    fn a_used_number_is_not_trusted() {
        let old = identity(7, Some((100, 5)));
        for (other, may_be, is_surely) in [
            (identity(7, Some((100, 5))), true, true),
            (identity(7, Some((100, 6))), false, false),
            (identity(7, Some((101, 5))), false, false),
            (identity(8, Some((100, 5))), false, false),
            (identity(7, None), true, false),
            (identity(8, None), false, false),
        ] {
            assert_eq!((old.may_be(other), old.is_surely(other)), (may_be, is_surely), "{other}");
            assert_eq!((other.may_be(old), other.is_surely(old)), (may_be, is_surely), "{other}");
        }
        assert!(identity(7, None).may_be(identity(7, None)) && !identity(7, None).is_surely(identity(7, None)));
    }

    #[test]
    fn text_reads_back() {
        for born in [None, Some((0, 1)), Some((-5, 0)), Some((i64::MAX, 999_999_999))] {
            let written = identity(u64::MAX, born);
            let text = written.born_text();
            assert_eq!(Identity::read(&written.inode.to_string(), text.as_deref()), Some(written));
        }
        for (inode, born) in [
            ("", None),
            ("-1", None),
            ("1", Some("")),
            ("1", Some("5")),
            ("1", Some("5.1")),
            ("1", Some("x.000000000")),
        ] {
            assert_eq!(Identity::read(inode, born), None, "{inode} {born:?}");
        }
        assert_eq!(identity(3, Some((5, 7))).to_string(), "3-5.000000007");
        assert_eq!(identity(3, None).to_string(), "3-0");
    }

    #[test]
    fn a_file_stays_itself_under_another_name_and_a_new_one_is_another() {
        let folder = Folder::new();
        std::fs::write(folder.path("a"), b"x").unwrap();
        let first = Identity::of(Pin::take(&folder.path("a")).unwrap().as_fd()).unwrap();
        std::fs::rename(folder.path("a"), folder.path("b")).unwrap();
        assert_eq!(Identity::at(&folder.path("b")).unwrap(), first);
        std::fs::write(folder.path("a"), b"x").unwrap();
        assert_ne!(Identity::at(&folder.path("a")).unwrap(), first);
        assert!(Identity::at(&folder.path("c")).is_err());
    }
}
