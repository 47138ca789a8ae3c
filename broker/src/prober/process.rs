//! A throw-away process that holds one image and one pipe, may read the one and write to the other, and no more.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    DumpableBehavior, Pid, PidfdFlags, Resource, Rlimit, Signal, WaitId, WaitIdOptions, WaitIdStatus,
};
use sandbox_profiles::Program;
use serde::{Deserialize, Serialize};

use crate::confine::seccomp::{self, install_program};
use crate::sys::process::{Fork, close_range, exit_now, fork};

/// The longest answer, in bytes: a pipe takes it whole or not at all (`PIPE_BUF`, pipe(7)).
pub const ANSWER_LIMIT: usize = 4096;

/// Runs `task` in a process that can do nothing but read `image`, and returns the bytes that it answered.
///
/// `task` is told whether the process is confined; only then it gets the image. It writes its answer into the
/// buffer and returns its length. It must not allocate: the filter forbids to ask the kernel for memory.
///
/// # Errors
/// [`Error`]; the process is gone in any case.
pub fn ask_confined(
    image: BorrowedFd<'_>,
    filter: &Program,
    patience: Duration,
    task: impl FnOnce(Result<BorrowedFd<'_>, NotConfined>, &mut [u8; ANSWER_LIMIT]) -> usize,
) -> Result<Vec<u8>, Error> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(|errno| Error::Start(errno.into()))?;
    let child = match fork().map_err(Error::Start)? {
        Fork::Child => answer(image, writer.as_fd(), filter, task),
        Fork::Parent(child) => child,
    };
    // The child's copy must be the last one, or its death would not end the answer.
    drop(writer);
    let child = Child::of(child.as_raw())?;
    let answer = receive(reader.as_fd(), patience);
    let end = child.end()?;
    match answer? {
        bytes if bytes.is_empty() => Err(Error::Died(end)),
        bytes => Ok(bytes),
    }
}

/// What the child does; it must neither return nor unwind into the parent's code.
fn answer(
    image: BorrowedFd<'_>,
    pipe: BorrowedFd<'_>,
    filter: &Program,
    task: impl FnOnce(Result<BorrowedFd<'_>, NotConfined>, &mut [u8; ANSWER_LIMIT]) -> usize,
) -> ! {
    let mut buffer = [0; ANSWER_LIMIT];
    let confined = confine(image.as_raw_fd(), pipe.as_raw_fd(), filter);
    let length = task(confined.map(|()| image), &mut buffer);
    let bytes = buffer.get(..length).unwrap_or_default();
    // A parent that no longer reads needs no answer, and there is nobody else to tell.
    let _ = rustix::io::write(pipe, bytes);
    exit_now(0)
}

/// Confines this process for good. Nothing here allocates.
fn confine(image: RawFd, pipe: RawFd, filter: &Program) -> Result<(), NotConfined> {
    // First everything that could be misused, standard streams included.
    close_all_but(image, pipe).map_err(NotConfined::at(Step::Descriptors))?;
    // If the broker dies, nobody waits for an answer.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).map_err(NotConfined::at(Step::DeathSignal))?;
    // Nobody of the same user may trace this process, nor read the image through it.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(NotConfined::at(Step::Dumpable))?;
    limit_resources().map_err(NotConfined::at(Step::Limits))?;
    // The kernel wants this before a filter, and no set-uid program may undo it.
    rustix::thread::set_no_new_privs(true).map_err(NotConfined::at(Step::NoNewPrivileges))?;
    // The filter last, so that it need not allow anything of the above.
    install_program(filter).map_err(|error| match error {
        seccomp::Error::Install(source) => NotConfined::at(Step::Filter)(source),
        _ => NotConfined::at(Step::Filter)(Errno::INVAL),
    })
}

/// Closes every descriptor but two.
fn close_all_but(one: RawFd, other: RawFd) -> io::Result<()> {
    let (low, high) = (one.min(other), one.max(other));
    for (first, last) in [(0, low - 1), (low + 1, high - 1), (high + 1, RawFd::MAX)] {
        if first <= last {
            close_range(first, last)?;
        }
    }
    Ok(())
}

/// A second lock behind the filter: what a hole in it would still not give.
fn limit_resources() -> Result<(), Errno> {
    const LIMITS: [(Resource, u64); 7] = [
        // Seconds; a header is read in a thousandth of one.
        (Resource::Cpu, 2),
        // Bytes; more than the copy of the broker that this process is, and it may not grow anyway.
        (Resource::As, 256 << 20),
        (Resource::Fsize, 0),
        (Resource::Nofile, 0),
        (Resource::Nproc, 0),
        (Resource::Memlock, 0),
        (Resource::Core, 0),
    ];
    LIMITS.iter().try_for_each(|(resource, most)| {
        rustix::process::setrlimit(*resource, Rlimit { current: Some(*most), maximum: Some(*most) })
    })
}

/// Reads until the other side closes, at most [`ANSWER_LIMIT`] bytes and for no longer than `patience`.
fn receive(pipe: BorrowedFd<'_>, patience: Duration) -> Result<Vec<u8>, Error> {
    let deadline = Instant::now() + patience;
    // One byte more than allowed shows that an answer is too long.
    let mut buffer = [0; ANSWER_LIMIT + 1];
    let mut filled = 0;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(|_| Error::Late(patience))?;
        match poll(&mut [PollFd::new(&pipe, PollFlags::IN)], Some(&left)) {
            Ok(0) => return Err(Error::Late(patience)),
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(errno) => return Err(Error::Receive(errno.into())),
        }
        let rest = buffer.get_mut(filled..).unwrap_or_default();
        match rustix::io::read(pipe, rest) {
            Ok(0) if filled <= ANSWER_LIMIT => return Ok(buffer.get(..filled).unwrap_or_default().to_vec()),
            Ok(0) => return Err(Error::TooLong),
            Ok(count) => filled += count,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::Receive(errno.into())),
        }
    }
}

