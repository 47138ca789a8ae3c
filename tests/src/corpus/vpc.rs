//! vpc, Microsoft's "Virtual Hard Disk Image Format Specification" (and block/vpc.c of QEMU): an empty disk with a table
//! of blocks, and the same with a parent.

use super::layout::Layout;

/// Bytes in the footer, a copy of which begins the image.
const FOOTER: usize = 512;
/// Bytes in the header behind that copy.
const HEADER: usize = 1024;
/// Where the table of blocks is, in bytes; one entry for each 2 MiB.
const TABLE: usize = 2048;
/// Where the parent's locator is, in bytes.
const LOCATOR: usize = 4096;
/// Cylinders, heads and sectors of a track, and how many bytes that makes.
const GEOMETRY: [u8; 4] = [0, 30, 4, 17];
const DISK: u64 = 30 * 4 * 17 * 512;

/// An image that names `parent`, if there is one: then it is a differencing disk (type 4), else a dynamic one (type 3).
#[must_use]
pub fn vpc(parent: Option<&str>) -> Vec<u8> {
    let mut image = Layout::default();
    image.put(0, &footer(if parent.is_some() { 4 } else { 3 }));
    image.put(FOOTER, &header(parent));
    image.put(TABLE, &[0xff; FOOTER]);
    let end = match parent {
        Some(parent) => {
            image.put(LOCATOR, &utf_16(parent, false));
            2 * LOCATOR
        }
        None => LOCATOR,
    };
    image.put(end, &footer(if parent.is_some() { 4 } else { 3 }));
    image.bytes()
}

fn footer(kind: u32) -> Vec<u8> {
    let mut footer = Layout::default();
    footer.put(0, b"conectix");
    footer.put(8, &2_u32.to_be_bytes());
    footer.put(12, &0x1_0000_u32.to_be_bytes());
    footer.put(16, &u64::try_from(FOOTER).unwrap_or(0).to_be_bytes());
    footer.put(28, b"qem2");
    footer.put(36, b"Wi2k");
    footer.put(40, &DISK.to_be_bytes());
    footer.put(48, &DISK.to_be_bytes());
    footer.put(56, &GEOMETRY);
    footer.put(60, &kind.to_be_bytes());
    footer.grow(FOOTER);
    with_checksum(footer, 64)
}

fn header(parent: Option<&str>) -> Vec<u8> {
    let mut header = Layout::default();
    header.put(0, b"cxsparse");
    header.put(8, &u64::MAX.to_be_bytes());
    header.put(16, &u64::try_from(TABLE).unwrap_or(0).to_be_bytes());
    header.put(24, &0x1_0000_u32.to_be_bytes());
    header.put(28, &1_u32.to_be_bytes());
    header.put(32, &0x20_0000_u32.to_be_bytes());
    if let Some(parent) = parent {
        header.put(64, &utf_16(parent, true));
        // The first locator: a relative path, in UTF-16.
        let length = u32::try_from(utf_16(parent, false).len()).unwrap_or(0);
        header.put(576, b"W2ru");
        header.put(580, &512_u32.to_be_bytes());
        header.put(584, &length.to_be_bytes());
        header.put(592, &u64::try_from(LOCATOR).unwrap_or(0).to_be_bytes());
    }
    header.grow(HEADER);
    with_checksum(header, 36)
}

/// UTF-16; the header wants it big-endian, locators little-endian.
fn utf_16(text: &str, big_endian: bool) -> Vec<u8> {
    text.encode_utf16().flat_map(|unit| if big_endian { unit.to_be_bytes() } else { unit.to_le_bytes() }).collect()
}

/// Puts the one's complement of the sum of all bytes at `offset`.
fn with_checksum(mut part: Layout, offset: usize) -> Vec<u8> {
    let sum = part.clone().bytes().iter().map(|byte| u32::from(*byte)).sum::<u32>();
    part.put(offset, &(!sum).to_be_bytes());
    part.bytes()
}
