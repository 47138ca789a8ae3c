//! Between two starts somebody has rewritten an image's header: who owned the emulator could, and the second start must
//! not give what the first one had not. What the broker itself served is no such change.

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};
use tests::corpus::{Descriptor, Qcow2};
use tests::{BrokerCommand, During, Emulator, PLAIN_QEMU, Qmp, Result, Workdir, broker_binary, need};

/// The size of the raw disks, in bytes.
const DISK: usize = 1 << 20;

/// A folder with a guest's image, its base and somebody else's image, and a place for records.
struct Host {
    workdir: Workdir,
    records: PathBuf,
}

impl Host {
    fn new() -> Result<Self> {
        let workdir = Workdir::new()?;
        for name in ["base.raw", "other.raw", "neighbour.raw", "disk.img"] {
            workdir.write(name, &vec![0; DISK])?;
        }
        workdir.write("top.qcow2", &over("base.raw"))?;
        let records = workdir.aside().join("chains");
        Ok(Self { workdir, records })
    }

    /// A start with these records; `drive` is the value of `-drive`, without the interface.
    fn start(&self, options: &[&str], drive: &str) -> BrokerCommand<'_> {
        let drive = format!("{drive},if=none,id=disk");
        BrokerCommand::new(&self.workdir)
            .options(["--chain-dir".as_ref(), self.records.as_os_str()])
            .options(options)
            .args(PLAIN_QEMU)
            .args(["-accel", "tcg", "-S", "-drive", &drive])
    }

    /// Starts a guest that is expected to start, lets `work` be done, and ends it.
    fn boot_and(&self, options: &[&str], drive: &str, work: impl FnOnce(&mut Qmp) -> Result<()>) -> Result<()> {
        let (mut emulator, mut qmp) = self.start(options, drive).start_with_monitor()?;
        work(&mut qmp)?;
        end(&mut emulator, &mut qmp)
    }

    fn boot(&self, drive: &str) -> Result<()> {
        self.boot_and(&[], drive, |_| Ok(()))
    }

    /// Expects a start to be refused with a line that holds all `parts`; returns the command in it.
    fn refused(&self, drive: &str, parts: &[&str]) -> Result<String> {
        let finished = self.start(&[], drive).run()?;
        let stderr = finished.stderr;
        assert_eq!(finished.status.code(), Some(125), "{stderr}");
        for part in parts {
            assert!(stderr.contains(part), "{part} is not said: {stderr}");
        }
        let command = stderr.find("broker chain accept").and_then(|at| stderr.get(at..));
        Ok(command.and_then(|rest| rest.lines().next()).unwrap_or_default().to_owned())
    }

    /// Runs a command as an operator copies it from a message.
    fn run(&self, command: &str) -> Result<()> {
        assert!(command.starts_with("broker chain accept "), "{command:?}");
        let path = broker_binary()?.parent().map(|folder| folder.to_string_lossy().into_owned());
        let path = format!("{}:{}", path.unwrap_or_default(), std::env::var("PATH").unwrap_or_default());
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).env("PATH", path).current_dir(self.workdir.files());
        let output = shell.output().during("start a shell")?;
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    /// Writes over the start of a file, as its guest would: the file stays the same one.
    fn rewrite(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let file = fs::OpenOptions::new().write(true).open(self.workdir.path(name)).during(format!("open {name}"))?;
        file.write_all_at(bytes, 0).during(format!("write {name}"))
    }

    fn inode(&self, name: &str) -> Result<u64> {
        Ok(fs::metadata(self.workdir.path(name)).during(format!("stat {name}"))?.ino())
    }
}

/// An overlay of `name`, which is raw.
fn over(name: &str) -> Vec<u8> {
    Qcow2::new().over(name, "raw").bytes()
}

fn end(emulator: &mut Emulator, qmp: &mut Qmp) -> Result<()> {
    qmp.quit()?;
    let finished = emulator.wait()?;
    assert!(finished.status.success(), "{}", finished.stderr);
    Ok(())
}

const TOP: &str = "file=top.qcow2,format=qcow2";

#[test]
fn a_neighbour_in_the_header_is_refused_until_accepted() -> Result<()> {
    need!(Broker, Qemu, Landlock, UserNamespaces);
    let host = Host::new()?;
    host.boot(TOP)?;
    host.boot(TOP)?;
    host.rewrite("top.qcow2", &over("neighbour.raw"))?;
    let said = ["top.qcow2", "backing file", "neighbour.raw", "base.raw"];
    let command = host.refused(TOP, &said)?;
    assert_eq!(host.refused(TOP, &said)?, command, "a refused start accepts nothing");
    host.run(&command)?;
    host.boot(TOP)?;
    // And what was right before is a change now.
    host.rewrite("top.qcow2", &over("base.raw"))?;
    host.refused(TOP, &["top.qcow2", "base.raw", "neighbour.raw"]).map(drop)
}

