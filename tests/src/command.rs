//! Starting the emulator, under the broker or bare.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::binary::broker_binary;
use crate::emulator::{Emulator, Finished, Surroundings};
use crate::error::{During, Result};
use crate::images::run_tool;
use crate::network::Network;
use crate::qmp::Qmp;
use crate::workdir::Workdir;

/// A user who need not exist in `/etc/passwd`, for tests that start as an ordinary user.
pub const ORDINARY_USER: u32 = 12345;

/// Arguments that leave nothing to QEMU's defaults: no devices but those named, no window, no network.
pub const PLAIN_QEMU: &[&str] = &["-nodefaults", "-display", "none", "-nic", "none", "-m", "64"];

/// The shell's line that moves standard input to the monitor's descriptor and then becomes the program. The
/// descriptor must be inherited by this one child only, which std cannot say without unsafe code.
const MOVE_MONITOR: &str = "exec 9<&0 0</dev/null; exec \"$@\"";

/// Arguments that put the monitor on the descriptor that [`MOVE_MONITOR`] made.
const MONITOR: &[&str] = &["-chardev", "socket,id=monitor,fd=9", "-mon", "chardev=monitor,mode=control"];

/// Arguments that put QEMU's own protocol for tests there instead, and a processor that is stopped.
const QTEST: &[&str] =
    &["-S", "-accel", "tcg", "-chardev", "socket,id=qtest,fd=9", "-qtest", "chardev:qtest", "-qtest-log", "none"];

/// The same for a socket that listens there: one client at a time, one after another.
const LISTENING_MONITOR: &[&str] =
    &["-chardev", "socket,id=monitor,fd=9,server=on,wait=off", "-mon", "chardev=monitor,mode=control"];

/// The option that keeps what tests record out of the host's own records.
pub const CHAIN_DIR: &str = "--chain-dir";

/// Whether the emulator is started without the broker.
#[must_use]
pub fn is_bare() -> bool {
    std::env::var_os("BROKER_TESTS_BARE").is_some()
}

/// One start to be: `broker OPTIONS -- PROGRAM ARGUMENTS`.
#[derive(Debug)]
pub struct BrokerCommand<'a> {
    workdir: &'a Workdir,
    user: Option<u32>,
    network: Option<&'a Network>,
    through: Vec<OsString>,
    bare: bool,
    options: Vec<OsString>,
    program: OsString,
    arguments: Vec<OsString>,
    marker: String,
}

