//! An emulator that was taken over and has the stick looks for more.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use rustix::fs::OFlags;
use tests::hostile::{Puppet, Scene};
use tests::{BrokerCommand, During, Result, USB_DEVICES, need};

use crate::stick::Stick;

/// What of the kernel's would let it at a device, or at all of a bus.
const SWITCHES: [&str; 6] =
    ["authorized", "remove", "bConfigurationValue", "uevent", "power/control", "avoid_reset_quirk"];

fn with_stick<'a>(command: BrokerCommand<'a>, stick: &Stick) -> BrokerCommand<'a> {
    let device = format!("usb-host,hostbus={},hostaddr={}", stick.bus, stick.address);
    command.args(["-device", "qemu-xhci", "-device", &device])
}

/// The names in a folder of the sandbox.
fn listing(puppet: &Puppet, folder: &str) -> Result<BTreeSet<String>> {
    let order = puppet.start_open(folder, OFlags::RDONLY | OFlags::DIRECTORY, 0)?;
    assert_eq!(puppet.answer(order)?, "ok", "{folder}");
    let entries = fs::read_dir(puppet.descriptor(order)?).during(format!("list {folder}"))?;
    Ok(entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect())
}

/// The host's other devices: their names, and their nodes.
fn others(stick: &Stick) -> Result<Vec<(String, String)>> {
    let names = fs::read_dir(USB_DEVICES).during("list the devices")?.flatten();
    let names = names.filter_map(|entry| entry.file_name().into_string().ok());
    let names = names.filter(|name| *name != stick.name && !name.contains(':'));
    names
        .map(|name| {
            let path = Path::new(USB_DEVICES).join(&name).join("uevent");
            let text = fs::read_to_string(&path).during(format!("read {}", path.display()))?;
            let node = text.lines().find_map(|line| line.strip_prefix("DEVNAME=")).unwrap_or_default();
            Ok((name, format!("/dev/{node}")))
        })
        .collect()
}

#[test]
fn no_other_device_is_there() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock, UsbStick);
    let stick = Stick::take()?;
    let others = others(&stick)?;
    assert!(others.len() >= 3, "a tablet, a hub and the bus's own: {others:?}");
    let scene = Scene::new()?;
    let puppet = Puppet::start(&scene, |command| with_stick(command, &stick))?;
    assert_eq!(puppet.open(&stick.node().to_string_lossy(), OFlags::RDWR)?, "ok");
    for (name, node) in &others {
        for flags in [OFlags::RDWR, OFlags::RDONLY, OFlags::PATH] {
            assert_eq!(puppet.open(node, flags)?, "ENOENT", "{node}");
        }
        let link = Path::new(USB_DEVICES).join(name);
        assert_eq!(puppet.open(&format!("{}/busnum", link.display()), OFlags::RDONLY)?, "ENOENT", "{name}");
        let real = link.canonicalize().during("resolve a link")?.join("descriptors");
        assert_ne!(puppet.open(&real.to_string_lossy(), OFlags::RDONLY)?, "ok", "{name}");
    }
    assert_eq!(listing(&puppet, USB_DEVICES)?, [stick.name.clone()].into());
    assert_eq!(listing(&puppet, "/dev/bus/usb/001")?, [format!("{:03}", stick.address)].into());
    assert_eq!(listing(&puppet, "/sys/bus")?, ["usb".to_owned()].into());
    scene.assert_unharmed(&puppet.end()?)
}

#[test]
fn nothing_of_the_kernels_can_be_switched() -> Result<()> {
    need!(Broker, Root, Qemu, Landlock, UsbStick);
    let stick = Stick::take()?;
    let scene = Scene::new()?;
    let puppet = Puppet::start(&scene, |command| with_stick(command, &stick))?;
    let folder = Path::new(USB_DEVICES).join(&stick.name);
    for switch in SWITCHES {
        let path = folder.join(switch);
        assert!(path.exists(), "{switch}");
        let answer = puppet.open(&path.to_string_lossy(), OFlags::WRONLY)?;
        assert!(matches!(answer.as_str(), "EROFS" | "EACCES"), "{switch}: {answer}");
    }
    for (path, answers) in [
        ("/sys/bus/usb/drivers_probe", ["ENOENT", "ENOENT"]),
        ("/sys/bus/usb/drivers/usb/unbind", ["ENOENT", "ENOENT"]),
        ("/dev/bus/usb/001/new", ["EROFS", "EACCES"]),
    ] {
        let answer =
            puppet.open(path, OFlags::WRONLY | if path.ends_with("new") { OFlags::CREATE } else { OFlags::empty() })?;
        assert!(answers.contains(&answer.as_str()), "{path}: {answer}");
    }
    let node = stick.node();
    assert_ne!(puppet.unlink(&node.to_string_lossy())?, "ok");
    assert!(node.exists());
    scene.assert_unharmed(&puppet.end()?)
}
