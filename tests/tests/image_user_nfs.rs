//! `--image-user` on a real NFS server that takes root for nobody; `tests/vm` runs it on every version.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use tests::{BrokerCommand, During, Error, Result, Workdir, need, save_to_descriptor, two_level_chain};

/// The owner of the export's folder.
const OWNER: u32 = 1000;

const AS_OWNER: [&str; 2] = ["--image-user", "1000:1000"];

/// The export's folder, which root cannot look into.
fn folder() -> PathBuf {
    std::env::var_os("BROKER_TESTS_SQUASHED").map(PathBuf::from).unwrap_or_default()
}

/// Runs a program as the owner.
fn as_owner(program: &str, arguments: &[&Path]) -> Result<()> {
    let mut command = Command::new(program);
    let status = command.args(arguments).uid(OWNER).gid(OWNER).status().during(format!("start {program}"))?;
    if status.success() { Ok(()) } else { Err(Error::Unexpected(format!("{program} {arguments:?}: {status}"))) }
}

/// Puts a chain of images into the folder, in the place of an earlier test's.
fn put_images(workdir: &Workdir) -> Result<()> {
    two_level_chain(workdir)?;
    let _ = as_owner("rm", &[Path::new("-f"), &folder().join("snapshot.qcow2")]);
    for name in ["top.qcow2", "mid.qcow2", "base.raw"] {
        as_owner("cp", &[&workdir.path(name), &folder().join(name)])?;
        fs::remove_file(workdir.path(name)).during("remove the local copy")?;
        as_owner("chmod", &[Path::new("0600"), &folder().join(name)])?;
    }
    Ok(())
}

fn start<'a>(workdir: &'a Workdir, options: &[&str]) -> BrokerCommand<'a> {
    let drive = format!("file={},format=qcow2,id=d,node-name=top", folder().join("top.qcow2").display());
    BrokerCommand::new(workdir).options(options.iter().copied()).boot_sector(&drive)
}

/// Whether the folder is on NFSv4.2, the one version that asks its server by the emulator's own user.
fn is_version_4_2() -> Result<bool> {
    let mounts = fs::read_to_string("/proc/mounts").during("read the mounts")?;
    Ok(mounts.lines().any(|line| {
        let at = line.split(' ').nth(1).map(Path::new);
        at.is_some() && at == folder().parent() && line.contains("vers=4.2")
    }))
}

#[test]
fn an_export_of_which_root_sees_nothing() -> Result<()> {
    need!(Broker, Root, SquashedExport, Qemu, Landlock);
    let workdir = Workdir::new()?;
    put_images(&workdir)?;
    assert!(fs::metadata(folder().join("top.qcow2")).is_err(), "root can look into it");
    let finished = start(&workdir, &[]).run()?;
    assert_eq!(finished.status.code(), Some(125), "{finished:?}");
    assert!(finished.stderr.contains("--image-user UID:GID"), "{finished:?}");
    let create = format!("create={}", folder().display());
    let is_4_2 = is_version_4_2()?;
    let users: &[&[&str]] = if is_4_2 { &[&[], &["--user", "1000:1000"]] } else { &[&[]] };
    for user in users {
        put_images(&workdir)?;
        let options = [&AS_OWNER[..], &["--allow", "commit", "--allow", &create], user].concat();
        let (mut emulator, mut qmp) = start(&workdir, &options).start_with_monitor()?;
        emulator.wait_for_writes(1)?;
        save_to_descriptor(&mut qmp, &workdir)?;
        qmp.execute("cont", json!({}))?;
        emulator.wait_for_writes(1)?;
        let (top, base) = (folder().join("mid.qcow2"), folder().join("base.raw"));
        qmp.execute("block-commit", json!({ "device": "d", "top": top, "base": base }))?;
        let event = qmp.wait_event("BLOCK_JOB_COMPLETED")?;
        assert!(event.pointer("/data/error").is_none(), "{event}");
        let snapshot = json!({
            "device": "d", "snapshot-file": folder().join("snapshot.qcow2"), "format": "qcow2",
        });
        qmp.execute("blockdev-snapshot-sync", snapshot)?;
        emulator.wait_for_writes(2)?;
        qmp.quit()?;
        let finished = emulator.wait()?;
        assert_eq!(finished.status.code(), Some(0), "{finished:?}");
        emulator.assert_nothing_left(&workdir, &workdir.listing()?)?;
        as_owner("test", &[Path::new("-O"), &folder().join("snapshot.qcow2")])?;
        assert_eq!(finished.stderr.contains("is on NFSv4.2"), is_4_2 && user.is_empty(), "{finished:?}");
    }
    Ok(())
}
