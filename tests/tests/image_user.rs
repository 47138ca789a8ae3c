//! `--image-user`: images on a server that takes root for nobody, opened by the one user whom it lets in.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::OFlags;
use serde_json::{Value, json};
use tests::control::{Control, unique_name};
use tests::fuse::FuseFolder;
use tests::{
    BrokerCommand, During, Emulator, Finished, Qmp, Result, Workdir, broker_binary, need, qcow2_over, raw_boot_disk,
    save_to_descriptor, two_level_chain, writes_in,
};

/// The owner of the images.
const OWNER: u32 = 12_601;

/// The option that names this user.
const AS_OWNER: [&str; 2] = ["--image-user", "12601:12601"];

/// Held by the one test that has an export mounted, for each looks whether a start leaves mounts behind.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An export with `top.qcow2` over `mid.qcow2` over `base.raw`, of which only the owner can open anything.
fn export(workdir: &Workdir) -> Result<FuseFolder> {
    two_level_chain(workdir)?;
    let mut files = Vec::new();
    for name in ["top.qcow2", "mid.qcow2", "base.raw"] {
        files.push((OsString::from(name), workdir.read(name)?));
        fs::remove_file(workdir.path(name)).during("remove the local copy")?;
    }
    FuseFolder::mount_squashed(workdir.aside().join("export"), OWNER, files)
}

/// A start that boots from the export's `top.qcow2`.
fn start<'a>(workdir: &'a Workdir, export: &FuseFolder, options: &[&str]) -> BrokerCommand<'a> {
    let drive = format!("file={},format=qcow2,id=d,node-name=top", export.path("top.qcow2").display());
    BrokerCommand::new(workdir).options(options.iter().copied()).boot_sector(&drive)
}

/// How many writes of the guest are in the export's `top.qcow2`.
fn writes(workdir: &Workdir, export: &FuseFolder) -> Result<u16> {
    for copy in ["top.qcow2", "mid.qcow2", "base.raw"] {
        workdir.write(copy, &export.bytes(copy)?)?;
    }
    let count = writes_in(workdir, "top.qcow2", "qcow2");
    for copy in workdir.listing()? {
        fs::remove_file(workdir.files().join(copy)).during("remove the copy")?;
    }
    count
}

/// Fails unless the process that opens images is the owner, and only that.
fn assert_opened_by_the_owner(emulator: &Emulator) -> Result<()> {
    let statuses: Vec<_> = emulator.helpers()?.into_iter().filter_map(|helper| helper.status()).collect();
    let brokers: Vec<_> = statuses.iter().filter(|status| status.field("Name") == "broker").collect();
    assert_eq!(brokers.len(), 1, "{statuses:?}");
    for status in brokers {
        assert_eq!((status.field("Uid"), status.field("Gid")), ("12601 12601 12601 12601", "12601 12601 12601 12601"));
        assert_eq!(status.field("Groups"), "", "a user without an entry has none");
        // CAP_DAC_OVERRIDE is bit 1 (linux/capability.h): root's control socket is to be removed.
        assert_eq!((status.field("CapEff"), status.field("CapBnd")), ("0000000000000002", "0000000000000000"));
    }
    Ok(())
}

/// Ends the guest, and fails if anything is left of it.
fn quit(workdir: &Workdir, mut emulator: Emulator, mut qmp: Qmp) -> Result<()> {
    qmp.quit()?;
    let finished = emulator.wait()?;
    assert_eq!(finished.status.code(), Some(0), "{finished:?}");
    emulator.assert_nothing_left(workdir, &BTreeSet::new())
}

