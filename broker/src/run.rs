//! `broker -- EMULATOR ARGS...`: the program on one page.

use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use protocol::SocketMode;

use crate::administrator;
use crate::another_name;
use crate::broker_process::{self, Duties};
use crate::caller_terminal::CallerTerminal;
use crate::confine::mounts::Views;
use crate::confine::{self, setup_link};
use crate::emulator::{self, CommandLine};
use crate::host::{self, Host};
use crate::installation::{self, Installation};
use crate::open::{descriptor, inherited};
use crate::own_words;
use crate::packets;
use crate::plan::{self, Options, Plan};
use crate::start::{self, Start};
use crate::sys::process::{self, Between};

/// What the operator asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The emulator and its arguments.
    pub words: Vec<OsString>,
    /// The program that is executed; none: the one that the first word stands for.
    pub binary: Option<PathBuf>,
    /// What concerns the plan.
    pub options: Options,
    /// `--audit`.
    pub audit: Option<PathBuf>,
    /// `--name`.
    pub name: Option<String>,
    /// `-v`.
    pub verbose: bool,
    /// `--open-timeout`.
    pub open_timeout: Duration,
    /// `--protocol-socket`.
    pub own_socket: bool,
    /// `--keep-descriptors`.
    pub keeps_descriptors: bool,
}

/// Runs the emulator in its sandbox, in this process. Only an error returns.
///
/// # Errors
/// [`Error`]; its exit status is [`Error::exit_status`].
pub fn run(request: &Request) -> Result<Infallible, Error> {
    let configurations = Configurations::default();
    let plan = match plan_reading(request, true, &configurations) {
        Err(Error::CommandLine(error)) => return Err(in_own_words(request, &configurations, error)),
        plan => plan?,
    };
    let audit = request.audit.as_ref().map(open_audit).transpose()?;
    let start = Start::prepare(plan, request.name.as_deref(), request.binary.is_some())?;
    for notice in &start.plan().notices {
        eprintln!("broker: {notice}");
    }
    // Where the ends of children are ignored, nobody can wait for one.
    let ignores_children = process::restore_default(Signal::SIGCHLD).unwrap_or(false);
    // Of what it looks for when it only prints, nothing was asked for.
    let tells = !start.plan().command.informational;
    carry_out(start, request, audit, Manner { ignores_children, tells })
}

/// Says what the emulator says to an option that could not be understood. If it says nothing, `error` stands.
fn in_own_words(request: &Request, configurations: &Configurations, error: emulator::Error) -> Error {
    let mistake = emulator::mistake(&request.words, &|path| configurations.read(path), request.options.allowed);
    let become_emulator = |argv: &[OsString]| {
        let command = CommandLine { argv: argv.to_vec(), informational: true, ..CommandLine::default() };
        let plan = plan_for(request, command, descriptor::Images::default())?;
        let request = Request { name: None, verbose: false, own_socket: false, ..request.clone() };
        carry_out(Start::prepare(plan, None, false)?, &request, None, Manner { ignores_children: false, tells: true })
    };
    let answer = mistake.and_then(|mistake| own_words::ask(&mistake, || drop(become_emulator(&mistake.argv))));
    match answer {
        Some(own_words::Answer { said, status }) => {
            eprint!("{said}");
            Error::Emulator { status }
        }
        None => error.into(),
    }
}

/// Plans for the command line of `request`; closes what was inherited and is not named there, if `starting`.
///
/// # Errors
/// What is wrong with the command line, with a file that it names, or with this host.
pub fn make_plan(request: &Request, starting: bool) -> Result<Plan, Error> {
    plan_reading(request, starting, &Configurations::default())
}

/// What the files of `-readconfig` hold. Each is read once: it may be a pipe, or change.
#[derive(Debug, Default)]
struct Configurations(RefCell<HashMap<PathBuf, Vec<u8>>>);

impl Configurations {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if let Some(content) = self.0.borrow().get(path) {
            return Ok(content.clone());
        }
        let content = std::fs::read(path)?;
        self.0.borrow_mut().insert(path.to_owned(), content.clone());
        Ok(content)
    }
}

