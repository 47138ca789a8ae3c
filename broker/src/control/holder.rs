//! The holder: the process that holds what was granted after the start.
//!
//! `broker ctl` pins the file with the operator's rights, forks a holder off and gives the running broker a socket to it.
//! The holder confines itself exactly as a broker does, to the files that it holds, and serves the same protocol. It
//! ends when the broker lets go of its sockets: at the guest's end, or when the grant is revoked.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use landlock::ABI;
use nix::sched::CloneFlags;
use protocol::{Name, SocketMode};

use crate::confine::capabilities::Keep;
use crate::confine::identity::{Groups, Identity};
use crate::confine::landlock::NetworkRights;
use crate::confine::{mounts, settle};
use crate::open::pin::Pin;
use crate::serve::audit::Audit;
use crate::serve::folders::Folders;
use crate::serve::grants::{Access, Grant, Role};
use crate::serve::ledger::{Ledger, Limits};
use crate::serve::links::Links;
use crate::serve::policy::Policy;
use crate::serve::session::Session;
use crate::serve::sockets::Sockets;
use crate::serve::table::Table;
use crate::serve::workers::Workers;
use crate::serve::{self, Broker, Client, Life};
use crate::sys::process;

/// How long an open may take: the most that --open-timeout can say, for the broker that asked has the deadline.
const OPEN_TIMEOUT: Duration = Duration::from_secs(86_400);

/// A file to be held.
#[derive(Debug)]
pub struct Holding {
    /// The file.
    pub pin: Arc<Pin>,
    /// The name that the broker will ask for.
    pub name: Name,
    /// The greatest access.
    pub access: Access,
    /// What it is.
    pub role: Role,
}

/// Forks a holder of `holdings` off; returns the broker's end of a link for each.
///
/// # Errors
/// [`Error::Fork`]. What goes wrong in the new process it says itself, on standard error, and ends.
pub fn begin(holdings: Vec<Holding>, abi: ABI, keep: Keep) -> Result<Vec<OwnedFd>, Error> {
    let pairs = holdings.iter().map(|_| protocol::socketpair(SocketMode::NonBlocking));
    let (ours, theirs): (Vec<OwnedFd>, Vec<OwnedFd>) = pairs.collect::<io::Result<_>>().map_err(Error::Fork)?;
    let mut work = Some((holdings, theirs));
    let forked = process::detach(|| {
        let Some((holdings, sockets)) = work.take() else { return 1 };
        match hold(holdings, sockets, abi, keep) {
            Ok(()) => 0,
            Err(error) => {
                eprintln!("broker: {error}");
                1
            }
        }
    });
    forked.and_then(process::Between::reap).map_err(Error::Fork)?;
    Ok(ours)
}

fn hold(holdings: Vec<Holding>, sockets: Vec<OwnedFd>, abi: ABI, keep: Keep) -> Result<(), Error> {
    let held = holdings.iter().map(|holding| holding.pin.as_fd().as_raw_fd());
    let kept = held.chain(sockets.iter().map(AsRawFd::as_raw_fd));
    settle::leave_the_caller(kept, c"broker-holder").map_err(Error::Leave)?;
    let grants = with_views(holdings)?;
    let workers = Workers::new(false).map_err(Error::Leave)?;
    let rights: Vec<_> = grants.iter().map(|grant| (grant.pin.as_fd(), settle::rights(grant.access))).collect();
    // Who waits for the end of the caller's standard error must not wait for the guest's; a failure is still told there.
    let leave = |source: rustix::io::Errno| Error::Leave(source.into());
    let stderr = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stderr(), 3).map_err(leave)?;
    rustix::stdio::dup2_stderr(rustix::stdio::stdout()).map_err(leave)?;
    if let Err(error) = settle::settle(abi, keep, &rights, &NetworkRights::default()) {
        rustix::stdio::dup2_stderr(&stderr).map_err(leave)?;
        return Err(error.into());
    }
    drop(stderr);
    let policy = Policy {
        table: Table::new(PathBuf::from("/"), grants, Vec::new()),
        folders: Folders::default(),
        ledger: Arc::new(Ledger::new(Limits { files: 0, bytes: 0 })),
        owner: None,
        journal: None,
        sockets: Sockets::none(),
        terminals: None,
    };
    let sessions = sockets.into_iter().filter_map(Session::start).map(|session| (Client::Given, session)).collect();
    let mut broker = Broker {
        policy,
        // The broker that asks writes it down.
        audit: Audit::new(String::new(), std::process::id(), None, None, false),
        workers,
        links: Links::default(),
        control: None,
        keeper: None,
        open_timeout: OPEN_TIMEOUT,
        life: Life::Sessions,
    };
    serve::serve(&mut broker, sessions).map_err(Error::Leave)
}

/// The grants, each with the read-only mount that it is opened by where it must not be written.
fn with_views(holdings: Vec<Holding>) -> Result<Vec<Grant>, Error> {
    let views = match clone_views(&holdings) {
        // Who may not clone mounts here may do so in a namespace of its own.
        Err(mounts::Error::Clone { source, .. }) if source.raw_os_error() == Some(libc::EPERM) => {
            let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
            nix::sched::unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
                .map_err(|errno| Error::Namespaces(errno.into()))?;
            Identity { uid, gid, groups: Groups::Kept }.map(std::process::id())?;
            clone_views(&holdings)?
        }
        other => other?,
    };
    let grants = holdings.into_iter().zip(views).map(|(holding, view)| Grant {
        role: holding.role,
        option: "broker ctl grant".into(),
        access: holding.access,
        pin: holding.pin,
        view: Some(view),
        name: holding.name.as_bytes().to_vec(),
        home: None,
        opened: AtomicBool::new(false),
    });
    Ok(grants.collect())
}

fn clone_views(holdings: &[Holding]) -> Result<Vec<OwnedFd>, mounts::Error> {
    holdings.iter().map(|holding| mounts::view_of(&holding.pin)).collect()
}

/// Why there is no holder.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No process, or no descriptor, is left.
    #[error("cannot fork the process that holds the grant: {0}; raise the limit on processes (ulimit -u)")]
    Fork(io::Error),
    /// The process could not leave the caller's world.
    #[error("cannot set up the process that holds the grant: {0}")]
    Leave(io::Error),
    /// No namespace for the read-only mount.
    #[error("cannot create a user namespace for the process that holds the grant: {0}; run `broker check`")]
    Namespaces(io::Error),
    /// Ids.
    #[error(transparent)]
    MapIds(#[from] crate::confine::identity::MapError),
    /// The read-only mount.
    #[error(transparent)]
    Mounts(#[from] mounts::Error),
    /// Its confinement.
    #[error("cannot confine the process that holds the grant: {0}")]
    Settle(#[from] settle::Error),
}
