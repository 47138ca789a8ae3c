//! QEMU's own descriptor sets (`-add-fd`, `/dev/fdset/N`) pass through: the emulator gets the caller's descriptors, and
//! opens nothing.

use rustix::fs::OFlags;
use serde_json::json;
use tests::{BrokerCommand, During, Emulator, PLAIN_QEMU, Qmp, Result, Workdir, need, raw_boot_disk, writes_in};

use crate::handed::Handed;

fn quit(mut emulator: Emulator, mut qmp: Qmp) -> Result<()> {
    qmp.quit()?;
    let finished = emulator.wait()?;
    assert_eq!(finished.status.code(), Some(0), "{finished:?}");
    assert!(!finished.stderr.contains("refused"), "{finished:?}");
    Ok(())
}

/// `-add-fd` for set 1.
fn in_set(handed: &Handed) -> [String; 2] {
    ["-add-fd".to_owned(), format!("fd={},set=1", handed.number())]
}

#[test]
fn raw_and_qcow2_images_in_a_set() -> Result<()> {
    need!(Qemu, Landlock);
    for (name, format) in [("disk.raw", "raw"), ("disk.qcow2", "qcow2")] {
        let workdir = Workdir::new()?;
        raw_boot_disk(&workdir, "disk.raw")?;
        let arguments = ["convert", "-f", "raw", "-O", "qcow2", "disk.raw", "disk.qcow2"];
        let converted = std::process::Command::new("qemu-img").args(arguments).current_dir(workdir.files()).status();
        assert!(converted.during("start qemu-img")?.success());
        // QEMU wants one for each access mode that it asks for (docs of -add-fd).
        let reading = Handed::open(&workdir.path(name), OFlags::RDONLY)?;
        let writing = Handed::open(&workdir.path(name), OFlags::RDWR)?;
        let command = BrokerCommand::new(&workdir)
            .boot_sector(&format!("file=/dev/fdset/1,format={format}"))
            .args(in_set(&reading))
            .args(in_set(&writing));
        let (emulator, qmp) = command.start_with_monitor()?;
        emulator.wait_for_writes(2)?;
        quit(emulator, qmp)?;
        assert!(writes_in(&workdir, name, format)? >= 2);
    }
    Ok(())
}

#[test]
fn host_caching_changes_within_a_set() -> Result<()> {
    need!(Qemu, Landlock);
    let workdir = Workdir::new()?;
    let disk = raw_boot_disk(&workdir, "disk.raw")?;
    // One for each access mode with and without O_DIRECT, which QEMU tells apart since 9.1.
    let flags = [OFlags::RDONLY, OFlags::RDWR, OFlags::RDONLY | OFlags::DIRECT, OFlags::RDWR | OFlags::DIRECT];
    let handed = flags.map(|flags| Handed::open(&disk, flags));
    let handed = handed.into_iter().collect::<Result<Vec<_>>>()?;
    let node = "driver=file,node-name=f,filename=/dev/fdset/1,auto-read-only=on";
    let command = BrokerCommand::new(&workdir)
        .args(PLAIN_QEMU)
        .args(["-accel", "tcg", "-serial", "stdio", "-blockdev", node, "-device", "virtio-blk-pci,drive=f"])
        .args(handed.iter().flat_map(in_set));
    let (emulator, mut qmp) = command.start_with_monitor()?;
    emulator.wait_for_writes(1)?;
    for direct in [true, false] {
        let file = json!({
            "driver": "file", "node-name": "f", "filename": "/dev/fdset/1", "auto-read-only": true,
            "cache": { "direct": direct },
        });
        qmp.execute("blockdev-reopen", json!({ "options": [file] }))?;
        emulator.wait_for_writes(1)?;
    }
    quit(emulator, qmp)
}

#[test]
fn a_descriptor_may_be_in_a_set_and_an_image_by_number() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let disk = raw_boot_disk(&workdir, "disk.raw")?;
    let handed = Handed::open(&disk, OFlags::RDWR)?;
    let command = BrokerCommand::new(&workdir)
        .boot_sector(&format!("file=fd:{},format=raw", handed.number()))
        .args(in_set(&handed));
    let (emulator, mut qmp) = command.start_with_monitor()?;
    emulator.wait_for_writes(1)?;
    let sets = qmp.execute("query-fdsets", json!({}))?;
    assert!(sets.pointer("/0/fds/0").is_some(), "{sets}");
    quit(emulator, qmp)
}
