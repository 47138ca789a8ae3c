//! Migration by way of a command and of a file.

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::{
    BrokerCommand, Emulator, Error, Finished, PATIENCE, PLAIN_QEMU, Process, Qmp, Result, Workdir, need, raw_boot_disk,
    until,
};

/// The drive of the guests here.
const DRIVE: &str = "file=disk.raw,format=raw";

/// A guest whose state is in `aside/saved`, and that has ended.
fn saved(workdir: &Workdir) -> Result<()> {
    raw_boot_disk(workdir, "disk.raw")?;
    let (mut emulator, mut qmp) = BrokerCommand::new(workdir).boot_sector(DRIVE).start_with_monitor()?;
    emulator.wait_for_writes(1)?;
    tests::save_to_descriptor(&mut qmp, workdir)?;
    qmp.quit()?;
    emulator.wait().map(drop)
}

/// Waits until the guest that was started with its state runs.
fn wait_until_it_runs(qmp: &mut Qmp) -> Result<()> {
    until(PATIENCE, "the incoming guest to run", || {
        let status = qmp.execute("query-status", json!({}))?;
        Ok((status.get("status").and_then(Value::as_str) == Some("running")).then_some(()))
    })
}

fn ends_with(status: Option<i32>, mut emulator: Emulator, qmp: &mut Qmp) -> Result<Finished> {
    qmp.quit()?;
    let finished = emulator.wait()?;
    assert_eq!(finished.status.code(), status, "{finished:?}");
    Ok(finished)
}

#[test]
fn a_command_brings_the_state() -> Result<()> {
    need!(Qemu, Landlock);
    for user in [None, Some(tests::ORDINARY_USER)] {
        let workdir = Workdir::new()?;
        saved(&workdir)?;
        let command = BrokerCommand::new(&workdir).boot_sector(DRIVE);
        let command = if let Some(user) = user { command.user(user) } else { command };
        let command = command.args(["-incoming", "exec:echo it reads >&2; cat ../aside/saved"]);
        let (emulator, mut qmp) = command.start_with_monitor()?;
        wait_until_it_runs(&mut qmp)?;
        emulator.wait_for_writes(1)?;
        assert_eq!(emulator.descendants()?.len(), 0, "the command is nobody's child");
        let finished = ends_with(Some(0), emulator, &mut qmp)?;
        assert!(finished.stderr.contains("it reads"), "{finished:?}");
    }
    Ok(())
}

#[test]
fn a_command_that_fails_is_the_end_of_the_state() -> Result<()> {
    need!(Qemu, Landlock);
    let run = |bare: bool| -> Result<Finished> {
        let workdir = Workdir::new()?;
        // Of a command that wrote nothing at all QEMU learns nothing, and waits on.
        let command = BrokerCommand::new(&workdir).args(PLAIN_QEMU).args(["-incoming", "exec:echo no state; exit 3"]);
        if bare { command.bare().run() } else { command.run() }
    };
    let (ours, bare) = (run(false)?, run(true)?);
    assert_eq!(ours.status.code(), bare.status.code(), "{ours:?} {bare:?}");
    assert_eq!(ours.stderr, bare.stderr);
    Ok(())
}

#[test]
fn the_command_cannot_write_to_a_guest_that_was_killed() -> Result<()> {
    need!(Qemu, Landlock);
    let workdir = Workdir::new()?;
    let script = "exec:echo $$ >pid.new; mv pid.new pid; while ! test -e go; do sleep 0.05; done; yes";
    let mut emulator = BrokerCommand::new(&workdir).args(PLAIN_QEMU).args(["-incoming", script]).start()?;
    let pid = |name: &Path| fs::read_to_string(name).ok().and_then(|text| text.trim().parse().ok());
    let command = until(PATIENCE, "the command", || Ok(pid(&workdir.path("pid")).map(Process)))?;
    // From the moment at which the emulator has the pipe, nobody else has.
    until(PATIENCE, "the emulator", || {
        let name = fs::read_to_string(format!("/proc/{}/comm", emulator.process().0)).unwrap_or_default();
        Ok(name.starts_with("qemu").then_some(()))
    })?;
    emulator.signal(Signal::KILL)?;
    emulator.wait()?;
    assert!(command.is_running());
    workdir.write("go", b"")?;
    until(PATIENCE, "the command's end", || Ok((!command.is_running()).then_some(())))
}

#[test]
fn a_program_that_is_not_there_stops_the_start() -> Result<()> {
    need!(Qemu, Landlock, Broker);
    let workdir = Workdir::new()?;
    let channel = "main,addr.transport=exec,addr.args.0=/no/such/program";
    let finished = BrokerCommand::new(&workdir).args(PLAIN_QEMU).args(["-incoming", channel]).run()?;
    assert_eq!(finished.status.code(), Some(125), "{finished:?}");
    assert!(finished.stderr.contains("cannot run the command: No such file or directory"), "{finished:?}");
    Ok(())
}

