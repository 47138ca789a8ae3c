//! Permission to commit that the operator gives while the guest runs: it is for one backing file, and for one time if the
//! operator said so.

use std::fs;

use rustix::fs::OFlags;
use serde_json::{Value, json};
use tests::control::{Control, unique_name};
use tests::hostile::{Puppet, Scene};
use tests::{
    BrokerCommand, During, Emulator, Error, PATIENCE, Qmp, Result, Workdir, need, qcow2_over, raw_boot_disk, until,
};

/// A guest that writes to a disk of its own, with an idle chain `top` over `mid` over `base` beside it.
struct Guest {
    workdir: Workdir,
    emulator: Emulator,
    qmp: Qmp,
    control: Control,
}

impl Guest {
    fn start(options: &[&str]) -> Result<Self> {
        let workdir = Workdir::new()?;
        raw_boot_disk(&workdir, "boot.raw")?;
        workdir.write("base.raw", &[0x5a; 1 << 20])?;
        qcow2_over(&workdir, "mid.qcow2", "base.raw", "raw")?;
        qcow2_over(&workdir, "top.qcow2", "mid.qcow2", "qcow2")?;
        let name = unique_name();
        let audit = workdir.aside().join("audit.json");
        let (emulator, qmp) = BrokerCommand::new(&workdir)
            .options(["--name".into(), name.clone().into(), "--audit".into(), audit.into_os_string()])
            .options(options.iter().copied())
            .boot_sector("file=boot.raw,format=raw")
            .args(["-drive", "file=top.qcow2,format=qcow2,if=none,id=data"])
            .args(["-device", "virtio-blk-pci,drive=data,addr=0x10"])
            .start_with_monitor()?;
        emulator.wait_for_writes(1)?;
        Ok(Self { workdir, emulator, qmp, control: Control::new(&name) })
    }

    /// Commits `mid.qcow2` into `base.raw`, to the end.
    fn commit_middle(&mut self) -> Result<()> {
        self.qmp.execute("block-commit", json!({ "device": "data", "top": "mid.qcow2", "base": "base.raw" }))?;
        let event = self.qmp.wait_event("BLOCK_JOB_COMPLETED")?;
        assert!(event.pointer("/data/error").is_none(), "{event}");
        Ok(())
    }

    /// Begins to commit the active layer into what is below it.
    fn commit_active(&mut self) -> Result<Value> {
        self.qmp.execute("block-commit", json!({ "device": "data" }))
    }

    /// Whether the emulator holds a file open for writing.
    fn writes(&self, name: &str) -> Result<bool> {
        let opened = self.emulator.process().open_flags_of(&self.workdir.path(name))?;
        Ok(opened.iter().any(|flags| flags.intersects(OFlags::WRONLY | OFlags::RDWR)))
    }

    /// Fails unless `answer` is QEMU's refusal, told to the operator with `advice`.
    fn assert_refused(&self, answer: Result<Value>, advice: &str) -> Result<()> {
        match answer {
            Err(Error::Refused { description, .. }) => {
                assert!(description.contains("Permission denied"), "{description}");
            }
            other => panic!("it was allowed: {other:?}"),
        }
        let audit = fs::read_to_string(self.workdir.aside().join("audit.json")).during("read the audit file")?;
        let last = audit.lines().rfind(|line| line.contains("\"refused\"")).unwrap_or_default();
        assert!(last.contains(advice), "{last}");
        self.emulator.wait_for_writes(1)
    }

    fn path(&self, name: &str) -> String {
        self.workdir.path(name).to_string_lossy().into_owned()
    }
}

/// How many backing files may be written.
fn commits(control: &Control) -> Result<u64> {
    let status = control.status()?;
    let commits = status.pointer("/granted/commits").and_then(Value::as_u64);
    commits.ok_or_else(|| Error::Unexpected(format!("no commits in {status}")))
}

/// Waits until no backing file may be written any more. QEMU makes a file that it has committed into the guest's disk
/// in the same step in which it goes back to reading it, so a permission outlasts that moment a little.
fn await_end_of_permission(control: &Control) -> Result<()> {
    until(PATIENCE, "the end of the permission", || Ok((commits(control)? == 0).then_some(())))
}

#[test]
fn a_permission_for_one_commit_allows_one() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let mut guest = Guest::start(&[])?;
    let refused = guest.commit_active();
    guest.assert_refused(refused, "broker ctl")?;
    guest.control.order(["allow", "commit", &guest.path("base.raw"), "--once"])?;
    guest.commit_middle()?;
    assert!(!guest.writes("base.raw")?, "QEMU has gone back to reading");
    await_end_of_permission(&guest.control)?;
    let refused = guest.commit_active();
    guest.assert_refused(refused, "allow commit")?;
    // And once more, with a new permission.
    guest.control.order(["allow", "commit", &guest.path("base.raw"), "--once"])?;
    guest.commit_active()?;
    guest.qmp.wait_event("BLOCK_JOB_READY")?;
    guest.qmp.execute("block-job-complete", json!({ "device": "data" }))?;
    guest.qmp.wait_event("BLOCK_JOB_COMPLETED")?;
    guest.emulator.wait_for_writes(1)
}

