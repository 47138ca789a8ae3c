//! Starting QEMU on one of the two sides.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::binary::broker_binary;
use crate::command::{CHAIN_DIR, is_bare};
use crate::emulator::{Emulator, Surroundings};
use crate::error::{During, Result};
use crate::images::run_tool;
use crate::workdir::Workdir;

/// The emulator of both sides.
const QEMU: &str = "qemu-system-x86_64";

/// The shell's line that moves standard input to the monitor's descriptor and then becomes the program.
const MOVE_MONITOR: &str = "exec 9<&0 0</dev/null; exec \"$@\"";

/// Arguments that put the monitor on that descriptor.
const MONITOR: [&str; 4] = ["-chardev", "socket,id=monitor,fd=9", "-mon", "chardev=monitor,mode=control"];

/// What stands around QEMU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// Nothing.
    Bare,
    /// The broker; nothing with `BROKER_TESTS_BARE`, which shows that a script gives the same twice.
    Brokered,
}

/// Starts QEMU in the work folder, with a monitor at the other end of the socket that is returned.
pub(crate) fn start(
    side: Side,
    workdir: &Workdir,
    user: Option<u32>,
    options: Vec<String>,
    arguments: Vec<String>,
) -> Result<(Emulator, UnixStream)> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let marker = format!("parity-start-{}-{number:04}", std::process::id());
    let user = user.filter(|_| rustix::process::getuid().is_root());
    let mut command = Command::new("sh");
    command.args(["-c", MOVE_MONITOR, "sh"]);
    if side == Side::Brokered && !is_bare() {
        let chains = workdir.chains(user)?;
        command.arg(marked_broker(workdir, &marker, user)?).args(options).arg(CHAIN_DIR).arg(chains).arg("--");
    }
    command.arg(QEMU).args(arguments).args(MONITOR);
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    let surroundings = Surroundings::look()?;
    let (stdout, stdout_path) = workdir.log(&format!("{marker}.out"))?;
    let (stderr, stderr_path) = workdir.log(&format!("{marker}.err"))?;
    let (ours, theirs) = UnixStream::pair().during("make the monitor's sockets")?;
    let child = command
        .current_dir(workdir.files())
        .env("BROKER_TEST_START", &marker)
        // Cargo's, for test programs; QEMU's loader would look through it.
        .env_remove("LD_LIBRARY_PATH")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(stdout)
        .stderr(stderr)
        .spawn()
        .during(format!("start {QEMU}"))?;
    Ok((Emulator::new(child, marker, stdout_path, stderr_path, surroundings), ours))
}

/// The broker under a name by which the processes of this start are found. Another user gets a copy, made by a process
/// of its own: what a child forked meanwhile holds open for writing cannot be executed (ETXTBSY, execve(2)).
fn marked_broker(workdir: &Workdir, marker: &str, user: Option<u32>) -> Result<OsString> {
    let built = broker_binary()?;
    let name = workdir.aside().join(format!("{marker}.broker"));
    if user.is_some() {
        run_tool(&workdir.aside(), "cp", &[&built.to_string_lossy(), &name.to_string_lossy()])?;
    } else {
        symlink(built, &name).during(format!("link {}", name.display()))?;
    }
    Ok(name.into())
}