fn plan_reading(request: &Request, starting: bool, configurations: &Configurations) -> Result<Plan, Error> {
    let read = |path: &Path| configurations.read(path);
    let mut command = emulator::parse_allowing(&request.words, &read, request.options.allowed)?;
    // A plan can be made without the socket that the start will need.
    if starting && command.program == emulator::Program::Nbd {
        emulator::take_socket(&mut command, &|name| std::env::var_os(name), std::process::id())?;
    }
    command.number_logs(std::process::id());
    if starting {
        if request.keeps_descriptors {
            let images: Vec<_> = command.image_descriptors().collect();
            command.descriptors.extend(inherited::all()?.into_iter().filter(|number| !images.contains(number)));
        }
        // Before this process holds a descriptor of its own: what is not named must not even reach the broker.
        descriptor::check_open(command.image_descriptors())?;
        inherited::keep_only(&command.image_descriptors().chain(command.descriptors.iter().copied()).collect())?;
    }
    let handed = descriptor::Images::take(command.image_descriptors(), &command.descriptors)?;
    plan_for(request, command, handed)
}

/// Plans for a command line that has been read.
fn plan_for(request: &Request, command: CommandLine, handed: descriptor::Images) -> Result<Plan, Error> {
    let installation = find_installation(request)?;
    let host = Host::inspect()?;
    let strict_roots = administrator::Policy::of_this_host()?.strict_roots;
    let options = Options { strict_roots, ..request.options.clone() };
    Ok(Plan::make(host, &options, command, handed, installation, std::env::var_os("TMPDIR"))?)
}

/// The emulator and its files. A program that is `broker` under another name is never executed, and a script by the name
/// of one of QEMU's programs, as Debian's `qemu-system-i386` is, stands for the program that it is about.
fn find_installation(request: &Request) -> Result<Installation, Error> {
    let environment = |name: &str| std::env::var_os(name);
    if let Some(binary) = &request.binary {
        return Ok(installation::find(binary.as_os_str(), &environment)?);
    }
    let word = request.words.first().ok_or(Error::NoEmulator)?;
    let real = || another_name::real_program(word);
    match installation::find(word, &environment) {
        Ok(found) if another_name::program::is_broker(&found.binary)? => {
            Ok(installation::find(real()?.as_os_str(), &environment)?)
        }
        Err(script @ installation::Error::NotAProgram { .. }) => {
            let program = real().map_err(|_| script)?;
            Ok(installation::find(program.as_os_str(), &environment)?)
        }
        found => Ok(found?),
    }
}

/// How a start is carried out.
struct Manner {
    /// The caller has the ends of its children ignored.
    ignores_children: bool,
    /// Refusals are told on standard error.
    tells: bool,
}

/// Forks the broker off and becomes the emulator.
fn carry_out(
    mut start: Start,
    request: &Request,
    audit: Option<File>,
    Manner { ignores_children, tells }: Manner,
) -> Result<Infallible, Error> {
    // With the operator's rights, in the operator's network namespace. No other process is to have these descriptors, so
    // they stay out of what the broker is given.
    let mut networks = start.open_networks().inspect_err(|_| start.abandon())?;
    networks.extend(start.start_incoming().inspect_err(|_| start.abandon())?);
    let parts = Parts::make(&start, request.own_socket).inspect_err(|_| start.abandon())?;
    let Parts { mut sandbox, sandbox_end, broker_end, keeper, started, own } = parts;
    sandbox.emulator.networks = networks;
    sandbox.emulator.ignores_children = ignores_children;
    // A daemon has none, and what only prints leaves it as it is.
    let command = &start.plan().command;
    let terminal = if command.daemonize || command.informational { None } else { CallerTerminal::keep() };
    let mut duties = Some(Duties {
        start,
        pid: std::process::id(),
        setup: broker_end,
        keeper,
        started,
        audit,
        name: request.name.clone(),
        verbose: request.verbose,
        tells,
        open_timeout: request.open_timeout,
        own,
        terminal,
    });
    // The broker is forked off first: it must be outside of all that comes, and cleans up from then on.
    let forked = process::detach(|| duties.take().map_or(1, broker_process::live)).and_then(Between::reap);
    forked.map_err(|source| {
        duties.as_ref().inspect(|duties| duties.start.abandon());
        Error::Fork(source)
    })?;
    drop(duties);
    confine_self(sandbox, sandbox_end)
}

fn confine_self(sandbox: confine::Sandbox, link: setup_link::SandboxEnd) -> Result<Infallible, Error> {
    // Who may clone the host's mounts does so while they can still be reached; others can inside.
    let views = Views::clone_outside(&sandbox.layout).map_err(confine::Error::from)?;
    Ok(confine::become_emulator(sandbox, views, link)?)
}

