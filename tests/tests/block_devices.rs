//! Block devices by path: each gets the driver that plain QEMU gives it, by whatever name, and no more access than the
//! node's permissions and the device itself give. All of it is true of plain QEMU too, if not said otherwise.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rustix::fs::OFlags;
use serde_json::{Value, json};
use tests::{
    BrokerCommand, During, Emulator, Error, PLAIN_QEMU, Qmp, Result, Workdir, is_bare, need, qcow2_over, raw_boot_disk,
    save_to_descriptor,
};

/// An ordinary user whom no other test uses.
const USER: u32 = 12_607;

/// Sectors of the disks here, and where their partition lies.
const SECTORS: u64 = 16_384;
const PARTITION: [u32; 2] = [2048, 8192];

/// The first entry of a partition table, behind the code of a boot sector, and the type of a Linux partition.
const TABLE: u64 = 446;
const LINUX: u8 = 0x83;

/// Runs a program that prepares a test.
fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let Output { status, stdout, stderr } =
        Command::new(program).args(arguments).output().during(format!("start {program}"))?;
    if !status.success() {
        let said = String::from_utf8_lossy(&stderr).into_owned();
        return Err(Error::Unexpected(format!("{program} {arguments:?}: {said}")));
    }
    Ok(String::from_utf8_lossy(&stdout).trim().to_owned())
}

/// Status, three bytes of an address that nobody reads, type, three more, first sector, number of sectors.
fn table_entry() -> Vec<u8> {
    let [start, count] = PARTITION.map(u32::to_le_bytes);
    [&[0, 0, 0, 0, LINUX, 0, 0, 0], &start[..], &count[..]].concat()
}

/// A loop device, and what was made for it beside; all gone when dropped.
struct Loop {
    device: String,
    links: Option<PathBuf>,
    mapped: Option<String>,
}

impl Loop {
    /// A device over a file with the boot sector, with one partition.
    fn over_a_boot_disk(workdir: &Workdir) -> Result<Self> {
        let disk = raw_boot_disk(workdir, "disk.raw")?;
        let file = fs::File::options().write(true).open(&disk).during("open the disk")?;
        file.set_len(SECTORS * 512).during("make the disk larger")?;
        file.write_all_at(&table_entry(), TABLE).during("write the partition table")?;
        let device = run("losetup", &["--find", "--show", &disk.to_string_lossy()])?;
        run("partx", &["--add", "--nr", "1", "--type", "dos", &device])?;
        Ok(Self { device, links: None, mapped: None })
    }

    fn partition(&self) -> String {
        format!("{}p1", self.device)
    }

    /// A link as udev makes them, with a colon in its name.
    fn link(&mut self) -> Result<String> {
        let number = self.device.trim_start_matches("/dev/");
        let folder = PathBuf::from(format!("/dev/disk/by-broker-test-{number}"));
        fs::create_dir_all(&folder).during("mkdir")?;
        let link = folder.join("virtio-0:0:1");
        symlink(Path::new("../..").join(number), &link).during("make a link")?;
        self.links = Some(folder);
        Ok(link.to_string_lossy().into_owned())
    }

    /// A linear mapping of the whole device, as LVM makes them.
    fn map(&mut self) -> Result<String> {
        let name = format!("broker-test-{}", std::process::id());
        let table = format!("0 {SECTORS} linear {} 0", self.device);
        run("dmsetup", &["create", &name, "--table", &table])?;
        self.mapped = Some(name.clone());
        run("dmsetup", &["mknodes", &name])?;
        Ok(format!("/dev/mapper/{name}"))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // What cannot be taken away is in use by a test that has failed.
        if let Some(name) = &self.mapped {
            let _ = run("dmsetup", &["remove", name]);
        }
        if let Some(folder) = &self.links {
            let _ = fs::remove_dir_all(folder);
        }
        let _ = chown(&self.device, Some(0), Some(0));
        let _ = run("blockdev", &["--setrw", &self.device]);
        let _ = run("partx", &["--delete", "--nr", "1", &self.device]);
        let _ = run("losetup", &["--detach", &self.device]);
    }
}

/// The drivers of the nodes that have a file name, by that name.
fn drivers(qmp: &mut Qmp) -> Result<BTreeMap<String, Vec<String>>> {
    let nodes = qmp.execute("query-named-block-nodes", json!({ "flat": true }))?;
    let mut drivers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for node in nodes.as_array().into_iter().flatten() {
        let text = |key| node.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        drivers.entry(text("file")).or_default().push(text("drv"));
    }
    drivers.values_mut().for_each(|list| list.sort());
    Ok(drivers)
}

