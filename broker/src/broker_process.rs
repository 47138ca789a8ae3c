//! The life of the broker process: help the sandbox into being, settle, serve, clean up.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

use crate::caller_terminal::CallerTerminal;
use crate::confine::capabilities::Keep;
use crate::confine::identity::MapError;
use crate::confine::image_user;
use crate::confine::settle;
use crate::confine::setup_link::{self, BrokerEnd};
use crate::serve::audit::Audit;
use crate::serve::control::Control;
use crate::serve::folders::{Folders, Purpose};
use crate::serve::ledger::Ledger;
use crate::serve::links::Links;
use crate::serve::policy::Policy;
use crate::serve::session::Session;
use crate::serve::sockets::Sockets;
use crate::serve::table::{File, Table};
use crate::serve::terminals::Terminals;
use crate::serve::workers::Workers;
use crate::serve::{self, Broker, Client, Life};
use crate::start::{Parts, Start};

/// What the broker is given when it is forked off.
#[derive(Debug)]
pub struct Duties {
    /// What to serve.
    pub start: Start,
    /// The id of the process that becomes the emulator.
    pub pid: u32,
    /// The link to that process.
    pub setup: BrokerEnd,
    /// The link to the agents' keeper.
    pub keeper: OwnedFd,
    /// A pidfd of that process.
    pub started: OwnedFd,
    /// `--audit`.
    pub audit: Option<std::fs::File>,
    /// `--name`.
    pub name: Option<String>,
    /// `-v`.
    pub verbose: bool,
    /// Whether refusals are told on standard error.
    pub tells: bool,
    /// `--open-timeout`.
    pub open_timeout: Duration,
    /// The broker's end of the emulator's own connection.
    pub own: Option<OwnedFd>,
    /// The terminal that the emulator types on.
    pub terminal: Option<CallerTerminal>,
}

/// Lives from the fork to the guest's end; the result is the exit status, which nobody waits for.
pub fn live(mut duties: Duties) -> i32 {
    match set_up(&mut duties) {
        Ok(true) => serve_to_the_end(duties),
        // The other side gave up, and says why.
        Ok(false) => {
            duties.start.abandon();
            1
        }
        Err(error) => {
            eprintln!("broker: {error}");
            duties.start.abandon();
            // The other side may be gone too.
            let _ = duties.setup.failed();
            1
        }
    }
}

/// Until the broker is confined. `false`: the process that was to become the emulator has ended.
fn set_up(duties: &mut Duties) -> Result<bool, Error> {
    leave_the_caller(duties).map_err(Error::Leave)?;
    let plan = duties.start.plan();
    if plan.binds_relative_paths() {
        // Where they are read from. A folder that is gone by now is for bind(2) to miss.
        let _ = rustix::process::chdir(&plan.working_directory);
    }
    let identity = duties.start.plan().identity.clone();
    if identity.is_own() {
        return Ok(true);
    }
    if !duties.setup.wait_for_namespaces()? {
        return Ok(false);
    }
    identity.map(duties.pid)?;
    duties.setup.ids_mapped()?;
    Ok(true)
}

/// Lets go of what belongs to the caller and to the emulator: descriptors, folder, signals.
fn leave_the_caller(duties: &Duties) -> io::Result<()> {
    let mut kept: Vec<RawFd> = [&duties.keeper, &duties.started].map(AsRawFd::as_raw_fd).into();
    kept.push(duties.setup.as_fd().as_raw_fd());
    kept.extend(duties.own.as_ref().map(AsRawFd::as_raw_fd));
    kept.extend(duties.audit.as_ref().map(AsRawFd::as_raw_fd));
    kept.extend(duties.terminal.iter().flat_map(CallerTerminal::descriptors).map(|descriptor| descriptor.as_raw_fd()));
    kept.extend(duties.start.descriptors().map(|descriptor| descriptor.as_raw_fd()));
    settle::leave_the_caller(kept, c"broker")
}

fn serve_to_the_end(duties: Duties) -> i32 {
    let Duties { start, pid, mut setup, keeper, started, audit, name, verbose, tells, open_timeout, own, terminal } =
        duties;
    let operator = rustix::process::geteuid();
    let messages = open_stderr();
    let daemonizes = start.plan().command.daemonize;
    let guest = name.or_else(|| start.plan().command.guest_name.clone()).unwrap_or_else(|| pid.to_string());
    let mut audit = Audit::new(guest, pid, audit, messages, verbose);
    audit.tell_refusals(tells);
    // Standard error is now the audit's, which lets go of it when the guest has become a daemon.
    if let Err(error) = rustix::stdio::dup2_stderr(rustix::stdio::stdout()) {
        audit.say(&Error::Leave(error.into()).to_string());
    }
    let workers = match settle(&start) {
        Ok(workers) => workers,
        Err(error) => {
            start.abandon();
            return give_up(&error, &mut audit, &mut setup);
        }
    };
    let (working_directory, absent) = (start.plan().working_directory.clone(), start.plan().absent.clone());
    let (owner, ledger) = (start.plan().owner, Arc::new(Ledger::new(start.plan().limits)));
    let mut parts = match start.into_parts() {
        Ok(parts) => parts,
        Err(error) => return give_up(&Error::Leave(error), &mut audit, &mut setup),
    };
    let namespace = match take_views(&mut parts, &mut setup) {
        Ok(namespace) => namespace,
        Err(error) => {
            parts.belongings.remove(&parts.grants);
            return give_up(&error, &mut audit, &mut setup);
        }
    };
    drop(setup);
    let Parts { grants, folders, control, sockets, terminals, journal, belongings } = parts;
    let sockets = Sockets::new(sockets, working_directory.clone(), open_timeout);
    let table = Table::new(working_directory, grants, absent);
    let terminals = terminals.map(|multiplexer| Arc::new(Terminals::new(multiplexer)));
    let (folders, journal) = (Folders::new(folders), journal.map(Arc::new));
    let policy = Policy { table, folders, ledger, owner, journal, sockets, terminals };
    let mut broker = Broker {
        policy,
        audit,
        workers,
        links: Links::default(),
        control: control.map(|socket| Control::new(socket, operator, namespace)),
        keeper: Some(keeper),
        open_timeout,
        life: Life::Guest { started: Some(started), daemonizes },
    };
    let sessions = own.and_then(Session::start).map(|session| (Client::Given, session));
    let served = serve::serve(&mut broker, sessions.into_iter().collect());
    // At once: who started the emulator may be about to use it.
    terminal.iter().for_each(CallerTerminal::give_back);
    // What was created for the guest is the operator's; what was made for it and never used is nobody's.
    belongings.remove(broker.policy.table.iter().filter_map(|(_, slot)| match &slot.file {
        File::Pinned(grant) => Some(grant.as_ref()),
        File::Held(_) => None,
    }));
    broker.audit.summarize();
    i32::from(served.is_err())
}

