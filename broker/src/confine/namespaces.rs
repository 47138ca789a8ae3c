//! The namespaces that the emulator lives in: user, mount, network, IPC and UTS. No pid namespace: the thread
//! ids that QMP reports must be the host's.

use std::io;

use nix::sched::CloneFlags;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// Moves this process into new, empty namespaces.
///
/// # Errors
/// `EPERM` or `ENOSPC`: user namespaces are disabled or used up on this host.
pub fn enter() -> Result<(), Error> {
    let flags = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    nix::sched::unshare(flags).map_err(|errno| match errno {
        nix::errno::Errno::ENOSPC => Error::UsedUp,
        errno => Error::Unshare { hint: hint(), source: errno.into() },
    })
}

/// Brings the loopback interface up, the only one that the network namespace has.
///
/// # Errors
/// `EPERM`: the process may not administer the network namespace that it made.
pub fn bring_loopback_up() -> Result<(), Error> {
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None);
    socket
        .map_err(io::Error::from)
        .and_then(|socket| crate::sys::net::loopback_up(std::os::fd::AsFd::as_fd(&socket)))
        .map_err(|source| Error::Loopback { source })
}

/// The switches that disable user namespaces, and what turns each on again.
const SWITCHES: [(&str, &str, &str); 3] = [
    // Debian's and Arch's kernels up to 6.1.
    ("/proc/sys/kernel/unprivileged_userns_clone", "0", "sysctl kernel.unprivileged_userns_clone=1"),
    // Linux 4.9, user_namespaces(7).
    ("/proc/sys/user/max_user_namespaces", "0", "sysctl user.max_user_namespaces=10000"),
    // Ubuntu 23.10 and later.
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "an AppArmor profile with `userns,` for broker, or sysctl kernel.apparmor_restrict_unprivileged_userns=0",
    ),
];

/// What most likely forbids user namespaces on this host, as advice.
#[must_use]
pub fn hint() -> &'static str {
    SWITCHES
        .iter()
        .find(|(file, off, _)| std::fs::read_to_string(file).is_ok_and(|value| value.trim() == *off))
        .map_or("an outer container or a chroot forbids user namespaces; start broker outside it", |(_, _, mend)| mend)
}

/// Why there are no namespaces.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused.
    #[error("cannot create user namespaces: {source}; to allow them: {hint}")]
    Unshare {
        /// What would mend it.
        hint: &'static str,
        /// What `unshare(2)` said.
        source: io::Error,
    },
    /// A limit.
    #[error(
        "cannot create user namespaces: no more of them are allowed; raise sysctl user.max_user_namespaces \
         (and max_net_namespaces, max_mnt_namespaces)"
    )]
    UsedUp,
    /// The loopback interface stays down.
    #[error("cannot bring up the loopback interface of the sandbox: {source}")]
    Loopback {
        /// What the kernel said.
        source: io::Error,
    },
}
