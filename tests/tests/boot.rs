//! A guest boots from a backing chain, reads what lies at its bottom, and finds at the second boot what it
//! wrote at the first.

use std::path::PathBuf;

use tests::{
    ALIVE, BrokerCommand, Guest, ORDINARY_USER, Result, WRITE_FAILED, Workdir, backing_file, need, raw_boot_disk,
    two_level_chain, writes_in,
};

/// Boots the Linux guest twice and looks at its proof, at its images, and at what is left.
fn boot_linux_twice(user: Option<u32>, disk: impl Fn(&Workdir) -> PathBuf) -> Result<()> {
    let workdir = Workdir::new()?;
    let guest = Guest::copy_to(&workdir)?;
    let lower = (workdir.read("base.qcow2")?, workdir.read("mid.qcow2")?);
    let files = workdir.listing()?;
    let name = disk(&workdir).to_string_lossy().into_owned();
    for boots in 1..=2 {
        let mut command = BrokerCommand::new(&workdir).args(["-accel", "tcg"]).args(guest.arguments(&name));
        if let Some(user) = user {
            command = command.user(user);
        }
        let mut emulator = command.start()?;
        let finished = emulator.wait()?;
        assert!(finished.status.success(), "{finished:?}");
        let proof = Guest::proof(&finished)?;
        assert!(proof.starts_with(&format!("boots={boots} base=only-the-base-image-holds-this ")), "{proof}");
        emulator.assert_nothing_left(&workdir, &files)?;
    }
    assert_eq!(backing_file(&workdir, "top.qcow2")?, "mid.qcow2");
    let now = (workdir.read("base.qcow2")?, workdir.read("mid.qcow2")?);
    assert!(now == lower, "a backing file was written");
    Ok(())
}

#[test]
fn linux_boots_from_a_chain_as_root() -> Result<()> {
    need!(Root, Qemu, Guest, Landlock);
    boot_linux_twice(None, |workdir| workdir.path("top.qcow2"))
}

#[test]
fn linux_boots_from_a_chain_as_an_ordinary_user() -> Result<()> {
    need!(UserNamespaces, Qemu, Guest, Landlock);
    boot_linux_twice(Some(ORDINARY_USER), |_| PathBuf::from("top.qcow2"))
}

/// Boots the boot sector from a chain with an accelerator; its writes must reach the top image.
fn boot_sector(accelerator: &str) -> Result<()> {
    let workdir = Workdir::new()?;
    let top = two_level_chain(&workdir)?;
    let files = workdir.listing()?;
    let drive = format!("file={},format=qcow2", top.display());
    let (mut emulator, mut qmp) =
        BrokerCommand::new(&workdir).boot_sector_on(accelerator, &drive).start_with_monitor()?;
    emulator.wait_for_output("the guest's first line", |text| text.contains(ALIVE))?;
    emulator.wait_for_writes(3)?;
    qmp.quit()?;
    let finished = emulator.wait()?;
    assert!(finished.status.success(), "{finished:?}");
    let after_greeting = finished.stdout.split(ALIVE).nth(1).unwrap_or_default();
    assert!(!after_greeting.contains(WRITE_FAILED), "{finished:?}");
    emulator.assert_nothing_left(&workdir, &files)?;
    assert!(writes_in(&workdir, "top.qcow2", "qcow2")? >= 3, "the writes are in the top image");
    assert_eq!(writes_in(&workdir, "base.raw", "raw")?, 0, "and not in the base");
    Ok(())
}

#[test]
fn boot_sector_runs_under_tcg() -> Result<()> {
    need!(Qemu, Landlock);
    boot_sector("tcg")
}

#[test]
fn boot_sector_runs_under_kvm() -> Result<()> {
    need!(Qemu, Landlock, Kvm);
    boot_sector("kvm")
}

#[test]
fn a_user_starts_from_a_raw_image() -> Result<()> {
    need!(Qemu, Landlock, UserNamespaces);
    let workdir = Workdir::new()?;
    raw_boot_disk(&workdir, "disk.raw")?;
    let command = BrokerCommand::new(&workdir).user(ORDINARY_USER);
    let (mut emulator, mut qmp) = command.boot_sector("file=disk.raw,format=raw").start_with_monitor()?;
    emulator.wait_for_writes(2)?;
    qmp.quit()?;
    assert!(emulator.wait()?.status.success());
    assert!(writes_in(&workdir, "disk.raw", "raw")? >= 2);
    Ok(())
}

#[test]
fn snapshot_leaves_the_image_as_it_was() -> Result<()> {
    need!(Qemu, Landlock);
    let workdir = Workdir::new()?;
    two_level_chain(&workdir)?;
    let before = workdir.read("top.qcow2")?;
    let files = workdir.listing()?;
    let command = BrokerCommand::new(&workdir).boot_sector("file=top.qcow2,format=qcow2").args(["-snapshot"]);
    let (mut emulator, mut qmp) = command.start_with_monitor()?;
    emulator.wait_for_writes(2)?;
    qmp.quit()?;
    assert!(emulator.wait()?.status.success());
    emulator.assert_nothing_left(&workdir, &files)?;
    assert!(workdir.read("top.qcow2")? == before, "the image was written");
    Ok(())
}
