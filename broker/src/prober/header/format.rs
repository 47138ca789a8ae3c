//! The image formats that QEMU reads from files.

use std::fmt;

use serde::{Deserialize, Serialize};

/// An image format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Format {
    /// The bytes of the disk and nothing else.
    Raw,
    /// QEMU's own, version 2 or 3.
    Qcow2,
    /// Version 1 of QEMU's own.
    Qcow,
    /// QEMU's of 2010.
    Qed,
    /// VMware's: descriptor or extent.
    Vmdk,
    /// Hyper-V's.
    Vhdx,
    /// Virtual PC's.
    Vpc,
    /// VirtualBox's.
    Vdi,
    /// Parallels's expanding images.
    Parallels,
    /// Encrypted disks.
    Luks,
    /// Bochs's growing images.
    Bochs,
    /// Compressed loop devices.
    Cloop,
    /// Apple's, which QEMU knows by the name of the file alone.
    Dmg,
}

impl Format {
    const ALL: [Self; 13] = [
        Self::Raw,
        Self::Qcow2,
        Self::Qcow,
        Self::Qed,
        Self::Vmdk,
        Self::Vhdx,
        Self::Vpc,
        Self::Vdi,
        Self::Parallels,
        Self::Luks,
        Self::Bochs,
        Self::Cloop,
        Self::Dmg,
    ];

    /// The format that QEMU's block drivers call `name`.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// Whether a header of this format can name another file, if only one that QEMU refuses to follow.
    #[must_use]
    pub fn names_files(self) -> bool {
        matches!(self, Self::Qcow2 | Self::Qcow | Self::Qed | Self::Vmdk | Self::Vhdx | Self::Vpc)
    }

    /// QEMU's name for it (`format_name` of the block driver).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
            Self::Qcow => "qcow",
            Self::Qed => "qed",
            Self::Vmdk => "vmdk",
            Self::Vhdx => "vhdx",
            Self::Vpc => "vpc",
            Self::Vdi => "vdi",
            Self::Parallels => "parallels",
            Self::Luks => "luks",
            Self::Bochs => "bochs",
            Self::Cloop => "cloop",
            Self::Dmg => "dmg",
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_qemus_and_lead_back() {
        let drivers = std::process::Command::new("qemu-img").arg("--help").output().unwrap();
        let drivers = String::from_utf8(drivers.stdout).unwrap();
        for format in Format::ALL {
            assert_eq!(Format::of_name(format.name()), Some(format));
            // A module that a distribution may leave out.
            assert!(format == Format::Dmg || drivers.split_whitespace().any(|word| word == format.name()), "{format}");
        }
        assert_eq!(Format::of_name("QCOW2"), None);
    }
}
