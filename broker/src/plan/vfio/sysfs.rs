//! What `/sys` says of a device (`Documentation/ABI/testing/sysfs-bus-pci`, `sysfs-kernel-iommu_groups` and
//! `sysfs-devices-vfio-dev` of Linux).

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The name of groups that no IOMMU stands behind (`vfio_noiommu_group_alloc` in Linux's `drivers/vfio/group.c`).
const WITHOUT_IOMMU: &str = "vfio-noiommu";

/// A device.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// The devices that the IOMMU cannot tell from it.
    pub group: Option<Group>,
    /// Where the link `subsystem` leads, such as `/sys/bus/pci`.
    pub subsystem: Option<PathBuf>,
    /// The driver that has it.
    pub driver: Option<OsString>,
    /// The name of its own node beneath `/dev/vfio/devices`, since Linux 6.6.
    pub node: Option<OsString>,
}

/// An IOMMU group.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Group {
    /// Its number, which is the name of its node.
    pub number: OsString,
    /// The text of the link `iommu_group`.
    pub link: PathBuf,
    /// Made by VFIO for a device that no IOMMU confines.
    pub without_iommu: bool,
    /// The names of its devices that are bound to a driver of VFIO, sorted.
    pub bound: Vec<OsString>,
}

impl Device {
    /// Looks at the folder of a device.
    ///
    /// # Errors
    /// What `stat(2)` says: `ENOENT`, there is no such device. What else is missing is missing in the result.
    pub fn look(folder: &Path) -> io::Result<Self> {
        fs::metadata(folder)?;
        Ok(Self {
            group: Group::look(&folder.join("iommu_group")),
            subsystem: fs::canonicalize(folder.join("subsystem")).ok(),
            driver: driver(folder),
            node: names(&folder.join("vfio-dev")).into_iter().find(|name| name.as_encoded_bytes().starts_with(b"vfio")),
        })
    }

    /// Whether a driver of VFIO has it.
    #[must_use]
    pub fn is_bound(&self) -> bool {
        self.driver.as_ref().is_some_and(is_vfio)
    }
}

impl Group {
    fn look(at: &Path) -> Option<Self> {
        let link = fs::read_link(at).ok()?;
        // QEMU reads a number there; another name would lead to another node.
        let number = link.file_name().filter(|name| name.as_encoded_bytes().iter().all(u8::is_ascii_digit))?.to_owned();
        let devices = at.join("devices");
        let bound = |name: &OsString| driver(&devices.join(name)).as_ref().is_some_and(is_vfio);
        Some(Self {
            number,
            without_iommu: fs::read_to_string(at.join("name")).is_ok_and(|name| name.trim_end() == WITHOUT_IOMMU),
            bound: names(&devices).into_iter().filter(bound).collect(),
            link,
        })
    }
}

/// The name of a device's driver.
fn driver(folder: &Path) -> Option<OsString> {
    fs::read_link(folder.join("driver")).ok()?.file_name().map(ToOwned::to_owned)
}

/// Whether a driver is one of VFIO: `vfio-pci`, `mlx5_vfio_pci`, `vfio_mdev` and others of vendors.
fn is_vfio(driver: &OsString) -> bool {
    driver.as_encoded_bytes().windows(4).any(|part| part == b"vfio")
}

/// The names in a folder, sorted; none if there is no such folder.
fn names(folder: &Path) -> Vec<OsString> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut names: Vec<OsString> = entries.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A tree of a test's own, gone when the test is.
    struct Tree(PathBuf);

    impl Tree {
        /// As the kernel makes it: two functions in group 7, the first bound to `driver`.
        fn new(test: &str, driver: &str) -> io::Result<Self> {
            let tree = Self(std::env::temp_dir().join(format!("sysfs-{test}-{}", std::process::id())));
            for folder in ["bus/pci/devices", "devices", "kernel/iommu_groups/7/devices"] {
                fs::create_dir_all(tree.at(folder))?;
            }
            fs::create_dir_all(tree.at("bus/pci/drivers").join(driver))?;
            for name in ["0000:01:00.0", "0000:01:00.1"] {
                let device = tree.at("devices").join(name);
                fs::create_dir(&device)?;
                symlink("../../kernel/iommu_groups/7", device.join("iommu_group"))?;
                symlink("../../bus/pci", device.join("subsystem"))?;
                symlink(format!("../../../devices/{name}"), tree.at("bus/pci/devices").join(name))?;
                symlink(format!("../../../../devices/{name}"), tree.at("kernel/iommu_groups/7/devices").join(name))?;
            }
            symlink(format!("../../bus/pci/drivers/{driver}"), tree.at("devices/0000:01:00.0/driver"))?;
            Ok(tree)
        }

        fn at(&self, path: &str) -> PathBuf {
            self.0.join(path)
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_bound_device_is_described() {
        let tree = Tree::new("bound", "vfio-pci").unwrap();
        let folder = tree.at("bus/pci/devices/0000:01:00.0");
        fs::create_dir_all(folder.join("vfio-dev/vfio3")).unwrap();
        let group = Group {
            number: "7".into(),
            link: "../../kernel/iommu_groups/7".into(),
            without_iommu: false,
            bound: vec!["0000:01:00.0".into()],
        };
        let device = Device::look(&folder).unwrap();
        assert!(device.is_bound());
        assert_eq!(
            device,
            Device {
                group: Some(group),
                subsystem: tree.at("bus/pci").canonicalize().ok(),
                driver: Some("vfio-pci".into()),
                node: Some("vfio3".into()),
            }
        );
    }

    #[test]
    fn what_is_missing_is_missing() {
        let tree = Tree::new("missing", "nvme").unwrap();
        let device = Device::look(&tree.at("bus/pci/devices/0000:01:00.0")).unwrap();
        assert!(!device.is_bound() && device.node.is_none());
        assert_eq!(device.group.unwrap().bound, [] as [OsString; 0]);
        let other = tree.at("devices/0000:01:00.1");
        assert_eq!(Device::look(&other).unwrap().driver, None);
        fs::remove_file(other.join("iommu_group")).unwrap();
        assert_eq!(Device::look(&other).unwrap().group, None);
        let error = Device::look(&tree.at("devices/0000:02:00.0")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_group_that_no_iommu_stands_behind_is_known_by_its_name() {
        let tree = Tree::new("no-iommu", "vfio-pci").unwrap();
        fs::write(tree.at("kernel/iommu_groups/7/name"), "vfio-noiommu\n").unwrap();
        let device = Device::look(&tree.at("devices/0000:01:00.0")).unwrap();
        assert!(device.group.unwrap().without_iommu);
    }

    #[test]
    fn a_link_to_no_number_is_no_group() {
        let tree = Tree::new("no-number", "vfio-pci").unwrap();
        let device = tree.at("devices/0000:01:00.0");
        fs::remove_file(device.join("iommu_group")).unwrap();
        symlink("../../kernel/iommu_groups/vfio", device.join("iommu_group")).unwrap();
        assert_eq!(Device::look(&device).unwrap().group, None);
    }
}
