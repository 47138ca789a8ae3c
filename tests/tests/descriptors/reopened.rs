//! What is handed over is opened again and again, within the access that it came with. Each of these is true of plain
//! QEMU that is given the path instead.

use std::fs;
use std::path::Path;

use rustix::fs::OFlags;
use serde_json::{Value, json};
use tests::{
    BrokerCommand, During, Emulator, PLAIN_QEMU, Qmp, Result, Workdir, is_bare, need, qcow2_over, raw_boot_disk,
    save_to_descriptor, two_level_chain, writes_in,
};

use crate::handed::Handed;

/// Whether the emulator holds `image` open for writing, and whether past the host's cache.
fn access(emulator: &Emulator, image: &Path) -> Result<(bool, bool)> {
    let flags = emulator.process().open_flags_of(image)?;
    let any = |wanted: OFlags| flags.iter().any(|flags| flags.intersects(wanted));
    Ok((any(OFlags::RDWR | OFlags::WRONLY), any(OFlags::DIRECT)))
}

fn quit(mut emulator: Emulator, mut qmp: Qmp) -> Result<()> {
    qmp.quit()?;
    let finished = emulator.wait()?;
    assert_eq!(finished.status.code(), Some(0), "{finished:?}");
    assert!(!finished.stderr.contains("refused"), "{finished:?}");
    Ok(())
}

/// A qcow2 image without a backing file that boots the boot sector.
fn qcow2_disk(workdir: &Workdir) -> Result<()> {
    raw_boot_disk(workdir, "disk.raw")?;
    let arguments = ["convert", "-f", "raw", "-O", "qcow2", "disk.raw", "disk.qcow2"];
    let converted = std::process::Command::new("qemu-img").args(arguments).current_dir(workdir.files()).status();
    assert!(converted.during("start qemu-img")?.success());
    Ok(())
}

/// Saves, goes on, writes again, quits; each with another open of the image.
fn save_and_go_on(emulator: Emulator, mut qmp: Qmp, image: &Path) -> Result<()> {
    emulator.wait_for_writes(1)?;
    assert_eq!(access(&emulator, image)?, (true, false));
    save_to_descriptor(&mut qmp, &Workdir::new()?)?;
    assert_eq!(access(&emulator, image)?, (false, false), "reopened read-only");
    qmp.execute("cont", json!({}))?;
    emulator.wait_for_writes(2)?;
    assert_eq!(access(&emulator, image)?, (true, false), "reopened read-write");
    quit(emulator, qmp)
}

#[test]
fn raw_and_qcow2_drives_save_and_go_on() -> Result<()> {
    need!(Qemu, Landlock);
    for (name, format) in [("disk.raw", "raw"), ("disk.qcow2", "qcow2")] {
        let workdir = Workdir::new()?;
        qcow2_disk(&workdir)?;
        let handed = Handed::writable(&workdir.path(name))?;
        let drive = format!("file={},format={format}", handed.name(name));
        let (emulator, qmp) = BrokerCommand::new(&workdir).boot_sector(&drive).start_with_monitor()?;
        let passed = emulator.process().descriptors()?;
        assert!(is_bare() || passed.get(&handed.number().unsigned_abs()) != Some(&workdir.path(name)), "{passed:?}");
        save_and_go_on(emulator, qmp, &workdir.path(name))?;
        assert!(writes_in(&workdir, name, format)? >= 3);
    }
    Ok(())
}

#[test]
fn a_user_hands_over_what_that_user_may_open() -> Result<()> {
    need!(Qemu, Landlock, UserNamespaces);
    let workdir = Workdir::new()?;
    let disk = raw_boot_disk(&workdir, "disk.raw")?;
    let handed = Handed::writable(&disk)?;
    let drive = format!("file={},format=raw", handed.name("disk.raw"));
    let command = BrokerCommand::new(&workdir).user(12_605).boot_sector(&drive);
    let (emulator, qmp) = command.start_with_monitor()?;
    save_and_go_on(emulator, qmp, &disk)
}

