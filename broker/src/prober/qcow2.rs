//! The part of a qcow2 header that says which other files belong to the image (docs/interop/qcow2.txt).
//!
//! It is written here and not taken from a library, for it runs behind a filter of three system calls: what is
//! read with `pread` is all it does, and nothing is allocated. Where QEMU is lenient it is strict; where both take
//! a header, they take it for the same.

use super::header::{Backing, FORMAT_LIMIT, Field, Format, Header, HeaderError, NAME_LIMIT, ReadAt, Scratch, read_all};

/// How far into the file a header may reach, in bytes; QEMU's own take less than one.
const HEADER_LIMIT: u64 = 64 * 1024;
/// `header_length` of version 2, which does not state it, in bytes.
const VERSION_2_LENGTH: u64 = 72;
/// The least `header_length` of version 3, in bytes.
const VERSION_3_LENGTH: u64 = 104;
/// The incompatible feature "external data file".
const DATA_FILE: u64 = 1 << 2;
/// Header extension types.
const END_OF_EXTENSIONS: u32 = 0;
const BACKING_FORMAT: u32 = 0xE279_2ACA;

/// Reads the header of a qcow2 image.
///
/// # Errors
/// [`HeaderError`]: the field and the rule that it breaks.
pub fn parse<'s>(image: &dyn ReadAt, scratch: &'s mut Scratch) -> Result<Header<&'s [u8]>, HeaderError> {
    let mut magic = [0; 4];
    read_all(image, &mut magic, 0, Field::Magic)?;
    if magic != *b"QFI\xfb" {
        return Err(HeaderError::NotQcow2);
    }
    let version = within(Field::Version, read_u32(image, 4, Field::Version)?.into(), 2, 3)?;
    // MIN_CLUSTER_BITS and MAX_CLUSTER_BITS, block/qcow2.h.
    let cluster_bits = within(Field::ClusterBits, read_u32(image, 20, Field::ClusterBits)?.into(), 9, 21)?;
    let cluster = 1_u64 << cluster_bits;
    let length = if version == 2 { VERSION_2_LENGTH } else { header_length(image, cluster)? };
    let features = if version == 2 { 0 } else { read_u64(image, 72, Field::IncompatibleFeatures)? };
    Ok(Header {
        format: Format::Qcow2,
        backing: backing(image, length, cluster, scratch)?,
        data_file: features & DATA_FILE != 0,
        encrypted: read_u32(image, 32, Field::CryptMethod)? != 0,
    })
}

fn header_length(image: &dyn ReadAt, cluster: u64) -> Result<u64, HeaderError> {
    let field = Field::HeaderLength;
    let value = read_u32(image, 100, field)?.into();
    within(field, value, VERSION_3_LENGTH, cluster.min(HEADER_LIMIT))?;
    if value % 8 == 0 { Ok(value) } else { Err(HeaderError::NotAligned { field, value }) }
}

/// Reads name and format of the backing file; extensions end where the name begins, or with the first cluster.
fn backing<'s>(
    image: &dyn ReadAt,
    header_length: u64,
    cluster: u64,
    scratch: &'s mut Scratch,
) -> Result<Option<Backing<&'s [u8]>>, HeaderError> {
    let offset = read_u64(image, 8, Field::BackingFileOffset)?;
    if offset == 0 {
        // No backing file; the extensions must be sound all the same.
        backing_format(image, header_length, cluster, &mut scratch.format)?;
        return Ok(None);
    }
    within(Field::BackingFileOffset, offset, header_length, cluster.min(HEADER_LIMIT))?;
    let size = read_u32(image, 16, Field::BackingFileSize)?.into();
    let room = u64::try_from(NAME_LIMIT).unwrap_or(0).min(cluster - offset);
    within(Field::BackingFileSize, size, 0, room)?;
    let format = backing_format(image, header_length, offset, &mut scratch.format)?;
    let name = read_text(image, &mut scratch.name, offset, size, Field::BackingFileName)?;
    Ok((!name.is_empty()).then_some(Backing { name, format }))
}

/// Walks the header extensions from `at` to `end`, and returns the backing format if one of them states it.
fn backing_format<'s>(
    image: &dyn ReadAt,
    mut at: u64,
    end: u64,
    scratch: &'s mut [u8; FORMAT_LIMIT],
) -> Result<Option<&'s [u8]>, HeaderError> {
    let field = Field::HeaderExtension;
    let mut stated = None;
    while at < end {
        within(field, at, 0, HEADER_LIMIT)?;
        let magic = read_u32(image, at, field)?;
        let length = read_u32(image, at + 4, field)?.into();
        let body = at + 8;
        within(field, length, 0, end.saturating_sub(body))?;
        match magic {
            END_OF_EXTENSIONS => break,
            BACKING_FORMAT if stated.is_some() => return Err(HeaderError::Twice { field: Field::BackingFormat }),
            BACKING_FORMAT => stated = Some((body, length)),
            _ => must_exist(image, body, length)?,
        }
        at = body + length.next_multiple_of(8);
    }
    let Some((body, length)) = stated else {
        return Ok(None);
    };
    within(Field::BackingFormat, length, 0, u64::try_from(FORMAT_LIMIT).unwrap_or(0))?;
    let format = read_text(image, scratch, body, length, Field::BackingFormat)?;
    Ok((!format.is_empty()).then_some(format))
}

/// Checks that the file holds all of an extension that is passed over.
fn must_exist(image: &dyn ReadAt, body: u64, length: u64) -> Result<(), HeaderError> {
    match length.checked_sub(1) {
        Some(last) => read_all(image, &mut [0], body + last, Field::HeaderExtension),
        None => Ok(()),
    }
}

/// Reads a string of `length` bytes into the start of `buffer`, which the caller has checked to be long enough.
fn read_text<'s>(
    image: &dyn ReadAt,
    buffer: &'s mut [u8],
    offset: u64,
    length: u64,
    field: Field,
) -> Result<&'s [u8], HeaderError> {
    let most = u64::try_from(buffer.len()).unwrap_or(0);
    let text = usize::try_from(length).ok().and_then(|length| buffer.get_mut(..length));
    let text = text.ok_or(HeaderError::OutOfRange { field, value: length, least: 0, most })?;
    read_all(image, text, offset, field)?;
    if text.contains(&0) { Err(HeaderError::ZeroByte { field }) } else { Ok(text) }
}

fn read_u32(image: &dyn ReadAt, offset: u64, field: Field) -> Result<u32, HeaderError> {
    let mut bytes = [0; 4];
    read_all(image, &mut bytes, offset, field)?;
    Ok(u32::from_be_bytes(bytes))
}

fn read_u64(image: &dyn ReadAt, offset: u64, field: Field) -> Result<u64, HeaderError> {
    let mut bytes = [0; 8];
    read_all(image, &mut bytes, offset, field)?;
    Ok(u64::from_be_bytes(bytes))
}

fn within(field: Field, value: u64, least: u64, most: u64) -> Result<u64, HeaderError> {
    if (least..=most).contains(&value) { Ok(value) } else { Err(HeaderError::OutOfRange { field, value, least, most }) }
}

#[cfg(test)]
mod tests;
