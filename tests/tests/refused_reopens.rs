//! Each operation that needs an option, without it: the client of the monitor gets QEMU's ordinary error, the operator a
//! line that names the option, the guest goes on, and no file is touched.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hasher};

use serde_json::{Value, json};
use tests::{
    BrokerCommand, During, Emulator, Error, ORDINARY_USER, PATIENCE, Qmp, Result, Workdir, need, qcow2_over,
    raw_boot_disk, until,
};

/// What QEMU says when an open gives `EACCES`.
const DENIED: &str = "Permission denied";

/// One operation.
struct Operation {
    /// The monitor's command, or `hmp` for a line of the human monitor, or `job` for a command whose job fails.
    kind: Kind,
    command: &'static str,
    arguments: Value,
    /// What the audit file calls the request, and what its advice has to name.
    request: &'static str,
    advice: &'static str,
}

#[derive(Clone, Copy)]
enum Kind {
    /// A command of the monitor that fails.
    Command,
    /// A line for the human monitor, which answers with the error's text.
    Line,
    /// A command of the monitor that begins a job, which fails.
    Job,
}

fn operation(command: &'static str, arguments: Value, request: &'static str, advice: &'static str) -> Operation {
    let kind = match command {
        "human-monitor-command" => Kind::Line,
        "blockdev-create" => Kind::Job,
        _ => Kind::Command,
    };
    Operation { kind, command, arguments, request, advice }
}

/// Operations that write to a backing file.
fn commits() -> Vec<Operation> {
    let commit = |command, arguments| operation(command, arguments, "open", "--allow commit");
    vec![
        commit("block-commit", json!({ "device": "data", "top": "mid.qcow2", "base": "base.raw" })),
        commit("block-commit", json!({ "device": "data" })),
        commit("human-monitor-command", json!({ "command-line": "commit data" })),
        commit(
            "blockdev-add",
            json!({ "driver": "file", "node-name": "b", "filename": "base.raw", "read-only": false }),
        ),
    ]
}

/// Operations that open another file.
fn media() -> Vec<Operation> {
    let medium = |command, arguments| operation(command, arguments, "open", "--medium");
    vec![
        medium("blockdev-change-medium", json!({ "id": "tray", "filename": "disc.iso" })),
        medium("blockdev-change-medium", json!({ "id": "tray", "filename": "disc.iso", "format": "raw" })),
        medium("human-monitor-command", json!({ "command-line": "change disc disc.iso" })),
        medium(
            "blockdev-snapshot-sync",
            json!({ "device": "data", "snapshot-file": "other.qcow2", "format": "qcow2", "mode": "existing" }),
        ),
        medium("blockdev-add", json!({ "driver": "file", "node-name": "o", "filename": "other.qcow2" })),
    ]
}

/// Operations that make a file.
fn creations() -> Vec<Operation> {
    let create = |command, arguments| operation(command, arguments, "create", "--allow create=");
    vec![
        create("blockdev-snapshot-sync", json!({ "device": "data", "snapshot-file": "new.qcow2", "format": "qcow2" })),
        create("drive-mirror", json!({ "device": "data", "target": "new.qcow2", "sync": "full", "format": "qcow2" })),
        create("drive-backup", json!({ "device": "data", "target": "new.qcow2", "sync": "full", "format": "qcow2" })),
        create(
            "blockdev-create",
            json!({ "job-id": "create", "options": { "driver": "file", "filename": "new.raw", "size": 65536 } }),
        ),
        create("dump-guest-memory", json!({ "paging": false, "protocol": "file:new.dump" })),
        create("screendump", json!({ "filename": "new.ppm" })),
        create("pmemsave", json!({ "val": 0, "size": 4096, "filename": "new.memory" })),
        create("memsave", json!({ "val": 0, "size": 4096, "filename": "new.memory" })),
        create("chardev-add", json!({ "id": "new", "backend": { "type": "file", "data": { "out": "new.log" } } })),
    ]
}

/// What QEMU said of an operation that was to fail.
fn complaint(qmp: &mut Qmp, operation: &Operation) -> Result<String> {
    let answer = qmp.execute(operation.command, operation.arguments.clone());
    match (operation.kind, answer) {
        (Kind::Command, Err(Error::Refused { description, .. })) => Ok(description),
        (Kind::Line, Ok(Value::String(text))) => Ok(text),
        (Kind::Job, Ok(_)) => until(PATIENCE, "the end of the job", || {
            let jobs = qmp.execute("query-jobs", json!({}))?;
            let Some(job) = jobs.get(0).filter(|job| job["status"] == "concluded") else { return Ok(None) };
            qmp.execute("job-dismiss", json!({ "id": job["id"] }))?;
            Ok(Some(job["error"].as_str().unwrap_or_default().to_owned()))
        }),
        (_, answer) => Err(Error::Unexpected(format!("{} came to {answer:?}", operation.command))),
    }
}

