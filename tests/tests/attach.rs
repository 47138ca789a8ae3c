//! Disks that are attached to a running guest: regular files beneath `--allow attach=DIR`, for reading and writing.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use rustix::fs::OFlags;
use serde_json::json;
use tests::hostile::{Puppet, Scene};
use tests::{BrokerCommand, During, Result, Workdir, need, qcow2_over};

/// An ordinary user whom no other test uses.
const USER: u32 = 12_441;

/// Which user to run a test as: the tests' own, and an ordinary one.
const USERS: [Option<u32>; 2] = [None, Some(USER)];

const DATA: &[u8] = b"a disk that may be attached";

/// A scene with the folder `disks`, which holds `a.raw` and the folder `sub`, and a folder beside it.
fn scene() -> Result<Scene> {
    let scene = Scene::new()?;
    for folder in ["disks", "disks/sub", "outside"] {
        fs::create_dir(path(&scene, folder)).during(format!("mkdir {folder}"))?;
    }
    for disk in ["disks/a.raw", "disks/sub/b.raw", "outside/c.raw"] {
        let file = scene.workdir.write(disk, DATA)?;
        fs::set_permissions(file, Permissions::from_mode(0o666)).during("chmod")?;
    }
    Ok(scene)
}

fn path(scene: &Scene, name: &str) -> PathBuf {
    scene.workdir.path(name)
}

fn puppet(scene: &Scene, user: Option<u32>) -> Result<Puppet<'_>> {
    Puppet::start_as(scene, user, |command| command.options(["--allow", "attach=disks"]))
}

#[test]
fn what_lies_beneath_the_folder_is_read_and_written() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    for user in USERS {
        let scene = scene()?;
        let puppet = puppet(&scene, user)?;
        for (name, flags) in [
            ("disks/a.raw", OFlags::RDONLY),
            ("disks/a.raw", OFlags::RDWR),
            ("disks/sub/b.raw", OFlags::RDWR),
            ("disks/sub/../a.raw", OFlags::RDWR | OFlags::DIRECT),
        ] {
            assert_eq!(puppet.open(name, flags)?, "ok", "{name} {flags:?} as {user:?}");
        }
        let order = puppet.start_open("disks/a.raw", OFlags::RDWR, 0)?;
        assert_eq!(puppet.answer(order)?, "ok");
        assert_eq!(puppet.ask(&format!("write {} A", puppet.number(order)))?, "ok");
        assert!(scene.workdir.read("disks/a.raw")?.starts_with(b"A"));
        // A file that came after the start counts as well, and one that has gone does not.
        scene.workdir.write("disks/late.raw", DATA)?;
        assert_eq!(puppet.open("disks/late.raw", OFlags::RDWR)?, if user.is_none() { "ok" } else { "EACCES" });
        fs::remove_file(path(&scene, "disks/late.raw")).during("remove the disk")?;
        assert_eq!(puppet.open("disks/late.raw", OFlags::RDWR)?, "ENOENT");
        scene.assert_unharmed(&puppet.end()?)?;
    }
    Ok(())
}

#[test]
fn nothing_is_made_or_removed_and_no_link_leads_out() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    for user in USERS {
        let scene = scene()?;
        let links =
            [("../outside/c.raw", "out"), ("../outside", "folder"), ("/etc/passwd", "absolute"), ("sub/b.raw", "in")];
        for (target, name) in links {
            symlink(target, path(&scene, &format!("disks/{name}"))).during("make a link")?;
        }
        let puppet = puppet(&scene, user)?;
        assert_eq!(puppet.open("disks/in", OFlags::RDWR)?, "ok");
        for name in ["disks/out", "disks/folder/c.raw", "disks/absolute", "disks/sub", "outside/c.raw", "disks/../x"] {
            for flags in [OFlags::RDONLY, OFlags::RDWR] {
                assert_eq!(puppet.open(name, flags)?, "EACCES", "{name} {flags:?} as {user:?}");
            }
        }
        assert_eq!(puppet.create("disks/new.raw", 0o644)?, "EACCES");
        assert_eq!(puppet.unlink("disks/a.raw")?, "EACCES");
        scene.assert_unharmed(&puppet.end()?)?;
        assert_eq!(scene.workdir.read("disks/a.raw")?, DATA);
    }
    Ok(())
}

#[test]
fn a_disk_is_plugged_in_written_and_committed() -> Result<()> {
    need!(Broker, UserNamespaces, Qemu, Landlock);
    let workdir = Workdir::new()?;
    fs::create_dir(workdir.path("disks")).during("mkdir")?;
    workdir.write("disks/base.raw", &[0; 1 << 20])?;
    qcow2_over(&workdir, "disks/top.qcow2", "base.raw", "raw")?;
    let command = BrokerCommand::new(&workdir).options(["--allow", "attach=disks"]);
    let (mut emulator, mut monitor) = command.args(["-device", "virtio-scsi-pci,id=scsi"]).start_with_monitor()?;
    let file = json!({"driver": "file", "filename": workdir.path("disks/top.qcow2")});
    monitor.execute("blockdev-add", json!({"driver": "qcow2", "node-name": "n", "file": file}))?;
    monitor.execute("human-monitor-command", json!({"command-line": "qemu-io n \"write -P 7 0 64k\""}))?;
    monitor.execute("device_add", json!({"driver": "scsi-hd", "drive": "n", "id": "d"}))?;
    monitor.execute("block-commit", json!({"job-id": "j", "device": "n"}))?;
    monitor.wait_event("BLOCK_JOB_READY")?;
    monitor.execute("block-job-complete", json!({"device": "j"}))?;
    monitor.wait_event("BLOCK_JOB_COMPLETED")?;
    monitor.quit()?;
    assert!(emulator.wait()?.status.success());
    let base = workdir.read("disks/base.raw")?;
    assert!(base.iter().take(64 << 10).all(|byte| *byte == 7), "the commit did not arrive");
    Ok(())
}
