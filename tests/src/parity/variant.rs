//! The ways in which a disk is given to QEMU.

use crate::need::Need;
use crate::parity::disks::DISK_ON_DEVICE;

/// Which option names the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `-drive`: QEMU probes the file and opens it several times. The drive is called `disk`.
    Drive,
    /// `-blockdev`, with `auto-read-only` as libvirt gives it. The format node is called `disk`, that of the file
    /// `disk-file`.
    Blockdev,
    /// The same with a pair of nodes for each image of the chain: `mid` and `mid-file`, `base` and `base-file`.
    Nodes,
}

/// The host's caching of the disk, by the names of `-drive`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cache {
    /// Past the host's cache (`O_DIRECT`).
    None,
    /// Through the host's cache, flushed when the guest asks for it.
    Writeback,
    /// Through the host's cache, flushed after each write.
    Writethrough,
}

/// How files are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// From the folder in which QEMU is started.
    Relative,
    /// From the root.
    Absolute,
}

/// What an image lies in. That of the disk is the top of a chain of three, `top.qcow2` over `mid.qcow2` over
/// `base.raw`, unless it is on a block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Image {
    /// A regular file.
    File,
    /// The same, named by a symbolic link beside it.
    Link,
    /// A block device, with a raw disk.
    Device,
}

/// What the guest does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guest {
    /// It is not started (`-S`): every byte on the disk is the script's doing. Not for scripts that send `cont`.
    Stopped,
    /// It writes the second sector of its disk over and over.
    Writing,
}

/// How the guest's disk is given to QEMU, and who starts QEMU.
#[derive(Debug, Clone, Copy)]
pub struct Variant {
    /// By which option.
    pub form: Form,
    /// With which caching.
    pub cache: Cache,
    /// By which kind of name.
    pub names: Names,
    /// The folder of the images, beneath the one in which QEMU is started.
    pub folder: &'static str,
    /// What the disk's image lies in.
    pub image: Image,
    /// What the second medium lies in.
    pub medium: Image,
    /// To a guest that does what.
    pub guest: Guest,
    /// The user who starts QEMU, if not the one who runs the tests.
    pub user: Option<u32>,
}

impl Variant {
    /// The plain form with `-drive`.
    pub const DRIVE: Self = Self {
        form: Form::Drive,
        cache: Cache::Writeback,
        names: Names::Absolute,
        folder: "images",
        image: Image::File,
        medium: Image::File,
        guest: Guest::Stopped,
        user: None,
    };

    /// The plain form with `-blockdev`.
    pub const BLOCKDEV: Self = Self { form: Form::Blockdev, ..Self::DRIVE };

    /// The plain form with `-blockdev` for each image of the chain.
    pub const NODES: Self = Self { form: Form::Nodes, ..Self::DRIVE };

    /// By relative names with `-drive`, in the folder in which QEMU is started: names in headers and in commands then
    /// mean the same.
    pub const RELATIVE: Self = Self { names: Names::Relative, folder: ".", ..Self::DRIVE };

    /// What the host must offer for it.
    pub(crate) fn needs(&self) -> &'static [Need] {
        if self.image == Image::Device || self.medium == Image::Device {
            &[Need::Root]
        } else if self.user.is_some() {
            &[Need::UserNamespaces]
        } else {
            &[]
        }
    }

    /// The name of the disk's image.
    pub(crate) fn disk(&self) -> &'static str {
        match self.image {
            Image::File => "top.qcow2",
            Image::Link => "link.qcow2",
            Image::Device => DISK_ON_DEVICE,
        }
    }

    /// The name of the second medium.
    pub(crate) fn second_medium(&self) -> &'static str {
        match self.medium {
            Image::File | Image::Device => "media/second.img",
            Image::Link => "media/link.img",
        }
    }
}
