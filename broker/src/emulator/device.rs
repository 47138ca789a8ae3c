//! Emulated devices: `-device` and `-global`.
//!
//! Devices reach the host through other options (`drive=`, `netdev=`, `chardev=`, `memdev=` are ids of
//! those), except for the devices and properties listed here. The lists come from the string properties
//! of every device of QEMU 7.2 and 10.0 (`device-list-properties`), and from the devices' sources.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use super::draft::{Draft, Group, OpenedBy};
use super::error::Error;
use super::resource::Kind;
use super::usb_host;
use super::value::{Pairs, is_help};
use super::vfio;

const NO_VFIO: &str = "use vfio-pci: devices of other buses are not handed in";
const IN_DEVICE: &str = "write it into -device vfio-pci";
const NO_HOST_DEVICE: &str = "leave it out: the host's libraries for it would look through all of its devices";

/// Devices that reach outside by themselves, by the start of their name.
const DEVICES: &[(&str, &str)] = &[
    ("vfio-", NO_VFIO),                                              // but those of PCI
    ("usb-mtp", "use -drive with an image"),                         // a folder of the host
    ("u2f-emulated", NO_HOST_DEVICE),                                // a folder of keys
    ("ccid-card-emulated", "use ccid-card-passthru with a chardev"), // NSS data bases
    ("pvrdma", NO_HOST_DEVICE),
    ("hv-syndbg", "use -gdb with a chardev"), // UDP
    ("xen-", "leave it out: Xen is not served"),
    ("x-pci-proxy-dev", "leave it out: device processes are not served"),
    ("virtio-gpu-rutabaga", "use virtio-gpu"), // Wayland sockets
    ("virtio-vga-rutabaga", "use virtio-vga"),
];

/// Devices that open a node unless they are given `vhostfd=` (`hw/virtio/vhost-vsock.c`, `hw/scsi/vhost-scsi.c`), by the
/// start of their name.
const VHOST_DEVICES: &[(&str, &str)] = &[("vhost-vsock", "/dev/vhost-vsock"), ("vhost-scsi", "/dev/vhost-scsi")];

/// What `u2f-passthru` needs.
const NAMED_KEY: &str = "add hidraw=/dev/hidrawN: the host's devices cannot be looked through for one";