/// Says why there will be no broker, if the other side does not.
fn give_up(error: &Error, audit: &mut Audit, setup: &mut BrokerEnd) -> i32 {
    if !matches!(error, Error::Setup(setup_link::Error::BrokerEnded)) {
        audit.say(&error.to_string());
        // The other side may be gone too.
        let _ = setup.failed();
    }
    1
}

/// Confines this process.
fn settle(start: &Start) -> Result<Workers, Error> {
    let workers = Workers::new(start.plan().image_user.is_some()).map_err(Error::Leave)?;
    let keep = Keep::Broker {
        opens_any_file: start.plan().keeps_override,
        gives_files_away: start.plan().owner.is_some(),
        removes_for_others: start.removes_for_others(),
        binds_low_ports: start.plan().binds_low_ports(),
    };
    // The file server asks at each open who this is.
    if let Some(user) = &start.plan().image_user {
        user.become_for_good()?;
    }
    let network = start.plan().network_rights();
    settle::settle(start.plan().host.abi, keep, &start.broker_rights(), &network)?;
    Ok(workers)
}

/// Takes over the read-only views that the other side has made meanwhile, and lets it go on. Returned is its namespace.
fn take_views(parts: &mut Parts, setup: &mut BrokerEnd) -> Result<(u64, u64), Error> {
    let namespace = setup.look_at_namespace()?.ok_or(setup_link::Error::BrokerEnded)?;
    let views = setup.take_views()?.ok_or(setup_link::Error::BrokerEnded)?;
    give_views(parts, views)?;
    setup.ready()?;
    Ok(namespace)
}

/// The views come in the order of the grants that are shown, then in that of the folders of media.
fn give_views(parts: &mut Parts, views: Vec<OwnedFd>) -> Result<(), Error> {
    let shown = parts.grants.iter_mut().filter(|grant| grant.pin.is_shown());
    let grants = shown.map(|grant| (&grant.pin, &mut grant.view));
    let media = parts.folders.iter_mut().filter(|folder| folder.purpose == Purpose::Media);
    let wanted: Vec<_> = grants.chain(media.map(|folder| (&folder.pin, &mut folder.view))).collect();
    if wanted.len() != views.len() {
        return Err(Error::Views { wanted: wanted.len(), got: views.len() });
    }
    for ((pin, place), view) in wanted.into_iter().zip(views) {
        let status = rustix::fs::fstat(&view).map_err(|source| Error::Leave(source.into()))?;
        if (status.st_dev, status.st_ino) != pin.identity() {
            return Err(Error::WrongView);
        }
        *place = Some(view);
    }
    Ok(())
}

/// Why there is no broker.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process could not leave the caller's world.
    #[error("cannot set the broker up: {0}")]
    Leave(io::Error),
    /// The ids could not be mapped.
    #[error(transparent)]
    MapIds(#[from] MapError),
    /// The images' user.
    #[error(transparent)]
    ImageUser(#[from] image_user::Error),
    /// The link to the other side.
    #[error(transparent)]
    Setup(#[from] setup_link::Error),
    /// The broker's own confinement.
    #[error("cannot confine the broker: {0}")]
    Settle(#[from] settle::Error),
    /// The other side showed something else than was planned.
    #[error("{got} files of {wanted} are shown in the sandbox; start again")]
    Views {
        /// Grants.
        wanted: usize,
        /// Views.
        got: usize,
    },
    /// A view of another file.
    #[error("a file was replaced while the guest was being started; start again")]
    WrongView,
}

/// Standard error for lines that must not block. A pipe or a terminal is opened anew, so that not to block is a property
/// of the broker's own descriptor and not of the emulator's; what cannot be opened anew is shared.
fn open_stderr() -> Option<OwnedFd> {
    let stderr = rustix::stdio::stderr();
    let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(stderr).ok()?.st_mode);
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let anew = (kind.is_fifo() || kind.is_char_device())
        .then(|| rustix::fs::open("/proc/self/fd/2", flags, Mode::empty()).ok())
        .flatten();
    anew.or_else(|| rustix::io::fcntl_dupfd_cloexec(stderr, 3).ok())
}