#[test]
fn root_is_told_which_option_to_use() -> Result<()> {
    need!(Broker, Root, Fuse, Qemu, Landlock);
    let _alone = alone();
    let workdir = Workdir::new()?;
    let export = export(&workdir)?;
    for options in [&[][..], &["--image-user", "12602:12602"]] {
        let finished = start(&workdir, &export, options).run()?;
        assert_eq!(finished.status.code(), Some(125), "{finished:?}");
        assert!(finished.stderr.contains("Permission denied") && finished.stderr.contains("--image-user UID:GID"));
        assert_eq!(
            finished.stderr.lines().filter(|line| line.starts_with("broker: cannot")).count(),
            1,
            "{finished:?}"
        );
    }
    Ok(())
}

#[test]
fn the_guest_boots_writes_saves_and_goes_on() -> Result<()> {
    need!(Broker, Root, Fuse, Qemu, Landlock);
    let _alone = alone();
    let workdir = Workdir::new()?;
    let export = export(&workdir)?;
    let name = unique_name();
    let options = [&AS_OWNER[..], &["--name", &name]].concat();
    let command = start(&workdir, &export, &options).args(["-pidfile", "pid"]);
    let (emulator, mut qmp) = command.start_with_monitor()?;
    emulator.wait_for_writes(2)?;
    assert_opened_by_the_owner(&emulator)?;
    // The operator is still root.
    assert!(Control::new(&name).status()?.pointer("/granted/grants").and_then(Value::as_u64) >= Some(3));
    save_to_descriptor(&mut qmp, &workdir)?;
    qmp.execute("cont", json!({}))?;
    emulator.wait_for_writes(2)?;
    quit(&workdir, emulator, qmp)?;
    assert!(writes(&workdir, &export)? >= 4);
    Ok(())
}

#[test]
fn what_is_committed_and_created_is_the_users() -> Result<()> {
    need!(Broker, Root, Fuse, Qemu, Landlock);
    let _alone = alone();
    let workdir = Workdir::new()?;
    let export = export(&workdir)?;
    let folder = export.path("");
    let create = format!("create={}", folder.display());
    let options = [&AS_OWNER[..], &["--allow", "commit", "--allow", &create]].concat();
    let (emulator, mut qmp) = start(&workdir, &export, &options).start_with_monitor()?;
    emulator.wait_for_writes(1)?;
    qmp.execute(
        "block-commit",
        json!({
            "device": "d", "top": export.path("mid.qcow2"), "base": export.path("base.raw"),
        }),
    )?;
    let event = qmp.wait_event("BLOCK_JOB_COMPLETED")?;
    assert!(event.pointer("/data/error").is_none(), "{event}");
    qmp.execute(
        "blockdev-snapshot-sync",
        json!({
            "device": "d", "snapshot-file": export.path("snapshot.qcow2"), "format": "qcow2",
        }),
    )?;
    let (top, snapshot) = (export.bytes("top.qcow2")?, export.bytes("snapshot.qcow2")?);
    emulator.wait_for_writes(2)?;
    quit(&workdir, emulator, qmp)?;
    // The server let the owner make it, and nobody else.
    assert!(snapshot.starts_with(b"QFI\xfb") && snapshot != export.bytes("snapshot.qcow2")?, "the guest writes to it");
    assert_eq!(top, export.bytes("top.qcow2")?, "and no more to what is below");
    Ok(())
}

#[test]
fn overlays_in_a_sticky_folder_are_removed() -> Result<()> {
    need!(Broker, Root, Fuse, Qemu, Landlock);
    let _alone = alone();
    for user in [&[][..], &["--user", "12603:12603"]] {
        let workdir = Workdir::new()?;
        let export = export(&workdir)?;
        let command = start(&workdir, &export, &[&AS_OWNER[..], user].concat()).args(["-snapshot"]);
        let (emulator, qmp) = command.start_with_monitor()?;
        emulator.wait_for_writes(2)?;
        let before = export.bytes("top.qcow2")?;
        quit(&workdir, emulator, qmp)?;
        assert_eq!(before, export.bytes("top.qcow2")?, "the overlay took all writes");
    }
    Ok(())
}

