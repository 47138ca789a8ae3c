//! Devices of the host's USB buses that the guest is given.
//!
//! Which device an option means is found out once, before the start, as QEMU would. The sandbox then shows this device alone,
//! with what libusb (1.0.26 and 1.0.28, by way of libudev) needs to find it: its node, and its folder of `/sys`.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::files::wrong_type;
use super::{Error, Plan};
use crate::emulator::{Kind, Resource, UsbHost, UsbMatch, UsbName};

/// Where the kernel lists the devices of all USB buses (`Documentation/ABI/stable/sysfs-bus-usb` of Linux).
const DEVICES: &str = "/sys/bus/usb/devices";
/// Where their nodes are (`usb_devnode` in Linux's `drivers/usb/core/usb.c`).
const NODES: &str = "/dev/bus/usb";
/// Folders that libusb and libudev list, or look for something in. libusb looks for nodes elsewhere if none or no bus is
/// where they belong (`find_usbfs_path` in its `linux_usbfs.c`), so there is always one.
const LISTED: [&str; 6] = ["/sys/bus", DEVICES, "/sys/class", NODES, "/dev/bus/usb/001", "/run/udev"];
/// `bDeviceClass` of a hub (USB 2.0, 11.23.1).
const HUB: u32 = 9;

/// A device of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Device {
    /// Its name in [`DEVICES`]: the bus, and the ports that lead to it, `1-2.1`.
    name: String,
    /// Its folder, with links resolved.
    folder: PathBuf,
    bus: u32,
    address: u32,
    vendor: u32,
    product: u32,
    is_hub: bool,
    /// Major and minor number of its node.
    number: String,
}

impl Device {
    /// The device of this name; `None` if it is an interface of one, or has been pulled out meanwhile.
    fn read(devices: &Path, name: &str) -> Option<Self> {
        let folder = devices.join(name).canonicalize().ok()?;
        let text = |of: &str| fs::read_to_string(folder.join(of)).ok().map(|text| text.trim().to_owned());
        let number = |of, radix| u32::from_str_radix(&text(of)?, radix).ok();
        Some(Self {
            bus: number("busnum", 10)?,
            address: number("devnum", 10)?,
            vendor: number("idVendor", 16)?,
            product: number("idProduct", 16)?,
            is_hub: number("bDeviceClass", 16)? == HUB,
            number: text("dev")?,
            name: name.to_owned(),
            folder,
        })
    }

    fn node(&self) -> PathBuf {
        Path::new(NODES).join(format!("{:03}", self.bus)).join(format!("{:03}", self.address))
    }

    fn fits(&self, wanted: &UsbMatch) -> bool {
        let same = |wanted: u32, found: u32| wanted == 0 || wanted == found;
        let port = self.name.split_once('-').map_or("", |(_, port)| port);
        same(wanted.bus, self.bus)
            && same(wanted.address, self.address)
            && same(wanted.vendor, self.vendor)
            && same(wanted.product, self.product)
            && wanted.port.as_deref().is_none_or(|wanted| wanted == port)
    }
}

/// The devices that are plugged in, by name.
fn plugged_in(devices: &Path) -> Vec<Device> {
    let Ok(entries) = fs::read_dir(devices) else { return Vec::new() };
    let mut names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_unstable();
    names.iter().filter_map(|name| Device::read(devices, name)).collect()
}

/// The device that `wanted` means: the first that fits and is not among those `taken`, if there is one, and how many of these
/// there are. Hubs are never meant (`usb_host_auto_check`, `usb_host_find_ref`).
fn meant<'a>(wanted: &UsbMatch, present: &'a [Device], taken: &[PathBuf]) -> (Option<&'a Device>, usize) {
    let fitting = || present.iter().filter(|device| !device.is_hub && device.fits(wanted));
    let free = || fitting().filter(|device| !taken.contains(&device.node()));
    (free().next().or_else(|| fitting().next()), free().count())
}

impl Plan {
    /// Finds the devices, pins their nodes, and has the sandbox show them. One that is missing is for QEMU to miss.
    ///
    /// # Errors
    /// A hub is named by its node: it would give the guest all that is plugged into it.
    pub(super) fn plan_usb(&mut self) -> Result<(), Error> {
        let asked = self.command.usb_hosts.clone();
        if asked.is_empty() {
            return Ok(());
        }
        self.shown.folders.extend(LISTED.map(PathBuf::from));
        let present = plugged_in(Path::new(DEVICES));
        let mut taken = Vec::new();
        for host in &asked {
            let (node, device) = match &host.name {
                UsbName::Node(node) => (PathBuf::from(node), by_node(&present, Path::new(node))),
                UsbName::Match(wanted) => {
                    let (device, count) = meant(wanted, &present, &taken);
                    self.notices.extend(doubt(host, wanted, device, count));
                    let Some(device) = device else { continue };
                    (device.node(), Some(device))
                }
            };
            let kind = Kind::Device;
            let resource = Resource { option: host.option.clone(), name: node.clone().into_os_string(), kind };
            if device.is_some_and(|device| device.is_hub) {
                return Err(wrong_type(&resource, "a hub", "name a device that is plugged into it"));
            }
            if !taken.contains(&node) {
                self.plan_file(&resource)?;
            }
            taken.extend([node].into_iter().chain(device.map(Device::node)));
            if let Some(device) = device {
                self.show_usb(device);
            }
        }
        Ok(())
    }

    fn show_usb(&mut self, device: &Device) {
        if !self.shown.trees.contains(&device.folder) {
            self.shown.trees.push(device.folder.clone());
            self.shown.links.push((Path::new(DEVICES).join(&device.name), device.folder.clone()));
        }
    }
}

/// The device whose node this is.
fn by_node<'a>(present: &'a [Device], node: &Path) -> Option<&'a Device> {
    let rdev = fs::metadata(node).map(|found| found.rdev()).ok()?;
    let number = format!("{}:{}", rustix::fs::major(rdev), rustix::fs::minor(rdev));
    present.iter().find(|device| device.number == number)
}

/// What the operator should know of the device that was found, or not.
fn doubt(host: &UsbHost, wanted: &UsbMatch, device: Option<&Device>, count: usize) -> Option<String> {
    let option = &host.option;
    match device {
        // QEMU does not wait for these two, and says so (`usb_host_realize` in its hw/usb/host-libusb.c).
        None if wanted.bus != 0 && wanted.address != 0 => None,
        None => Some(format!(
            "{option}: no such USB device is plugged in, and one that is plugged in later is not found; plug it in, and \
             start again"
        )),
        Some(device) if count > 1 => Some(format!(
            "{option}: {count} USB devices fit, and the guest gets {}; add hostbus= and hostport= to choose another one",
            device.name
        )),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests;