#[test]
fn nodes_in_pairs_and_in_json_change_host_caching() -> Result<()> {
    need!(Qemu, Landlock);
    for style in ["pairs", "json", "nested"] {
        let workdir = Workdir::new()?;
        qcow2_disk(&workdir)?;
        let image = workdir.path("disk.qcow2");
        let handed = Handed::writable(&image)?;
        let name = handed.name("disk.qcow2");
        let nodes = match style {
            "pairs" => vec![
                format!("driver=file,node-name=file,filename={name},auto-read-only=on"),
                "driver=qcow2,node-name=disk,file=file".to_owned(),
            ],
            "json" => vec![
                json!({ "driver": "file", "node-name": "file", "filename": name, "auto-read-only": true }).to_string(),
                json!({ "driver": "qcow2", "node-name": "disk", "file": "file" }).to_string(),
            ],
            _ => vec![format!(
                "driver=qcow2,node-name=disk,file.driver=file,file.node-name=file,file.filename={name},\
                 file.auto-read-only=on"
            )],
        };
        let nodes = nodes.into_iter().flat_map(|node| ["-blockdev".to_owned(), node]);
        let command = BrokerCommand::new(&workdir).args(PLAIN_QEMU).args(["-accel", "tcg", "-serial", "stdio"]);
        let command = command.args(nodes).args(["-device", "virtio-blk-pci,drive=disk"]);
        let (emulator, mut qmp) = command.start_with_monitor()?;
        emulator.wait_for_writes(1)?;
        for direct in [true, false] {
            let file = json!({
                "driver": "file", "node-name": "file", "filename": name, "auto-read-only": true,
                "cache": { "direct": direct },
            });
            qmp.execute("blockdev-reopen", json!({ "options": [file] }))?;
            assert_eq!(access(&emulator, &image)?, (true, direct), "{style}");
            emulator.wait_for_writes(1)?;
        }
        quit(emulator, qmp)?;
    }
    Ok(())
}

#[test]
fn a_commit_goes_into_a_backing_node_that_was_handed_over() -> Result<()> {
    need!(Qemu, Landlock);
    for allowed in ["commit", "commit=fd:N"] {
        let workdir = Workdir::new()?;
        two_level_chain(&workdir)?;
        let handed = ["top.qcow2", "mid.qcow2", "base.raw"].map(|name| Handed::writable(&workdir.path(name)));
        let [top, mid, base] = handed;
        let (top, mid, base) = (top?, mid?, base?);
        let drive = format!(
            "file={},format=qcow2,id=d,backing.driver=qcow2,backing.node-name=mid,backing.file.filename={},\
             backing.backing.driver=raw,backing.backing.node-name=base,backing.backing.file.filename={}",
            top.name("top.qcow2"),
            mid.name("mid.qcow2"),
            base.name("base.raw"),
        );
        let allowed = allowed.replace("fd:N", &format!("fd:{}", base.number()));
        let command = BrokerCommand::new(&workdir).options(["--allow", &allowed]).boot_sector(&drive);
        let (emulator, mut qmp) = command.start_with_monitor()?;
        emulator.wait_for_writes(1)?;
        assert_eq!(access(&emulator, &workdir.path("base.raw"))?, (false, false));
        qmp.execute("block-commit", json!({ "device": "d", "top-node": "mid", "base-node": "base" }))?;
        let event = qmp.wait_event("BLOCK_JOB_COMPLETED")?;
        assert!(event.pointer("/data/error").is_none(), "{event}");
        emulator.wait_for_writes(1)?;
        assert_eq!(access(&emulator, &workdir.path("base.raw"))?, (false, false), "gone back to reading");
        quit(emulator, qmp)?;
    }
    Ok(())
}

