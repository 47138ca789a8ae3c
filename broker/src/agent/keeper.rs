//! The agent's parent: a process of the same Landlock layer that does nothing but fork an agent, and another one when
//! that dies. A replacement made anywhere else could not read the emulator's memory.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use landlock::ABI;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use protocol::{ClientHandshake, ClientSession, SocketMode};
use rustix::fs::{Mode, OFlags};
use sandbox_profiles::{Profile, Variant};

use super::Agent;
use super::names::Names;
use crate::confine::capabilities::Keep;
use crate::confine::seccomp;
use crate::confine::shared_mounts::SharedMounts;
use crate::host::Host;
use crate::packets;
use crate::sys::in_flight::InFlight;
use crate::sys::process::{self, Between, Fork};

/// Agents of one guest at most; an emulator that can kill them must not keep the host busy with it.
const MAX_AGENTS: u32 = 100;

/// The byte that goes with a listener, or with the broker's end of a new session.
const PACKET: u8 = 1;

/// What keeper and agents are given.
#[derive(Debug)]
pub struct Config {
    /// Who looks up which name.
    pub names: Names,
    /// Where the broker takes its ends of new sessions from.
    pub broker: OwnedFd,
    /// A pidfd of the process that becomes the emulator; none where the emulator forks, and its end shows only on
    /// the listener.
    pub life: Option<OwnedFd>,
    /// The mounts in which the emulator may change modes; known once they are mounted.
    pub shared: SharedMounts,
    /// Landlock ABI of the kernel, on which the agents' filter depends.
    pub abi: ABI,
    /// Whether they make rings of io_uring.
    pub io_uring: bool,
    /// Whether a capability is needed to read the emulator's memory, as under Yama.
    pub needs_capability: bool,
}

impl Config {
    /// The capability that agents keep.
    #[must_use]
    pub fn capabilities(&self) -> Keep {
        if self.needs_capability { Keep::ReadMemory } else { Keep::Nothing }
    }
}

/// A keeper that is being forked off.
#[derive(Debug)]
#[must_use]
pub struct Starting {
    socket: OwnedFd,
    between: Between,
}

impl Starting {
    /// Waits until it is nobody's child.
    ///
    /// # Errors
    /// [`Error::Fork`].
    pub fn wait_until_forked(self) -> Result<AgentLink, Error> {
        self.between.reap().map_err(Error::Fork)?;
        Ok(AgentLink { socket: self.socket })
    }
}

/// The way to keeper and agent, for the process that becomes the emulator.
#[derive(Debug)]
#[must_use]
pub struct AgentLink {
    socket: OwnedFd,
}

impl AgentLink {
    /// Gives the listener away; this process keeps no copy, so that nothing waits for a dead agent.
    ///
    /// # Errors
    /// [`Error::Gone`]: the keeper has ended.
    pub fn give_listener(self, listener: OwnedFd) -> Result<(), Error> {
        // One for the keeper and one for its first agent, whoever takes which.
        for _ in 0..2 {
            packets::send(self.socket.as_fd(), PACKET, &[listener.as_fd()]).map_err(Error::Gone)?;
        }
        Ok(())
    }
}

/// Forks the keeper off. It waits for the listener, and ends if there will be none.
///
/// # Errors
/// [`Error::Fork`].
pub fn fork_off(config: Config) -> Result<Starting, Error> {
    let (here, there) = packets::pair().map_err(Error::Fork)?;
    let between = process::detach(|| keep(&config, there)).map_err(Error::Fork)?;
    Ok(Starting { socket: here, between })
}

/// The keeper's life; its exit status is nobody's business.
fn keep(config: &Config, link: OwnedFd) -> i32 {
    i32::from(confine(config, &link).and_then(|in_flight| supervise(config, link, &in_flight)).is_err())
}

