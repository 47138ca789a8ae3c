//! `-daemonize`: the start ends well only when the guest is within reach, and names go on meaning what they meant.

use std::os::unix::net::UnixStream;

use serde_json::json;
use tests::control::Control;
use tests::{
    BrokerCommand, During, ORDINARY_USER, PATIENCE, PLAIN_QEMU, Process, Qmp, Result, Workdir, need, raw_boot_disk,
    two_level_chain, until,
};

/// Waits for the end of a daemon whose pid file was read.
fn await_end(pid: &str) -> Result<()> {
    let daemon = Process(pid.trim().parse().unwrap_or_default());
    until(PATIENCE, "the daemon's end", || Ok((!daemon.is_running()).then_some(())))
}

#[test]
fn its_sockets_are_there_when_the_start_has_ended() -> Result<()> {
    need!(Qemu, Landlock, UserNamespaces);
    for user in [None, Some(ORDINARY_USER)] {
        let workdir = Workdir::new()?;
        raw_boot_disk(&workdir, "disk.raw")?;
        let command = BrokerCommand::new(&workdir).args(PLAIN_QEMU).args([
            "-drive",
            "if=virtio,file=disk.raw,format=raw",
            "-daemonize",
            "-pidfile",
            "qemu.pid",
            "-qmp",
            "unix:qmp.sock,server=on,wait=off",
        ]);
        let command = if let Some(user) = user { command.user(user) } else { command };
        let mut emulator = command.start()?;
        let finished = emulator.wait()?;
        assert_eq!(finished.status.code(), Some(0), "{finished:?}");
        let pid = String::from_utf8_lossy(&workdir.read("qemu.pid")?).into_owned();
        assert_ne!(pid.trim(), emulator.process().0.to_string(), "the daemon is another process");
        let mut qmp = Qmp::greet(UnixStream::connect(workdir.path("qmp.sock")).during("connect to the daemon")?)?;
        qmp.quit()?;
        await_end(&pid)?;
        emulator.assert_nothing_left(&workdir, &["disk.raw".into()].into())?;
    }
    Ok(())
}

#[test]
fn the_operator_reaches_a_daemon_by_its_own_number() -> Result<()> {
    need!(Root, Qemu, Landlock, UserNamespaces);
    let workdir = Workdir::new()?;
    let words = ["-daemonize", "-pidfile", "qemu.pid"];
    let mut emulator = BrokerCommand::new(&workdir).args(PLAIN_QEMU).args(words).start()?;
    let finished = emulator.wait()?;
    assert_eq!(finished.status.code(), Some(0), "{finished:?}");
    let pid = String::from_utf8_lossy(&workdir.read("qemu.pid")?).trim().to_owned();
    let started = emulator.process().0;
    for number in [&pid, &started.to_string()] {
        let status = Control::new(number).status()?;
        assert_eq!(status["pid"], json!(started), "{number}: {status}");
    }
    // A process of nobody's guest, whatever it wrote into a file.
    workdir.write("qemu.pid", std::process::id().to_string().as_bytes())?;
    assert!(Control::new(&std::process::id().to_string()).status().is_err());
    Process(pid.parse().unwrap_or_default()).signal(rustix::process::Signal::TERM)?;
    await_end(&pid)
}

#[test]
fn a_daemon_that_cannot_start_is_a_failure() -> Result<()> {
    need!(Qemu, Landlock);
    let run = |bare: bool| {
        let workdir = Workdir::new()?;
        let words = ["-daemonize", "-device", "no-such-device"];
        let command = BrokerCommand::new(&workdir).args(PLAIN_QEMU).args(words);
        let finished = if bare { command.bare().run()? } else { command.run()? };
        Ok::<_, tests::Error>((finished.status.code(), finished.stderr))
    };
    let ours = run(false)?;
    assert_eq!(ours, run(true)?);
    assert_eq!(ours.0, Some(1), "{ours:?}");
    Ok(())
}

#[test]
fn relative_names_go_on_working() -> Result<()> {
    // Bare QEMU changes to / and cannot.
    need!(Qemu, Landlock, Broker, Root);
    let workdir = Workdir::new()?;
    two_level_chain(&workdir)?;
    let command = BrokerCommand::new(&workdir).options(["--allow", "commit"]).args(PLAIN_QEMU);
    let words = ["-drive", "if=virtio,file=top.qcow2,format=qcow2,id=d", "-daemonize", "-pidfile", "qemu.pid"];
    let (mut emulator, mut qmp) = command.args(words).args(crate::users::user("12345:12345")?).start_with_monitor()?;
    let finished = emulator.wait()?;
    assert_eq!(finished.status.code(), Some(0), "{finished:?}");
    let pid = String::from_utf8_lossy(&workdir.read("qemu.pid")?).into_owned();
    tests::save_to_descriptor(&mut qmp, &workdir)?;
    qmp.execute("cont", json!({}))?;
    qmp.execute("human-monitor-command", json!({ "command-line": "commit d" }))?;
    qmp.execute("block-commit", json!({ "device": "d", "job-id": "j" }))?;
    qmp.wait_event("BLOCK_JOB_READY")?;
    qmp.execute("block-job-complete", json!({ "device": "j" }))?;
    let event = qmp.wait_event("BLOCK_JOB_COMPLETED")?;
    assert_eq!(event.pointer("/data/error"), None, "{event}");
    qmp.quit()?;
    await_end(&pid)
}

#[test]
fn it_takes_the_state_from_a_command() -> Result<()> {
    need!(Qemu, Landlock);
    let workdir = Workdir::new()?;
    let (mut source, mut qmp) = BrokerCommand::new(&workdir).args(PLAIN_QEMU).args(["-S"]).start_with_monitor()?;
    tests::save_to_descriptor(&mut qmp, &workdir)?;
    qmp.quit()?;
    source.wait()?;
    let command = BrokerCommand::new(&workdir).args(PLAIN_QEMU).args(["-S", "-daemonize", "-pidfile", "qemu.pid"]);
    let command = command.args(["-incoming", "exec:cat ../aside/saved"]);
    let (mut emulator, mut qmp) = command.start_with_monitor()?;
    assert_eq!(emulator.wait()?.status.code(), Some(0));
    let pid = String::from_utf8_lossy(&workdir.read("qemu.pid")?).into_owned();
    until(PATIENCE, "the state", || {
        let info = qmp.execute("query-migrate", json!({}))?;
        Ok((info.get("status").and_then(serde_json::Value::as_str) == Some("completed")).then_some(()))
    })?;
    qmp.quit()?;
    await_end(&pid)
}
