//! Devices that are handed to the guest by VFIO: what their part of `/sys` says, and as much of that as QEMU looks at.
//!
//! QEMU asks whether the folder of a device is there, reads where its links `iommu_group` and `subsystem` lead, and with
//! an `iommufd` object the number of its node (`vfio_realize` in `hw/vfio/pci.c`, `vfio_legacy_attach_device` in
//! `container.c`, `iommufd_cdev_getfd` in `iommufd.c`, `vfio_device_is_mdev` in `helpers.c`; 7.2 and 10.0). So the sandbox
//! has a folder of its own at that path with these links, and nothing of the kernel's but that number: the device's
//! registers (`config`, `resourceN`, `rom`) and switches (`reset`, `remove`, `driver_override`) are not there.

mod sysfs;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::Path;

use caps::Capability;
use nix::sys::resource::{Resource as Limit, getrlimit};
use protocol::Errno;

use super::shown::Shown;
use super::{Error, Plan};
use crate::confine::capabilities;
use crate::emulator::{Kind, Resource, VfioDevice};
use sysfs::Device;

/// Bytes of guest memory that QEMU takes where no size is given (`default_ram_size` in its `hw/core/machine.c`).
const DEFAULT_MEMORY: u64 = 128 << 20;

impl Plan {
    /// Grants the nodes of the devices, and shows their part of `/sys`. What is missing is for the emulator to complain of.
    pub(super) fn plan_vfio_devices(&mut self) -> Result<(), Error> {
        let devices = self.command.vfio_devices.clone();
        let named: HashSet<&OsStr> = devices.iter().filter_map(|device| Path::new(&device.path).file_name()).collect();
        for device in &devices {
            match Device::look(Path::new(&device.path)) {
                Ok(found) => self.plan_vfio_device(device, &found, &named)?,
                Err(error) => self.absent.push((device.path.as_encoded_bytes().to_vec(), Errno::from_io(&error))),
            }
        }
        self.note_locked_memory();
        Ok(())
    }

    fn plan_vfio_device(&mut self, device: &VfioDevice, found: &Device, named: &HashSet<&OsStr>) -> Result<(), Error> {
        if found.group.as_ref().is_some_and(|group| group.without_iommu) {
            return Err(Error::WithoutIommu { option: device.option.clone(), device: device.path.clone() });
        }
        let at = Path::new(&device.path);
        // A device that is named twice is for QEMU to refuse.
        if !self.shown.folders.iter().any(|folder| folder == at) {
            let parts = parts_of(at, found, device.by_iommufd);
            self.shown.trees.extend(parts.trees);
            self.shown.links.extend(parts.links);
            self.shown.folders.extend(parts.folders);
        }
        self.note_vfio_device(device, found, named);
        let node = match (device.by_iommufd, &found.node, &found.group) {
            (true, Some(node), _) => Path::new("/dev/vfio/devices").join(node),
            (false, _, Some(group)) => Path::new("/dev/vfio").join(&group.number),
            _ => return Ok(()),
        };
        // Two devices of one group have one node.
        if self.grants.iter().any(|grant| grant.name == node.as_os_str().as_encoded_bytes()) {
            return Ok(());
        }
        let before = self.grants.len();
        self.plan_file(&Resource { option: device.option.clone(), name: node.into_os_string(), kind: Kind::Device })?;
        self.pins_memory |= self.grants.len() > before;
        Ok(())
    }

    /// Tells the operator what QEMU's own words for it leave out.
    fn note_vfio_device(&mut self, device: &VfioDevice, found: &Device, named: &HashSet<&OsStr>) {
        let path = device.path.to_string_lossy();
        let Some(group) = &found.group else {
            self.notices.push(format!(
                "{path} has no IOMMU group; switch the IOMMU on in the firmware, and intel_iommu=on (Intel) on the kernel's \
                 command line"
            ));
            return;
        };
        if !found.is_bound() {
            let driver = found.driver.as_ref().map_or("no driver".into(), |driver| driver.to_string_lossy());
            self.notices.push(format!(
                "{path} is bound to {driver}, not to vfio-pci; as root: modprobe vfio-pci; echo vfio-pci > \
                 {path}/driver_override; echo ADDRESS > {path}/driver/unbind; echo ADDRESS > /sys/bus/pci/drivers_probe"
            ));
        }
        let others = group.bound.iter().filter(|name| !named.contains(name.as_os_str()));
        let others: Vec<_> = others.map(|name| name.to_string_lossy()).collect();
        if !others.is_empty() {
            let (option, number, others) = (&device.option, group.number.to_string_lossy(), others.join(", "));
            self.notices.push(format!(
                "{option}: the emulator can use all of IOMMU group {number} that is bound to VFIO, so these too: {others}"
            ));
        }
    }

    /// The kernel counts what devices reach against the limit on locked memory, which a broker with `CAP_IPC_LOCK` lifts.
    fn note_locked_memory(&mut self) {
        let unlimited = !self.pins_memory || capabilities::holds(Capability::CAP_IPC_LOCK).unwrap_or(false);
        let Ok((limit, _)) = getrlimit(Limit::RLIMIT_MEMLOCK) else { return };
        if !unlimited && limit < DEFAULT_MEMORY {
            self.notices.push(format!(
                "the guest's memory is locked for its devices, and the limit on that is {} KiB; raise it (`ulimit -l`, \
                 memlock in /etc/security/limits.conf, LimitMEMLOCK= of systemd) if QEMU says that VFIO cannot map memory",
                limit >> 10
            ));
        }
    }
}

/// What QEMU finds at `at`, the device's path.
fn parts_of(at: &Path, found: &Device, by_iommufd: bool) -> Shown {
    let mut parts = Shown { folders: vec![at.to_owned()], ..Shown::default() };
    if let Some(group) = &found.group {
        parts.links.push((at.join("iommu_group"), group.link.clone()));
    }
    if let Some(subsystem) = &found.subsystem {
        parts.links.push((at.join("subsystem"), subsystem.clone()));
        // realpath(3) is for what is there.
        parts.folders.push(subsystem.clone());
    }
    if let Some(node) = found.node.as_ref().filter(|_| by_iommufd) {
        let nodes = at.join("vfio-dev");
        parts.trees.push(nodes.join(node).join("dev"));
        parts.folders.push(nodes);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::sysfs::Group;
    use super::*;

    #[test]
    fn links_are_seen_and_for_an_iommufd_the_number_of_the_node() {
        let at = Path::new("/sys/bus/pci/devices/0000:01:00.0");
        let link = Path::new("../../../kernel/iommu_groups/7").to_owned();
        let found = Device {
            group: Some(Group { number: "7".into(), link: link.clone(), ..Group::default() }),
            subsystem: Some("/sys/bus/pci".into()),
            driver: Some("vfio-pci".into()),
            node: Some("vfio3".into()),
        };
        let seen = parts_of(at, &found, false);
        assert_eq!(seen.links, [(at.join("iommu_group"), link), (at.join("subsystem"), "/sys/bus/pci".into())]);
        assert_eq!(seen.folders, [at, Path::new("/sys/bus/pci")]);
        assert_eq!(seen.trees, [] as [&Path; 0]);
        let by_iommufd = parts_of(at, &found, true);
        assert_eq!(by_iommufd.trees, [at.join("vfio-dev/vfio3/dev")]);
        assert_eq!(by_iommufd.folders.last(), Some(&at.join("vfio-dev")));
        assert_eq!(parts_of(at, &Device::default(), true), Shown { folders: vec![at.to_owned()], ..Shown::default() });
    }
}
