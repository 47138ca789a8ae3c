//! `-runas`, `-run-with user=`, `-chroot`: the emulator is who it would become, from the start.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::json;
use tests::{BrokerCommand, ORDINARY_USER, PLAIN_QEMU, Process, Result, Workdir, need, raw_boot_disk, two_level_chain};

/// Whether the installed QEMU has this option: some came and some went between 7.2 and 10.0.
fn has(option: &str) -> Result<bool> {
    let workdir = Workdir::new()?;
    let finished = BrokerCommand::new(&workdir).bare().args([option]).run()?;
    Ok(finished.stderr.contains("requires an argument"))
}

/// The words by which the installed QEMU is told a user.
pub(crate) fn user(name: &str) -> Result<[String; 2]> {
    let old = has("-runas")?;
    Ok(if old { ["-runas".into(), name.into()] } else { ["-run-with".into(), format!("user={name}")] })
}

/// The words by which the installed QEMU is told a root.
fn root(folder: &str) -> Result<[String; 2]> {
    let old = has("-chroot")?;
    Ok(if old { ["-chroot".into(), folder.into()] } else { ["-run-with".into(), format!("chroot={folder}")] })
}

/// The ids of all threads, each once.
fn ids(process: Process) -> Result<BTreeSet<[String; 3]>> {
    let of = |status: &tests::ThreadStatus| ["Uid", "Gid", "Groups"].map(|field| status.field(field).to_owned());
    Ok(process.threads()?.iter().map(of).collect())
}

#[test]
fn user_group_and_groups_are_those_that_qemu_would_take() -> Result<()> {
    need!(Qemu, Landlock, Root);
    for name in ["nobody", "12345:54321", "0x10:077"] {
        let started = |command: BrokerCommand| -> Result<_> {
            let command = command.args(PLAIN_QEMU).args(user(name)?);
            let (emulator, mut qmp) = command.start_with_monitor()?;
            let ids = ids(emulator.process())?;
            qmp.quit()?;
            Ok(ids)
        };
        let workdir = Workdir::new()?;
        let (ours, bare) = (started(BrokerCommand::new(&workdir))?, started(BrokerCommand::new(&workdir).bare())?);
        assert_eq!(ours, bare, "{name}");
        assert!(ours.iter().all(|[uid, ..]| !uid.starts_with("0 ")), "{name}: {ours:?}");
    }
    Ok(())
}

#[test]
fn the_files_of_the_command_line_are_still_the_callers() -> Result<()> {
    // Bare QEMU cannot open its images again once it is another user.
    need!(Qemu, Landlock, Root, Broker);
    let workdir = Workdir::new()?;
    raw_boot_disk(&workdir, "disk.raw")?;
    two_level_chain(&workdir)?;
    let files = workdir.listing()?;
    let disk = workdir.path("disk.raw");
    assert_eq!(fs::metadata(&disk).unwrap().uid(), 0);
    let command = BrokerCommand::new(&workdir)
        .boot_sector("file=disk.raw,format=raw")
        .args(["-drive", "if=virtio,file=top.qcow2,format=qcow2,snapshot=on", "-pidfile", "qemu.pid"])
        .args(user("12345:12345")?);
    let (mut emulator, mut qmp) = command.start_with_monitor()?;
    emulator.wait_for_writes(1)?;
    let pid = String::from_utf8_lossy(&workdir.read("qemu.pid")?).trim().to_owned();
    assert_eq!(pid, emulator.process().0.to_string());
    tests::save_to_descriptor(&mut qmp, &workdir)?;
    qmp.execute("cont", json!({}))?;
    emulator.wait_for_writes(1)?;
    qmp.quit()?;
    assert_eq!(emulator.wait()?.status.code(), Some(0));
    emulator.assert_nothing_left(&workdir, &files)
}

#[test]
fn a_root_changes_nothing() -> Result<()> {
    need!(Qemu, Landlock, Root, Broker);
    let workdir = Workdir::new()?;
    raw_boot_disk(&workdir, "disk.raw")?;
    fs::create_dir(workdir.path("empty")).unwrap();
    let command = BrokerCommand::new(&workdir).boot_sector("file=disk.raw,format=raw").args(root("empty")?);
    let (mut emulator, mut qmp) = command.start_with_monitor()?;
    tests::save_to_descriptor(&mut qmp, &workdir)?;
    qmp.execute("cont", json!({}))?;
    emulator.wait_for_writes(1)?;
    qmp.quit()?;
    assert_eq!(emulator.wait()?.status.code(), Some(0));
    Ok(())
}

/// What QEMU says of these words; the broker's line must hold the same.
fn assert_refused_alike(words: &[String], starter: Option<u32>) -> Result<()> {
    let workdir = Workdir::new()?;
    let run = |command: BrokerCommand| {
        let command = command.args(PLAIN_QEMU).args(words);
        if let Some(user) = starter { command.user(user).run() } else { command.run() }
    };
    let (ours, bare) = (run(BrokerCommand::new(&workdir))?, run(BrokerCommand::new(&workdir).bare())?);
    let said = bare.stderr.trim().trim_start_matches("qemu-system-x86_64: ");
    // What kind of thing was not done, without the system's own words.
    let said = said.split_once(": ").map_or(said, |(start, end)| if start.starts_with('-') { end } else { start });
    assert!(!said.is_empty() && !bare.status.success(), "{words:?}: {bare:?}");
    assert!(ours.stderr.contains(said), "{words:?}: {said:?} is not in {ours:?}");
    assert_eq!(ours.status.code(), Some(125), "{ours:?}");
    Ok(())
}

#[test]
fn who_cannot_be_taken_is_refused_in_qemus_words() -> Result<()> {
    need!(Qemu, Landlock, Root, Broker);
    for name in ["no-such-user", "-1:5", "5", "08:1", "root", "0:5"] {
        assert_refused_alike(&user(name)?, None)?;
    }
    assert_refused_alike(&root("/no/such/folder")?, None)?;
    for words in [user("nobody")?, user(&format!("{ORDINARY_USER}:{ORDINARY_USER}"))?, root("/")?] {
        assert_refused_alike(&words, Some(ORDINARY_USER))?;
    }
    Ok(())
}

#[test]
fn two_users_are_one_too_many() -> Result<()> {
    need!(Qemu, Landlock, Root, Broker);
    let workdir = Workdir::new()?;
    let command = BrokerCommand::new(&workdir).options(["--user", "12345:12345"]);
    let finished = command.args(PLAIN_QEMU).args(["-runas", "nobody"]).run()?;
    assert!(finished.stderr.contains("-runas nobody: --user chooses the emulator's user too"), "{finished:?}");
    Ok(())
}
