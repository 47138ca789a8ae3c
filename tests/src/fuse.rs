//! A file system in memory that behaves like a server in trouble: an open of one of its files can be made to hang, or to
//! fail with an errno of the test's choice, while its other files go on as ever; or like an export that takes root for
//! nobody.

mod server;

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};

use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};

use crate::error::{During, Error, Result};
use crate::wait::{PATIENCE, until};
use server::{Server, Shared};

/// What an open of a file comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// A descriptor.
    Healthy,
    /// Nothing, until [`FuseFolder::release`].
    Hanging,
    /// The same, and so does whoever asks what the file is (`stat`).
    Silent,
    /// This errno.
    Failing(i32),
}

/// A mounted folder. Unmounted, its hanging opens answered with `EIO`, when dropped; drop the emulator before.
#[derive(Debug)]
pub struct FuseFolder {
    place: PathBuf,
    shared: Arc<Shared>,
    /// Ends with the mount.
    _session: BackgroundSession,
}

impl FuseFolder {
    /// Mounts a folder with these files (name and bytes) at `place`, which is made for it, for every user. All its
    /// files belong to `owner`.
    ///
    /// # Errors
    /// `EPERM` to all but root, `ENOENT` where the kernel has no FUSE.
    pub fn mount(place: PathBuf, owner: u32, files: Vec<(OsString, Vec<u8>)>) -> Result<Self> {
        let options = vec![MountOption::FSName("broker-test".into()), MountOption::DefaultPermissions];
        Self::mount_with(place, Shared::new(files, owner), options)
    }

    /// The same with a folder of mode 0700 and files of mode 0600, which the server lets nobody but `owner` open or look
    /// up: root neither. Whoever has a descriptor reads and writes.
    ///
    /// # Errors
    /// As [`Self::mount`].
    pub fn mount_squashed(place: PathBuf, owner: u32, files: Vec<(OsString, Vec<u8>)>) -> Result<Self> {
        let options = vec![MountOption::FSName("broker-test".into())];
        Self::mount_with(place, Shared::new(files, owner).squashed(), options)
    }

    fn mount_with(place: PathBuf, shared: Shared, options: Vec<MountOption>) -> Result<Self> {
        fs::create_dir_all(&place).during(format!("mkdir {}", place.display()))?;
        let shared = Arc::new(shared);
        let mut config = Config::default();
        config.acl = SessionACL::All;
        config.mount_options = options;
        let session = Session::new(Server::new(Arc::clone(&shared)), &place, &config)
            .and_then(Session::spawn)
            .during(format!("mount a file system at {}", place.display()))?;
        Ok(Self { place, shared, _session: session })
    }

    /// The path of one of its files.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.place.join(name)
    }

    /// What a file holds, whoever may open it.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn bytes(&self, name: &str) -> Result<Vec<u8>> {
        let missing = || Error::Unexpected(format!("no file {name} in {}", self.place.display()));
        self.shared.find(name.as_ref()).map(|file| file.bytes()).ok_or_else(missing)
    }

    /// What every later open of a file comes to.
    ///
    /// # Errors
    /// When there is no such file.
    pub fn set(&self, name: &str, mood: Mood) -> Result<()> {
        match self.shared.find(name.as_ref()) {
            Some(file) => {
                file.set_mood(mood);
                Ok(())
            }
            None => Err(Error::Unexpected(format!("no file {name} in {}", self.place.display()))),
        }
    }

    /// Waits until at least `count` questions hang.
    ///
    /// # Errors
    /// When they do not.
    pub fn await_hanging(&self, count: usize) -> Result<()> {
        until(PATIENCE, &format!("{count} questions to the file system to hang"), || {
            Ok((self.shared.hanging() >= count).then_some(()))
        })
    }

    /// How many questions hang at this moment.
    #[must_use]
    pub fn hanging(&self) -> usize {
        self.shared.hanging()
    }

    /// Makes every file healthy, and answers all that hangs.
    pub fn release(&self) {
        self.shared.recover();
        self.shared.answer_hanging(Ok(()));
    }
}

impl Drop for FuseFolder {
    fn drop(&mut self) {
        // No process may be left waiting for a server that is gone.
        self.shared.recover();
        self.shared.answer_hanging(Err(fuser::Errno::EIO));
        // A broker that is just ending may still hold a file of it, so the mount goes when that does.
        let _ = Command::new("umount").arg("--lazy").arg(&self.place).stderr(Stdio::null()).status();
    }
}

/// Whether this process may mount such a folder; tried once.
#[must_use]
pub(crate) fn works() -> bool {
    static WORKS: OnceLock<bool> = OnceLock::new();
    *WORKS.get_or_init(|| {
        let place = std::env::temp_dir().join(format!("broker-test-fuse-{}", std::process::id()));
        let mounted = FuseFolder::mount(place.clone(), 0, Vec::new()).is_ok();
        // Only a folder that nothing is mounted on any more can be removed.
        mounted && fs::remove_dir(place).is_ok()
    })
}
