//! What a descriptor cannot be, and what it does not give; each is said in one line.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::fs::OFlags;
use serde_json::json;
use tests::{BrokerCommand, During, Error, PLAIN_QEMU, Result, Workdir, need, qcow2_over, raw_boot_disk};

use crate::handed::Handed;

/// Fails unless the start is refused by one line of the broker's that holds `words`.
fn assert_refused(command: BrokerCommand<'_>, words: &[&str]) -> Result<()> {
    let finished = command.args(PLAIN_QEMU).run()?;
    assert_eq!(finished.status.code(), Some(125), "{finished:?}");
    let line = finished.stderr.trim_end();
    assert!(line.starts_with("broker: ") && !line.contains('\n'), "{line}");
    for word in words {
        assert!(line.contains(word), "{word}: {line}");
    }
    Ok(())
}

fn drive(number: i32, more: &str) -> [String; 2] {
    ["-drive".to_owned(), format!("file=fd:{number},if=none{more}")]
}

#[test]
fn what_is_no_image() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let file = raw_boot_disk(&workdir, "disk.raw")?;
    let (pipe, _writer) = rustix::pipe::pipe().during("make a pipe")?;
    let (socket, _peer) = UnixStream::pair().during("make sockets")?;
    let open = |path: &Path, flags| Handed::open(path, flags);
    for (handed, words) in [
        (open(&workdir.files(), OFlags::RDONLY)?, ["is a folder", "regular file"]),
        (open("/dev/null".as_ref(), OFlags::RDWR)?, ["is a character device", "regular file"]),
        (open(&file, OFlags::PATH)?, ["O_PATH", "regular file"]),
        (open(&file, OFlags::WRONLY)?, ["for writing only", "O_RDWR"]),
        (Handed::of(pipe)?, ["is a pipe", "regular file"]),
        (Handed::of(socket)?, ["is a socket", "regular file"]),
    ] {
        let name = format!("fd:{}", handed.number());
        let command = BrokerCommand::new(&workdir).args(drive(handed.number(), ",format=raw"));
        assert_refused(command, &[&[name.as_str()][..], &words].concat())?;
    }
    Ok(())
}

#[test]
fn what_is_not_open_or_not_a_number() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let workdir = Workdir::new()?;
    for (number, words) in
        [(999, ["not open", "./fd:999"]), (0, ["standard stream", "fd:0"]), (2, ["standard stream", "fd:2"])]
    {
        assert_refused(BrokerCommand::new(&workdir).args(drive(number, ",format=raw")), &words)?;
    }
    let command = BrokerCommand::new(&workdir).args(["-drive", "file=fd:x,format=raw"]);
    assert_refused(command, &["fd:", "number of an open descriptor"])?;
    let handed = Handed::writable(&raw_boot_disk(&workdir, "disk.raw")?)?;
    assert_refused(BrokerCommand::new(&workdir).args(drive(handed.number(), "")), &["format=", "never guessed"])?;
    let name = format!("fd:{}", handed.number());
    assert_refused(BrokerCommand::new(&workdir).args(["-hda", &name]), &["format="])
}

#[test]
fn a_descriptor_for_reading_gives_no_writing() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let disk = raw_boot_disk(&workdir, "disk.raw")?;
    let handed = Handed::open(&disk, OFlags::RDONLY)?;
    let name = format!("fd:{}", handed.number());
    let command = BrokerCommand::new(&workdir).args(PLAIN_QEMU).args(["-accel", "tcg"]);
    let file = format!("driver=file,node-name=f,filename={name},auto-read-only=on");
    let raw = "driver=raw,node-name=r,file=f,auto-read-only=on";
    let (mut emulator, mut qmp) = command.args(["-blockdev", &file, "-blockdev", raw]).start_with_monitor()?;
    let wider = json!({ "driver": "file", "node-name": "f", "filename": name, "read-only": false });
    match qmp.execute("blockdev-reopen", json!({ "options": [wider] })) {
        Ok(_) => {
            let device = json!({ "driver": "virtio-blk-pci", "drive": "f", "id": "v" });
            assert!(qmp.execute("device_add", device).is_err(), "it would write");
        }
        Err(Error::Refused { description, .. }) => assert!(description.contains("Permission denied"), "{description}"),
        Err(other) => return Err(other),
    }
    emulator.wait_for_message("is open for reading only")?;
    assert!(emulator.stderr()?.contains(&format!("descriptor {}", handed.number())));
    assert!(emulator.stderr()?.contains("O_RDWR"));
    qmp.quit()?;
    emulator.wait()?;
    let command = BrokerCommand::new(&workdir).options([format!("--allow=commit={name}")]).args([
        "-drive".to_owned(),
        format!("driver=qcow2,file.filename=disk.raw,backing.driver=raw,backing.file.filename={name}"),
    ]);
    let finished = command.args(PLAIN_QEMU).run()?;
    assert_eq!(finished.status.code(), Some(125), "{finished:?}");
    Ok(())
}