/// Confines the keeper, and with it all agents.
fn confine(config: &Config, link: &OwnedFd) -> io::Result<InFlight> {
    // The standard numbers stay taken, so that no message of a panic ends up in a socket.
    let mut kept = vec![0, 1, 2, link.as_raw_fd(), config.broker.as_raw_fd()];
    kept.extend(config.life.as_ref().map(AsRawFd::as_raw_fd));
    kept.extend(config.shared.descriptors().map(|place| place.as_raw_fd()));
    process::close_all_but(&kept)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    process::ignore_group_signals()?;
    rustix::thread::set_name(c"broker-agent")?;
    // The emulator must not be able to read, trace or core-dump what answers its calls.
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)?;
    let in_flight = InFlight::new()?;
    let (shared_folders, io_uring) = (!config.shared.is_empty(), config.io_uring);
    let variant = Variant { shared_folders, io_uring, ..Host::own_variant(config.abi) };
    seccomp::install_profile(Profile::Agent, &variant).map_err(io::Error::other)?;
    Ok(in_flight)
}

fn supervise(config: &Config, link: OwnedFd, in_flight: &InFlight) -> io::Result<()> {
    // The first agent is forked, and greets the broker, while the emulator's filter is still being made.
    let mut agent = fork_agent(config, in_flight, || take_listener(&link))?;
    let Some(listener) = take_listener(&link)? else { return Ok(()) };
    drop(link);
    let mut forked = 1;
    while waitpid(agent, None)? != WaitStatus::Exited(agent, 0) && forked < MAX_AGENTS {
        agent = fork_agent(config, in_flight, || listener.try_clone().map(Some))?;
        forked += 1;
    }
    Ok(())
}

/// Forks an agent that gets its listener from `listener`.
fn fork_agent(
    config: &Config,
    in_flight: &InFlight,
    listener: impl FnOnce() -> io::Result<Option<OwnedFd>>,
) -> io::Result<Pid> {
    let session = offer_session(config.broker.as_fd());
    match process::fork()? {
        Fork::Child => process::exit_now(i32::from(run_agent(config, in_flight, session, listener).is_err())),
        Fork::Parent(child) => Ok(child),
    }
}

/// A listener, from the process that becomes the emulator; `None` if that has ended.
fn take_listener(link: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    let Some((PACKET, descriptors)) = packets::receive(link.as_fd())? else { return Ok(None) };
    Ok(descriptors.into_iter().next())
}

/// Our end of a new session; none when the broker is gone.
fn offer_session(broker: BorrowedFd<'_>) -> Option<OwnedFd> {
    let (ours, theirs) = protocol::socketpair(SocketMode::NonBlocking).ok()?;
    packets::send(broker, PACKET, &[theirs.as_fd()]).ok()?;
    Some(ours)
}

fn run_agent(
    config: &Config,
    in_flight: &InFlight,
    session: Option<OwnedFd>,
    listener: impl FnOnce() -> io::Result<Option<OwnedFd>>,
) -> io::Result<()> {
    // New sessions are the keeper's to announce. The owner of this number is never dropped: the process ends first.
    nix::unistd::close(config.broker.as_raw_fd())?;
    let session = session.and_then(|socket| greet(socket).ok());
    let Some(listener) = listener()? else { return Ok(()) };
    // EINVAL: Linux before 6.6. Answers then take a little longer.
    drop(crate::sys::seccomp::set_sync_wake_up(listener.as_fd()));
    let life = config.life.as_ref().map(AsFd::as_fd);
    Agent::new(listener.as_fd(), session, life, &config.names, in_flight, &config.shared).serve()
}

fn greet(socket: OwnedFd) -> Result<ClientSession, protocol::Error> {
    ClientHandshake::start(socket)?.finish()
}

/// Why there is no agent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It could not be forked.
    #[error("cannot start the agent of the sandbox: {0}; is there a limit on processes (ulimit -u)?")]
    Fork(io::Error),
    /// It ended before the emulator started.
    #[error("the agent of the sandbox ended before the emulator started ({0}); run `broker check`")]
    Gone(io::Error),
}
