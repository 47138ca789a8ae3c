//! QEMU opens its images again: when it quits, when a save completes and when it goes on after that, and when
//! host caching changes.

use std::path::Path;

use rustix::fs::OFlags;
use serde_json::{Value, json};
use tests::{
    BrokerCommand, Emulator, ORDINARY_USER, Qmp, Result, Workdir, need, save_to_descriptor, two_level_chain, writes_in,
};

/// Whether the emulator holds `image` open for writing, and whether past the host's cache.
fn access(emulator: &Emulator, image: &Path) -> Result<(bool, bool)> {
    let flags = emulator.process().open_flags_of(image)?;
    assert!(!flags.is_empty(), "{} is not open", image.display());
    let any = |wanted: OFlags| flags.iter().any(|flags| flags.intersects(wanted));
    Ok((any(OFlags::RDWR | OFlags::WRONLY), any(OFlags::DIRECT)))
}

/// Ends the emulator and expects that no open was refused on the way.
fn quit(mut emulator: Emulator, mut qmp: Qmp) -> Result<()> {
    qmp.quit()?;
    let finished = emulator.wait()?;
    assert_eq!(finished.status.code(), Some(0), "{finished:?}");
    assert!(!finished.stderr.contains("refused"), "{finished:?}");
    Ok(())
}

/// Saves, goes on, writes again, quits.
fn save_and_go_on(user: Option<u32>) -> Result<()> {
    let workdir = Workdir::new()?;
    let top = two_level_chain(&workdir)?;
    let mut command = BrokerCommand::new(&workdir);
    if let Some(user) = user {
        command = command.user(user);
    }
    let (emulator, mut qmp) = command.boot_sector("file=top.qcow2,format=qcow2").start_with_monitor()?;
    emulator.wait_for_writes(2)?;
    assert_eq!(access(&emulator, &top)?, (true, false));
    save_to_descriptor(&mut qmp, &workdir)?;
    let status = qmp.execute("query-status", json!({}))?;
    assert_eq!(status.get("status").and_then(Value::as_str), Some("postmigrate"));
    assert_eq!(access(&emulator, &top)?, (false, false), "reopened read-only");
    let written = writes_in(&workdir, "top.qcow2", "qcow2")?;
    qmp.execute("cont", json!({}))?;
    emulator.wait_for_writes(3)?;
    assert_eq!(access(&emulator, &top)?, (true, false), "reopened read-write");
    quit(emulator, qmp)?;
    assert!(writes_in(&workdir, "top.qcow2", "qcow2")? >= written + 3);
    Ok(())
}

#[test]
fn the_guest_goes_on_after_a_save() -> Result<()> {
    need!(Qemu, Landlock);
    save_and_go_on(None)
}

#[test]
fn the_guest_of_a_user_goes_on_after_a_save() -> Result<()> {
    need!(Qemu, Landlock, UserNamespaces);
    save_and_go_on(Some(ORDINARY_USER))
}

#[test]
fn host_caching_changes_while_the_guest_runs() -> Result<()> {
    need!(Qemu, Landlock);
    let workdir = Workdir::new()?;
    let top = two_level_chain(&workdir)?;
    let command = BrokerCommand::new(&workdir).args(tests::PLAIN_QEMU).args([
        "-accel",
        "tcg",
        "-serial",
        "stdio",
        "-blockdev",
        "driver=file,node-name=file,filename=top.qcow2,auto-read-only=on",
        "-blockdev",
        "driver=qcow2,node-name=disk,file=file",
        "-device",
        "virtio-blk-pci,drive=disk",
    ]);
    let (emulator, mut qmp) = command.start_with_monitor()?;
    emulator.wait_for_writes(1)?;
    for direct in [true, false] {
        let file = json!({
            "driver": "file", "node-name": "file", "filename": "top.qcow2",
            "auto-read-only": true, "cache": { "direct": direct },
        });
        qmp.execute("blockdev-reopen", json!({ "options": [file] }))?;
        assert_eq!(access(&emulator, &top)?, (true, direct));
        emulator.wait_for_writes(2)?;
    }
    quit(emulator, qmp)
}

#[test]
fn the_guest_runs_past_the_hosts_cache() -> Result<()> {
    need!(Qemu, Landlock);
    let workdir = Workdir::new()?;
    let top = two_level_chain(&workdir)?;
    let command = BrokerCommand::new(&workdir).boot_sector("file=top.qcow2,format=qcow2,cache=none");
    let (emulator, qmp) = command.start_with_monitor()?;
    emulator.wait_for_writes(2)?;
    assert_eq!(access(&emulator, &top)?, (true, true));
    quit(emulator, qmp)
}
