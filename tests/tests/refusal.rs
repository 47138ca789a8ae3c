//! An open that the command line did not ask for: the emulator gets an error, the operator gets one line, the
//! guest goes on.

use std::fs;

use serde_json::{Value, json};
use tests::{BrokerCommand, Error, Result, Workdir, need, qcow2_over, raw_boot_disk, two_level_chain};

#[test]
fn an_image_that_was_not_granted_is_refused_and_reported() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let workdir = Workdir::new()?;
    two_level_chain(&workdir)?;
    let other = raw_boot_disk(&workdir, "other.raw")?.to_string_lossy().into_owned();
    let audit = workdir.aside().join("audit.json");
    let (emulator, mut qmp) = BrokerCommand::new(&workdir)
        .options(["--audit".into(), audit.clone().into_os_string()])
        .boot_sector("file=top.qcow2,format=qcow2")
        .start_with_monitor()?;
    emulator.wait_for_writes(1)?;

    let node = json!({ "driver": "file", "node-name": "other", "filename": other });
    match qmp.execute("blockdev-add", node) {
        Err(Error::Refused { description, .. }) => {
            assert!(description.contains("Permission denied"), "{description}")
        }
        answer => panic!("the image was given out: {answer:?}"),
    }
    emulator.wait_for_message(&other)?;
    let stderr = emulator.stderr()?;
    let lines: Vec<&str> = stderr.lines().filter(|line| line.contains(&other)).collect();
    assert_eq!(lines.len(), 1, "one line on standard error: {stderr}");
    assert!(lines[0].starts_with("broker: "), "{stderr}");

    let audit = fs::read_to_string(audit).unwrap();
    let lines: Vec<Value> = audit
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &Value| line.to_string().contains(&other))
        .collect();
    assert_eq!(lines.len(), 1, "one line in the audit file: {audit}");
    // The guest has lost nothing.
    emulator.wait_for_writes(2)
}

#[test]
fn a_backing_file_is_not_opened_for_writing() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let workdir = Workdir::new()?;
    two_level_chain(&workdir)?;
    let (emulator, mut qmp) =
        BrokerCommand::new(&workdir).boot_sector("file=top.qcow2,format=qcow2").start_with_monitor()?;
    emulator.wait_for_writes(1)?;
    let node = json!({ "driver": "file", "node-name": "again", "filename": "mid.qcow2", "read-only": false });
    let answer = qmp.execute("blockdev-add", node);
    assert!(matches!(answer, Err(Error::Refused { .. })), "{answer:?}");
    emulator.wait_for_message("mid.qcow2")?;
    emulator.wait_for_writes(2)
}

/// QEMU also looks at such a name as it stands, and finds nothing, as it would without the broker.
#[test]
fn a_backing_file_with_a_prefix_draws_no_refusal() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let workdir = Workdir::new()?;
    raw_boot_disk(&workdir, "base.raw")?;
    qcow2_over(&workdir, "top.qcow2", "file:base.raw", "raw")?;
    let (mut emulator, mut qmp) =
        BrokerCommand::new(&workdir).boot_sector("file=top.qcow2,format=qcow2").start_with_monitor()?;
    emulator.wait_for_writes(1)?;
    qmp.quit()?;
    let finished = emulator.wait()?;
    assert_eq!(finished.status.code(), Some(0), "{finished:?}");
    assert!(!finished.stderr.contains("refused"), "{finished:?}");
    Ok(())
}
