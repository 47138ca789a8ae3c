//! What an emulator with a device of the host does not get beside it.

use rustix::fs::OFlags;
use serde_json::json;
use tests::hostile::{Puppet, Scene};
use tests::{BrokerCommand, Error, ORDINARY_USER, PLAIN_QEMU, Result, Workdir, need};

use crate::scene::{DISK, Devices, OTHER, folder};

/// What writes to the device, or takes it away, past VFIO; and what reads its registers.
const DANGEROUS: [&str; 9] = [
    "config",
    "resource0",
    "rom",
    "reset",
    "remove",
    "enable",
    "driver_override",
    "driver/unbind",
    "iommu_group/devices",
];

#[test]
fn an_emulator_has_its_group_and_no_other_and_nothing_of_sysfs() -> Result<()> {
    need!(DeviceMachine, Broker, Root, UserNamespaces, Qemu, Landlock);
    let devices = Devices::take()?;
    let (own, other) = (devices.hand_out(DISK)?, devices.hand_out(OTHER)?);
    for node in [&own, &other] {
        std::os::unix::fs::chown(node, Some(ORDINARY_USER), Some(ORDINARY_USER))
            .map_err(|error| Error::Unexpected(format!("give {} away: {error}", node.display())))?;
    }
    for user in [None, Some(ORDINARY_USER)] {
        let scene = Scene::new()?;
        let puppet = Puppet::start_as(&scene, user, |command| command.args(["-device", "vfio-pci,host=00:10.0"]))?;
        let open = |path: &std::path::Path, flags| puppet.open(&path.to_string_lossy(), flags);
        assert_eq!(open(&own, OFlags::RDWR)?, "ok");
        assert_eq!(open("/dev/vfio/vfio".as_ref(), OFlags::RDWR)?, "ok");
        assert_eq!(open(&other, OFlags::RDWR)?, "EACCES");
        for name in DANGEROUS {
            for flags in [OFlags::RDONLY, OFlags::WRONLY, OFlags::RDWR] {
                assert_eq!(open(&folder(DISK).join(name), flags)?, "ENOENT", "{name} of the device");
                assert_eq!(open(&folder(OTHER).join(name), flags)?, "ENOENT", "{name} of another device");
                let by_bus = format!("/sys/devices/pci0000:00/{DISK}/{name}");
                assert_eq!(open(by_bus.as_ref(), flags)?, "EACCES", "{by_bus}");
            }
        }
        assert_eq!(open("/sys/bus/pci/drivers_probe".as_ref(), OFlags::WRONLY)?, "ENOENT");
        assert_eq!(open(&folder(DISK).join("new"), OFlags::WRONLY | OFlags::CREATE)?, "EROFS");
        let finished = puppet.end()?;
        scene.assert_unharmed(&finished)?;
    }
    Ok(())
}

#[test]
fn a_device_that_the_command_line_does_not_name_is_not_added_later() -> Result<()> {
    need!(DeviceMachine, Broker, Root, Qemu, Landlock);
    let devices = Devices::take()?;
    devices.hand_out(DISK)?;
    devices.hand_out(OTHER)?;
    let workdir = Workdir::new()?;
    let command = BrokerCommand::new(&workdir).args(PLAIN_QEMU).args(["-accel", "tcg", "-S"]);
    let (mut emulator, mut qmp) = command.args(["-device", "vfio-pci,host=00:10.0"]).start_with_monitor()?;
    match qmp.execute("device_add", json!({ "driver": "vfio-pci", "host": "00:11.0", "id": "later" })) {
        Err(Error::Refused { description, .. }) if description.contains("no such host device") => {}
        other => return Err(Error::Unexpected(format!("device_add: {other:?}"))),
    }
    qmp.quit()?;
    let finished = emulator.wait()?;
    assert!(finished.status.success(), "{finished:?}");
    Ok(())
}
