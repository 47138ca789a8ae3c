//! Scripts of network interfaces: what QEMU runs when it has opened one, and before it closes it (`launch_script` and
//! `tap_cleanup` in its `net/tap.c`). They run outside of the sandbox, as the operator.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::ExitStatus;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{Mode, OFlags};
use rustix::pipe::PipeFlags;

use crate::open::net::name::InterfaceName;
use crate::operator_program;
use crate::sys::process::{self, Between};

/// Runs `script` with the interface's name as its argument, and waits for its end.
pub(super) fn run_up(script: &OsStr, interface: &InterfaceName) -> Result<(), Error> {
    let failed = |source| Error::Run { script: script.to_owned(), interface: interface.clone(), source };
    let status = operator_program::run(script, &[interface.as_str().into()]).map_err(failed)?;
    if status.success() {
        Ok(())
    } else {
        Err(Error::Failed { script: script.to_owned(), interface: interface.clone(), status })
    }
}

/// Leaves a process behind that runs `script` when every copy of the descriptor that is returned is closed: that is the
/// emulator's life, whatever ends it. Until then it holds `queue`, so that the interface is still there.
pub(super) fn await_down(
    script: &OsStr,
    interface: &InterfaceName,
    queue: &OwnedFd,
    daemonizes: bool,
) -> Result<OwnedFd, Error> {
    let failed = |source| Error::Wait { script: script.to_owned(), source };
    let (end, life) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC).map_err(|source| failed(source.into()))?;
    let detached = process::detach(|| wait_and_run(script, interface, queue, &end, daemonizes));
    detached.and_then(Between::reap).map_err(failed)?;
    Ok(life)
}

/// The life of that process; nobody waits for its exit status.
fn wait_and_run(script: &OsStr, interface: &InterfaceName, queue: &OwnedFd, end: &OwnedFd, daemonizes: bool) -> i32 {
    let ended = leave_the_start(queue, end, daemonizes).and_then(|()| wait_for_end(end));
    if let Err(error) = ended.and_then(|()| run_down(script, interface)) {
        eprintln!("broker: the network script {} for {interface}: {error}", script.to_string_lossy());
        return 1;
    }
    0
}

/// It stays in the caller's folder, with the caller's environment and 0, 1 and 2, for all of this is the script's. A
/// daemon keeps nothing of a terminal's or of a pipe's.
fn leave_the_start(queue: &OwnedFd, end: &OwnedFd, daemonizes: bool) -> io::Result<()> {
    rustix::thread::set_name(c"broker-ifdown")?;
    process::ignore_group_signals()?;
    process::close_all_but(&[0, 1, 2, queue.as_raw_fd(), end.as_raw_fd()])?;
    if daemonizes {
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        rustix::stdio::dup2_stdin(&null)?;
        rustix::stdio::dup2_stdout(&null)?;
        rustix::stdio::dup2_stderr(&null)?;
        // It may itself be one of the three.
        std::mem::forget(null);
    }
    Ok(())
}

/// Waits until nobody can write into the pipe. What the emulator writes there means nothing, and is left in it.
fn wait_for_end(end: &OwnedFd) -> io::Result<()> {
    let mut hung_up = [PollFd::new(end, PollFlags::empty())];
    rustix::io::retry_on_intr(|| rustix::event::poll(&mut hung_up, None))?;
    Ok(())
}

fn run_down(script: &OsStr, interface: &InterfaceName) -> io::Result<()> {
    let status = operator_program::run(script, &[interface.as_str().into()])?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("it ended with {status}"))) }
}

/// Why a script did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `fork(2)` or `execve(2)`.
    #[error(
        "cannot run the network script {} for {interface}: {source}; mend it, or say script=no if nothing is to be run",
        script.to_string_lossy()
    )]
    Run {
        /// Which.
        script: OsString,
        /// Its argument.
        interface: InterfaceName,
        /// What the kernel said.
        source: io::Error,
    },
    /// It says that the interface cannot be used.
    #[error(
        "the network script {} ended with {status} for {interface}; mend it, or say script=no if nothing is to be run",
        script.to_string_lossy()
    )]
    Failed {
        /// Which.
        script: OsString,
        /// Its argument.
        interface: InterfaceName,
        /// How it ended.
        status: ExitStatus,
    },
    /// No process is left for the script at the end.
    #[error(
        "cannot wait to run the network script {}: {source}; raise the limit on processes (ulimit -u)",
        script.to_string_lossy()
    )]
    Wait {
        /// Which.
        script: OsString,
        /// What the kernel said.
        source: io::Error,
    },
}