#[test]
fn a_permission_is_for_the_file_that_was_named() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let mut guest = Guest::start(&[])?;
    guest.control.order(["allow", "commit", &guest.path("mid.qcow2")])?;
    let base = guest.qmp.execute("block-commit", json!({ "device": "data", "top": "mid.qcow2", "base": "base.raw" }));
    guest.assert_refused(base, "base.raw")?;
    let into_mid = json!({ "device": "data", "base": "mid.qcow2" });
    guest.qmp.execute("block-commit", into_mid)?;
    guest.qmp.wait_event("BLOCK_JOB_READY")?;
    guest.qmp.execute("block-job-cancel", json!({ "device": "data" }))?;
    guest.qmp.wait_event("BLOCK_JOB_COMPLETED")?;
    guest.emulator.wait_for_writes(1)
}

#[test]
fn a_permission_without_end_is_taken_back_by_revoke() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let mut guest = Guest::start(&[])?;
    guest.control.order(["allow", "commit", &guest.path("base.raw")])?;
    assert_eq!(commits(&guest.control)?, 1);
    guest.commit_middle()?;
    assert_eq!(commits(&guest.control)?, 1);
    guest.control.order(["revoke", &guest.path("base.raw")])?;
    assert_eq!(commits(&guest.control)?, 0);
    let refused = guest.commit_active();
    guest.assert_refused(refused, "--allow commit")
}

#[test]
fn a_grant_that_is_taken_back_leaves_what_was_there_before() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let mut guest = Guest::start(&[])?;
    let base = guest.path("base.raw");
    let open = |read_only: bool| {
        json!({ "driver": "raw", "node-name": "again", "read-only": read_only,
            "file": { "driver": "file", "filename": base, "locking": "off" } })
    };
    for _ in 0..2 {
        guest.control.order(["grant", &base, "--write"])?;
    }
    guest.qmp.execute("blockdev-add", open(false))?;
    guest.qmp.execute("blockdev-del", json!({ "node-name": "again" }))?;
    guest.control.order(["revoke", &base])?;
    let refused = guest.qmp.execute("blockdev-add", open(false));
    guest.assert_refused(refused, "--allow commit")?;
    guest.qmp.execute("blockdev-add", open(true))?;
    guest.emulator.wait_for_writes(1)
}

#[test]
fn the_option_names_one_file_and_no_other() -> Result<()> {
    need!(Broker, Qemu, Landlock);
    let mut guest = Guest::start(&["--allow", "commit=base.raw"])?;
    let into_mid = guest.qmp.execute("block-commit", json!({ "device": "data", "base": "mid.qcow2" }));
    guest.assert_refused(into_mid, "--allow commit=")?;
    for _ in 0..2 {
        let base = json!({ "driver": "raw", "node-name": "again", "read-only": false,
            "file": { "driver": "file", "filename": "base.raw", "locking": "off" } });
        guest.qmp.execute("blockdev-add", base)?;
        guest.qmp.execute("blockdev-del", json!({ "node-name": "again" }))?;
    }
    guest.commit_middle()?;
    assert!(!guest.writes("base.raw")?);
    guest.emulator.wait_for_writes(1)
}

/// What a hostile emulator makes of a permission for one commit: no more than one stretch of writing.
#[test]
fn going_back_to_reading_uses_a_permission_up() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock);
    let scene = Scene::new()?;
    let name = unique_name();
    let puppet = Puppet::start(&scene, |command| command.options(["--name", &name]))?;
    let control = Control::new(&name);
    let backing = scene.workdir.path("backing.raw").to_string_lossy().into_owned();
    assert_eq!(puppet.open("backing.raw", OFlags::RDWR)?, "EACCES");
    control.order(["allow", "commit", &backing, "--once"])?;
    assert_eq!(puppet.open("backing.raw", OFlags::RDONLY)?, "ok", "before it was written, this uses nothing up");
    assert_eq!(puppet.open("backing.raw", OFlags::RDWR)?, "ok");
    assert_eq!(puppet.open("backing.raw", OFlags::RDWR | OFlags::DIRECT)?, "ok", "other flags, the same commit");
    assert_eq!(puppet.open("backing.raw", OFlags::RDONLY)?, "ok");
    await_end_of_permission(&control)?;
    for flags in [OFlags::RDWR, OFlags::WRONLY, OFlags::RDONLY | OFlags::TRUNC, OFlags::RDWR | OFlags::CREATE] {
        assert_eq!(puppet.open("backing.raw", flags)?, "EACCES", "{flags:?}");
        assert_eq!(puppet.open(&backing, flags)?, "EACCES", "{flags:?}, by another spelling");
    }
    assert_eq!(puppet.open("backing.raw", OFlags::RDONLY)?, "ok");
    Ok(())
}
