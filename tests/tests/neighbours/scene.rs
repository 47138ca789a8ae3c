//! Daemons beside the emulator, and the Linux guest that uses what they serve.

use std::ffi::OsStr;
use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tests::{BrokerCommand, During, Emulator, Error, Finished, Guest, ORDINARY_USER, PATIENCE, Result, Workdir, until};

/// Words that make memory which others can map.
pub const MEMORY_OF_NOBODY: &str = "memory-backend-memfd,id=m,size=256M,share=on";

/// A program that was started beside the emulator; killed when dropped.
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts a program in the work folder, as `user`, and waits until `socket` is there.
    pub fn start<T: AsRef<OsStr>>(workdir: &Workdir, user: Option<u32>, words: &[T], socket: &str) -> Result<Self> {
        let (program, arguments) = words.split_first().ok_or_else(|| Error::Unexpected("no program".into()))?;
        let (log, path) = workdir.log(&format!("{socket}.log"))?;
        let mut command = Command::new(program);
        command.args(arguments).current_dir(workdir.files()).stdin(Stdio::null());
        command.stdout(log.try_clone().during("copy the log")?).stderr(log);
        if let Some(user) = user.filter(|_| rustix::process::getuid().is_root()) {
            workdir.give_to(user)?;
            command.uid(user).gid(user);
        }
        let child = command.spawn().during(format!("start {}", program.as_ref().display()))?;
        let daemon = Self { child, log: path };
        let there = until(PATIENCE, socket, || Ok(workdir.path(socket).exists().then_some(())));
        there.map_err(|error| Error::Unexpected(format!("{error}: {}", daemon.said())))?;
        Ok(daemon)
    }

    /// What it has said so far.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Killing what has ended already fails, and that is well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Adds a guest that does what `work` says (`tests/setup/guest-neighbour-init`).
pub fn boot<'a>(command: BrokerCommand<'a>, workdir: &Workdir, work: &str) -> Result<BrokerCommand<'a>> {
    let folder = Guest::folder();
    let path =
        |name: &str| -> Result<String> { Ok(workdir.copy(&folder.join(name), name)?.to_string_lossy().into_owned()) };
    let (kernel, initrd) = (path("vmlinuz")?, path("neighbour-initrd")?);
    let append = format!("console=ttyS0 quiet panic=-1 mitigations=off no_timer_check {work}");
    let command = command.args(["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot", "-accel", "tcg"]);
    Ok(command.args(["-m", "256", "-kernel", &kernel, "-initrd", &initrd, "-append", &append]))
}

/// The line behind `mark` in what a guest has said.
pub fn proof<'t>(said: &'t str, mark: &str) -> Option<&'t str> {
    // What the terminal has not finished is no line yet.
    let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().rev().find_map(|line| line.split_once(mark)).map(|(_, proof)| proof.trim())
}

/// Ends that are as they should be: the guest's own, and nothing was refused.
pub fn assert_well(finished: &Finished) {
    assert!(finished.status.success(), "{finished:?}");
    assert!(!finished.stderr.contains("broker: refused"), "{finished:?}");
}

/// Waits until a program has written its pid file, `pid`, as it does when its sockets are there. The file itself is the
/// broker's, and there before.
pub fn wait_for_pid_file(workdir: &Workdir, program: &Emulator) -> Result<()> {
    let is_written = || Ok(fs::read(workdir.path("pid")).is_ok_and(|text| text.ends_with(b"\n")).then_some(()));
    until(PATIENCE, "the pid file", is_written).map_err(|error| program.explain(error))
}

/// Who starts it: root and an ordinary user, if root runs the tests.
pub fn users() -> [Option<u32>; 2] {
    [None, Some(ORDINARY_USER)]
}

/// A start as `user`.
pub fn command(workdir: &Workdir, user: Option<u32>) -> BrokerCommand<'_> {
    let command = BrokerCommand::new(workdir);
    match user {
        Some(user) => command.user(user),
        None => command,
    }
}

/// A TCP port of 127.0.0.1 that is free now.
pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).during("bind a port")?;
    Ok(listener.local_addr().during("ask for the port")?.port())
}
