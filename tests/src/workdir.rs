//! A folder of its own for each test, gone when the test is.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::error::{During, Error, Result};

/// A temporary folder with two parts: `files`, where the emulator runs and finds its images, and `aside`,
/// for its output and whatever else a test needs, so that a test can say exactly what lies in `files` afterwards.
#[derive(Debug)]
pub struct Workdir {
    top: PathBuf,
}

impl Workdir {
    /// An empty folder beneath the one that `BROKER_TESTS_FOLDER` names (for runs on a certain file system), or
    /// beneath the system's temporary folder.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new() -> Result<Self> {
        let parent = std::env::var_os("BROKER_TESTS_FOLDER").map_or_else(std::env::temp_dir, PathBuf::from);
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let top = parent.join(format!("broker-test-{}-{number:04}", std::process::id()));
        let workdir = Self { top };
        for folder in [workdir.top.clone(), workdir.files(), workdir.aside()] {
            fs::create_dir(&folder).during(format!("mkdir {}", folder.display()))?;
            // An ordinary user whom a test starts must reach the images, whatever the umask of this run.
            fs::set_permissions(&folder, Permissions::from_mode(0o755))
                .during(format!("chmod {}", folder.display()))?;
        }
        Ok(workdir)
    }

    /// Where the emulator runs, and where images lie.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        self.top.join("files")
    }

    /// Where the emulator's output goes, and what must not lie beside the images.
    #[must_use]
    pub fn aside(&self) -> PathBuf {
        self.top.join("aside")
    }

    /// Where the broker, run by `user` or else by whoever runs the tests, records the chains of the images.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn chains(&self, user: Option<u32>) -> Result<PathBuf> {
        let owner = user.unwrap_or_else(|| rustix::process::getuid().as_raw());
        let folder = self.aside().join(format!("chains-{owner}"));
        fs::create_dir_all(&folder).during(format!("mkdir {}", folder.display()))?;
        // Some file systems have no owners to give away; then the folder is everybody's own.
        let _ = chown(&folder, Some(owner), Some(owner));
        fs::set_permissions(&folder, Permissions::from_mode(0o700)).during(format!("chmod {}", folder.display()))?;
        Ok(folder)
    }

    /// The path of a file beside the images.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.files().join(name)
    }

    /// Writes a file beside the images.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.path(name);
        fs::write(&path, bytes).during(format!("write {}", path.display()))?;
        Ok(path)
    }

    /// Reads a file beside the images.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.path(name);
        fs::read(&path).during(format!("read {}", path.display()))
    }

    /// Copies `source` to stand beside the images as `name`, keeping its execute bits.
    ///
    /// # Errors
    /// When it cannot be copied.
    pub fn copy(&self, source: &Path, name: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::copy(source, &path).during(format!("copy {} to {}", source.display(), path.display()))?;
        Ok(path)
    }

    /// A log file, opened twice: for the emulator to append to, and its path.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn log(&self, name: &str) -> Result<(File, PathBuf)> {
        let path = self.aside().join(name);
        let file =
            OpenOptions::new().create(true).append(true).open(&path).during(format!("create {}", path.display()))?;
        Ok((file, path))
    }

    /// Gives the folder and all that lies in it to a user and the group of the same number.
    ///
    /// # Errors
    /// When this process may not give files away.
    pub fn give_to(&self, user: u32) -> Result<()> {
        let mut paths: Vec<PathBuf> = vec![self.files()];
        for name in self.listing()? {
            paths.push(self.files().join(name));
        }
        for path in paths {
            chown(&path, Some(user), Some(user)).during(format!("chown {}", path.display()))?;
        }
        Ok(())
    }

    /// The names of what lies beside the images.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn listing(&self) -> Result<BTreeSet<OsString>> {
        names_in(&self.files())
    }
}

impl Drop for Workdir {
    fn drop(&mut self) {
        // What a failed test leaves behind is in the way of nothing; a panic here would hide its message.
        if std::env::var_os("BROKER_TESTS_KEEP").is_none() {
            let _ = fs::remove_dir_all(&self.top);
        }
    }
}

/// The names in a folder; an absent folder holds none.
///
/// # Errors
/// When it is there and cannot be read.
pub(crate) fn names_in(folder: &Path) -> Result<BTreeSet<OsString>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(source) => {
            let what = format!("list {}", folder.display());
            return Err(Error::Io { what, source });
        }
    };
    let mut names = BTreeSet::new();
    for entry in entries {
        names.insert(entry.during(format!("list {}", folder.display()))?.file_name());
    }
    Ok(names)
}