#[test]
fn a_file_without_a_name_and_one_that_never_had_one() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    for kind in ["removed", "memory"] {
        let workdir = Workdir::new()?;
        let disk = raw_boot_disk(&workdir, "disk.raw")?;
        let handed = if kind == "removed" {
            Handed::writable(&disk)?
        } else {
            let memory = rustix::fs::memfd_create("disk", rustix::fs::MemfdFlags::empty()).during("memfd_create")?;
            let file = fs::File::from(memory);
            std::os::unix::fs::FileExt::write_all_at(&file, &fs::read(&disk).during("read the disk")?, 0)
                .during("fill the memory file")?;
            Handed::of(&file)?
        };
        fs::remove_file(&disk).during("remove the disk")?;
        let drive = format!("file={},format=raw", handed.name("disk.raw"));
        let (emulator, mut qmp) = BrokerCommand::new(&workdir).boot_sector(&drive).start_with_monitor()?;
        emulator.wait_for_writes(1)?;
        save_to_descriptor(&mut qmp, &Workdir::new()?)?;
        qmp.execute("cont", json!({}))?;
        emulator.wait_for_writes(1)?;
        quit(emulator, qmp)?;
        assert!(workdir.listing()?.is_empty());
    }
    Ok(())
}

#[test]
fn the_name_shows_what_was_handed_over_whatever_the_path_leads_to() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let disk = raw_boot_disk(&workdir, "disk.raw")?;
    let handed = Handed::writable(&disk)?;
    // Whoever can write the folder puts another file in its place, and names one like the descriptor.
    fs::rename(&disk, workdir.path("moved.raw")).during("rename")?;
    workdir.write("disk.raw", b"another")?;
    workdir.write(&format!("fd:{}", handed.number()), b"another")?;
    let drive = format!("file=fd:{},format=raw,id=d", handed.number());
    let (emulator, mut qmp) = BrokerCommand::new(&workdir).boot_sector(&drive).start_with_monitor()?;
    emulator.wait_for_writes(1)?;
    let blocks = qmp.execute("query-block", json!({}))?;
    let shown = blocks.pointer("/0/inserted/file").and_then(Value::as_str);
    assert_eq!(shown, Some(format!("./fd:{}", handed.number()).as_str()), "{blocks}");
    quit(emulator, qmp)?;
    assert!(writes_in(&workdir, "moved.raw", "raw")? >= 1);
    assert_eq!(workdir.read("disk.raw")?, b"another");
    Ok(())
}

#[test]
fn a_descriptor_past_the_hosts_cache_stays_so() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    for (cache, direct, notice) in [
        ("", true, Some("so cache.direct=on was added")),
        (",", true, Some("so cache.direct=on was added")),
        (",cache=none", true, None),
        (",cache=writeback", false, Some("goes through the host's cache")),
    ] {
        let workdir = Workdir::new()?;
        let disk = raw_boot_disk(&workdir, "disk.raw")?;
        let handed = Handed::open(&disk, OFlags::RDWR | OFlags::DIRECT)?;
        let drive = format!("file=fd:{},format=raw{cache}", handed.number());
        let (emulator, qmp) = BrokerCommand::new(&workdir).boot_sector(&drive).start_with_monitor()?;
        emulator.wait_for_writes(1)?;
        assert_eq!(access(&emulator, &disk)?, (true, direct), "{cache}");
        let said = emulator.stderr()?;
        assert_eq!(said.contains("has O_DIRECT"), notice.is_some(), "{said}");
        assert!(notice.is_none_or(|notice| said.contains(notice)), "{said}");
        quit(emulator, qmp)?;
    }
    Ok(())
}

#[test]
fn one_descriptor_may_be_read_by_two_drives() -> Result<()> {
    need!(Qemu, Landlock);
    let workdir = Workdir::new()?;
    let boot = raw_boot_disk(&workdir, "disk.raw")?;
    let shared = workdir.write("shared.raw", &[7; 65536])?;
    let overlay = qcow2_over(&workdir, "unused.qcow2", "shared.raw", "raw")?;
    fs::remove_file(overlay).during("remove")?;
    let (boot, shared) = (Handed::writable(&boot)?, Handed::open(&shared, OFlags::RDONLY)?);
    let name = shared.name("shared.raw");
    let command = BrokerCommand::new(&workdir)
        .boot_sector(&format!("file={},format=raw", boot.name("disk.raw")))
        .args(["-drive", &format!("file={name},format=raw,if=none,id=a,readonly=on")])
        .args(["-drive", &format!("file={name},format=raw,if=none,id=b,readonly=on")]);
    let (emulator, qmp) = command.start_with_monitor()?;
    emulator.wait_for_writes(1)?;
    quit(emulator, qmp)
}
