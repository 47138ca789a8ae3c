//! A file that nobody may open, and a watch on it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::fanotify::{EventFFlags, Fanotify, InitFlags, MarkFlags, MaskFlags};

use crate::error::{During, Error, Result};
use crate::workdir::Workdir;

/// What stands in it.
const SECRET: &str = "CANARY: root:$y$j9T$a-password-that-nobody-may-read";

/// A file outside of every image root, which only root may read.
#[derive(Debug)]
pub struct Canary {
    path: PathBuf,
    watch: Fanotify,
}

impl Canary {
    /// Puts one aside of the work folder's images. Needs root (`CAP_SYS_ADMIN`, fanotify_init(2)).
    ///
    /// # Errors
    /// When it cannot be made or watched.
    pub fn put(workdir: &Workdir) -> Result<Self> {
        let path = workdir.aside().canonicalize().during("find the folder")?.join("canary");
        fs::write(&path, SECRET).during(format!("write {}", path.display()))?;
        fs::set_permissions(&path, Permissions::from_mode(0o600)).during(format!("chmod {}", path.display()))?;
        let flags = InitFlags::FAN_CLASS_NOTIF | InitFlags::FAN_CLOEXEC | InitFlags::FAN_NONBLOCK;
        let watch = Fanotify::init(flags, EventFFlags::O_RDONLY | EventFFlags::O_CLOEXEC).during("fanotify_init")?;
        let events = MaskFlags::FAN_OPEN | MaskFlags::FAN_ACCESS | MaskFlags::FAN_MODIFY;
        watch.mark(MarkFlags::FAN_MARK_ADD, events, AT_FDCWD, Some(&path)).during("fanotify_mark")?;
        Ok(Self { path, watch })
    }

    /// Where it is, links resolved.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether anybody has opened, read or written it since this was last asked. Opens with `O_PATH` are not seen.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn was_opened(&self) -> Result<bool> {
        let mut count = 0;
        loop {
            match self.watch.read_events() {
                Ok(events) => count += events.len(),
                Err(Errno::EAGAIN) => return Ok(count > 0),
                Err(error) => {
                    return Err(Error::Io { what: "read the events of fanotify".to_owned(), source: error.into() });
                }
            }
        }
    }

    /// Whether some of its content stands in `text`.
    #[must_use]
    pub fn is_quoted_in(&self, text: &str) -> bool {
        text.contains("CANARY")
    }
}
