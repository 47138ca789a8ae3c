//! vhdx (Microsoft's [MS-VHDX], and block/vhdx.c of QEMU): an empty disk of 1 MiB, and the same with a parent. Its parts
//! lie where the format wants them, 64 KiB or 1 MiB apart, and so the image has 4 MiB, nearly all of them zero.

use super::layout::{Layout, length_of};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
/// Where the regions are, in bytes: log, metadata, table of blocks.
const LOG: usize = MIB;
const METADATA: usize = 2 * MIB;
const BLOCKS: usize = 3 * MIB;
/// The size of the guest's disk, and of one block, in bytes.
const DISK: u64 = 1 << 20;
const BLOCK: u32 = 1 << 20;
/// Where the metadata items begin, in bytes from the region's start.
const ITEMS: usize = 64 * KIB;
/// `HasParent` of the file parameters.
const HAS_PARENT: u32 = 2;

/// A GUID as it lies in a file: the first three parts little-endian.
const fn guid(first: u32, second: u16, third: u16, rest: [u8; 8]) -> [u8; 16] {
    let ([a, b, c, d], [e, f], [g, h]) = (first.to_le_bytes(), second.to_le_bytes(), third.to_le_bytes());
    let [i, j, k, l, m, n, o, p] = rest;
    [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]
}

const BAT_REGION: [u8; 16] = guid(0x2dc2_7766, 0xf623, 0x4200, [0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08]);
const METADATA_REGION: [u8; 16] = guid(0x8b7c_a206, 0x4790, 0x4b9a, [0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e]);
const FILE_PARAMETERS: [u8; 16] = guid(0xcaa1_6737, 0xfa36, 0x4d43, [0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b]);
const DISK_SIZE: [u8; 16] = guid(0x2fa5_4224, 0xcd1b, 0x4876, [0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8]);
const DISK_ID: [u8; 16] = guid(0xbeca_12ab, 0xb2e6, 0x4523, [0x93, 0xef, 0xc3, 0x09, 0xe0, 0x00, 0xc7, 0x46]);
const LOGICAL_SECTOR: [u8; 16] = guid(0x8141_bf1d, 0xa96f, 0x4709, [0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f]);
const PHYSICAL_SECTOR: [u8; 16] = guid(0xcda3_48c7, 0x445d, 0x4471, [0x9c, 0xc9, 0xe9, 0x88, 0x52, 0x51, 0xc5, 0x56]);
const PARENT_LOCATOR: [u8; 16] = guid(0xa8d3_5f2d, 0xb30b, 0x454d, [0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab, 0x0c]);
/// The one type of locator that there is.
const LOCATOR_TYPE: [u8; 16] = guid(0xb04a_efb7, 0xd19e, 0x4a81, [0xb7, 0x89, 0x25, 0xb8, 0xe9, 0x44, 0x59, 0x13]);

/// An image that names `parent`, if there is one, by the locator's `relative_path`.
#[must_use]
pub fn vhdx(parent: Option<&str>) -> Vec<u8> {
    let mut image = Layout::default();
    image.put(0, b"vhdxfile");
    for (copy, offset) in [(1_u64, 64 * KIB), (2, 128 * KIB)] {
        image.put(offset, &header(copy));
    }
    for offset in [192 * KIB, 256 * KIB] {
        image.put(offset, &region_table());
    }
    image.put(METADATA, &metadata(parent));
    image.grow(BLOCKS + MIB);
    image.bytes()
}

fn header(sequence: u64) -> Vec<u8> {
    let mut header = Layout::default();
    header.put(0, b"head");
    header.put(8, &sequence.to_le_bytes());
    // Identifiers that change with every write; any will do, and a log without one is empty.
    header.put(16, &[0x11; 16]);
    header.put(32, &[0x22; 16]);
    header.put(66, &1_u16.to_le_bytes());
    put_u32(&mut header, 68, MIB);
    header.put(72, &u64::try_from(LOG).unwrap_or(0).to_le_bytes());
    header.grow(4 * KIB);
    with_checksum(header)
}