/// What is made before the first fork, for both sides of it.
struct Parts {
    sandbox: confine::Sandbox,
    sandbox_end: setup_link::SandboxEnd,
    broker_end: setup_link::BrokerEnd,
    keeper: OwnedFd,
    started: OwnedFd,
    own: Option<OwnedFd>,
}

impl Parts {
    fn make(start: &Start, own_socket: bool) -> Result<Self, Error> {
        let (sandbox_end, broker_end) = setup_link::pair().map_err(confine::Error::from)?;
        let (keeper, agents) = packets::pair().map_err(Error::Descriptors)?;
        let own = rustix::process::getpid();
        let flags = rustix::process::PidfdFlags::empty();
        let started = rustix::process::pidfd_open(own, flags).map_err(|source| Error::Descriptors(source.into()))?;
        // A daemon's first process ends early; the end of the last shows on the listener.
        let life = if start.plan().command.daemonize {
            None
        } else {
            Some(started.as_fd().try_clone_to_owned().map_err(Error::Descriptors)?)
        };
        let (own, emulators) = if own_socket {
            let (broker, emulator) = protocol::socketpair(SocketMode::Blocking).map_err(Error::Descriptors)?;
            (Some(broker), Some(emulator))
        } else {
            (None, None)
        };
        let sandbox = start.sandbox(agents, life, emulators)?;
        Ok(Self { sandbox, sandbox_end, broker_end, keeper, started, own })
    }
}

fn open_audit(path: &PathBuf) -> Result<File, Error> {
    // It tells what a guest does; nobody else needs to know.
    let opened = File::options().append(true).create(true).mode(0o600).open(path);
    opened.map_err(|source| Error::Audit { path: path.clone(), source })
}

/// Why the emulator does not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing behind `--`.
    #[error("no emulator named; say `broker -- qemu-system-x86_64 ...`")]
    NoEmulator,
    /// The emulator's command line.
    #[error(transparent)]
    CommandLine(#[from] emulator::Error),
    /// The administrator's policy.
    #[error(transparent)]
    Administrator(#[from] administrator::Error),
    /// Inherited descriptors.
    #[error(transparent)]
    Inherited(#[from] inherited::Error),
    /// A descriptor that is named as an image.
    #[error(transparent)]
    Descriptor(#[from] descriptor::Error),
    /// What is configured for starts under another name.
    #[error(transparent)]
    AnotherName(#[from] another_name::Error),
    /// The emulator has said itself what is wrong with its command line.
    #[error("the emulator refuses its command line, with status {status}")]
    Emulator {
        /// Its exit status.
        status: u8,
    },
    /// The emulator's program.
    #[error(transparent)]
    Installation(#[from] installation::Error),
    /// This host.
    #[error(transparent)]
    Host(#[from] host::Error),
    /// A file of the command line.
    #[error(transparent)]
    Plan(#[from] plan::Error),
    /// Files that had to be made.
    #[error(transparent)]
    Start(#[from] start::Error),
    /// The sandbox.
    #[error(transparent)]
    Confine(#[from] confine::Error),
    /// The audit file.
    #[error("cannot open the audit file {}: {source}", path.display())]
    Audit {
        /// As typed.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// No descriptor is left.
    #[error("cannot make the sockets of the sandbox: {0}; raise the limit on open files (ulimit -n)")]
    Descriptors(io::Error),
    /// No process is left.
    #[error("cannot fork the broker off: {0}; raise the limit on processes (ulimit -u)")]
    Fork(io::Error),
}

impl Error {
    /// The emulator's own, where it has refused its command line. 127: it was not found. 126: it cannot be executed. 125: everything else.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Emulator { status } => *status,
            Self::Installation(installation::Error::NotFound { .. })
            | Self::AnotherName(another_name::Error::NotFound { .. }) => 127,
            Self::Installation(_) | Self::Confine(confine::Error::Execute { .. }) => 126,
            _ => 125,
        }
    }

    /// Whether another process has told the operator already.
    #[must_use]
    pub fn is_told(&self) -> bool {
        let by_another = matches!(self, Self::Confine(confine::Error::Setup(setup_link::Error::BrokerFailed)));
        by_another || matches!(self, Self::Emulator { .. })
    }
}