fn quit(mut emulator: Emulator, mut qmp: Qmp) -> Result<()> {
    qmp.quit()?;
    let finished = emulator.wait()?;
    assert_eq!(finished.status.code(), Some(0), "{finished:?}");
    Ok(())
}

/// Whether the emulator holds `device` open for writing.
fn writes(emulator: &Emulator, device: &str) -> Result<bool> {
    let flags = emulator.process().open_flags_of(Path::new(device))?;
    assert!(!flags.is_empty(), "{device} is not open");
    Ok(flags.iter().any(|flags| flags.intersects(OFlags::RDWR)))
}

/// Starts with `arguments`, and fails unless `name` is opened by host_device, with `above` in the node above it.
fn assert_host_device(workdir: &Workdir, name: &str, arguments: &[String], above: &[&str]) -> Result<()> {
    let command = BrokerCommand::new(workdir).args(PLAIN_QEMU).args(["-accel", "tcg"]).args(arguments);
    let (emulator, mut qmp) = command.start_with_monitor()?;
    let wanted: Vec<String> = ["host_device"].iter().chain(above).map(|driver| (*driver).to_owned()).collect();
    assert_eq!(drivers(&mut qmp)?.get(name), Some(&wanted), "{arguments:?}");
    quit(emulator, qmp)
}

fn words<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

