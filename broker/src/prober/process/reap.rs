//! A child process that must be reaped, and how it ended.

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, WaitIdStatus};

use super::Error;

/// A child that must be reaped.
#[derive(Debug)]
pub(super) struct Child(pub(super) OwnedFd);

impl Child {
    pub(super) fn of(id: i32) -> Result<Self, Error> {
        let id = Pid::from_raw(id).ok_or(Error::Start(Errno::SRCH.into()))?;
        // The id cannot be another process's yet: its child, dead or alive, is only reaped below.
        let descriptor = rustix::process::pidfd_open(id, PidfdFlags::empty());
        descriptor.map(Self).map_err(|errno| Error::Start(errno.into()))
    }

    /// Kills the process, unless it has ended, and reaps it. Even a read from a dead file server yields to SIGKILL.
    pub(super) fn end(&self) -> Result<End, Error> {
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
