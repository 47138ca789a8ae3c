//! What QEMU takes an image for whose format nobody stated: the rules of the `bdrv_probe` functions of its block
//! drivers (QEMU 7.2 and 10.0), so that broker and emulator do not disagree.

use super::header::read::read_some;
use super::header::{Field, Format, HeaderError, ReadAt};

/// How much QEMU looks at, in bytes (`BLOCK_PROBE_BUF_SIZE`, block_int-common.h); what a shorter file lacks is zero.
const PROBED: usize = 512;

/// Finds the format of `image`, which is raw where nothing else fits. Dmg is never found: see [`is_dmg_name`].
///
/// # Errors
/// [`HeaderError::Ambiguous`], [`HeaderError::Read`].
pub fn detect(image: &dyn ReadAt) -> Result<Format, HeaderError> {
    let start = first_bytes(image)?;
    let found = at_the_start(&start);
    match (found, is_vdi(&start)) {
        // The only magic that stands elsewhere: which driver QEMU prefers depends on how it was built.
        (Some(other), true) => Err(HeaderError::Ambiguous(other, Format::Vdi)),
        (None, true) => Ok(Format::Vdi),
        (found, false) => Ok(found.unwrap_or(Format::Raw)),
    }
}

/// Makes sure that `image` begins like one of `format`, as QEMU does before it reads on.
///
/// # Errors
/// [`HeaderError::Not`], [`HeaderError::Read`].
pub(super) fn require(image: &dyn ReadAt, format: Format) -> Result<(), HeaderError> {
    let start = first_bytes(image)?;
    let fits = if format == Format::Vdi { is_vdi(&start) } else { at_the_start(&start) == Some(format) };
    if fits { Ok(()) } else { Err(HeaderError::Not(format)) }
}

/// Whether QEMU takes what it would call raw for a dmg image, because of its name alone.
#[must_use]
pub fn is_dmg_name(name: &[u8]) -> bool {
    name.len() > 4 && name.ends_with(b".dmg")
}

fn first_bytes(image: &dyn ReadAt) -> Result<[u8; PROBED], HeaderError> {
    let mut start = [0; PROBED];
    read_some(image, &mut start, 0, Field::Magic)?;
    Ok(start)
}

/// `VDI_SIGNATURE`, block/vdi.c, at byte 0x40, little endian.
fn is_vdi(start: &[u8; PROBED]) -> bool {
    start.get(0x40..0x44) == Some(&0xbeda_107f_u32.to_le_bytes())
}

fn at_the_start(start: &[u8; PROBED]) -> Option<Format> {
    /// Magic strings at the start of a file, and whose they are. Cloop's is all of its script (block/cloop.c).
    const MAGIC: [(&[u8], Format); 9] = [
        (b"QED\0", Format::Qed),
        (b"KDMV", Format::Vmdk),
        (b"COWD", Format::Vmdk),
        (b"vhdxfile", Format::Vhdx),
        (b"conectix", Format::Vpc),
        (b"LUKS\xba\xbe\0\x01", Format::Luks),
        (b"WithoutFreeSpace\x02\0\0\0", Format::Parallels),
        (b"WithouFreSpacExt\x02\0\0\0", Format::Parallels),
        (b"#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && mount -r -t iso9660 /dev/cloop $1\n", Format::Cloop),
    ];
    if start.starts_with(b"QFI\xfb") {
        return match start.get(4..8) {
            // Version 0 is nobody's: raw, as QEMU has it.
            Some([0, 0, 0, 0]) => None,
            Some([0, 0, 0, 1]) => Some(Format::Qcow),
            _ => Some(Format::Qcow2),
        };
    }
    if let Some((_, format)) = MAGIC.iter().find(|(magic, _)| start.starts_with(magic)) {
        return Some(*format);
    }
    if is_bochs(start) {
        return Some(Format::Bochs);
    }
    is_vmdk_descriptor(start).then_some(Format::Vmdk)
}

/// Magic, type, subtype and version of a growing image (`bochs_probe`, block/bochs.c).
fn is_bochs(start: &[u8; PROBED]) -> bool {
    let holds = |offset: usize, bytes: &[u8]| start.get(offset..).is_some_and(|rest| rest.starts_with(bytes));
    holds(0, b"Bochs Virtual HD Image\0")
        && holds(32, b"Redolog\0")
        && holds(48, b"Growing\0")
        && (holds(64, &[0, 0, 1, 0]) || holds(64, &[0, 0, 2, 0]))
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

#[cfg(test)]
mod tests;
