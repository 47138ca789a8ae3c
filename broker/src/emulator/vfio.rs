//! `-device vfio-pci`: PCI devices of the host that are handed to the guest, and mediated ones.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::draft::{Draft, Group, OpenedBy};
use super::error::Error;
use super::resource::{Kind, VfioDevice};
use super::value::Pairs;

/// The devices (`hw/vfio/pci.c` of QEMU); the last one is emulated and opens nothing (`igd.c`).
const DEVICES: [&str; 3] = ["vfio-pci", "vfio-pci-nohotplug", "vfio-pci-igd-lpc-bridge"];

/// What says which device of the host is meant.
const NAMES: [&str; 3] = ["host", "sysfsdev", "fd"];

/// The node by which QEMU maps guest memory for the devices of a group (`vfio_connect_container`, its
/// `hw/vfio/container.c`).
const CONTAINER: &str = "/dev/vfio/vfio";

/// Whether `driver` is such a device.
pub(super) fn is_one(driver: &str) -> bool {
    DEVICES.contains(&driver)
}

/// Whether `key` names the device of the host, which [`read`] understands.
pub(super) fn is_name(key: &str) -> bool {
    NAMES.contains(&key)
}

/// Notes the device that `group` names. Without a name, or with one that is none, QEMU says so itself.
///
/// # Errors
/// [`Error::Malformed`]: a path that is not one of `/sys`. As [`Draft::descriptor`] and [`Draft::file`].
pub(super) fn read(draft: &mut Draft<'_>, group: &Group) -> Result<(), Error> {
    let (option, pairs) = (&group.option, &group.pairs);
    if let Some(fd) = pairs.name("fd") {
        draft.line.vfio_descriptor = true;
        return draft.descriptor(option, fd);
    }
    let Some(path) = sysfs_path(pairs) else { return Ok(()) };
    check_path(option, &path)?;
    let by_iommufd = pairs.name("iommufd").is_some();
    if !by_iommufd {
        draft.file(option, OsStr::new(CONTAINER), Kind::Device, OpenedBy::QemuOpen)?;
    }
    draft.line.vfio_devices.push(VfioDevice { option: option.clone(), path, by_iommufd });
    Ok(())
}

/// Where QEMU looks for the device: `sysfsdev=` counts before `host=` (`vfio_realize`).
fn sysfs_path(pairs: &Pairs) -> Option<OsString> {
    match pairs.get("sysfsdev") {
        Some(path) => Some(path.to_owned()).filter(|path| !path.is_empty()),
        None => address(pairs.text("host")?).map(|address| format!("/sys/bus/pci/devices/{address}").into()),
    }
}

/// `[domain:]bus:slot.function` as the kernel writes it: all but the function in hexadecimal, as QEMU reads it
/// (`set_pci_host_devaddr` in its `hw/core/qdev-properties-system.c`).
fn address(text: &str) -> Option<String> {
    let (rest, function) = text.split_once('.')?;
    let parts = rest.split(':').map(hexadecimal).collect::<Option<Vec<u32>>>()?;
    let (domain, bus, slot) = match parts.as_slice() {
        [bus, slot] => (0, *bus, *slot),
        [domain, bus, slot] => (*domain, *bus, *slot),
        _ => return None,
    };
    let function: u32 = function.parse().ok()?;
    let valid = domain <= 0xffff && bus <= 0xff && slot <= 0x1f && function <= 7;
    valid.then(|| format!("{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"))
}

/// A number as `strtoul(3)` reads it, with the prefix that it allows.
fn hexadecimal(text: &str) -> Option<u32> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")).unwrap_or(text);
    u32::from_str_radix(digits, 16).ok()
}