#[test]
fn every_way_to_name_a_neighbour_is_refused() -> Result<()> {
    need!(Broker, Qemu, Landlock, UserNamespaces);
    let host = Host::new()?;
    // Only then may a header name a data file at all.
    let top = "file=top.qcow2,format=qcow2,readonly=on";
    host.boot(top)?;
    for (image, role) in [
        (Qcow2::new().over("./././neighbour.raw", "raw"), "backing file"),
        (Qcow2::new().over("neighbour.raw", "raw").data_file("other.raw"), "other.raw"),
        (Qcow2::new().over("base.raw", "raw").data_file("neighbour.raw"), "data file"),
        (Qcow2::new().over("base.raw", "qcow2"), "base.raw"),
    ] {
        host.rewrite("top.qcow2", &image.bytes())?;
        if role == "base.raw" {
            // The base holds a header that its own guest wrote, and is raw for everybody else.
            host.rewrite("base.raw", &over("neighbour.raw"))?;
        }
        host.refused(top, &["top.qcow2", role])?;
    }
    Ok(())
}

/// The base of one chain is the disk of another guest.
#[test]
fn a_change_further_below_is_refused() -> Result<()> {
    need!(Broker, Qemu, Landlock, UserNamespaces);
    let host = Host::new()?;
    host.workdir.write("over.qcow2", &Qcow2::new().over("top.qcow2", "qcow2").bytes())?;
    host.boot("file=over.qcow2,format=qcow2")?;
    host.rewrite("top.qcow2", &over("neighbour.raw"))?;
    host.refused("file=over.qcow2,format=qcow2", &["top.qcow2", "neighbour.raw"])?;
    // And known by itself, although it was never started by itself.
    host.refused(TOP, &["top.qcow2", "neighbour.raw"]).map(drop)
}

#[test]
fn a_raw_disk_that_has_grown_a_header_is_refused() -> Result<()> {
    need!(Broker, Qemu, Landlock, UserNamespaces);
    let host = Host::new()?;
    host.boot("file=disk.img")?;
    let text = Descriptor::new("monolithicFlat").extent("FLAT", "neighbour.raw").text();
    for (bytes, format, drive) in [
        (over("neighbour.raw"), "qcow2", "file=disk.img"),
        (Qcow2::new().bytes(), "qcow2", "file=disk.img"),
        (text.into_bytes(), "vmdk", "file=disk.img,readonly=on"),
    ] {
        host.rewrite("disk.img", &bytes)?;
        host.refused(drive, &["disk.img", "raw", format])?;
    }
    host.boot("file=disk.img,format=raw")
}

#[test]
fn a_renamed_image_is_known_and_a_copy_is_new() -> Result<()> {
    need!(Broker, Qemu, Landlock, UserNamespaces);
    let host = Host::new()?;
    host.boot(TOP)?;
    host.workdir.copy(&host.workdir.path("top.qcow2"), "copy.qcow2")?;
    fs::rename(host.workdir.path("top.qcow2"), host.workdir.path("renamed.qcow2")).during("rename")?;
    host.boot("file=renamed.qcow2,format=qcow2")?;
    host.rewrite("renamed.qcow2", &over("neighbour.raw"))?;
    host.refused("file=renamed.qcow2,format=qcow2", &["renamed.qcow2", "neighbour.raw"])?;
    host.boot("file=copy.qcow2,format=qcow2")
}

/// An operator puts a backup in an image's place: the same names are fine, others are a change.
#[test]
fn a_restored_image_is_compared_by_its_path() -> Result<()> {
    need!(Broker, Qemu, Landlock, UserNamespaces);
    let host = Host::new()?;
    host.boot(TOP)?;
    for (backing, is_fine) in [("base.raw", true), ("neighbour.raw", false)] {
        let before = host.inode("top.qcow2")?;
        host.workdir.write("backup.qcow2", &over(backing))?;
        fs::rename(host.workdir.path("backup.qcow2"), host.workdir.path("top.qcow2")).during("rename")?;
        assert_ne!(host.inode("top.qcow2")?, before);
        if is_fine {
            host.boot(TOP)?;
        } else {
            host.refused(TOP, &["top.qcow2", backing])?;
        }
    }
    Ok(())
}

/// Another host has records of its own, unless both use one folder.
#[test]
fn records_are_those_of_their_folder() -> Result<()> {
    need!(Broker, Qemu, Landlock, UserNamespaces);
    let mut host = Host::new()?;
    host.boot(TOP)?;
    host.rewrite("top.qcow2", &over("neighbour.raw"))?;
    host.refused(TOP, &["neighbour.raw"])?;
    let here = std::mem::replace(&mut host.records, host.workdir.aside().join("elsewhere"));
    host.boot(TOP)?;
    host.records = here;
    host.refused(TOP, &["neighbour.raw"]).map(drop)
}

