//! The machine's devices, and the drivers that have them.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tests::{During, Error, PATIENCE, Result, boot_disk, run_tool, until};

/// A disk (NVMe), in an IOMMU group of its own.
pub const DISK: &str = "0000:00:10.0";
/// A device of another group.
pub const OTHER: &str = "0000:00:11.0";
/// Two devices in one group.
pub const PAIR: [&str; 2] = ["0000:01:01.0", "0000:01:02.0"];

/// The driver that hands devices out, and that of the disk.
const VFIO: &str = "vfio-pci";
const NVME: &str = "nvme";

/// Sectors in bytes, and which one the guest writes its count to (see [`boot_disk`]).
const COUNT_AT: u64 = 512;

/// The tests take turns: there is one of each device.
static TURN: Mutex<()> = Mutex::new(());

/// The devices, for as long as this lives; none is bound to a driver of VFIO at first.
pub struct Devices {
    _turn: MutexGuard<'static, ()>,
}

impl Devices {
    /// Waits for this test's turn.
    ///
    /// # Errors
    /// When a driver is missing, or does not let a device go.
    pub fn take() -> Result<Self> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        run_tool(Path::new("/"), "modprobe", &["-a", VFIO, NVME])?;
        let devices = Self { _turn: turn };
        for device in [DISK, OTHER, PAIR[0], PAIR[1]] {
            devices.bind(device, None)?;
        }
        Ok(devices)
    }

    /// Has VFIO hand a device out, and returns the node of its group.
    ///
    /// # Errors
    /// When it does not.
    pub fn hand_out(&self, device: &str) -> Result<PathBuf> {
        self.bind(device, Some(VFIO))?;
        let link = folder(device).join("iommu_group");
        let group = fs::read_link(&link).during(format!("read {}", link.display()))?;
        Ok(Path::new("/dev/vfio").join(group.file_name().unwrap_or_default()))
    }

    /// Writes the guest of [`boot_disk`] to the disk, and has VFIO hand it out; returns the node of its group.
    ///
    /// # Errors
    /// When the disk cannot be written.
    pub fn prepare_disk(&self) -> Result<PathBuf> {
        let disk = self.open_disk()?;
        disk.write_all_at(&boot_disk(), 0).and_then(|()| disk.sync_all()).during("write the disk")?;
        drop(disk);
        self.hand_out(DISK)
    }

    /// How many sectors the guest has written, by what is on the disk.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn count_on_disk(&self) -> Result<u16> {
        let mut count = [0; 2];
        self.open_disk()?.read_exact_at(&mut count, COUNT_AT).during("read the disk")?;
        Ok(u16::from_le_bytes(count))
    }

    /// The disk as one of this machine.
    fn open_disk(&self) -> Result<fs::File> {
        self.bind(DISK, Some(NVME))?;
        let path = until(PATIENCE, "the disk's node", || Ok(disk_node()))?;
        fs::File::options().read(true).write(true).open(&path).during(format!("open {}", path.display()))
    }

    /// Binds a device to a driver, or to none.
    fn bind(&self, device: &str, driver: Option<&str>) -> Result<()> {
        let at = folder(device);
        let bound = || fs::read_link(at.join("driver")).ok();
        if bound().is_some() {
            write(&at.join("driver/unbind"), device)?;
        }
        // A line end alone takes the word back.
        write(&at.join("driver_override"), driver.unwrap_or("\n"))?;
        let Some(driver) = driver else { return Ok(()) };
        write(Path::new("/sys/bus/pci/drivers_probe"), device)?;
        match bound() {
            Some(found) if found.file_name() == Some(OsStr::new(driver)) => Ok(()),
            other => Err(Error::Unexpected(format!("{device} is bound to {other:?}, not to {driver}"))),
        }
    }
}

/// The folder of a device in `/sys`.
pub fn folder(device: &str) -> PathBuf {
    Path::new("/sys/bus/pci/devices").join(device)
}

/// The disk's node, once there is one: `/dev/nvme0n1`, of the controller `nvme0`.
fn disk_node() -> Option<PathBuf> {
    let controller = fs::read_dir(folder(DISK).join("nvme")).ok()?.flatten().next()?.file_name();
    let node = Path::new("/dev").join(format!("{}n1", controller.to_string_lossy()));
    node.exists().then_some(node)
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).during(format!("write {text:?} to {}", path.display()))
}
