//! A program in the emulator's place that asks for reopens over a connection of its own. The arguments there are an
//! emulator's, for they say what is granted, so what to ask for stands in the environment:
//! `ACTIONS='direct a.qcow2; commit base.qcow2' broker --protocol-socket --allow commit -- reopen -drive file=a.qcow2`.
//! Anywhere else it takes `reopen ACTION [-- ACTION]...`.
//!
//! Each action is one of `direct NAME`, `commit NAME`, `medium NAME` and `status`, and prints one line: the flags that
//! each descriptor has by F_GETFL, or the name of the errno with which the broker refused. Exit status 0 if
//! everything was granted, 1 if something was refused, 2 if the connection or the arguments are of no use.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use protocol::{AccessMode, Connection, ConnectionError, OpenBits, OpenFlags};

/// One thing to ask for.
enum Action {
    /// Open for reading and writing, then once more past the host's cache.
    Direct(PathBuf),
    /// Open a backing file for writing, as a commit does, and for reading when it is done.
    Commit(PathBuf),
    /// Insert a medium.
    Medium(PathBuf),
    /// What is granted, and how much of it is used.
    Status,
}

fn main() -> ExitCode {
    let parsed: Option<Vec<_>> = match std::env::var("ACTIONS") {
        Ok(actions) => actions.split(';').map(|text| action(&words(text))).collect(),
        Err(_) => {
            let arguments: Vec<_> = std::env::args_os().skip(1).collect();
            arguments.split(|argument| argument == "--").map(action).collect()
        }
    };
    let Some(actions) = parsed else {
        eprintln!("usage: reopen (direct NAME | commit NAME | medium NAME | status) [-- ...]");
        return ExitCode::from(2);
    };
    match Connection::from_env().and_then(|mut broker| run(&mut broker, &actions)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("reopen: {error}");
            ExitCode::from(2)
        }
    }
}

/// The verb and the name of an action in the environment.
fn words(text: &str) -> Vec<OsString> {
    text.trim().splitn(2, ' ').map(OsString::from).collect()
}

/// The action that one list of arguments names.
fn action(arguments: &[OsString]) -> Option<Action> {
    match arguments {
        [verb, name] if verb == "direct" => Some(Action::Direct(name.into())),
        [verb, name] if verb == "commit" => Some(Action::Commit(name.into())),
        [verb, name] if verb == "medium" => Some(Action::Medium(name.into())),
        [verb] if verb == "status" => Some(Action::Status),
        _ => None,
    }
}

/// Carries out all actions, and returns whether everything was granted.
fn run(broker: &mut Connection, actions: &[Action]) -> Result<bool, ConnectionError> {
    let mut all_granted = true;
    for action in actions {
        let (label, result) = match action {
            Action::Direct(name) => (format!("direct {}", name.display()), direct(broker, name)),
            Action::Commit(name) => (format!("commit {}", name.display()), commit(broker, name)),
            Action::Medium(name) => (format!("medium {}", name.display()), medium(broker, name)),
            Action::Status => ("status".to_owned(), status(broker)),
        };
        match result {
            Ok(line) => println!("{label}: {line}"),
            Err(ConnectionError::Refused(errno)) => {
                println!("{label}: refused: {:?}", nix::errno::Errno::from_raw(errno.get().into()));
                all_granted = false;
            }
            Err(other) => return Err(other),
        }
    }
    Ok(all_granted)
}

/// Flags with `access`, as QEMU asks for them.
const fn flags(access: AccessMode) -> OpenFlags {
    OpenFlags::new(access, OpenBits::CLOEXEC)
}

fn direct(broker: &mut Connection, name: &Path) -> Result<String, ConnectionError> {
    let cached = broker.open(name, flags(AccessMode::ReadWrite))?;
    let direct = broker.open(name, flags(AccessMode::ReadWrite).with(OpenBits::DIRECT))?;
    // Asked after both opens: a shared file description would show O_DIRECT twice.
    Ok(format!("{}, then {}", status_flags(&cached), status_flags(&direct)))
}

fn commit(broker: &mut Connection, name: &Path) -> Result<String, ConnectionError> {
    broker.commit_begin(name)?;
    let line = write_and_go_back(broker, name);
    // Also after a failure: what was permitted is not needed any more.
    broker.commit_end(name)?;
    line
}

fn write_and_go_back(broker: &mut Connection, name: &Path) -> Result<String, ConnectionError> {
    let writable = broker.open(name, flags(AccessMode::ReadWrite))?;
    let readable = broker.open(name, flags(AccessMode::Read))?;
    Ok(format!("{}, then {}", status_flags(&writable), status_flags(&readable)))
}

fn medium(broker: &mut Connection, name: &Path) -> Result<String, ConnectionError> {
    let medium = broker.change_medium(name, flags(AccessMode::Read))?;
    Ok(status_flags(&medium))
}

fn status(broker: &mut Connection) -> Result<String, ConnectionError> {
    let status = broker.status()?;
    Ok(format!(
        "grants {}, commits {}, files {} of {}, bytes {} of {}",
        status.grants,
        status.commits,
        status.files_created,
        status.files_allowed,
        status.bytes_created,
        status.bytes_allowed
    ))
}

/// What fcntl(2) with `F_GETFL` says of `descriptor`, in the notation of open(2).
fn status_flags(descriptor: &OwnedFd) -> String {
    match rustix::fs::fcntl_getfl(descriptor) {
        Ok(flags) => {
            let raw = i32::from_ne_bytes(flags.bits().to_ne_bytes());
            OpenFlags::from_linux(raw).map_or_else(|_| format!("{raw:#o}"), |flags| flags.to_string())
        }
        Err(errno) => io::Error::from(errno).to_string(),
    }
}
