//! What QEMU takes an image for whose format nobody stated: the rules of the `bdrv_probe` functions of its block
//! drivers (QEMU 7.2 and 10.0), so that broker and emulator do not disagree.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::header::{Field, Format, HeaderError, ReadAt, read_some};

/// How much QEMU looks at, in bytes (`BLOCK_PROBE_BUF_SIZE`, block_int-common.h); what a shorter file lacks is zero.
const PROBED: usize = 512;

/// A format that QEMU finds by itself and whose chain this program cannot follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Foreign {
    /// Bochs's growing images.
    Bochs,
    /// Compressed loop devices.
    Cloop,
    /// Apple's, known by the name alone.
    Dmg,
    /// Encrypted disks.
    Luks,
    /// Parallels's expanding images.
    Parallels,
    /// Version 1 of QEMU's own.
    Qcow,
    /// QEMU's of 2010.
    Qed,
    /// VirtualBox's.
    Vdi,
    /// Hyper-V's.
    Vhdx,
    /// VMware's: descriptor or extent.
    Vmdk,
    /// Virtual PC's, with a header at the start.
    Vpc,
}

impl fmt::Display for Foreign {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Bochs => "bochs",
            Self::Cloop => "cloop",
            Self::Dmg => "dmg",
            Self::Luks => "luks",
            Self::Parallels => "parallels",
            Self::Qcow => "qcow (version 1)",
            Self::Qed => "qed",
            Self::Vdi => "vdi",
            Self::Vhdx => "vhdx",
            Self::Vmdk => "vmdk",
            Self::Vpc => "vpc",
        })
    }
}

/// Finds the format of `image`, which is raw where nothing else fits.
///
/// # Errors
/// [`HeaderError::NotServed`] names a format that QEMU would find and that cannot be followed;
/// [`HeaderError::Read`].
pub fn detect(image: &dyn ReadAt) -> Result<Format, HeaderError> {
    let mut start = [0; PROBED];
    read_some(image, &mut start, 0, Field::Magic)?;
    if start.starts_with(b"QFI\xfb") {
        return match be32_at(&start, 4) {
            // Version 0 is nobody's: raw, as QEMU has it.
            0 => Ok(Format::Raw),
            1 => Err(HeaderError::NotServed(Foreign::Qcow)),
            _ => Ok(Format::Qcow2),
        };
    }
    match foreign(&start) {
        Some(format) => Err(HeaderError::NotServed(format)),
        None => Ok(Format::Raw),
    }
}

/// Whether QEMU takes what it would call raw for a dmg image, because of its name alone.
#[must_use]
pub fn is_dmg_name(name: &[u8]) -> bool {
    name.len() > 4 && name.ends_with(b".dmg")
}

fn foreign(start: &[u8; PROBED]) -> Option<Foreign> {
    /// Magic strings at the start of a file, and whose they are.
    const MAGIC: [(&[u8], Foreign); 8] = [
        (b"QED\0", Foreign::Qed),
        (b"KDMV", Foreign::Vmdk),
        (b"COWD", Foreign::Vmdk),
        (b"vhdxfile", Foreign::Vhdx),
        (b"conectix", Foreign::Vpc),
        (b"LUKS\xba\xbe", Foreign::Luks),
        (b"Bochs Virtual HD Image", Foreign::Bochs),
        (b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop", Foreign::Cloop),
    ];
    /// `VDI_SIGNATURE`, block/vdi.c, at byte 0x40, little endian.
    const VDI: [u8; 4] = 0xbeda_107f_u32.to_le_bytes();
    if let Some((_, format)) = MAGIC.iter().find(|(magic, _)| start.starts_with(magic)) {
        return Some(*format);
    }
    if start.get(0x40..0x44) == Some(&VDI) {
        return Some(Foreign::Vdi);
    }
    if start.starts_with(b"WithoutFreeSpace") || start.starts_with(b"WithouFreSpacExt") {
        return Some(Foreign::Parallels);
    }
    is_vmdk_descriptor(start).then_some(Foreign::Vmdk)
}

/// Whether comment lines and blank lines are followed by `version=1`, 2 or 3 (`vmdk_probe`, block/vmdk.c).
fn is_vmdk_descriptor(start: &[u8]) -> bool {
    for line in start.split_inclusive(|byte| *byte == b'\n') {
        let Some(text) = line.strip_suffix(b"\n") else {
            return false;
        };
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        if matches!(text, b"version=1" | b"version=2" | b"version=3") {
            return true;
        }
        let blank = !text.is_empty() && text.iter().all(|byte| *byte == b' ');
        if !blank && !text.starts_with(b"#") {
            return false;
        }
    }
    false
}

fn be32_at(bytes: &[u8], offset: usize) -> u32 {
    let four = bytes.get(offset..).and_then(<[u8]>::first_chunk::<4>);
    four.map_or(0, |four| u32::from_be_bytes(*four))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(start: &[u8]) -> Result<Format, HeaderError> {
        detect(&start.to_vec())
    }

    #[test]
    fn anything_unknown_is_raw() {
        for start in [&b""[..], b"QFI", b"QFI\xfb\0\0\0\0", b"\0\0\0\0", b"version=4\n", b"version=1", b"\nversion=1\n"]
        {
            assert_eq!(found(start), Ok(Format::Raw), "{start:?}");
        }
    }

    #[test]
    fn qcow2_of_any_later_version_is_qcow2() {
        for version in [2_u8, 3, 4, 255] {
            assert_eq!(found(&[b'Q', b'F', b'I', 0xfb, 0, 0, 0, version]), Ok(Format::Qcow2));
        }
    }

    #[test]
    fn every_foreign_format_is_named() {
        let mut vdi = vec![0; 0x40];
        vdi.extend_from_slice(&[0x7f, 0x10, 0xda, 0xbe]);
        let starts: [(&[u8], Foreign); 14] = [
            (b"QFI\xfb\0\0\0\x01", Foreign::Qcow),
            (b"QED\0", Foreign::Qed),
            (b"KDMV\x01\0\0\0", Foreign::Vmdk),
            (b"COWD", Foreign::Vmdk),
            (b"# Disk DescriptorFile\nversion=1\n", Foreign::Vmdk),
            (b"# Disk DescriptorFile\r\n  \r\nversion=3\r\n", Foreign::Vmdk),
            (b"version=2\n", Foreign::Vmdk),
            (b"vhdxfile", Foreign::Vhdx),
            (b"conectix", Foreign::Vpc),
            (b"LUKS\xba\xbe\0\x01", Foreign::Luks),
            (b"Bochs Virtual HD Image\0", Foreign::Bochs),
            (b"WithoutFreeSpace", Foreign::Parallels),
            (b"WithouFreSpacExt", Foreign::Parallels),
            (&vdi, Foreign::Vdi),
        ];
        for (start, format) in starts {
            assert_eq!(found(start), Err(HeaderError::NotServed(format)));
        }
    }
}