/// On local files the option gives what the user has, and not what root or the broker's capabilities would.
#[test]
fn permission_bits_are_those_of_the_user() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let disk = raw_boot_disk(&workdir, "disk.raw")?;
    let run = |mode: u32, owner: u32| -> Result<Finished> {
        fs::set_permissions(&disk, fs::Permissions::from_mode(mode)).during("chmod")?;
        chown(&disk, Some(owner), Some(owner)).during("chown")?;
        let command = BrokerCommand::new(&workdir).options(AS_OWNER).boot_sector("file=disk.raw,format=raw");
        let (mut emulator, mut qmp) = match command.start_with_monitor() {
            Ok(started) => started,
            Err(error) => {
                let command = BrokerCommand::new(&workdir).options(AS_OWNER).boot_sector("file=disk.raw,format=raw");
                let finished = command.run()?;
                assert_ne!(finished.status.code(), Some(0), "{error}");
                return Ok(finished);
            }
        };
        emulator.wait_for_writes(1)?;
        let opened = emulator.process().open_flags_of(&disk)?;
        assert!(opened.iter().any(|flags| flags.contains(OFlags::RDWR)), "{opened:?}");
        qmp.quit()?;
        emulator.wait()
    };
    assert_eq!(run(0o600, OWNER)?.status.code(), Some(0));
    for (mode, owner) in [(0o600, 0), (0o000, OWNER)] {
        let finished = run(mode, owner)?;
        assert_eq!(finished.status.code(), Some(125), "{finished:?}");
        assert!(finished.stderr.contains("disk.raw") && finished.stderr.contains("Permission denied"), "{finished:?}");
    }
    let finished = run(0o444, OWNER)?;
    assert_eq!(finished.status.code(), Some(1), "QEMU finds that it cannot write: {finished:?}");
    assert!(finished.stderr.contains("for reading only"), "{finished:?}");
    Ok(())
}

#[test]
fn the_header_is_read_as_the_user_too() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let base = workdir.write("base.raw", &[0; 4096])?;
    let top = qcow2_over(&workdir, "top.qcow2", "base.raw", "raw")?;
    chown(&top, Some(OWNER), Some(OWNER)).during("chown")?;
    fs::set_permissions(&base, fs::Permissions::from_mode(0o600)).during("chmod")?;
    let command = BrokerCommand::new(&workdir).options(AS_OWNER).args(["-drive", "file=top.qcow2,format=qcow2"]);
    let finished = command.run()?;
    assert_eq!(finished.status.code(), Some(125), "{finished:?}");
    assert!(finished.stderr.contains("may not read") && finished.stderr.contains("base.raw"), "{finished:?}");
    Ok(())
}

/// What `broker plan` says of the user.
fn planned(folder: &Path, user: &str) -> Result<Value> {
    let mut command = Command::new(broker_binary()?);
    command.args(["plan", "--json", "--image-user", user, "--", "qemu-system-x86_64", "-nodefaults"]);
    let output = command.current_dir(folder).output().during("start broker plan")?;
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    Ok(plan.get("image_user").cloned().unwrap_or_default())
}

#[test]
fn the_groups_are_those_of_the_user_database() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let output = Command::new("id").args(["-G", "daemon"]).output().during("start id")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut wanted: Vec<u64> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    wanted.sort_unstable();
    let shown = planned(&workdir.files(), "1:1")?;
    let groups = shown.get("groups").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut groups: Vec<u64> = groups.iter().filter_map(Value::as_u64).collect();
    groups.sort_unstable();
    assert!(!wanted.is_empty());
    assert_eq!(groups, wanted);
    assert_eq!(planned(&workdir.files(), "12601:7")?, json!({ "uid": 12601, "gid": 7, "groups": [] }));
    Ok(())
}

