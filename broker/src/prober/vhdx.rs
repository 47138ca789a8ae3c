//! Hyper-V's format, whose differencing disks name a parent. QEMU (block/vhdx.c, 7.2 and 10.0) refuses those, so that no
//! name is read; but it does not say why, and this does. What else is wrong with an image is QEMU's to say.

use super::header::read::{read_bytes, read_le32, read_le64};
use super::header::{Field, Format, HeaderError, ReadAt};

/// Where the region table that QEMU reads begins, in bytes (`VHDX_REGION_TABLE_OFFSET`, block/vhdx.h).
const REGION_TABLE: u64 = 192 * 1024;
/// How many entries both tables have at most, in 64 KiB each ("VHDX Format Specification", 2.2.3.1 and 2.6.1.1).
const ENTRY_LIMIT: u64 = 2047;
/// The length of an entry of either table, in bytes.
const ENTRY: u64 = 32;
/// The region of the metadata: 8B7CA206-4790-4B9A-B8FE-575F050F886E.
const METADATA: [u8; 16] = *b"\x06\xa2\x7c\x8b\x90\x47\x9a\x4b\xb8\xfe\x57\x5f\x05\x0f\x88\x6e";
/// The metadata item "file parameters": CAA16737-FA36-4D43-B3B6-33F0AA44E76B.
const FILE_PARAMETERS: [u8; 16] = *b"\x37\x67\xa1\xca\x36\xfa\x43\x4d\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b";
/// Its flag `HasParent`.
const HAS_PARENT: u64 = 2;

/// Refuses a disk that holds only what differs from its parent's.
///
/// # Errors
/// [`HeaderError::Differencing`]; [`HeaderError::Not`]; [`HeaderError::OutOfRange`], [`HeaderError::PastEnd`],
/// [`HeaderError::Read`].
pub(super) fn refuse_differencing(image: &dyn ReadAt) -> Result<(), HeaderError> {
    if read_bytes(image, 0, Field::Magic)? != *b"vhdxfile" {
        return Err(HeaderError::Not(Format::Vhdx));
    }
    let regions = within_limit(Field::RegionTable, read_le32(image, REGION_TABLE + 8, Field::RegionTable)?)?;
    let Some(region) = find(image, Field::RegionTable, REGION_TABLE + 16, regions, METADATA)? else {
        return Ok(());
    };
    let table = read_le64(image, region + 16, Field::RegionTable)?;
    let field = Field::MetadataTable;
    let entries = u16::from_le_bytes(read_bytes(image, table.saturating_add(10), field)?).into();
    let entries = within_limit(field, entries)?;
    let Some(item) = find(image, field, table.saturating_add(32), entries, FILE_PARAMETERS)? else {
        return Ok(());
    };
    // An offset from the start of the region.
    let item = table.saturating_add(read_le32(image, item + 16, field)?);
    let flags = read_le32(image, item.saturating_add(4), Field::FileParameters)?;
    let differing = HeaderError::Differencing { field: Field::FileParameters };
    if flags & HAS_PARENT == 0 { Ok(()) } else { Err(differing) }
}

fn within_limit(field: Field, entries: u64) -> Result<u64, HeaderError> {
    super::header::read::within(field, entries, 0, ENTRY_LIMIT)
}

/// Where the first of `entries` begins whose identifier is `wanted`.
fn find(
    image: &dyn ReadAt,
    field: Field,
    start: u64,
    entries: u64,
    wanted: [u8; 16],
) -> Result<Option<u64>, HeaderError> {
    for index in 0..entries {
        let at = start.saturating_add(index * ENTRY);
        if read_bytes(image, at, field)? == wanted {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
