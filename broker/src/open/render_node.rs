//! Graphics devices that draw without a screen: which one QEMU would take, and what libraries read of it in `/sys`.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use super::pin::{Pin, check_access};

/// Where the nodes of graphics devices are (`DRM_DIR_NAME` in libdrm's `xf86drm.h`).
pub const NODES: &str = "/dev/dri";

/// How the names of nodes begin that draw and have no screen (`DRM_RENDER_MINOR_NAME`, the same).
const RENDERS: &[u8] = b"renderD";

/// What libdrm and Mesa read of a device to find its driver (`drmGetDevice2` in libdrm's `xf86drm.c`). Nothing else of its
/// folder is shown: for root it has the device's registers in it.
const READ: [&str; 6] = ["uevent", "vendor", "device", "subsystem_vendor", "subsystem_device", "revision"];

/// What libraries look up of one node.
#[derive(Debug, PartialEq, Eq)]
pub struct Described {
    /// The node by its own name, as libraries spell it.
    pub node: PathBuf,
    /// Files of `/sys`.
    pub files: Vec<PathBuf>,
    /// Links of `/sys`, and to where.
    pub links: Vec<(PathBuf, PathBuf)>,
    /// The folder of `/sys` in which libraries look for the nodes of one device.
    pub siblings: PathBuf,
}

/// The node that QEMU takes where none is named: of those that it may open, the first that the folder lists
/// (`qemu_drm_rendernode_open` in its `util/drm.c`).
#[must_use]
pub fn first() -> Option<PathBuf> {
    let listed = fs::read_dir(NODES).ok()?.filter_map(Result::ok);
    let mut nodes = listed.filter(|entry| {
        entry.file_name().as_bytes().starts_with(RENDERS) && entry.file_type().is_ok_and(|found| found.is_char_device())
    });
    let opens = |path: &PathBuf| Pin::take(path).and_then(|pin| check_access(pin.as_fd(), true)).is_ok();
    nodes.find_map(|entry| Some(entry.path()).filter(opens))
}

/// What `sys`, the host's `/sys`, says of the character device with these numbers. None if it is no graphics device.
#[must_use]
pub fn describe(sys: &Path, (major, minor): (u32, u32)) -> Option<Described> {
    let by_number = sys.join(format!("dev/char/{major}:{minor}"));
    let own = by_number.canonicalize().ok()?;
    let subsystem = own.join("subsystem").canonicalize().ok()?;
    if !subsystem.ends_with("drm") {
        return None;
    }
    let event = fs::read_to_string(own.join("uevent")).ok()?;
    let name = event.lines().find_map(|line| line.strip_prefix("DEVNAME="))?;
    let mut described = Described {
        node: Path::new("/dev").join(name),
        files: vec![own.join("uevent")],
        links: vec![(by_number, own.clone())],
        siblings: own.parent()?.to_owned(),
    };
    if let Ok(device) = own.join("device").canonicalize() {
        described.links.push((own.join("device"), device.clone()));
        let bus = described.add_device(&device);
        // libdrm tells a virtio card by what it is plugged into (drmParseSubsystemType).
        if let Some(plug) = device.parent().filter(|_| bus.is_some_and(|bus| bus.ends_with("virtio"))) {
            described.add_device(plug);
        }
    }
    Some(described)
}

impl Described {
    /// Adds what is read of a device, and returns its bus.
    fn add_device(&mut self, device: &Path) -> Option<PathBuf> {
        self.files.extend(READ.iter().map(|name| device.join(name)).filter(|path| path.is_file()));
        let bus = device.join("subsystem").canonicalize().ok()?;
        self.links.push((device.join("subsystem"), bus.clone()));
        Some(bus)
    }
}

#[cfg(test)]
mod tests;