/// What the operator must read when QEMU was told to run a command.
fn assert_ways_are_named(text: &str) {
    for way in ["migrate fd:", "getfd", "migrate file:", "--allow create=DIR"] {
        assert!(text.contains(way), "{way} is not in {text:?}");
    }
}

#[test]
fn a_command_that_comes_by_the_monitor_is_not_run() -> Result<()> {
    need!(Qemu, Landlock, Broker);
    let workdir = Workdir::new()?;
    raw_boot_disk(&workdir, "disk.raw")?;
    let (emulator, mut qmp) = BrokerCommand::new(&workdir).boot_sector(DRIVE).start_with_monitor()?;
    emulator.wait_for_writes(1)?;
    let answer = qmp.execute("migrate", json!({ "uri": "exec:echo ran >ran; cat >state" }));
    assert!(matches!(answer, Err(Error::Refused { .. })), "{answer:?}");
    emulator.wait_for_message("refused: call clone")?;
    assert_ways_are_named(&emulator.stderr()?);
    // The guest is none the worse for it, and the way that is named works.
    emulator.wait_for_writes(1)?;
    tests::save_to_descriptor(&mut qmp, &workdir)?;
    ends_with(Some(0), emulator, &mut qmp)?;
    assert_eq!(workdir.listing()?, ["disk.raw".into()].into());
    Ok(())
}

#[test]
fn nor_is_it_where_qemu_may_fork() -> Result<()> {
    need!(Qemu, Landlock, Broker);
    let workdir = Workdir::new()?;
    raw_boot_disk(&workdir, "disk.raw")?;
    let audit = workdir.aside().join("audit");
    let command = BrokerCommand::new(&workdir).options(["--audit".as_ref(), audit.as_os_str()]);
    let command = command.args(PLAIN_QEMU).args(["-drive", "if=virtio,file=disk.raw,format=raw", "-daemonize"]);
    let (mut emulator, mut qmp) = command.start_with_monitor()?;
    assert_eq!(emulator.wait()?.status.code(), Some(0));
    // QEMU may say so itself, or take the child's silence for the end of the stream.
    let _ = qmp.execute("migrate", json!({ "uri": "exec:echo ran >ran; cat >state" }));
    let read = || fs::read_to_string(&audit).unwrap_or_default();
    until(PATIENCE, "the refusal", || Ok(read().contains("execve").then_some(())))?;
    until(PATIENCE, "the failure", || {
        let info = qmp.execute("query-migrate", json!({}))?;
        Ok((info.get("status").and_then(Value::as_str) == Some("failed")).then_some(()))
    })?;
    tests::save_to_descriptor(&mut qmp, &workdir)?;
    qmp.quit()?;
    emulator.assert_nothing_left(&workdir, &["disk.raw".into()].into())
}

/// Whether the installed QEMU knows `file:` (8.2 and later).
fn knows_files() -> Result<bool> {
    let workdir = Workdir::new()?;
    let words = ["-incoming", "file:/dev/null"];
    let finished = BrokerCommand::new(&workdir).bare().args(PLAIN_QEMU).args(words).run()?;
    Ok(!finished.stderr.contains("unknown migration protocol"))
}

#[test]
fn a_file_takes_the_state_and_gives_it_back() -> Result<()> {
    need!(Qemu, Landlock);
    let workdir = Workdir::new()?;
    raw_boot_disk(&workdir, "disk.raw")?;
    let folder = workdir.aside().join("states");
    fs::create_dir(&folder).unwrap();
    let allow = format!("create={}", folder.display());
    let command = BrokerCommand::new(&workdir).options(["--allow", &allow]).boot_sector(DRIVE);
    let (emulator, mut qmp) = command.start_with_monitor()?;
    emulator.wait_for_writes(1)?;
    let uri = format!("file:{}", folder.join("state").display());
    let answer = qmp.execute("migrate", json!({ "uri": uri }));
    if !knows_files()? {
        assert!(matches!(answer, Err(Error::Refused { .. })), "{answer:?}");
        return ends_with(Some(0), emulator, &mut qmp).map(drop);
    }
    answer?;
    until(PATIENCE, "the end of the save", || {
        let info = qmp.execute("query-migrate", json!({}))?;
        Ok((info.get("status").and_then(Value::as_str) == Some("completed")).then_some(()))
    })?;
    ends_with(Some(0), emulator, &mut qmp)?;
    let command = BrokerCommand::new(&workdir).boot_sector(DRIVE).args(["-incoming", &uri]);
    let (emulator, mut qmp) = command.start_with_monitor()?;
    wait_until_it_runs(&mut qmp)?;
    emulator.wait_for_writes(1)?;
    ends_with(Some(0), emulator, &mut qmp).map(drop)
}