fn region_table() -> Vec<u8> {
    let mut table = Layout::default();
    table.put(0, b"regi");
    put_u32(&mut table, 8, 2);
    for (index, (kind, offset)) in [(BAT_REGION, BLOCKS), (METADATA_REGION, METADATA)].into_iter().enumerate() {
        let entry = 16 + 32 * index;
        table.put(entry, &kind);
        table.put(entry + 16, &u64::try_from(offset).unwrap_or(0).to_le_bytes());
        put_u32(&mut table, entry + 24, MIB);
        put_u32(&mut table, entry + 28, 1);
    }
    table.grow(64 * KIB);
    with_checksum(table)
}

fn metadata(parent: Option<&str>) -> Vec<u8> {
    let flags = if parent.is_some() { HAS_PARENT } else { 0 };
    // Flags of an item: 4 is required, 2 is about the disk and not the file.
    let mut items = vec![
        (FILE_PARAMETERS, 4, [BLOCK.to_le_bytes(), flags.to_le_bytes()].concat()),
        (DISK_SIZE, 6, DISK.to_le_bytes().to_vec()),
        (DISK_ID, 6, vec![0x33; 16]),
        (LOGICAL_SECTOR, 6, 512_u32.to_le_bytes().to_vec()),
        (PHYSICAL_SECTOR, 6, 512_u32.to_le_bytes().to_vec()),
    ];
    items.extend(parent.map(|parent| (PARENT_LOCATOR, 4, locator(parent))));
    let mut region = Layout::default();
    region.put(0, b"metadata");
    region.put(10, &u16::try_from(items.len()).unwrap_or(0).to_le_bytes());
    let mut body = ITEMS;
    for (index, (kind, flags, bytes)) in items.into_iter().enumerate() {
        let entry = 32 + 32 * index;
        region.put(entry, &kind);
        put_u32(&mut region, entry + 16, body);
        region.put(entry + 20, &length_of(&bytes).to_le_bytes());
        put_u32(&mut region, entry + 24, flags);
        region.put(body, &bytes);
        body += bytes.len().next_multiple_of(8);
    }
    region.grow(MIB);
    region.bytes()
}

/// A parent locator with one pair, `relative_path` and the name, both in UTF-16.
fn locator(parent: &str) -> Vec<u8> {
    let wide = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let (key, value) = (wide("relative_path"), wide(parent));
    let mut locator = Layout::default();
    locator.put(0, &LOCATOR_TYPE);
    locator.put(18, &1_u16.to_le_bytes());
    put_u32(&mut locator, 20, 32);
    put_u32(&mut locator, 24, 32 + key.len());
    locator.put(28, &u16::try_from(key.len()).unwrap_or(0).to_le_bytes());
    locator.put(30, &u16::try_from(value.len()).unwrap_or(0).to_le_bytes());
    locator.put(32, &key);
    locator.put(32 + key.len(), &value);
    locator.bytes()
}

fn put_u32(part: &mut Layout, offset: usize, value: usize) {
    part.put(offset, &u32::try_from(value).unwrap_or(0).to_le_bytes());
}

/// Puts the CRC-32C of all bytes at byte 4.
fn with_checksum(mut part: Layout) -> Vec<u8> {
    let sum = crc_32c(&part.clone().bytes());
    part.put(4, &sum.to_le_bytes());
    part.bytes()
}

/// CRC-32C (RFC 3720, appendix B.4), bit by bit.
fn crc_32c(bytes: &[u8]) -> u32 {
    /// The polynomial, lowest power first.
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut sum = u32::MAX;
    for byte in bytes {
        sum ^= u32::from(*byte);
        for _ in 0..8 {
            sum = (sum >> 1) ^ (POLYNOMIAL * (sum & 1));
        }
    }
    !sum
}

#[cfg(test)]
mod tests {
    use super::crc_32c;

    #[test]
    fn the_checksum_is_the_one_of_the_standard() {
        assert_eq!(crc_32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc_32c(&[0; 32]), 0x8a91_36aa);
    }
}
