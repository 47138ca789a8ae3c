//! The images that every operation finds.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};

use crate::boot_sector::boot_disk;
use crate::error::{During, Result};
use crate::images::run_tool;
use crate::parity::place::Place;
use crate::parity::variant::{Image, Variant};

/// The raw disk that is put behind a block device.
pub(crate) const DISK_ON_DEVICE: &str = "disk.raw";

/// The medium that is in the drive at the start.
const FIRST_MEDIUM: &str = "media/first.img";
/// The one that takes its place.
const SECOND_MEDIUM: &str = "media/second.img";

/// Bytes in a medium: what a floppy of 1.44 MB holds, so that it fits into either drive.
const MEDIUM: usize = 1440 * 1024;
/// Bytes in the flash of the firmware's variables.
const VARIABLES: usize = 128 * 1024;
/// The firmware: SeaBIOS, where Debian's package of it puts it.
const FIRMWARE: &str = "/usr/share/seabios/bios-256k.bin";

/// The block devices of one side, given back at the end.
#[derive(Debug)]
pub(crate) struct Disks {
    devices: Vec<PathBuf>,
}

impl Disks {
    /// Makes all images, and gives them to the user who starts QEMU.
    pub(crate) fn make(place: &mut Place, variant: &Variant) -> Result<Self> {
        make_chain(&place.images())?;
        let firmware = fs::read(FIRMWARE).during(format!("read {FIRMWARE}"))?;
        for (name, bytes) in [
            (DISK_ON_DEVICE, boot_disk()),
            ("firmware.fd", firmware),
            ("variables.fd", vec![0xff; VARIABLES]),
            (FIRST_MEDIUM, vec![0xa1; MEDIUM]),
            (SECOND_MEDIUM, vec![0xb2; MEDIUM]),
        ] {
            write(&place.path(name), &bytes)?;
        }
        for (name, target) in [("link.qcow2", "top.qcow2"), ("media/link.img", "second.img")] {
            let path = place.path(name);
            symlink(target, &path).during(format!("link {}", path.display()))?;
        }
        if let Some(user) = variant.user.filter(|_| rustix::process::getuid().is_root()) {
            give(&place.workdir.files(), user)?;
        }
        let mut disks = Self { devices: Vec::new() };
        for (image, name) in [(variant.image, DISK_ON_DEVICE), (variant.medium, SECOND_MEDIUM)] {
            if image == Image::Device {
                disks.attach(place, name)?;
            }
        }
        Ok(disks)
    }

    /// Puts a file behind a block device.
    fn attach(&mut self, place: &mut Place, name: &'static str) -> Result<()> {
        let file = place.path(name);
        let device = run_tool(&place.images(), "losetup", &["--find", "--show", &file.to_string_lossy()])?;
        self.devices.push(device.trim().into());
        place.devices.insert(name, device.trim().into());
        Ok(())
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        for device in &self.devices {
            // A device that something still holds is given back when that ends.
            let _ = run_tool("/".as_ref(), "losetup", &["--detach", &device.to_string_lossy()]);
        }
    }
}

/// `top.qcow2` over `mid.qcow2` over `base.raw`, with relative backing names. The base boots the boot sector, and each
/// image holds 64 KiB of its own.
fn make_chain(folder: &Path) -> Result<()> {
    write(&folder.join("base.raw"), &boot_disk())?;
    let qcow2 = ["create", "-q", "-f", "qcow2"];
    for (name, backing, format) in [("mid.qcow2", "base.raw", "raw"), ("top.qcow2", "mid.qcow2", "qcow2")] {
        run_tool(folder, "qemu-img", &[&qcow2[..], &["-F", format, "-b", backing, name]].concat())?;
    }
    for (name, format, write) in [
        ("base.raw", "raw", "write -q -P 0x0b 128k 64k"),
        ("mid.qcow2", "qcow2", "write -q -P 0x0c 256k 64k"),
        ("top.qcow2", "qcow2", "write -q -P 0x0d 384k 64k"),
    ] {
        run_tool(folder, "qemu-io", &["-f", format, "-c", write, name])?;
    }
    Ok(())
}

/// Writes a file.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).during(format!("write {}", path.display()))
}

/// Gives a folder and all that is in it to a user and the group of the same number.
fn give(folder: &Path, user: u32) -> Result<()> {
    let during = || format!("chown {}", folder.display());
    chown(folder, Some(user), Some(user)).during(during())?;
    for entry in fs::read_dir(folder).during(during())? {
        let path = entry.during(during())?.path();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            give(&path, user)?;
        } else {
            chown(&path, Some(user), Some(user)).during(during())?;
        }
    }
    Ok(())
}