/// The sandbox shows a device at the path by which QEMU knows it, and shows nothing else there.
fn check_path(option: &str, path: &OsStr) -> Result<(), Error> {
    let mut parts = path.as_bytes().split(|byte| *byte == b'/');
    let in_sysfs = parts.next() == Some(b"") && parts.next() == Some(b"sys");
    let mut rest = parts.peekable();
    if in_sysfs && rest.peek().is_some() && rest.all(|part| !part.is_empty() && part != b"." && part != b"..") {
        return Ok(());
    }
    let what = format!("sysfsdev={} is no plain path of a device", path.to_string_lossy());
    Err(Error::malformed(
        option,
        format!("{what}; write it as /sys/bus/pci/devices/DDDD:BB:DD.F or /sys/bus/mdev/devices/UUID"),
    ))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{line, names};
    use super::*;

    /// The one device that these words hand in: its path, and whether it is by iommufd.
    fn device(words: &[&str]) -> Option<(String, bool)> {
        let found = line(words).ok()?;
        assert!(!found.vfio_descriptor);
        let one = found.vfio_devices.first()?;
        Some((one.path.to_string_lossy().into_owned(), one.by_iommufd))
    }

    #[test]
    fn a_device_is_named_by_address_or_by_path() {
        let path = |address: &str| Some((format!("/sys/bus/pci/devices/{address}"), false));
        for (words, address) in [
            (&["-device", "vfio-pci,host=01:00.0"][..], "0000:01:00.0"),
            (&["-device", "vfio-pci,host=0001:a:1F.7,id=x"], "0001:0a:1f.7"),
            (&["-device", "vfio-pci-nohotplug,host=0x1:0x2.3"], "0000:01:02.3"),
            (&["-device", r#"{"driver":"vfio-pci","host":"0000:41:00.1"}"#], "0000:41:00.1"),
            (&["-device", "vfio-pci,host=bogus,sysfsdev=/sys/bus/pci/devices/0000:01:00.0"], "0000:01:00.0"),
            (&["-device", "vfio-pci,id=x,host=01:00.0", "-set", "device.x.host=02:00.0"], "0000:02:00.0"),
        ] {
            assert_eq!(device(words), path(address), "{words:?}");
        }
        let mediated = "/sys/bus/mdev/devices/83b8f4f2-509f-382f-3c1e-e6bfe0fa1001";
        let words = format!("vfio-pci,sysfsdev={mediated},display=on");
        assert_eq!(device(&["-device", &words]), Some((mediated.to_owned(), false)));
    }

    #[test]
    fn what_qemu_refuses_names_nothing() {
        for host in ["", "01:00", "01.0", "1:2:3:4.0", "01:20.0", "01:00.8", "100:00.0", "x:00.0", "01:00.0x"] {
            let found = line(&["-device", &format!("vfio-pci,host={host}")]).unwrap();
            assert!(found.vfio_devices.is_empty() && found.resources.is_empty(), "{host}");
        }
        assert!(line(&["-device", "vfio-pci"]).unwrap().vfio_devices.is_empty());
    }

    #[test]
    fn memory_is_mapped_by_a_container_or_by_an_iommufd() {
        let found = line(&["-device", "vfio-pci,host=01:00.0"]).unwrap();
        assert_eq!(names(&found), [("/dev/vfio/vfio", &Kind::Device)]);
        let words = ["-object", "iommufd,id=i", "-device", "vfio-pci,host=01:00.0,iommufd=i"];
        assert_eq!(names(&line(&words).unwrap()), [("/dev/iommu", &Kind::Device)]);
        assert_eq!(device(&words), Some(("/sys/bus/pci/devices/0000:01:00.0".to_owned(), true)));
        let handed = line(&["-object", "iommufd,id=i,fd=7", "-device", "vfio-pci,iommufd=i,fd=8"]).unwrap();
        assert_eq!(handed.descriptors, [7, 8].into());
        assert!(handed.vfio_descriptor && handed.vfio_devices.is_empty() && handed.resources.is_empty());
    }

    #[test]
    fn a_path_is_one_of_sysfs() {
        for path in ["devices/x", "/home/x", "/sys", "/sys/", "/sys/../etc", "/sys/a/../b", "//sys/a", "/sys/a/"] {
            let refused = line(&["-device", &format!("vfio-pci,sysfsdev={path}")]);
            assert!(matches!(refused, Err(Error::Malformed { .. })), "{path}");
        }
    }
}