#[test]
fn every_way_to_name_a_device_gives_it_the_driver_for_devices() -> Result<()> {
    need!(Root, LoopDevices, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let mut disk = Loop::over_a_boot_disk(&workdir)?;
    let (device, partition, link) = (disk.device.clone(), disk.partition(), disk.link()?);
    for name in [&device, &partition, &link] {
        let drive = |text: String| words(["-drive", &text]);
        assert_host_device(&workdir, name, &drive(format!("file={name},format=raw,if=none")), &["raw"])?;
        assert_host_device(&workdir, name, &drive(format!("file={name},if=none")), &["raw"])?;
        assert_host_device(&workdir, name, &drive(format!("file=host_device:{name},format=raw,if=none")), &["raw"])?;
        assert_host_device(&workdir, name, &words(["-cdrom", name]), &["raw"])?;
        assert_host_device(&workdir, name, &words(["-hda", name]), &["raw"])?;
        let node = format!("driver=host_device,node-name=n,filename={name}");
        assert_host_device(&workdir, name, &words(["-blockdev", &node]), &[])?;
        let nested = format!("driver=raw,node-name=n,file.driver=host_device,file.filename={name}");
        assert_host_device(&workdir, name, &words(["-blockdev", &nested]), &["raw"])?;
    }
    Ok(())
}

#[test]
fn the_driver_for_files_refuses_a_device() -> Result<()> {
    need!(Root, LoopDevices, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let disk = Loop::over_a_boot_disk(&workdir)?;
    let node = format!("driver=file,node-name=n,filename={}", disk.device);
    let finished = BrokerCommand::new(&workdir).args(PLAIN_QEMU).args(["-blockdev", &node]).run()?;
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    assert!(finished.stderr.contains("to be a regular file"), "{finished:?}");
    Ok(())
}

#[test]
fn the_guest_writes_to_a_device_saves_and_goes_on() -> Result<()> {
    need!(Root, LoopDevices, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let disk = Loop::over_a_boot_disk(&workdir)?;
    for cache in ["writeback", "none"] {
        let drive = format!("file={},format=raw,cache={cache}", disk.device);
        let (emulator, mut qmp) = BrokerCommand::new(&workdir).boot_sector(&drive).start_with_monitor()?;
        emulator.wait_for_writes(1)?;
        assert!(writes(&emulator, &disk.device)?);
        save_to_descriptor(&mut qmp, &workdir)?;
        assert!(!writes(&emulator, &disk.device)?, "reopened read-only");
        qmp.execute("cont", json!({}))?;
        emulator.wait_for_writes(1)?;
        quit(emulator, qmp)?;
    }
    Ok(())
}

#[test]
fn a_device_behind_a_header_lies_beneath_a_named_root() -> Result<()> {
    need!(Root, LoopDevices, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let disk = Loop::over_a_boot_disk(&workdir)?;
    qcow2_over(&workdir, "top.qcow2", &disk.device, "raw")?;
    let drive = "file=top.qcow2,format=qcow2";
    let command = BrokerCommand::new(&workdir).options(["--image-root", "/dev"]).boot_sector(drive);
    let (emulator, mut qmp) = command.start_with_monitor()?;
    emulator.wait_for_writes(1)?;
    assert_eq!(drivers(&mut qmp)?.get(&disk.device), Some(&words(["host_device", "raw"])));
    assert!(!writes(&emulator, &disk.device)?, "only read");
    quit(emulator, qmp)?;
    if !is_bare() {
        let finished = BrokerCommand::new(&workdir).boot_sector(drive).run()?;
        assert_eq!(finished.status.code(), Some(125), "{finished:?}");
        assert!(finished.stderr.contains("outside the image roots"), "{finished:?}");
    }
    Ok(())
}

#[test]
fn a_device_that_is_read_only_is_not_written() -> Result<()> {
    need!(Root, LoopDevices, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let disk = Loop::over_a_boot_disk(&workdir)?;
    run("blockdev", &["--setro", &disk.device])?;
    let drive = format!("file={},format=raw", disk.device);
    let finished = BrokerCommand::new(&workdir).boot_sector(&drive).run()?;
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    assert!(finished.stderr.contains("read-only") || finished.stderr.contains("denied"), "{finished:?}");
    let name = format!("{drive},if=none,readonly=on");
    assert_host_device(&workdir, &disk.device, &words(["-drive", &name]), &["raw"])
}

#[test]
fn permissions_of_the_node_are_those_of_a_file() -> Result<()> {
    need!(Root, LoopDevices, Qemu, Landlock, UserNamespaces);
    let workdir = Workdir::new()?;
    let disk = Loop::over_a_boot_disk(&workdir)?;
    let drive = format!("file={},format=raw", disk.device);
    let start = || BrokerCommand::new(&workdir).user(USER).boot_sector(&drive);
    let finished = start().run()?;
    assert_ne!(finished.status.code(), Some(0), "{finished:?}");
    assert!(finished.stderr.contains("Permission denied"), "{finished:?}");
    chown(&disk.device, Some(USER), Some(USER)).during("chown")?;
    let (emulator, mut qmp) = start().start_with_monitor()?;
    emulator.wait_for_writes(1)?;
    assert_eq!(drivers(&mut qmp)?.get(&disk.device), Some(&words(["host_device", "raw"])));
    quit(emulator, qmp)?;
    fs::set_permissions(&disk.device, fs::Permissions::from_mode(0o400)).during("chmod")?;
    let finished = start().run()?;
    assert_eq!(finished.status.code(), Some(1), "{finished:?}");
    let drive = format!("file={},format=raw,if=none,readonly=on", disk.device);
    let command = BrokerCommand::new(&workdir).user(USER).args(PLAIN_QEMU).args(["-drive", &drive]);
    let (emulator, qmp) = command.start_with_monitor()?;
    assert!(!writes(&emulator, &disk.device)?);
    quit(emulator, qmp)?;
    fs::set_permissions(&disk.device, fs::Permissions::from_mode(0o600)).during("chmod")
}

#[test]
fn a_mapped_device_is_one_by_all_its_names() -> Result<()> {
    need!(Root, LoopDevices, DeviceMapper, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let mut disk = Loop::over_a_boot_disk(&workdir)?;
    run("partx", &["--delete", "--nr", "1", &disk.device])?;
    let mapped = disk.map()?;
    let drive = format!("file={mapped},format=raw,if=none");
    assert_host_device(&workdir, &mapped, &words(["-drive", &drive]), &["raw"])
}

#[test]
fn a_device_may_be_handed_over_open() -> Result<()> {
    need!(Broker, Root, LoopDevices, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let disk = Loop::over_a_boot_disk(&workdir)?;
    let opened = rustix::fs::openat(rustix::fs::CWD, &disk.device, OFlags::RDWR, rustix::fs::Mode::empty())
        .during("open the device")?;
    let opened = rustix::io::fcntl_dupfd_cloexec(opened, 100).during("move a descriptor")?;
    rustix::io::fcntl_setfd(&opened, rustix::io::FdFlags::empty()).during("hand a descriptor over")?;
    let number = std::os::fd::AsRawFd::as_raw_fd(&opened);
    let drive = format!("file=fd:{number},format=raw");
    let (emulator, mut qmp) = BrokerCommand::new(&workdir).boot_sector(&drive).start_with_monitor()?;
    emulator.wait_for_writes(1)?;
    assert_eq!(drivers(&mut qmp)?.get(&format!("./fd:{number}")), Some(&words(["host_device", "raw"])));
    quit(emulator, qmp)
}
