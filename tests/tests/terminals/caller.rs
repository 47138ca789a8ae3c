//! The terminal is the emulator's own: what is typed reaches it, and it is left as it was found.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use rustix::process::Signal;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcsetattr};
use tests::{
    During, Error, PATIENCE, Process, Result, Workdir, broker_binary, is_bare, marked_with, need, run_tool, until,
};

use crate::scene::Terminal;

/// An emulator on a terminal of its own.
pub struct AtTerminal {
    /// What it was started on.
    pub terminal: Terminal,
    child: Child,
    marker: String,
    /// The modes and the flags before.
    before: (Termios, OFlags),
    _workdir: Workdir,
}

impl AtTerminal {
    /// Starts it, and waits until the terminal is raw and signals are handled.
    pub fn start(arguments: &[&str]) -> Result<Self> {
        Self::start_as(None, arguments)
    }

    /// The same as an ordinary user, if one is given and the tests run as root.
    pub fn start_as(user: Option<u32>, arguments: &[&str]) -> Result<Self> {
        Self::start_with(user, arguments, &[("TERM", "xterm")])
    }

    /// The same with these variables.
    pub fn start_with(user: Option<u32>, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let marker = format!("broker-terminal-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let terminal = Terminal::open()?;
        let before = (terminal.modes()?, terminal.flags()?);
        assert!(before.0.local_modes.contains(LocalModes::ECHO | LocalModes::ICANON));
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait"]);
        let workdir = Workdir::new()?;
        let user = user.filter(|_| rustix::process::getuid().is_root());
        if let Some(user) = user {
            command.args(["setpriv", "--clear-groups", &format!("--reuid={user}"), &format!("--regid={user}")]);
        }
        if !is_bare() {
            let mut broker = broker_binary()?.to_owned();
            if user.is_some() {
                // It may lie where only root can go.
                run_tool(&workdir.files(), "cp", &[&broker.to_string_lossy(), "broker"])?;
                broker = workdir.path("broker");
            }
            command.arg(broker).arg("--");
        }
        let stdio = || terminal.duplicate().map(Stdio::from);
        let child = command
            .args(["qemu-system-x86_64", "-machine", "q35", "-nic", "none", "-S"])
            .args(arguments)
            .env("BROKER_TEST_START", &marker)
            .envs(variables.iter().copied())
            .stdin(stdio()?)
            .stdout(stdio()?)
            .stderr(stdio()?)
            .spawn()
            .during("start the emulator on a terminal")?;
        let started = Self { terminal, child, marker, before, _workdir: workdir };
        started.await_raw()?;
        until(PATIENCE, "the emulator to handle signals", || Ok(started.handles(Signal::TERM).then_some(())))?;
        Ok(started)
    }

    /// Whether a signal does not just end the emulator, as it does early in a start.
    fn handles(&self, signal: Signal) -> bool {
        let caught = self.emulator().status().map(|status| u64::from_str_radix(status.field("SigCgt"), 16));
        caught.and_then(|caught| caught.ok()).is_some_and(|caught| caught >> (signal.as_raw() - 1) & 1 == 1)
    }

    fn is_raw(&self) -> Result<bool> {
        Ok(!self.terminal.modes()?.local_modes.contains(LocalModes::ICANON))
    }

    /// Keys that come before QEMU reads them raw would be lost.
    fn await_raw(&self) -> Result<()> {
        until(PATIENCE, "the terminal is raw", || Ok(self.is_raw()?.then_some(())))
    }

    /// The emulator, which is the process that was started.
    pub fn emulator(&self) -> Process {
        Process(self.child.id())
    }

    /// Waits until the emulator and all that was started with it have ended.
    pub fn end(&mut self) -> Result<()> {
        let child = &mut self.child;
        until(PATIENCE, "the emulator's end", || child.try_wait().during("wait for the emulator"))?;
        until(PATIENCE, "the end of its helpers", || Ok(marked_with(&self.marker)?.is_empty().then_some(())))
    }

    /// Fails unless the terminal is as it was before.
    pub fn assert_given_back(&self, how: &str) -> Result<()> {
        assert_same(&self.before.0, &self.terminal.modes()?, how);
        assert_eq!(self.before.1, self.terminal.flags()?, "{how}");
        Ok(())
    }
}

impl Drop for AtTerminal {
    fn drop(&mut self) {
        // What has ended cannot be killed, and that is well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn assert_same(before: &Termios, after: &Termios, how: &str) {
    assert_eq!(format!("{before:?}"), format!("{after:?}"), "{how}");
}

/// What is shown on a terminal, from now on.
pub fn watch(terminal: &Terminal) -> Result<Receiver<String>> {
    let (send, screen) = channel();
    let mut reader = terminal.ours.try_clone().during("duplicate a descriptor")?;
    thread::spawn(move || {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = reader.read(&mut bytes) {
            let text = String::from_utf8_lossy(bytes.get(..count).unwrap_or_default()).into_owned();
            if send.send(text).is_err() {
                return;
            }
        }
    });
    Ok(screen)
}

/// Waits until what was shown holds `text`.
pub fn expect(screen: &Receiver<String>, text: &str) -> Result<()> {
    let (start, mut shown) = (Instant::now(), String::new());
    while !shown.contains(text) {
        match screen.recv_timeout(Duration::from_millis(100)) {
            Ok(more) => shown.push_str(&more),
            Err(_) if start.elapsed() < PATIENCE => {}
            Err(_) => return Err(Error::Unexpected(format!("{text:?} was never shown: {shown}"))),
        }
    }
    Ok(())
}

#[test]
fn nographic_works_on_a_real_terminal_and_restores_it() -> Result<()> {
    need!(Qemu, Landlock, UserNamespaces);
    let mut started = AtTerminal::start(&["-nographic"])?;
    let screen = watch(&started.terminal)?;
    let mut keyboard = started.terminal.ours.try_clone().during("duplicate a descriptor")?;
    // Control-A c goes from the serial line to the monitor.
    keyboard.write_all(b"\x01c").during("type")?;
    expect(&screen, "(qemu)")?;
    keyboard.write_all(b"info status\n").during("type")?;
    expect(&screen, "paused")?;
    keyboard.write_all(b"quit\n").during("type")?;
    assert!(started.child.wait().during("wait for the broker")?.success());
    started.end()?;
    started.assert_given_back("quit")
}

#[test]
fn it_is_given_back_however_the_emulator_ends() -> Result<()> {
    need!(Broker, Qemu, Landlock, UserNamespaces);
    for arguments in [
        &["-nographic"][..],
        &["-display", "none", "-serial", "mon:stdio"],
        &["-display", "none", "-monitor", "stdio"],
        &["-display", "none", "-chardev", "stdio,id=s,signal=off", "-serial", "chardev:s"],
    ] {
        for signal in [Signal::TERM, Signal::ABORT, Signal::KILL] {
            let mut started = AtTerminal::start(arguments)?;
            started.emulator().signal(signal)?;
            started.end()?;
            started.assert_given_back(&format!("{signal:?}, {arguments:?}"))?;
        }
    }
    Ok(())
}

#[test]
fn a_qmp_monitor_that_echoes_leaves_nothing_either() -> Result<()> {
    need!(Broker, Qemu, Landlock, UserNamespaces);
    let arguments = ["-display", "none", "-chardev", "stdio,id=s,signal=off", "-mon", "chardev=s,mode=control"];
    let terminal = Terminal::open()?;
    let before = (terminal.modes()?, terminal.flags()?);
    let stdio = || terminal.duplicate().map(Stdio::from);
    let screen = watch(&terminal)?;
    let mut child = Command::new(broker_binary()?)
        .args(["--", "qemu-system-x86_64", "-machine", "none"])
        .args(arguments)
        .stdin(stdio()?)
        .stdout(stdio()?)
        .spawn()
        .during("start the emulator on a terminal")?;
    // Echo stays, keys for signals do not.
    let greeted = expect(&screen, "QMP");
    let without_signals = |modes: Termios| !modes.local_modes.contains(LocalModes::ISIG);
    let set = until(PATIENCE, "no key is a signal", || Ok(without_signals(terminal.modes()?).then_some(())));
    child.kill().during("kill the emulator")?;
    child.wait().during("wait for the emulator")?;
    greeted.and(set)?;
    until(PATIENCE, "the terminal is given back", || {
        let modes = format!("{:?}", terminal.modes()?) == format!("{:?}", before.0);
        Ok((modes && terminal.flags()? == before.1).then_some(()))
    })
}

#[test]
fn modes_that_somebody_else_has_set_stay() -> Result<()> {
    need!(Qemu, Landlock, UserNamespaces);
    let mut started = AtTerminal::start(&["-nographic"])?;
    let mut modes = started.terminal.modes()?;
    modes.local_modes |= LocalModes::ECHO;
    tcsetattr(&started.terminal.theirs, OptionalActions::Now, &modes).during("set the terminal's modes")?;
    started.emulator().signal(Signal::KILL)?;
    started.end()?;
    assert_same(&modes, &started.terminal.modes()?, "as a shell has set them");
    Ok(())
}

#[test]
fn it_is_raw_again_when_the_emulator_goes_on() -> Result<()> {
    need!(Qemu, Landlock, UserNamespaces);
    let mut started = AtTerminal::start(&["-nographic"])?;
    started.emulator().signal(Signal::STOP)?;
    // What a shell does when a job stops.
    tcsetattr(&started.terminal.theirs, OptionalActions::Now, &started.before.0).during("set the terminal's modes")?;
    assert!(!started.is_raw()?);
    started.emulator().signal(Signal::CONT)?;
    started.await_raw()?;
    started.emulator().signal(Signal::TERM)?;
    started.end()?;
    started.assert_given_back("SIGTERM after SIGCONT")
}

#[test]
fn control_c_and_the_end_of_the_terminal_end_the_emulator() -> Result<()> {
    need!(Qemu, Landlock, UserNamespaces);
    let mut started = AtTerminal::start(&["-display", "none", "-serial", "stdio"])?;
    (&started.terminal.ours).write_all(b"\x03").during("type")?;
    started.end()?;
    started.assert_given_back("Control-C")?;
    // As when its window is closed.
    let mut started = AtTerminal::start(&["-display", "none", "-serial", "stdio"])?;
    let other = Terminal::open()?;
    drop(std::mem::replace(&mut started.terminal, other));
    started.end()
}