impl<'a> BrokerCommand<'a> {
    /// A start of `qemu-system-x86_64` in the work folder, as the user who runs the tests.
    #[must_use]
    pub fn new(workdir: &'a Workdir) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        Self {
            workdir,
            user: None,
            network: None,
            through: Vec::new(),
            bare: is_bare(),
            options: Vec::new(),
            program: "qemu-system-x86_64".into(),
            arguments: Vec::new(),
            marker: format!("broker-start-{}-{number:04}", std::process::id()),
        }
    }

    /// Starts as an ordinary user: as `user` and the group of the same number when the tests run as root
    /// (the work folder is given to that user at the start), else as whoever runs them.
    #[must_use]
    pub fn user(mut self, user: u32) -> Self {
        self.user = rustix::process::getuid().is_root().then_some(user);
        self
    }

    /// Starts in these namespaces instead of those of the tests. An ordinary user's start has no capability there.
    #[must_use]
    pub fn inside(mut self, network: &'a Network) -> Self {
        self.network = Some(network);
        self
    }

    /// Adds words that stand before the broker: of a program that becomes what follows it, in the same process. With
    /// such words the identity that [`Self::user`] names is theirs to take.
    #[must_use]
    pub fn through<T: Into<OsString>>(mut self, words: impl IntoIterator<Item = T>) -> Self {
        self.through.extend(words.into_iter().map(Into::into));
        self
    }

    /// Starts the emulator without the broker; whatever options of the broker there are say nothing then.
    #[must_use]
    pub fn bare(mut self) -> Self {
        self.bare = true;
        self
    }

    /// Adds options of the broker.
    #[must_use]
    pub fn options<T: Into<OsString>>(mut self, options: impl IntoIterator<Item = T>) -> Self {
        self.options.extend(options.into_iter().map(Into::into));
        self
    }

    /// Another program than `qemu-system-x86_64`.
    #[must_use]
    pub fn program(mut self, program: impl Into<OsString>) -> Self {
        self.program = program.into();
        self
    }

    /// Adds arguments of the emulator.
    #[must_use]
    pub fn args<T: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = T>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Adds [`PLAIN_QEMU`] under TCG with the serial port on standard output and a disk that the boot sector
    /// starts from; `drive` is the value of `-drive` without the interface.
    #[must_use]
    pub fn boot_sector(self, drive: &str) -> Self {
        self.boot_sector_on("tcg", drive)
    }

    /// The same with another accelerator.
    #[must_use]
    pub fn boot_sector_on(self, accelerator: &str, drive: &str) -> Self {
        let drive = format!("if=virtio,{drive}");
        self.args(PLAIN_QEMU).args(["-accel", accelerator, "-serial", "stdio", "-drive", &drive])
    }

    /// Starts it.
    ///
    /// # Errors
    /// When a process cannot be made.
    pub fn start(self) -> Result<Emulator> {
        self.launch(None)
    }

    /// Starts it with a monitor on an inherited descriptor, and waits for the monitor's greeting.
    ///
    /// # Errors
    /// As [`Self::start`], and when no greeting comes; what the emulator said is then in the error.
    pub fn start_with_monitor(mut self) -> Result<(Emulator, Qmp)> {
        self.arguments.extend(MONITOR.iter().map(Into::into));
        let (ours, theirs) = UnixStream::pair().during("make the monitor's sockets")?;
        let emulator = self.launch(Some(theirs.into()))?;
        match Qmp::greet(ours) {
            Ok(qmp) => Ok((emulator, qmp)),
            Err(error) => Err(emulator.explain(error)),
        }
    }

    /// Starts it without a guest: what a guest's processor would do to its devices is said over the socket, in QEMU's
    /// protocol for tests (`docs/devel/qtest` of QEMU).
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with_qtest(mut self) -> Result<(Emulator, UnixStream)> {
        self.arguments.extend(QTEST.iter().map(Into::into));
        let (ours, theirs) = UnixStream::pair().during("make the sockets of the test protocol")?;
        let emulator = self.launch(Some(theirs.into()))?;
        Ok((emulator, ours))
    }

    /// As [`Self::start_with_monitor`], for one that may end before it greets: then there is no monitor.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub fn start_with_monitor_or_end(mut self) -> Result<(Emulator, Option<Qmp>)> {
        self.arguments.extend(MONITOR.iter().map(Into::into));
        let (ours, theirs) = UnixStream::pair().during("make the monitor's sockets")?;
        let emulator = self.launch(Some(theirs.into()))?;
        Ok((emulator, Qmp::greet(ours).ok()))
    }

    /// Starts it with a monitor that listens at `path`.
    ///
    /// # Errors
    /// As [`Self::start`], and when nothing can listen there.
    pub fn start_with_monitor_at(mut self, path: &Path) -> Result<Emulator> {
        self.arguments.extend(LISTENING_MONITOR.iter().map(Into::into));
        let listener = UnixListener::bind(path).during(format!("listen at {}", path.display()))?;
        self.launch(Some(listener.into()))
    }

    /// Runs it to its end.
    ///
    /// # Errors
    /// As [`Self::start`], and when it does not end.
    pub fn run(self) -> Result<Finished> {
        self.start()?.wait()
    }

    /// The one place where the process is made.
    fn launch(mut self, monitor: Option<OwnedFd>) -> Result<Emulator> {
        let line = self.command_line()?;
        if let Some(user) = self.user {
            self.workdir.give_to(user)?;
        }
        let mut words: Vec<OsString> = Vec::new();
        if monitor.is_some() {
            words.extend(["sh", "-c", MOVE_MONITOR, "sh"].map(OsString::from));
        }
        let user = self.user.filter(|_| self.through.is_empty());
        if let Some(network) = self.network {
            words.extend(network.words(user).into_iter().map(OsString::from));
        }
        words.append(&mut self.through);
        words.extend(line);
        let mut words = words.into_iter();
        let mut command = Command::new(words.next().unwrap_or_default());
        let surroundings = Surroundings::look()?;
        let (stdout, stdout_path) = self.workdir.log(&format!("{}.out", self.marker))?;
        let (stderr, stderr_path) = self.workdir.log(&format!("{}.err", self.marker))?;
        command
            .args(words)
            .current_dir(self.workdir.files())
            .env("BROKER_TEST_START", &self.marker)
            // Cargo's, for test programs; QEMU's loader would look through it.
            .env_remove("LD_LIBRARY_PATH")
            .stdin(monitor.map_or_else(Stdio::null, Stdio::from))
            .stdout(stdout)
            .stderr(stderr);
        if let (Some(user), None) = (user, self.network) {
            command.uid(user).gid(user);
        }
        let child = command.spawn().during(format!("start {:?}", self.program))?;
        Ok(Emulator::new(child, self.marker, stdout_path, stderr_path, surroundings))
    }

    /// All words of the command line.
    fn command_line(&mut self) -> Result<Vec<OsString>> {
        let mut line: Vec<OsString> = Vec::new();
        if !self.bare {
            line.push(self.marked_binary()?.into());
            line.append(&mut self.options);
            if !line.iter().any(|word| word == CHAIN_DIR) {
                line.extend([CHAIN_DIR.into(), self.workdir.chains(self.user)?.into()]);
            }
            line.push("--".into());
        }
        line.push(self.program.clone());
        line.append(&mut self.arguments);
        Ok(line)
    }

    /// The broker under a name that marks this start in the arguments of its processes, whose environment an
    /// ordinary user may not read. Another user gets a copy: the target folder may lie where only root can go. A
    /// process of its own copies it: a child that another test forks in the meantime would inherit our open file, and
    /// what is open for writing cannot be executed (ETXTBSY, execve(2)).
    fn marked_binary(&self) -> Result<PathBuf> {
        let built = broker_binary()?;
        let name = self.workdir.aside().join(format!("{}.broker", self.marker));
        if self.user.is_some() {
            run_tool(&self.workdir.aside(), "cp", &[&built.to_string_lossy(), &name.to_string_lossy()])?;
        } else {
            symlink(built, &name).during(format!("link {}", name.display()))?;
        }
        Ok(name)
    }
}
