//! The life of the broker process: help the sandbox into being, settle, serve, clean up.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use rustix::fs::{Mode, OFlags};

use crate::confine::capabilities::Keep;
use crate::confine::identity::MapError;
use crate::confine::settle;
use crate::confine::setup_link::{self, BrokerEnd};
use crate::serve::audit::Audit;
use crate::serve::grants::{Grant, Grants};
use crate::serve::workers::Workers;
use crate::serve::{self, Broker};
use crate::start::Start;
use crate::sys::process;

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
    pub audit: Option<File>,
    /// `--name`.
    pub name: Option<String>,
    /// `-v`.
    pub verbose: bool,
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
    let identity = duties.start.plan().identity;
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
    let mut kept: Vec<RawFd> = vec![2];
    kept.extend([&duties.keeper, &duties.started].map(AsRawFd::as_raw_fd));
    kept.push(duties.setup.as_fd().as_raw_fd());
    kept.extend(duties.audit.as_ref().map(AsRawFd::as_raw_fd));
    kept.extend(duties.start.descriptors().map(|descriptor| descriptor.as_raw_fd()));
    process::close_all_but(&kept)?;
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdout(&null)?;
    if null.as_raw_fd() != 0 {
        rustix::stdio::dup2_stdin(&null)?;
    }
    // Number 0 must stay, whoever owns it.
    std::mem::forget(null);
    rustix::process::chdir("/")?;
    rustix::thread::set_name(c"broker")?;
    process::ignore_group_signals()
}

fn serve_to_the_end(duties: Duties) -> i32 {
    let Duties { start, pid, mut setup, keeper, started, audit, name, verbose } = duties;
    let terminal = open_terminal();
    let daemonizes = start.plan().command.daemonize;
    let guest = name.or_else(|| start.plan().command.guest_name.clone()).unwrap_or_else(|| pid.to_string());
    let mut audit = Audit::new(guest, pid, audit, terminal, verbose);
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
    let (mut grants, belongings) = start.into_grants();
    match take_views(&mut grants, &mut setup) {
        Ok(()) => {}
        Err(error) => {
            belongings.remove(grants.iter());
            return give_up(&error, &mut audit, &mut setup);
        }
    }
    let grants = Grants::new(working_directory, grants, absent);
    drop(setup);
    let mut broker = Broker { grants, audit, workers, keeper: Some(keeper), started: Some(started), daemonizes };
    let served = serve::serve(&mut broker);
    belongings.remove(broker.grants.iter().map(AsRef::as_ref));
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
    let workers = Workers::new().map_err(Error::Leave)?;
    let keep = if start.plan().keeps_override { Keep::OpenAnyFile } else { Keep::Nothing };
    settle::settle(start.plan().host.abi, keep, &start.broker_rights())?;
    Ok(workers)
}

/// Takes over the read-only views that the other side has made meanwhile, and lets it go on.
fn take_views(grants: &mut [Grant], setup: &mut BrokerEnd) -> Result<(), Error> {
    let views = setup.take_views()?.ok_or(setup_link::Error::BrokerEnded)?;
    give_views(grants, views)?;
    Ok(setup.ready()?)
}

/// The views come in the order of the grants.
fn give_views(grants: &mut [Grant], views: Vec<OwnedFd>) -> Result<(), Error> {
    if grants.len() != views.len() {
        return Err(Error::Views { wanted: grants.len(), got: views.len() });
    }
    for (grant, view) in grants.iter_mut().zip(views) {
        let status = rustix::fs::fstat(&view).map_err(|source| Error::Leave(source.into()))?;
        if (status.st_dev, status.st_ino) != grant.pin.identity() {
            return Err(Error::WrongView);
        }
        grant.view = Some(view);
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
fn open_terminal() -> Option<OwnedFd> {
    let stderr = rustix::stdio::stderr();
    let kind = rustix::fs::FileType::from_raw_mode(rustix::fs::fstat(stderr).ok()?.st_mode);
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let anew = (kind.is_fifo() || kind.is_char_device())
        .then(|| rustix::fs::open("/proc/self/fd/2", flags, Mode::empty()).ok())
        .flatten();
    anew.or_else(|| rustix::io::fcntl_dupfd_cloexec(stderr, 3).ok())
}