#[test]
fn only_root_opens_as_another_user() -> Result<()> {
    need!(Broker, Qemu, Landlock, UserNamespaces);
    let workdir = Workdir::new()?;
    raw_boot_disk(&workdir, "disk.raw")?;
    let finished = BrokerCommand::new(&workdir)
        .user(tests::ORDINARY_USER)
        .options(AS_OWNER)
        .boot_sector("file=disk.raw,format=raw")
        .run()?;
    assert_eq!(finished.status.code(), Some(125), "{finished:?}");
    assert!(finished.stderr.contains("--image-user: only root"), "{finished:?}");
    Ok(())
}

/// What is looked up while the guest runs has that user's rights too, though the broker keeps what cleaning up takes.
#[test]
fn media_and_new_files_are_those_of_the_user() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let workdir = Workdir::new()?;
    raw_boot_disk(&workdir, "disk.raw")?;
    fs::set_permissions(workdir.path("disk.raw"), fs::Permissions::from_mode(0o666)).during("chmod")?;
    for folder in ["iso", "new", "new/roots"] {
        fs::create_dir(workdir.path(folder)).during("mkdir")?;
    }
    chown(workdir.path("new"), Some(OWNER), Some(OWNER)).during("chown")?;
    for (name, mode) in [("iso/open.iso", 0o644), ("iso/secret.iso", 0o600)] {
        workdir.write(name, &[0; 1 << 20])?;
        fs::set_permissions(workdir.path(name), fs::Permissions::from_mode(mode)).during("chmod")?;
    }
    let (mut emulator, mut qmp) = BrokerCommand::new(&workdir)
        .options(AS_OWNER)
        .options(["--medium-dir", "iso", "--allow", "create=new"])
        .boot_sector("file=disk.raw,format=raw,id=d")
        .start_with_monitor()?;
    emulator.wait_for_writes(1)?;
    let mut hmp = |line: &str| -> Result<String> {
        let answer = qmp.execute("human-monitor-command", json!({ "command-line": line }))?;
        Ok(answer.as_str().unwrap_or_default().to_owned())
    };
    let add = |name: &str| format!("drive_add 0 if=none,id={name},readonly=on,format=raw,file=iso/{name}.iso");
    assert!(hmp(&add("open"))?.contains("OK"));
    assert!(hmp(&add("secret"))?.contains("Permission denied"));
    assert_eq!(hmp("snapshot_blkdev d new/own.qcow2 qcow2")?, "");
    assert!(hmp("snapshot_blkdev d new/roots/not.qcow2 qcow2")?.contains("Permission denied"));
    assert!(!workdir.path("new/roots/not.qcow2").exists());
    qmp.quit()?;
    assert_eq!(emulator.wait()?.status.code(), Some(0));
    Ok(())
}

#[test]
fn what_a_tool_makes_is_the_users() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let workdir = Workdir::new()?;
    workdir.write("in.raw", &[1; 1 << 20])?;
    for folder in ["own", "roots"] {
        fs::create_dir(workdir.path(folder)).during("mkdir")?;
        workdir.write(&format!("{folder}/there.raw"), b"before")?;
    }
    for name in ["own", "own/there.raw"] {
        chown(workdir.path(name), Some(OWNER), Some(OWNER)).during("chown")?;
    }
    let convert = |target: &str| {
        let words = ["convert", "-f", "raw", "-O", "raw", "in.raw", target];
        BrokerCommand::new(&workdir).options(AS_OWNER).program("qemu-img").args(words).run()
    };
    for target in ["own/there.raw", "own/new.raw"] {
        let finished = convert(target)?;
        assert_eq!(finished.status.code(), Some(0), "{target}: {finished:?}");
        assert_eq!(workdir.read(target)?, workdir.read("in.raw")?);
    }
    for target in ["roots/there.raw", "roots/new.raw"] {
        let finished = convert(target)?;
        assert_eq!(finished.status.code(), Some(1), "{target}: {finished:?}");
        assert!(finished.stderr.contains("Permission denied"), "{finished:?}");
    }
    assert_eq!(workdir.read("roots/there.raw")?, b"before");
    assert!(!workdir.path("roots/new.raw").exists());
    Ok(())
}
