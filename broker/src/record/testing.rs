//! What the tests of this module share.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Identity, Record, RecordedReference, Role};

/// A folder of a test's own.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("record-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = Self(std::env::temp_dir().join(name));
        fs::create_dir(&folder.0).unwrap_or_else(|error| panic!("mkdir {:?}: {error}", folder.0));
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The names in `folder`, sorted.
    pub fn names(&self, folder: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(folder)).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A file that is born in the second of its inode number.
pub fn identity(inode: u32) -> Identity {
    Identity { inode: inode.into(), born: Some((inode.into(), inode)) }
}

/// An image that names nothing.
pub fn record(image: &str, inode: u32, format: &str) -> Record {
    let file = identity(inode);
    Record { image: Path::new(image).to_owned(), file, format: format.to_owned(), references: Vec::new() }
}

pub fn reference(role: Role, path: &str, inode: u32, format: &str) -> RecordedReference {
    let file = identity(inode);
    RecordedReference { role, path: Path::new(path).to_owned(), file, format: format.to_owned() }
}

/// Numbers that look random and are the same in each run (xorshift64, Marsaglia).
pub struct Random(u64);

impl Default for Random {
    fn default() -> Self {
        Self(0x2545_f491_4f6c_dd1d)
    }
}

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }

    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(limit).unwrap_or(1)).unwrap_or_default()
    }
}