/// The jobs of a monitor that change what headers name, and the options that they need; then a start without a word to
/// the operator.
#[test]
fn what_the_broker_served_is_no_change() -> Result<()> {
    need!(Broker, Qemu, Landlock, UserNamespaces);
    let host = Host::new()?;
    host.workdir.write("mid.qcow2", &over("base.raw"))?;
    host.workdir.write("top.qcow2", &Qcow2::new().over("mid.qcow2", "qcow2").bytes())?;
    host.boot(TOP)?;

    host.boot_and(&["--allow", "commit"], TOP, |qmp| {
        finish_job(qmp, "block-commit", json!({ "device": "disk", "top": "mid.qcow2", "base": "base.raw" }))
    })?;
    host.boot(TOP)?;

    let made = host.workdir.path("snapshot.qcow2").to_string_lossy().into_owned();
    host.boot_and(&["--allow", "create=."], TOP, |qmp| {
        let arguments = json!({ "device": "disk", "snapshot-file": made, "format": "qcow2" });
        qmp.execute("blockdev-snapshot-sync", arguments).map(drop)
    })?;
    let snapshot = "file=snapshot.qcow2,format=qcow2";
    host.boot_and(&[], snapshot, |qmp| finish_job(qmp, "block-stream", json!({ "device": "disk" })))?;
    host.boot(snapshot)
}

/// After a commit of the active image the base is the guest's disk, and is known from when it was below.
#[test]
fn a_base_that_becomes_the_disk_is_known() -> Result<()> {
    need!(Broker, Qemu, Landlock, UserNamespaces);
    let host = Host::new()?;
    host.workdir.write("mid.qcow2", &over("base.raw"))?;
    host.workdir.write("top.qcow2", &Qcow2::new().over("mid.qcow2", "qcow2").bytes())?;
    host.boot_and(&["--allow", "commit=mid.qcow2"], TOP, |qmp| {
        qmp.execute("block-commit", json!({ "device": "disk", "job-id": "commit", "base": "mid.qcow2" }))?;
        qmp.wait_event("BLOCK_JOB_READY")?;
        finish_job(qmp, "block-job-complete", json!({ "device": "commit" }))
    })?;
    let mid = "file=mid.qcow2,format=qcow2";
    host.boot(mid)?;
    host.rewrite("mid.qcow2", &over("neighbour.raw"))?;
    host.refused(mid, &["mid.qcow2", "neighbour.raw", "base.raw"]).map(drop)
}

/// The first start with a base of its own is after another guest could write it.
#[test]
fn a_base_that_a_guest_could_rewrite_is_not_new() -> Result<()> {
    need!(Broker, Qemu, Landlock, UserNamespaces);
    let host = Host::new()?;
    host.workdir.write("mid.qcow2", &over("base.raw"))?;
    host.workdir.write("top.qcow2", &Qcow2::new().over("mid.qcow2", "qcow2").bytes())?;
    host.boot_and(&["--allow", "commit=mid.qcow2"], TOP, |_| Ok(()))?;
    host.rewrite("mid.qcow2", &over("neighbour.raw"))?;
    host.refused("file=mid.qcow2,format=qcow2", &["mid.qcow2", "neighbour.raw", "base.raw"]).map(drop)
}

/// What a guest created may name what that guest had, and nothing else.
#[test]
fn a_created_image_that_names_a_neighbour_is_refused() -> Result<()> {
    need!(Broker, Qemu, Landlock, UserNamespaces);
    let host = Host::new()?;
    let made = host.workdir.path("snapshot.qcow2").to_string_lossy().into_owned();
    host.boot_and(&["--allow", "create=."], TOP, |qmp| {
        let arguments = json!({ "device": "disk", "snapshot-file": made, "format": "qcow2" });
        qmp.execute("blockdev-snapshot-sync", arguments).map(drop)
    })?;
    host.rewrite("snapshot.qcow2", &over("neighbour.raw"))?;
    host.refused("file=snapshot.qcow2,format=qcow2", &["snapshot.qcow2", "neighbour.raw"]).map(drop)
}

/// Starts a job and waits for its end.
fn finish_job(qmp: &mut Qmp, command: &str, arguments: Value) -> Result<()> {
    qmp.execute(command, arguments)?;
    let event = qmp.wait_event("BLOCK_JOB_COMPLETED")?;
    assert_eq!(event.pointer("/data/error"), None, "{event}");
    Ok(())
}
