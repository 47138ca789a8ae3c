//! Who the emulator is: user, group, supplementary groups; and the limits it gets.

use std::io;

use caps::Capability;
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, rlim_t, setrlimit};
use nix::unistd::{Gid, Uid};

use super::capabilities;

/// The supplementary groups of the emulator.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Groups {
    /// Dropped, where there is the right to.
    None,
    /// Those of the caller, who cannot drop them.
    Kept,
    /// These, by number.
    Exactly(Vec<u32>),
}

/// The ids of the emulator, the same inside and outside its user namespace.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Groups,
}

impl Identity {
    /// Whether these are the ids that this process has already.
    #[must_use]
    pub fn is_own(&self) -> bool {
        let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        own == (self.uid, self.gid)
    }

    /// Takes the supplementary groups, if the caller's are not kept. To be done outside the user namespace, in which nobody may
    /// change groups any more.
    ///
    /// # Errors
    /// `EPERM`: no right to.
    pub fn take_groups(&self) -> Result<(), Error> {
        let groups: &[u32] = match &self.groups {
            Groups::None => &[],
            Groups::Kept => return Ok(()),
            Groups::Exactly(groups) => groups,
        };
        let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
        nix::unistd::setgroups(&groups).map_err(|source| Error::of("setgroups", source))
    }

    /// Writes the id maps of the user namespace of process `pid`: one user, one group, the same inside as outside. A
    /// process may do so for itself where [`Self::is_own`] is true; any other ids are mapped by root, from outside.
    ///
    /// # Errors
    /// [`MapError`]: `EPERM`, no right to these ids.
    pub fn map(&self, pid: u32) -> Result<(), MapError> {
        let write = |file: &str, text: String| {
            let path = format!("/proc/{pid}/{file}");
            std::fs::write(&path, text).map_err(|source| MapError { path, source })
        };
        // user_namespaces(7): without it, an ordinary user may not map a group.
        write("setgroups", "deny".into())?;
        write("uid_map", format!("{0} {0} 1", self.uid))?;
        write("gid_map", format!("{0} {0} 1", self.gid))
    }

    /// Takes these ids, the group first, for a user that was switched could no longer change it.
    ///
    /// # Errors
    /// `EINVAL`: an id that the user namespace does not map. `EPERM`: no right to.
    pub fn assume(&self) -> Result<(), Error> {
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        nix::unistd::setresgid(gid, gid, gid).map_err(|source| Error::of("setresgid", source))?;
        nix::unistd::setresuid(uid, uid, uid).map_err(|source| Error::of("setresuid", source))
    }
}

/// The ids could not be mapped.
#[derive(Debug, thiserror::Error)]
#[error("cannot map the emulator's user into the sandbox: {path}: {source}; start broker as root or as that user")]
pub struct MapError {
    path: String,
    source: io::Error,
}

/// Takes what the emulator has no use for: POSIX message queues, which its private IPC namespace would charge to the
/// caller's user. All other limits stay as the caller set them.
///
/// # Errors
/// None are known for lowering a limit.
pub fn limit_resources() -> Result<(), Error> {
    setrlimit(Resource::RLIMIT_MSGQUEUE, 0, 0).map_err(|source| Error::of("setrlimit", source))
}

/// Lets the emulator lock all its memory, where this process may by its capability (`CAP_IPC_LOCK`), which the emulator
/// loses. To be done outside the user namespace, in which nobody may raise a limit.
///
/// # Errors
/// [`LockError`]: `EPERM`, no `CAP_SYS_RESOURCE`, and the limit is not high enough already.
pub fn allow_locked_memory() -> Result<(), LockError> {
    if !capabilities::holds(Capability::CAP_IPC_LOCK).unwrap_or(false) {
        return Ok(());
    }
    let raised = || match getrlimit(Resource::RLIMIT_MEMLOCK)? {
        (RLIM_INFINITY, RLIM_INFINITY) => Ok(()),
        _ => setrlimit(Resource::RLIMIT_MEMLOCK, RLIM_INFINITY, RLIM_INFINITY),
    };
    raised().map_err(|source: nix::errno::Errno| LockError(source.into()))
}

/// A limit on locked memory, soft and hard, in bytes.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct LockedMemory(rlim_t, rlim_t);

/// Bytes that the rings of a user's guests may take, where the kernel counts them as locked memory: those of some five
/// hundred of the greatest that an agent makes. A disk or an I/O thread has one, of half the size.
const RINGS: rlim_t = 16 << 20;

/// Raises the limit on locked memory where this process may exceed it by its capability, for the agent makes the rings of
/// io_uring, has no capability, and there are kernels that count their memory against that limit (`__io_account_mem`,
/// io_uring). The limit as it was, which the emulator is to have; none if it stays. Who cannot raise it goes
/// without: other kernels do not ask, and a ring that does not fit is `ENOMEM` to the emulator.
#[must_use]
pub fn allow_rings() -> Option<LockedMemory> {
    if !capabilities::holds(Capability::CAP_IPC_LOCK).unwrap_or(false) {
        return None;
    }
    let (soft, hard) = getrlimit(Resource::RLIMIT_MEMLOCK).ok()?;
    let (wanted, most) = enough_for_rings(soft, hard);
    setrlimit(Resource::RLIMIT_MEMLOCK, wanted, most).ok()?;
    (wanted != soft).then_some(LockedMemory(soft, hard))
}

/// The limit, soft and hard, with which there is memory for rings; one that is greater stays.
fn enough_for_rings(soft: rlim_t, hard: rlim_t) -> (rlim_t, rlim_t) {
    (soft.max(RINGS), hard.max(RINGS))
}

/// Puts a limit back that was lifted.
///
/// # Errors
/// None are known for lowering a limit.
pub fn limit_locked_memory(LockedMemory(soft, hard): LockedMemory) -> Result<(), Error> {
    setrlimit(Resource::RLIMIT_MEMLOCK, soft, hard).map_err(|source| Error::of("setrlimit", source))
}

/// The limit on locked memory could not be raised.
#[derive(Debug, thiserror::Error)]
#[error(
    "cannot raise the limit on locked memory, which -overcommit mem-lock=on and devices of the host (vfio-pci) take: {0}; \
     say `ulimit -l unlimited` before, or start broker with CAP_SYS_RESOURCE"
)]
pub struct LockError(io::Error);

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_get_a_fixed_sum_and_take_nothing_away() {
        assert_eq!(enough_for_rings(64 << 10, 8 << 20), (RINGS, RINGS));
        assert_eq!(enough_for_rings(8 << 20, 64 << 20), (RINGS, 64 << 20));
        assert_eq!(enough_for_rings(32 << 20, RLIM_INFINITY), (32 << 20, RLIM_INFINITY));
        assert_eq!(enough_for_rings(RLIM_INFINITY, RLIM_INFINITY), (RLIM_INFINITY, RLIM_INFINITY));
    }
}