/// The refusals that the audit file holds.
fn refusals(workdir: &Workdir) -> Result<Vec<Value>> {
    let text = fs::read_to_string(workdir.aside().join("audit.json")).during("read the audit file")?;
    let parse = |line| serde_json::from_str(line).map_err(|error| Error::Unexpected(format!("{line}: {error}")));
    let lines: Vec<Value> = text.lines().map(parse).collect::<Result<_>>()?;
    Ok(lines.into_iter().filter(|line| line["outcome"] == "refused").collect())
}

/// A checksum of every file but of the disk that the guest writes.
fn checksums(workdir: &Workdir) -> Result<BTreeMap<String, u64>> {
    let names = workdir.listing()?.into_iter().map(|name| name.to_string_lossy().into_owned());
    let checksum = |name: String| {
        let mut hasher = DefaultHasher::new();
        hasher.write(&workdir.read(&name)?);
        Ok((name, hasher.finish()))
    };
    names.filter(|name| name != "boot.raw").map(checksum).collect()
}

/// A guest that writes to a disk of its own, with an idle chain and an empty tray beside it.
fn start(workdir: &Workdir, user: Option<u32>) -> Result<(Emulator, Qmp)> {
    let audit = workdir.aside().join("audit.json");
    fs::write(&audit, "").during("make the audit file")?;
    let mut command = BrokerCommand::new(workdir)
        .options(["--audit".into(), audit.clone().into_os_string()])
        .boot_sector("file=boot.raw,format=raw")
        .args([
            "-drive",
            "file=top.qcow2,format=qcow2,if=none,id=data",
            "-device",
            "virtio-blk-pci,drive=data,addr=0x10",
        ])
        .args(["-drive", "if=none,id=disc,media=cdrom", "-device", "ide-cd,drive=disc,id=tray", "-vga", "std"]);
    if let Some(user) = user {
        std::os::unix::fs::chown(&audit, Some(user), Some(user)).during("chown")?;
        command = command.user(user);
    }
    let (emulator, qmp) = command.start_with_monitor()?;
    emulator.wait_for_writes(1)?;
    Ok((emulator, qmp))
}

fn make_images(workdir: &Workdir) -> Result<()> {
    raw_boot_disk(workdir, "boot.raw")?;
    for name in ["base.raw", "disc.iso"] {
        workdir.write(name, &[0x5a; 1 << 20])?;
    }
    for (name, backing, format) in
        [("mid.qcow2", "base.raw", "raw"), ("top.qcow2", "mid.qcow2", "qcow2"), ("other.qcow2", "disc.iso", "raw")]
    {
        qcow2_over(workdir, name, backing, format)?;
    }
    Ok(())
}

/// Tries each operation; each must come to nothing.
fn try_all(operations: &[Operation], user: Option<u32>) -> Result<()> {
    let workdir = Workdir::new()?;
    make_images(&workdir)?;
    let (files, before) = (workdir.listing()?, checksums(&workdir)?);
    let (mut emulator, mut qmp) = start(&workdir, user)?;
    for operation in operations {
        let (command, arguments) = (operation.command, &operation.arguments);
        let told = refusals(&workdir)?.len();
        let said = complaint(&mut qmp, operation)?;
        assert!(said.contains(DENIED), "{command} {arguments}: {said}");
        let refusals = refusals(&workdir)?;
        let new = refusals.get(told..).unwrap_or_default();
        let fits = |line: &&Value| {
            line["request"] == operation.request
                && line["advice"].as_str().is_some_and(|advice| advice.contains(operation.advice))
        };
        assert!(new.iter().any(|line| fits(&line)), "{command} {arguments} is told as {new:?}");
        let stderr = emulator.stderr()?;
        assert!(stderr.contains(operation.advice), "the operator reads the option: {stderr}");
        emulator.wait_for_writes(1)?;
    }
    let running = qmp.execute("query-status", json!({}))?;
    assert_eq!(running.get("status").and_then(Value::as_str), Some("running"));
    qmp.quit()?;
    assert_eq!(emulator.wait()?.status.code(), Some(0));
    assert_eq!(checksums(&workdir)?, before, "a file was changed");
    emulator.assert_nothing_left(&workdir, &files)
}

#[test]
fn a_commit_that_was_not_allowed_changes_nothing() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    try_all(&commits(), None)
}

#[test]
fn a_medium_that_was_not_named_is_not_inserted() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    try_all(&media(), None)
}

#[test]
fn a_file_is_not_made_where_none_may_be() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    try_all(&creations(), None)
}

#[test]
fn nor_anything_of_it_for_an_ordinary_user() -> Result<()> {
    need!(Broker, Qemu, Landlock, UserNamespaces);
    let operations: Vec<Operation> = [commits(), media(), creations()].into_iter().flatten().collect();
    try_all(&operations, Some(ORDINARY_USER))
}
