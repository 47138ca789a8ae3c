//! A guest that boots from the host's disk, and writes it: its firmware has the disk read and write the guest's memory.

use std::os::unix::fs::chown;
use std::path::Path;

use serde_json::{Value, json};
use tests::{
    ALIVE, BrokerCommand, During, Emulator, Finished, ORDINARY_USER, PLAIN_QEMU, Qmp, Result, WRITE_FAILED, Workdir,
    need,
};

use crate::scene::{DISK, Devices};

/// Words that make an ordinary user of what follows, with so much memory that may be locked.
fn as_user(locked: &str) -> Vec<String> {
    let user = ORDINARY_USER.to_string();
    let limit = format!("--memlock={locked}:{locked}");
    let words = ["prlimit", &limit, "setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"];
    words.map(str::to_owned).to_vec()
}

/// A guest with the disk, the firmware's messages left out.
fn command<'a>(workdir: &'a Workdir, device: &str) -> BrokerCommand<'a> {
    let command = BrokerCommand::new(workdir).args(PLAIN_QEMU).args(["-accel", "tcg", "-serial", "stdio"]);
    command.args(["-device", device])
}

/// Has the guest write the disk, and returns what the monitor says of its PCI devices.
fn write_disk((mut emulator, mut qmp): (Emulator, Qmp), workdir: &Workdir) -> Result<Value> {
    emulator.wait_for_output("the guest to boot", |text| text.contains(ALIVE))?;
    emulator.wait_for_writes(2)?;
    let devices = qmp.execute("query-pci", json!({}))?;
    qmp.quit()?;
    let finished = emulator.wait()?;
    assert!(finished.status.success(), "{finished:?}");
    let written = finished.stdout.split_once(ALIVE).map_or("", |(_, written)| written);
    assert!(!written.contains(WRITE_FAILED), "{finished:?}");
    emulator.assert_nothing_left(workdir, &workdir.listing()?)?;
    Ok(devices)
}

/// One whole life of the disk with a guest that `start` makes.
fn with_guest(start: impl FnOnce(&Workdir, &Path) -> Result<(Emulator, Qmp)>) -> Result<Value> {
    let devices = Devices::take()?;
    let workdir = Workdir::new()?;
    let node = devices.prepare_disk()?;
    let found = write_disk(start(&workdir, &node)?, &workdir)?;
    assert!(devices.count_on_disk()? >= 2, "the disk was not written");
    Ok(found)
}

#[test]
fn a_guest_boots_from_the_disk_as_it_does_bare() -> Result<()> {
    need!(DeviceMachine, Root, Qemu, Landlock);
    let run = |bare: bool, device: &str| {
        with_guest(|workdir, _| {
            let command = command(workdir, device);
            if bare { command.bare() } else { command }.start_with_monitor()
        })
    };
    let bare = run(true, "vfio-pci,host=00:10.0,id=disk")?;
    assert!(bare.to_string().contains(r#""qdev_id":"disk""#), "{bare}");
    let by_path =
        format!(r#"{{"driver":"vfio-pci-nohotplug","sysfsdev":"/sys/devices/pci0000:00/{DISK}","id":"disk"}}"#);
    assert_eq!(run(false, "vfio-pci,host=00:10.0,id=disk")?, bare);
    assert_eq!(run(false, &by_path)?, bare);
    Ok(())
}

#[test]
fn a_guest_of_another_user_has_its_memory_locked_by_roots_right() -> Result<()> {
    need!(DeviceMachine, Broker, Root, Qemu, Landlock);
    let user = format!("{ORDINARY_USER}:{ORDINARY_USER}");
    with_guest(|workdir, _| {
        let command = command(workdir, "vfio-pci,host=00:10.0").options(["--user", &user]);
        command.through(["prlimit", "--memlock=65536:65536"]).start_with_monitor()
    })
    .map(drop)
}

#[test]
fn an_ordinary_user_has_the_disk_whose_node_is_theirs() -> Result<()> {
    need!(DeviceMachine, Root, UserNamespaces, Qemu, Landlock);
    with_guest(|workdir, node| {
        chown(node, Some(ORDINARY_USER), Some(ORDINARY_USER)).during("give the group's node away")?;
        let command = command(workdir, "vfio-pci,host=00:10.0").user(ORDINARY_USER);
        command.through(as_user("unlimited")).start_with_monitor()
    })
    .map(drop)
}

/// What QEMU said, the addresses of its memory left out.
fn own_words(finished: &Finished) -> Vec<String> {
    let lines = finished.stderr.lines().filter(|line| !line.starts_with("broker: "));
    let is_address = |word: &&str| word.contains("0x");
    lines.map(|line| line.split(' ').filter(|word| !is_address(word)).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn too_little_memory_to_lock_is_complained_of_as_bare_and_hinted_at() -> Result<()> {
    need!(DeviceMachine, Broker, Root, UserNamespaces, Qemu, Landlock);
    let devices = Devices::take()?;
    let node = devices.hand_out(DISK)?;
    chown(&node, Some(ORDINARY_USER), Some(ORDINARY_USER)).during("give the group's node away")?;
    let run = |bare: bool| {
        let workdir = Workdir::new()?;
        let command = command(&workdir, "vfio-pci,host=00:10.0").user(ORDINARY_USER).through(as_user("65536"));
        if bare { command.bare() } else { command }.run()
    };
    let (bare, confined) = (run(true)?, run(false)?);
    assert_eq!((confined.status.code(), own_words(&confined)), (bare.status.code(), own_words(&bare)));
    assert_eq!(bare.status.code(), Some(1), "{bare:?}");
    assert!(confined.stderr.contains("the limit on that is 64 KiB; raise it"), "{confined:?}");
    Ok(())
}
