//! The process that was started is the emulator: its number, its signals, its exit status; and what was
//! started beside it ends with it.

use std::fs;
use std::os::unix::process::ExitStatusExt;

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::{BrokerCommand, PATIENCE, Process, Result, Workdir, need, raw_boot_disk, two_level_chain, until};

/// The drive of most tests here.
const DRIVE: &str = "file=top.qcow2,format=qcow2";

#[test]
fn the_started_process_is_the_emulator() -> Result<()> {
    need!(Qemu, Landlock);
    let workdir = Workdir::new()?;
    two_level_chain(&workdir)?;
    let files = workdir.listing()?;
    let (mut emulator, mut qmp) = BrokerCommand::new(&workdir).boot_sector(DRIVE).start_with_monitor()?;
    let started = emulator.process();
    let executable = fs::read_link(format!("/proc/{}/exe", started.0)).unwrap();
    assert!(executable.ends_with("qemu-system-x86_64"), "{}", executable.display());
    assert_eq!(emulator.descendants()?.len(), 0, "the emulator has children that it does not know");
    // Thread numbers that QMP reports are the host's.
    let cpus = qmp.execute("query-cpus-fast", json!({}))?;
    let thread = cpus.pointer("/0/thread-id").and_then(Value::as_u64).unwrap();
    assert!(fs::exists(format!("/proc/{}/task/{thread}", started.0)).unwrap());
    qmp.quit()?;
    assert_eq!(emulator.wait()?.status.code(), Some(0));
    emulator.assert_nothing_left(&workdir, &files)
}

#[test]
fn its_exit_status_is_the_emulators() -> Result<()> {
    need!(Qemu, Landlock);
    let workdir = Workdir::new()?;
    let mut emulator = BrokerCommand::new(&workdir)
        .args(["-machine", "none", "-nic", "none", "-display", "none", "-device", "no-such-device"])
        .start()?;
    let finished = emulator.wait()?;
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    assert!(finished.stderr.contains("'no-such-device' is not a valid device model name"), "{finished:?}");
    emulator.assert_nothing_left(&workdir, &workdir.listing()?)
}

#[test]
fn sigterm_is_a_clean_shutdown() -> Result<()> {
    need!(Qemu, Landlock);
    let workdir = Workdir::new()?;
    two_level_chain(&workdir)?;
    let files = workdir.listing()?;
    let (mut emulator, mut qmp) = BrokerCommand::new(&workdir).boot_sector(DRIVE).start_with_monitor()?;
    emulator.wait_for_writes(1)?;
    emulator.signal(Signal::TERM)?;
    let event = qmp.wait_event("SHUTDOWN")?;
    assert_eq!(event.pointer("/data/reason").and_then(Value::as_str), Some("host-signal"));
    let finished = emulator.wait()?;
    assert_eq!(finished.status.code(), Some(0), "{finished:?}");
    emulator.assert_nothing_left(&workdir, &files)
}

#[test]
fn kill_leaves_nothing() -> Result<()> {
    need!(Qemu, Landlock);
    let workdir = Workdir::new()?;
    two_level_chain(&workdir)?;
    let files = workdir.listing()?;
    let mut emulator = BrokerCommand::new(&workdir).boot_sector(DRIVE).start()?;
    emulator.wait_for_writes(1)?;
    emulator.signal(Signal::KILL)?;
    assert_eq!(emulator.wait()?.status.signal(), Some(Signal::KILL.as_raw()));
    emulator.assert_nothing_left(&workdir, &files)
}

#[test]
fn a_kill_during_the_start_leaves_nothing() -> Result<()> {
    need!(Qemu, Landlock);
    let workdir = Workdir::new()?;
    two_level_chain(&workdir)?;
    let files = workdir.listing()?;
    for milliseconds in [0, 1, 2, 4, 8, 16, 32] {
        let mut emulator = BrokerCommand::new(&workdir).boot_sector(DRIVE).start()?;
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        emulator.signal(Signal::KILL)?;
        assert_eq!(emulator.wait()?.status.signal(), Some(Signal::KILL.as_raw()));
        emulator.assert_nothing_left(&workdir, &files)?;
    }
    Ok(())
}

#[test]
fn the_helpers_are_in_sessions_of_their_own() -> Result<()> {
    need!(Qemu, Landlock, Broker);
    let workdir = Workdir::new()?;
    two_level_chain(&workdir)?;
    let (emulator, _qmp) = BrokerCommand::new(&workdir).boot_sector(DRIVE).start_with_monitor()?;
    let session = emulator.process().session()?;
    let helpers = emulator.helpers()?;
    assert!(helpers.len() >= 2, "a broker and an agent stand beside the emulator: {helpers:?}");
    for helper in helpers {
        assert_ne!(helper.session()?, session, "{helper:?}");
    }
    Ok(())
}

/// Starts with `-daemonize` and names relative to the folder of the start; returns the daemon's number.
fn daemonized(command: BrokerCommand, workdir: &Workdir) -> Result<(tests::Emulator, tests::Qmp, Process)> {
    let command = command.args(tests::PLAIN_QEMU).args([
        "-accel",
        "tcg",
        "-drive",
        "if=virtio,file=disk.raw,format=raw",
        "-serial",
        "file:serial.log",
        "-daemonize",
        "-pidfile",
        "qemu.pid",
    ]);
    let (mut emulator, qmp) = command.start_with_monitor()?;
    let finished = emulator.wait()?;
    assert_eq!(finished.status.code(), Some(0), "{finished:?}");
    let pid = String::from_utf8_lossy(&workdir.read("qemu.pid")?).trim().parse();
    Ok((emulator, qmp, Process(pid.unwrap_or_default())))
}

#[test]
fn a_daemon_outlives_the_start_and_leaves_nothing() -> Result<()> {
    need!(Qemu, Landlock);
    let workdir = Workdir::new()?;
    raw_boot_disk(&workdir, "disk.raw")?;
    let (emulator, mut qmp, daemon) = daemonized(BrokerCommand::new(&workdir), &workdir)?;
    assert!(daemon.is_running());
    until(PATIENCE, "the guest's writes", || {
        let text = fs::read_to_string(workdir.path("serial.log")).unwrap_or_default();
        Ok(text.contains(tests::WROTE).then_some(()))
    })?;
    qmp.quit()?;
    until(PATIENCE, "the daemon's end", || Ok((!daemon.is_running()).then_some(())))?;
    let files = ["disk.raw", "serial.log"].map(Into::into).into();
    emulator.assert_nothing_left(&workdir, &files)
}

#[test]
fn a_daemon_reopens_relative_names() -> Result<()> {
    // Bare QEMU changes to / and cannot: the broker resolves names against the folder of the start.
    need!(Qemu, Landlock, Broker);
    let workdir = Workdir::new()?;
    raw_boot_disk(&workdir, "disk.raw")?;
    let (_emulator, mut qmp, daemon) = daemonized(BrokerCommand::new(&workdir), &workdir)?;
    tests::save_to_descriptor(&mut qmp, &workdir)?;
    qmp.execute("cont", json!({}))?;
    qmp.quit()?;
    until(PATIENCE, "the daemon's end", || Ok((!daemon.is_running()).then_some(())))
}