#[test]
fn a_relative_backing_name_needs_a_folder() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let workdir = Workdir::new()?;
    raw_boot_disk(&workdir, "base.raw")?;
    let absolute = workdir.path("base.raw").to_string_lossy().into_owned();
    let relative = qcow2_over(&workdir, "relative.qcow2", "base.raw", "raw")?;
    let absolute_top = qcow2_over(&workdir, "absolute.qcow2", &absolute, "raw")?;
    let handed = Handed::writable(&relative)?;
    let words = ["relative to the image's folder", "backing.file.filename=", "base.raw"];
    assert_refused(BrokerCommand::new(&workdir).args(drive(handed.number(), ",format=qcow2")), &words)?;
    // An absolute name follows the ordinary rules, and a descriptor makes no folder an image root.
    let handed = Handed::writable(&absolute_top)?;
    let command = || BrokerCommand::new(&workdir).args(drive(handed.number(), ",format=qcow2"));
    assert_refused(command(), &["outside the image roots", "--image-root"])?;
    let root = workdir.files().to_string_lossy().into_owned();
    let (mut emulator, mut qmp) = command().options(["--image-root", &root]).args(PLAIN_QEMU).start_with_monitor()?;
    qmp.quit()?;
    assert_eq!(emulator.wait()?.status.code(), Some(0));
    Ok(())
}

#[test]
fn a_file_of_the_same_name_cannot_be_named_too() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let workdir = Workdir::new()?;
    let handed = Handed::writable(&raw_boot_disk(&workdir, "disk.raw")?)?;
    let name = format!("fd:{}", handed.number());
    raw_boot_disk(&workdir, &name)?;
    let both = |more: [String; 2]| BrokerCommand::new(&workdir).args(drive(handed.number(), ",format=raw")).args(more);
    let other = ["-drive".to_owned(), format!("file=./{name},format=raw,if=none")];
    assert_refused(both(other), &["names a descriptor", &name])?;
    assert_refused(both(["-serial".to_owned(), format!("file:{name}")]), &["names a descriptor", &name])?;
    // By itself it is a file as ever.
    let (emulator, mut qmp) =
        BrokerCommand::new(&workdir).boot_sector(&format!("file=./{name},format=raw")).start_with_monitor()?;
    emulator.wait_for_writes(1)?;
    qmp.quit()
}

#[test]
fn what_the_broker_may_not_open_anew_is_said_at_the_start() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock, UserNamespaces);
    let workdir = Workdir::new()?;
    let disk = workdir.aside().join("disk.raw");
    for (mode, flags, words) in [
        (0o600, OFlags::RDWR, ["cannot be opened anew", "-add-fd"]),
        (0o644, OFlags::RDWR, ["for writing", "-add-fd"]),
        (0o600, OFlags::RDONLY, ["for reading", "-add-fd"]),
    ] {
        fs::write(&disk, [0; 4096]).during("write the disk")?;
        chown(&disk, Some(0), Some(0)).during("chown")?;
        fs::set_permissions(&disk, fs::Permissions::from_mode(mode)).during("chmod")?;
        let handed = Handed::open(&disk, flags)?;
        let command = BrokerCommand::new(&workdir).user(12_606).args(drive(handed.number(), ",format=raw"));
        assert_refused(command, &words)?;
    }
    Ok(())
}
