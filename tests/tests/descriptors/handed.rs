//! A descriptor that a test hands to the emulator's command line.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use tests::{During, Result, is_bare};

/// The least number that these descriptors get: the test harness has its own on lower ones.
const FIRST: i32 = 100;

/// An open descriptor that every child inherits, for as long as this is kept.
#[derive(Debug)]
pub struct Handed(OwnedFd);

impl Handed {
    /// Opens a file.
    pub fn open(path: &Path, flags: OFlags) -> Result<Self> {
        let opened = openat(CWD, path, flags | OFlags::CLOEXEC, Mode::empty());
        Self::of(opened.during(format!("open {}", path.display()))?)
    }

    /// Opens an image for reading and writing, to be named as such; plain QEMU is given its path, and not this.
    pub fn writable(path: &Path) -> Result<Self> {
        let handed = Self::open(path, OFlags::RDWR)?;
        if is_bare() {
            fcntl_setfd(&handed.0, FdFlags::CLOEXEC).during("take a descriptor back")?;
        }
        Ok(handed)
    }

    /// Lets children inherit what is open.
    pub fn of(opened: impl AsFd) -> Result<Self> {
        let moved = fcntl_dupfd_cloexec(opened, FIRST).during("move a descriptor")?;
        fcntl_setfd(&moved, FdFlags::empty()).during("hand a descriptor over")?;
        Ok(Self(moved))
    }

    /// Its number.
    pub fn number(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// `fd:N`; for plain QEMU, which knows no such name, the path of the same file.
    pub fn name(&self, path: &str) -> String {
        if is_bare() { path.to_owned() } else { format!("fd:{}", self.number()) }
    }
}
