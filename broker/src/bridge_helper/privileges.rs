//! What this process may do, and how it lays that down.

use caps::{CapSet, Capability};
use nix::unistd::{ResGid, ResUid, getresgid, getresuid, setresgid, setresuid};

use crate::confine::capabilities::{self, Keep};
use crate::sys::process;

/// What is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights {
    /// This process may do what who started it may not, or was told to distrust him.
    pub are_more_than_callers: bool,
}

/// Whether this program's file gave the process rights that who started it lacks: other ids (setuid, setgid), or
/// capabilities. Those that an ordinary user's process has of somebody else's are ambient ones (capabilities(7)).
///
/// # Errors
/// None on any kernel that broker runs on.
pub fn are_gained() -> Result<bool, Error> {
    let (user, group) = ids()?;
    if user.real != user.effective || group.real != group.effective {
        return Ok(true);
    }
    let permitted = caps::read(None, CapSet::Permitted)?;
    if user.real.is_root() || permitted.is_empty() {
        return Ok(false);
    }
    Ok(!permitted.is_subset(&caps::read(None, CapSet::Ambient)?))
}

/// Lays down all rights but `CAP_NET_ADMIN`, for good: the process is who started it, with that user's groups, and no
/// program that it executes can have more. That one right waits until [`take_up`].
///
/// # Errors
/// [`Error`]: something is left, so nothing may be done.
pub fn lay_down() -> Result<Rights, Error> {
    let permitted = caps::read(None, CapSet::Permitted)?;
    let is_root = ids()?.0.real.is_root();
    let are_more_than_callers = are_gained()? || process::is_secure_start() || !is_root && !permitted.is_empty();
    let may_configure = permitted.contains(&Capability::CAP_NET_ADMIN);
    // Where CAP_SETPCAP is missing, the secure bits stay, and a change of ids takes all capabilities unless this keeps
    // the permitted ones. A failure (the bit is locked) shows in the check below.
    let _ = rustix::thread::set_keep_capabilities(true);
    capabilities::drop_all(if may_configure { Keep::Network } else { Keep::Nothing })?;
    take_callers_ids()?;
    // Files and names are looked up without it, the latter by the C library's modules.
    caps::clear(None, CapSet::Effective)?;
    capabilities::forbid_new_privileges()?;
    check()?;
    Ok(Rights { are_more_than_callers })
}

/// Puts `CAP_NET_ADMIN` into effect, if it was left.
///
/// # Errors
/// [`Error::Sets`].
pub fn take_up() -> Result<(), Error> {
    let permitted = caps::read(None, CapSet::Permitted)?;
    Ok(caps::set(None, CapSet::Effective, &permitted)?)
}

/// The real ids become the effective and the saved ones, which takes no right; supplementary groups are the caller's
/// anyhow.
fn take_callers_ids() -> Result<(), Error> {
    let (user, group) = ids()?;
    setresgid(group.real, group.real, group.real).map_err(Error::Ids)?;
    setresuid(user.real, user.real, user.real).map_err(Error::Ids)
}

/// That the kernel did what it said.
fn check() -> Result<(), Error> {
    let (user, group) = ids()?;
    let are_callers =
        [user.effective, user.saved] == [user.real; 2] && [group.effective, group.saved] == [group.real; 2];
    let sets = [CapSet::Permitted, CapSet::Effective, CapSet::Inheritable, CapSet::Ambient];
    for set in sets {
        let left = caps::read(None, set)?;
        if left.iter().any(|capability| *capability != Capability::CAP_NET_ADMIN) {
            return Err(Error::Left);
        }
    }
    if are_callers { Ok(()) } else { Err(Error::Left) }
}

fn ids() -> Result<(ResUid, ResGid), Error> {
    Ok((getresuid().map_err(Error::Ids)?, getresgid().map_err(Error::Ids)?))
}

/// Why rights are still there.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Of the process's own ids.
    #[error("cannot become who started this: {0}")]
    Ids(nix::errno::Errno),
    /// A set could not be read or changed.
    #[error("cannot drop capabilities: {0}")]
    Sets(#[from] caps::errors::CapsError),
    /// See there.
    #[error(transparent)]
    Capabilities(#[from] capabilities::Error),
    /// No call failed, and yet.
    #[error("rights are left after all were dropped; nothing is done")]
    Left,
}