/// What a property names.
enum Property {
    /// A file that `qemu_find_file` looks up.
    Firmware,
    /// A file that is read.
    Reads,
    /// A file that is written (`qemu_open`).
    Writes,
    /// A device node that is read and written.
    Device,
    /// A descriptor.
    Descriptor,
    /// Something outside.
    Later(&'static str),
    /// Free text that may hold slashes.
    Text,
}

const PROPERTIES: &[(&str, Property)] = &[
    ("romfile", Property::Firmware),
    ("file", Property::Firmware),   // loader
    ("kernel", Property::Firmware), // guest-loader
    ("initrd", Property::Firmware), // guest-loader
    ("cdat", Property::Reads),      // cxl-type3
    ("sdrfile", Property::Reads),   // ipmi-bmc-sim
    ("frudatafile", Property::Reads),
    ("pcap", Property::Writes), // USB devices
    ("vhostfd", Property::Descriptor),
    ("ebpf-rss-fds", Property::Descriptor), // a list: ebpf-rss-fds.0, ...
    ("jsonfile", Property::Later("use -pflash for UEFI variables")), // uefi-vars
    ("evdev", Property::Device),            // virtio-input-host
    ("hidraw", Property::Device),           // u2f-passthru
    ("vhostdev", Property::Device),         // vhost-vdpa-device
    ("sysfsdev", Property::Later(IN_DEVICE)),
    ("rootdir", Property::Later("use -drive with an image")),
    ("wayland-socket-path", Property::Later("use virtio-gpu")),
    ("host_ip", Property::Later("use -gdb with a chardev")),
    ("serial", Property::Text),
    ("name", Property::Text),
    ("product", Property::Text),
    ("vendor", Property::Text),
    ("ver", Property::Text),
    ("version", Property::Text),
    ("model", Property::Text),
    ("model-id", Property::Text),
    ("hv-vendor-id", Property::Text),
    ("device_id", Property::Text),
    ("hba_serial", Property::Text),
    ("wwpn", Property::Text),
    ("nqn", Property::Text),
    ("tag", Property::Text),
    ("mount_tag", Property::Text),
    ("desc", Property::Text),
    ("osk", Property::Text),
    ("bootargs", Property::Text),
    ("filter", Property::Text), // usb-redir: numbers
    ("bus", Property::Text),    // a path of QEMU's own device tree
    ("id", Property::Text),
    ("driver", Property::Text),
];

/// The size of a huge page, by which `virtio-mem` cuts its memory up (`virtio_mem_thp_size` in `hw/virtio/virtio-mem.c`).
const HUGE_PAGE: &str = "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size";

/// `-device`.
///
/// # Errors
/// [`Error::NotServed`] for devices and properties that reach outside.
pub(super) fn read(draft: &mut Draft<'_>, group: &Group) -> Result<(), Error> {
    let (option, pairs) = (&group.option, &group.pairs);
    let driver = pairs.text("driver").unwrap_or_default();
    if pairs.help || is_help(OsStr::new(driver)) {
        draft.line.informational = true;
        return Ok(());
    }
    let taken = vfio::is_one(driver);
    if let Some((_, instead)) = DEVICES.iter().find(|(start, _)| driver.starts_with(start) && !taken) {
        return Err(Error::not_served(option, format!("the device {driver}"), *instead));
    }
    let vhost = VHOST_DEVICES.iter().find(|(start, _)| driver.starts_with(start));
    if let (Some((_, node)), None) = (vhost, pairs.get("vhostfd")) {
        draft.file(option, OsStr::new(node), Kind::Device, OpenedBy::QemuOpen)?;
    }
    if driver.starts_with("virtio-mem-") {
        draft.file(option, OsStr::new(HUGE_PAGE), Kind::OptionalFile, OpenedBy::Plain)?;
    }
    if driver == "u2f-passthru" && pairs.get("hidraw").is_none() {
        return Err(Error::not_served(option, format!("the device {driver}"), NAMED_KEY));
    }
    if driver == usb_host::DRIVER {
        usb_host::read(draft, group)?;
    }
    if taken {
        vfio::read(draft, group)?;
    }
    let mut others = pairs.iter().filter(|(key, _)| !(taken && vfio::is_name(key)));
    others.try_for_each(|(key, value)| property(draft, option, key, value))
}

/// `-global driver.property=value`, whose value is taken as it stands, or the same in pairs.
/// Source: `qemu_global_option` in QEMU's `util/qemu-config.c`.
///
/// # Errors
/// As [`read`].
pub(super) fn global(draft: &mut Draft<'_>, option: &str, value: &OsStr) -> Result<(), Error> {
    let bytes = value.as_bytes();
    let stop = bytes.iter().position(|b| matches!(b, b'.' | b'='));
    let dotted = stop.filter(|at| bytes.get(*at) == Some(&b'.'));
    let split = dotted.and_then(|dot| {
        let rest = bytes.get(dot + 1..)?;
        let equals = rest.iter().position(|b| *b == b'=')?;
        Some((rest.get(..equals)?, rest.get(equals + 1..)?))
    });
    if let Some((key, value)) = split {
        let key = String::from_utf8_lossy(key);
        return global_property(draft, option, &key, OsStr::from_bytes(value));
    }
    global_pairs(draft, option, &Pairs::parse(option, value, None)?)
}

/// `[global]` of a configuration file.
///
/// # Errors
/// As [`read`].
pub(super) fn read_global(draft: &mut Draft<'_>, group: &Group) -> Result<(), Error> {
    global_pairs(draft, &group.option, &group.pairs)
}

fn global_pairs(draft: &mut Draft<'_>, option: &str, pairs: &Pairs) -> Result<(), Error> {
    match (pairs.text("property"), pairs.get("value")) {
        (Some(key), Some(value)) => global_property(draft, option, key, value),
        _ => {
            Err(Error::malformed(option, "write it as driver.property=value, or as driver=...,property=...,value=..."))
        }
    }
}

/// What holds for all devices of a kind names no single device of the host.
fn global_property(draft: &mut Draft<'_>, option: &str, key: &str, value: &OsStr) -> Result<(), Error> {
    if vfio::is_name(key) {
        return Err(Error::not_served(option, format!("{key}={}", value.to_string_lossy()), IN_DEVICE));
    }
    usb_host::refuse_global(option, key)?;
    property(draft, option, key, value)
}

fn property(draft: &mut Draft<'_>, option: &str, key: &str, value: &OsStr) -> Result<(), Error> {
    let first = key.split('.').next().unwrap_or(key);
    // Understood together, where the device is.
    if usb_host::NAMES.contains(&first) {
        return Ok(());
    }
    let known = PROPERTIES.iter().find(|(name, _)| *name == first);
    match known.map(|(_, property)| property) {
        Some(Property::Firmware) => draft.firmware(option, value),
        Some(Property::Reads) => draft.read_only(option, value),
        Some(Property::Writes) => draft.file(option, value, Kind::OutputFile { append: false }, OpenedBy::QemuOpen),
        Some(Property::Device) => draft.file(option, value, Kind::Device, OpenedBy::QemuOpen),
        Some(Property::Descriptor) => draft.descriptor(option, value),
        Some(Property::Later(instead)) => {
            Err(Error::not_served(option, format!("{key}={}", value.to_string_lossy()), *instead))
        }
        Some(Property::Text) => Ok(()),
        None => inner_name(option, key, value),
    }
}

/// A property that is not listed may name QEMU's own objects by path, and nothing else.
fn inner_name(option: &str, key: &str, value: &OsStr) -> Result<(), Error> {
    let bytes = value.as_bytes();
    let inner = bytes.starts_with(b"/objects/") || bytes.starts_with(b"/machine/");
    let outer = bytes.starts_with(b"/") || bytes.starts_with(b"./") || bytes.starts_with(b"../");
    if outer && !inner {
        return Err(Error::not_served(
            option,
            format!("{key}={}", value.to_string_lossy()),
            "leave it out: it is not known what QEMU would open for it",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{assert_harmless, assert_not_served, line, names};
    use super::*;

    #[test]
    fn ordinary_devices_name_nothing() {
        assert_harmless(&[
            &["-device", "virtio-blk-pci,drive=d0,serial=a/b,bus=/machine/q35/pcie.0"],
            &["-device", r#"{"driver":"virtio-net-pci","netdev":"n","mac":"52:54:00:12:34:56","romfile":""}"#],
            &["-device", "virtio-net,netdev=n,romfile="],
            &["-device", "ivshmem-plain,memdev=/objects/m"],
            &["-device", "virtserialport,chardev=c,name=org.qemu.guest_agent.0"],
            &["-device", "scsi-generic,drive=d"],
            &["-device", "pvpanic"],
            &["-device", "virtio-9p-pci,fsdev=f,mount_tag=t"],
            &["-global", "PIIX4_PM.disable_s3=1"],
            &["-global", "driver=isa-fdc,property=fdtypeA,value=auto"],
        ]);
    }

    #[test]
    fn files_and_descriptors_are_noted() {
        let found =
            line(&["-device", "virtio-net,romfile=efi.rom", "-device", "loader,file=/k.elf,cpu-num=0"]).unwrap();
        assert_eq!(names(&found), [("efi.rom", &Kind::FirmwareName), ("/k.elf", &Kind::ReadOnlyFile)]);
        let found = line(&["-device", "usb-kbd,pcap=p"]).unwrap();
        assert_eq!(names(&found), [("p", &Kind::OutputFile { append: false })]);
        let found = line(&["-global", "e1000.romfile=a,b=c"]).unwrap();
        assert_eq!(names(&found), [("a,b=c", &Kind::FirmwareName)]);
        let found = line(&["-device", "vhost-vsock-pci,guest-cid=3,vhostfd=9"]).unwrap();
        assert_eq!(found.descriptors, [9].into());
        let json = r#"{"driver":"virtio-net-pci","netdev":"n","ebpf-rss-fds":["5","6"]}"#;
        assert_eq!(line(&["-device", json]).unwrap().descriptors, [5, 6].into());
    }

    #[test]
    fn device_nodes_are_noted() {
        for (value, node) in [
            ("virtio-input-host-pci,evdev=/dev/input/event0", "/dev/input/event0"),
            ("u2f-passthru,hidraw=/dev/hidraw0", "/dev/hidraw0"),
            ("vhost-vdpa-device-pci,vhostdev=/dev/vhost-vdpa-0", "/dev/vhost-vdpa-0"),
            ("vhost-vsock-pci,guest-cid=3", "/dev/vhost-vsock"),
            ("vhost-scsi-pci,wwpn=naa.1", "/dev/vhost-scsi"),
        ] {
            assert_eq!(names(&line(&["-device", value]).unwrap()), [(node, &Kind::Device)], "{value}");
        }
    }

    #[test]
    fn devices_of_the_host_are_refused() {
        assert_not_served(&[
            &["-device", "vfio-platform,host=x"],
            &["-device", "vfio-ccw,sysfsdev=/sys/x"],
            &["-global", "vfio-pci.host=01:00.0"],
            &["-global", "driver=vfio-pci,property=fd,value=3"],
            &["-device", "usb-mtp,rootdir=/home"],
            &["-device", "u2f-passthru"],
            &["-device", "ccid-card-emulated"],
            &["-device", "uefi-vars-x64,jsonfile=/x"],
            &["-device", "newer,thing=/etc/shadow"],
            &["-device", "newer,thing=../x"],
            &["-device", "xen-disk,drive=d"],
            &["-global", "vfio-pci.sysfsdev=/sys/x"],
            &["-global", "driver=usb-host,property=hostdevice,value=/dev/bus/usb/1/2"],
            &["-global", "usb-host.vendorid=1"],
        ]);
        assert!(line(&["-global", "nonsense"]).is_err());
    }

    #[test]
    fn asking_for_help_starts_nothing() {
        for value in ["help", "?", "virtio-blk,help", "driver=help", "vfio-pci,help"] {
            assert!(line(&["-device", value]).unwrap().informational, "{value}");
        }
    }
}
