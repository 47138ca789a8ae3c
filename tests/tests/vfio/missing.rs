//! Devices that cannot be had, and what is said of them.

use tests::{BrokerCommand, Finished, PLAIN_QEMU, Result, Workdir, need};

use crate::scene::{DISK, Devices, OTHER, PAIR};

fn run(device: &str, bare: bool) -> Result<Finished> {
    let workdir = Workdir::new()?;
    let command = BrokerCommand::new(&workdir).args(PLAIN_QEMU).args(["-accel", "tcg", "-S", "-device", device]);
    if bare { command.bare() } else { command }.run()
}

/// Runs `device` to its end, which has to be that of plain QEMU, and returns the broker's own lines.
fn missed(device: &str) -> Result<String> {
    let (bare, confined) = (run(device, true)?, run(device, false)?);
    let (own, said): (Vec<&str>, Vec<&str>) = confined.stderr.lines().partition(|line| line.starts_with("broker: "));
    assert_eq!(said, bare.stderr.lines().collect::<Vec<_>>(), "{device}");
    assert_eq!((confined.status.code(), bare.status.code()), (Some(1), Some(1)), "{device}");
    Ok(own.join("\n"))
}

#[test]
fn a_device_that_is_not_handed_out_is_complained_of_as_bare() -> Result<()> {
    need!(DeviceMachine, Broker, Root, Qemu, Landlock);
    let devices = Devices::take()?;
    assert_eq!(missed("vfio-pci,host=00:1e.0")?.matches("vfio").count(), 0, "no such device");
    let unbound = missed("vfio-pci,host=00:10.0")?;
    assert!(unbound.contains(&format!("{DISK} is bound to no driver, not to vfio-pci; ")), "{unbound}");
    devices.hand_out(DISK)?;
    let elsewhere = missed("vfio-pci,host=00:04.0")?;
    assert!(elsewhere.contains("0000:00:04.0 is bound to virtio-pci, not to vfio-pci; "), "{elsewhere}");
    missed("vfio-pci,host=00:10.0,x-balloon-allowed=on")?;
    Ok(())
}

#[test]
fn the_rest_of_a_group_is_named() -> Result<()> {
    need!(DeviceMachine, Broker, Root, Qemu, Landlock);
    let devices = Devices::take()?;
    for device in [OTHER, PAIR[0], PAIR[1]] {
        devices.hand_out(device)?;
    }
    let both = [PAIR[0], PAIR[1]].map(|device| format!("vfio-pci,host={device}"));
    for (named, hint) in [(&both[..1], true), (&both[..], false)] {
        let workdir = Workdir::new()?;
        let words = named.iter().flat_map(|device| ["-device", device]);
        let command = BrokerCommand::new(&workdir).args(PLAIN_QEMU).args(["-accel", "tcg", "-S"]).args(words);
        let (mut emulator, mut qmp) = command.start_with_monitor()?;
        qmp.quit()?;
        let finished = emulator.wait()?;
        assert!(finished.status.success(), "{finished:?}");
        let rest = format!("so these too: {}", PAIR[1]);
        assert_eq!(finished.stderr.contains(&rest), hint, "{finished:?}");
        assert!(!finished.stderr.contains(OTHER), "{finished:?}");
    }
    Ok(())
}
