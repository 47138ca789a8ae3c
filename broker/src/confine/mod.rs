//! The sandbox: how the process that was started becomes the confined emulator.
//!
//! [`become_emulator`] is the program; the order of its lines is the security argument.

pub mod capabilities;
pub mod identity;
pub mod image_user;
pub mod landlock;
mod mount_points;
pub mod mounts;
pub mod namespaces;
pub mod seccomp;
pub mod settle;
pub mod setup_link;
pub mod shared_mounts;

use std::convert::Infallible;
use std::ffi::CString;
use std::os::fd::OwnedFd;

use crate::agent::keeper;
use capabilities::Keep;
use identity::Identity;
use mounts::{Layout, Views};
use setup_link::SandboxEnd;

/// All that [`become_emulator`] needs; made by the plan.
#[derive(Debug)]
pub struct Sandbox {
    /// What the root of the sandbox holds.
    pub layout: Layout,
    /// Who the emulator is.
    pub identity: Identity,
    /// Its Landlock domain, enforced twice.
    pub domain: landlock::EmulatorDomain,
    /// Its system call filter, compiled.
    pub filter: sandbox_profiles::Program,
    /// What the agent is told.
    pub agent: keeper::Config,
    /// Path, arguments and environment of the emulator.
    pub emulator: Command,
}

/// What is executed at the end.
#[derive(Debug)]
pub struct Command {
    /// The emulator's binary, by its path in the sandbox.
    pub path: CString,
    /// Its arguments, the first being its name as typed.
    pub arguments: Vec<CString>,
    /// The caller's environment, as it is.
    pub environment: Vec<CString>,
    /// A connection of the emulator's own, which it inherits.
    pub own_socket: Option<OwnedFd>,
    /// Queues of networks and what else comes with them, whose numbers stand in the arguments. It inherits these, and no
    /// other process of the start has them.
    pub networks: Vec<OwnedFd>,
    /// It is asked to lock all its memory, or has the kernel lock it for a device.
    pub locks_memory: bool,
    /// Whether the caller ignores the ends of its children, which a new program inherits.
    pub ignores_children: bool,
}

/// Confines this process and executes the emulator in it. Only an error returns; the caller must then end the
/// process, which may be confined in part.
///
/// # Errors
/// One variant a step; each says what failed and what would mend it.
pub fn become_emulator(
    mut sandbox: Sandbox,
    views: Option<Views>,
    mut broker: SandboxEnd,
) -> Result<Infallible, Error> {
    // Groups while there is the right to: in a user namespace with one group nobody can change them.
    sandbox.identity.take_groups()?;
    // A limit as well, for the same reason.
    if sandbox.emulator.locks_memory {
        identity::allow_locked_memory()?;
    }
    // The same for the agent alone.
    let own_limit = if sandbox.agent.io_uring { identity::allow_rings() } else { None };
    // Another user's ids can only be mapped by the broker, still outside; one's own anybody maps.
    let maps_itself = sandbox.identity.is_own();
    // The namespaces: every later step acts on them, and the user namespace gives the rights for it.
    namespaces::enter()?;
    if maps_itself {
        sandbox.identity.map(std::process::id())?;
    } else {
        broker.map_ids()?;
    }
    // The ids at once, for no file of the sandbox can belong to an id that does not exist in it.
    sandbox.identity.assume()?;
    // What is to be seen, while the host's tree still is; the broker opens read-only grants through these.
    let views = match views {
        Some(views) => views,
        None => Views::clone_all(&sandbox.layout)?,
    };
    broker.show_namespace()?;
    broker.hand_over(&views)?;
    // The mounts before Landlock, which forbids to change them from then on.
    sandbox.agent.shared = mounts::pivot_into(&sandbox.layout, views)?;
    namespaces::bring_loopback_up()?;
    identity::limit_resources()?;
    // The broker has settled: from here on nothing outside helps this process any more.
    broker.wait_until_ready()?;
    // No capability in any set, and none to be had again; an agent that must read memory under Yama keeps one.
    capabilities::drop_all(sandbox.agent.capabilities())?;
    capabilities::forbid_new_privileges()?;
    // The layer that agent and emulator share: a process may read another's memory only from the same layer or
    // from one above it.
    let domain = sandbox.domain.build()?;
    domain.enforce()?;
    let agent = keeper::fork_off(sandbox.agent)?;
    // The agent has its limit, and the emulator the caller's.
    own_limit.map_or(Ok(()), identity::limit_locked_memory)?;
    capabilities::drop_all(Keep::Nothing)?;
    // The emulator's own layer: the agent is now above it, and out of its reach.
    domain.enforce()?;
    let agent = agent.wait_until_forked()?;
    // The filter last, so that it need not allow anything of the above.
    let listener = seccomp::install_emulator_filter(&sandbox.filter)?;
    agent.give_listener(listener)?;
    execute(&sandbox.emulator)
}

fn execute(command: &Command) -> Result<Infallible, Error> {
    if command.ignores_children {
        let _ = crate::sys::process::ignore(nix::sys::signal::Signal::SIGCHLD);
    }
    for descriptor in command.own_socket.iter().chain(&command.networks) {
        // No kernel refuses to pass a descriptor on.
        let _ = rustix::io::fcntl_setfd(descriptor, rustix::io::FdFlags::empty());
    }
    // The standard library had it ignored, which a new program would inherit. No kernel refuses to take that back.
    let _ = crate::sys::process::restore_default(nix::sys::signal::Signal::SIGPIPE);
    nix::unistd::execve(&command.path, &command.arguments, &command.environment)
        .map_err(|source| Error::Execute { path: command.path.clone(), source: source.into() })
}

/// Why this process could not be confined, or not become the emulator.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No namespaces.
    #[error(transparent)]
    Namespaces(#[from] namespaces::Error),
    /// The broker's half failed or went away.
    #[error(transparent)]
    Setup(#[from] setup_link::Error),
    /// The root could not be built.
    #[error(transparent)]
    Mounts(#[from] mounts::Error),
    /// The ids could not be taken.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// The limit on locked memory.
    #[error(transparent)]
    LockedMemory(#[from] identity::LockError),
    /// The ids could not be mapped.
    #[error(transparent)]
    MapIds(#[from] identity::MapError),
    /// Capabilities could not be dropped.
    #[error(transparent)]
    Capabilities(#[from] capabilities::Error),
    /// No Landlock.
    #[error(transparent)]
    Landlock(#[from] landlock::Error),
    /// No filter.
    #[error(transparent)]
    Seccomp(#[from] seccomp::Error),
    /// No agent.
    #[error(transparent)]
    Agent(#[from] keeper::Error),
    /// The emulator did not start.
    #[error("cannot execute {}: {source}{}", path.to_string_lossy(), execution_hint(source))]
    Execute {
        /// The emulator's path in the sandbox.
        path: CString,
        /// What `execve(2)` said.
        source: std::io::Error,
    },
}

/// What to do about a failed `execve(2)` whose errno does not say it.
fn execution_hint(error: &std::io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOSYS) => "; the agent of the sandbox did not start",
        Some(libc::ENOENT) => "; its loader was not found in the sandbox",
        Some(libc::ENOEXEC) => "; is it built for this machine?",
        _ => "",
    }
}
