//! Who the emulator is: user, group, supplementary groups; and the limits it gets.

use std::io;

use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::{Gid, Uid};

/// Whether the process that was started may choose its groups.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Groups {
    /// As root: the emulator has no supplementary group.
    None,
    /// As an ordinary user, who cannot drop a group: those of the caller.
    Kept,
}

/// The ids of the emulator, the same inside and outside its user namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Groups,
}

impl Identity {
    /// Takes these ids, groups first, for a user that was switched could no longer change them.
    ///
    /// # Errors
    /// `EINVAL`: an id that the user namespace does not map. `EPERM`: no right to.
    pub fn assume(&self) -> Result<(), Error> {
        if self.groups == Groups::None {
            nix::unistd::setgroups(&[]).map_err(|source| Error::of("setgroups", source))?;
        }
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        nix::unistd::setresgid(gid, gid, gid).map_err(|source| Error::of("setresgid", source))?;
        nix::unistd::setresuid(uid, uid, uid).map_err(|source| Error::of("setresuid", source))
    }
}

/// Takes what the emulator has no use for: POSIX message queues, which its private IPC namespace would charge to the
/// caller's user. All other limits stay as the caller set them.
///
/// # Errors
/// None are known for lowering a limit.
pub fn limit_resources() -> Result<(), Error> {
    setrlimit(Resource::RLIMIT_MSGQUEUE, 0, 0).map_err(|source| Error::of("setrlimit", source))
}

/// Which step of the change of identity failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot take the emulator's user and group: {call}: {source}")]
pub struct Error {
    call: &'static str,
    source: io::Error,
}

impl Error {
    fn of(call: &'static str, errno: nix::errno::Errno) -> Self {
        Self { call, source: errno.into() }
    }
}