/// A child that must be reaped.
struct Child(OwnedFd);

impl Child {
    fn of(id: i32) -> Result<Self, Error> {
        let id = Pid::from_raw(id).ok_or(Error::Start(Errno::SRCH.into()))?;
        // The id cannot be another process's yet: its child, dead or alive, is only reaped below.
        let descriptor = rustix::process::pidfd_open(id, PidfdFlags::empty());
        descriptor.map(Self).map_err(|errno| Error::Start(errno.into()))
    }

    /// Kills the process, unless it has ended, and reaps it. Even a read from a dead file server yields to SIGKILL.
    fn end(self) -> Result<End, Error> {
        match rustix::process::pidfd_send_signal(&self.0, Signal::KILL) {
            // Reaped by the kernel: whoever started the broker made it ignore SIGCHLD.
            Ok(()) | Err(Errno::SRCH) => {}
            Err(errno) => return Err(Error::Reap(errno.into())),
        }
        loop {
            match rustix::process::waitid(WaitId::PidFd(self.0.as_fd()), WaitIdOptions::EXITED) {
                Ok(status) => return Ok(End::of(status)),
                Err(Errno::INTR) => {}
                Err(Errno::CHILD) => return Ok(End::Unknown),
                Err(errno) => return Err(Error::Reap(errno.into())),
            }
        }
    }
}

/// How the process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself, with this status.
    Exited(i32),
    /// By this signal; SIGSYS is the filter's.
    Killed(i32),
    /// The kernel reaped it.
    Unknown,
}

impl End {
    fn of(status: Option<WaitIdStatus>) -> Self {
        let Some(status) = status else {
            return Self::Unknown;
        };
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Self::Exited(code),
            (None, Some(signal)) => Self::Killed(signal),
            (None, None) => Self::Unknown,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(formatter, "it ended with status {code}"),
            Self::Killed(libc::SIGSYS) => formatter.write_str("its filter killed it for a forbidden system call"),
            Self::Killed(signal) => write!(formatter, "signal {signal} killed it"),
            Self::Unknown => formatter.write_str("nobody knows how it ended"),
        }
    }
}

/// The step of the confinement that failed, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("cannot confine the prober: {step}: {}", io::Error::from_raw_os_error(*errno))]
pub struct NotConfined {
    /// What was tried.
    pub step: Step,
    /// What the kernel said.
    pub errno: i32,
}

impl NotConfined {
    fn at<E: Into<io::Error>>(step: Step) -> impl FnOnce(E) -> Self {
        move |error| Self { step, errno: error.into().raw_os_error().unwrap_or(libc::EIO) }
    }
}

/// A step of the confinement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// `close_range(2)`.
    Descriptors,
    /// `PR_SET_PDEATHSIG`.
    DeathSignal,
    /// `PR_SET_DUMPABLE`.
    Dumpable,
    /// `setrlimit(2)`.
    Limits,
    /// `PR_SET_NO_NEW_PRIVS`.
    NoNewPrivileges,
    /// `seccomp(2)`.
    Filter,
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Descriptors => "closing other descriptors (Linux 5.9 or newer is needed)",
            Self::DeathSignal => "PR_SET_PDEATHSIG",
            Self::Dumpable => "PR_SET_DUMPABLE",
            Self::Limits => "setrlimit",
            Self::NoNewPrivileges => "PR_SET_NO_NEW_PRIVS",
            Self::Filter => "installing the system call filter (CONFIG_SECCOMP_FILTER is needed)",
        })
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `pipe2(2)`, `fork(2)` or `pidfd_open(2)`.
    #[error("cannot start the prober: {0}; is a limit on processes or descriptors reached?")]
    Start(io::Error),
    /// `poll(2)` or `read(2)`.
    #[error("cannot read the prober's answer: {0}")]
    Receive(io::Error),
    /// `pidfd_send_signal(2)` or `waitid(2)`.
    #[error("cannot end the prober: {0}")]
    Reap(io::Error),
    /// It took too long.
    #[error("its header was not read within {} seconds; does its file server answer?", .0.as_secs_f32())]
    Late(Duration),
    /// More bytes than any honest answer has.
    #[error("the prober's answer is too long; take the image for hostile")]
    TooLong,
    /// It ended without a word.
    #[error("the prober gave no answer: {0}; take the image for hostile")]
    Died(End),
}

#[cfg(test)]
mod tests;
