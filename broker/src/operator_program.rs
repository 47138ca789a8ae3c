//! Programs that the operator names and that run before the sandbox exists, or outside of it: scripts for network
//! interfaces, bridge helpers, and the command of an incoming migration.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use crate::sys::process;

/// Starts `program` as who this process is, in its folder and with its environment. It inherits 0, 1 and 2, `kept`, and no
/// other descriptor; all signals have their default effect. `PATH` is not searched: a name
/// without a slash is one of the current folder, as it is for QEMU, which uses execv(3). A script without a first line that
/// says what reads it is `/bin/sh`'s.
///
/// # Errors
/// Those of `fork(2)` and `execve(2)`.
pub fn start(program: &OsStr, arguments: &[OsString], kept: Option<BorrowedFd<'_>>) -> io::Result<Child> {
    prepared(program, arguments, kept).spawn()
}

/// The same with nothing to read, and `output` for its standard output.
///
/// # Errors
/// Those of `fork(2)` and `execve(2)`.
pub fn start_writing(program: &OsStr, arguments: &[OsString], output: OwnedFd) -> io::Result<Child> {
    prepared(program, arguments, None).stdin(Stdio::null()).stdout(output).spawn()
}

fn prepared(program: &OsStr, arguments: &[OsString], kept: Option<BorrowedFd<'_>>) -> Command {
    let mut command = Command::new(path(program));
    command.arg0(program).args(arguments);
    process::inherit_only(&mut command, kept.map(|descriptor| descriptor.as_raw_fd()));
    command
}

/// The path that `execv(3)` would take `program` for.
#[must_use]
pub fn path(program: &OsStr) -> PathBuf {
    if program.as_encoded_bytes().contains(&b'/') { program.into() } else { Path::new(".").join(program) }
}

/// Whether this process may execute `program`.
///
/// # Errors
/// `ENOENT`: there is nothing of this name. `EACCES`: it is no program, or not this user's to run.
pub fn check(program: &OsStr) -> io::Result<()> {
    let flags = rustix::fs::AtFlags::EACCESS;
    Ok(rustix::fs::accessat(rustix::fs::CWD, path(program), rustix::fs::Access::EXEC_OK, flags)?)
}

/// Starts `program` and waits for its end.
///
/// # Errors
/// Those of [`start`].
pub fn run(program: &OsStr, arguments: &[OsString]) -> io::Result<ExitStatus> {
    start(program, arguments, None)?.wait()
}
