use std::io;
use std::os::unix::fs::symlink;

use super::*;

/// A tree as the kernel makes it: a root hub, a tablet, and a hub with two sticks of one kind.
struct Tree {
    root: PathBuf,
    present: Vec<Device>,
}

impl Tree {
    fn make(test: &str) -> io::Result<Self> {
        let root = std::env::temp_dir().canonicalize()?.join(format!("usb-test-{test}-{}", std::process::id()));
        let (devices, bus) = (root.join("bus/usb/devices"), root.join("devices/pci0/usb1"));
        fs::create_dir_all(&devices)?;
        for (name, at, address, kind) in [
            ("usb1", "", 1, ["1d6b", "0002", "09"]),
            ("1-1", "1-1", 2, ["0627", "0001", "00"]),
            ("1-2", "1-2", 3, ["0409", "55aa", "09"]),
            ("1-2.1", "1-2/1-2.1", 4, ["46f4", "0001", "00"]),
            ("1-2.4", "1-2/1-2.4", 11, ["46f4", "0001", "00"]),
        ] {
            let at = bus.join(at);
            fs::create_dir_all(&at)?;
            for (attribute, value) in ["idVendor", "idProduct", "bDeviceClass"].iter().zip(kind) {
                fs::write(at.join(attribute), format!("{value}\n"))?;
            }
            fs::write(at.join("busnum"), "1\n")?;
            fs::write(at.join("devnum"), format!("{address}\n"))?;
            fs::write(at.join("dev"), format!("189:{}\n", address - 1))?;
            symlink(&at, devices.join(name))?;
        }
        // An interface, which is no device.
        fs::create_dir(bus.join("1-1/1-1:1.0"))?;
        symlink(bus.join("1-1/1-1:1.0"), devices.join("1-1:1.0"))?;
        Ok(Self { present: plugged_in(&devices), root })
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.root));
    }
}

#[test]
fn devices_are_read_from_sysfs() {
    let tree = Tree::make("read").unwrap();
    let present = &tree.present;
    let names: Vec<&str> = present.iter().map(|device| device.name.as_str()).collect();
    assert_eq!(names, ["1-1", "1-2", "1-2.1", "1-2.4", "usb1"]);
    let stick = &present[3];
    assert_eq!((stick.vendor, stick.product, stick.is_hub), (0x46f4, 1, false));
    assert_eq!(stick.node(), Path::new("/dev/bus/usb/001/011"));
    assert_eq!(stick.number, "189:10");
    assert!(present[1].is_hub && present[4].is_hub);
    assert!(plugged_in(&tree.root.join("none")).is_empty());
}

#[test]
fn the_first_that_fits_is_meant_and_no_hub() {
    let tree = Tree::make("meant").unwrap();
    let present = &tree.present;
    let name = |wanted: UsbMatch, taken: &[PathBuf]| {
        let (device, count) = meant(&wanted, present, taken);
        (device.map(|device| device.name.clone()), count)
    };
    let any = UsbMatch::default;
    let found = |name: &str, count| (Some(name.to_owned()), count);
    assert_eq!(name(UsbMatch { bus: 1, address: 11, ..any() }, &[]), found("1-2.4", 1));
    assert_eq!(name(UsbMatch { bus: 1, port: Some("2.1".into()), ..any() }, &[]), found("1-2.1", 1));
    assert_eq!(name(UsbMatch { vendor: 0x627, product: 1, ..any() }, &[]), found("1-1", 1));
    assert_eq!(name(UsbMatch { vendor: 0x46f4, ..any() }, &[]), found("1-2.1", 2));
    let first = [present[2].node()];
    assert_eq!(name(UsbMatch { vendor: 0x46f4, ..any() }, &first), found("1-2.4", 1));
    let both = [present[2].node(), present[3].node()];
    assert_eq!(name(UsbMatch { vendor: 0x46f4, ..any() }, &both), (Some("1-2.1".into()), 0));
    for missing in [
        UsbMatch { bus: 1, port: Some("2".into()), ..any() },
        UsbMatch { bus: 2, ..any() },
        UsbMatch { vendor: 0x46f4, product: 2, ..any() },
        UsbMatch { port: Some(String::new()), ..any() },
    ] {
        assert_eq!(name(missing.clone(), &[]), (None, 0), "{missing:?}");
    }
}

#[test]
fn the_operator_hears_of_no_device_and_of_several() {
    let tree = Tree::make("doubt").unwrap();
    let present = &tree.present;
    let wanted = UsbMatch { vendor: 1, ..UsbMatch::default() };
    let host = UsbHost { option: "-device usb-host,vendorid=1".into(), name: UsbName::Match(wanted.clone()) };
    assert!(doubt(&host, &wanted, None, 0).unwrap().contains("no such USB device is plugged in"));
    assert!(doubt(&host, &wanted, present.first(), 2).unwrap().contains("the guest gets 1-1;"));
    assert_eq!(doubt(&host, &wanted, present.first(), 1), None);
    let one_place = UsbMatch { bus: 9, address: 9, ..UsbMatch::default() };
    assert_eq!(doubt(&host, &one_place, None, 0), None, "QEMU says so itself");
}
