//! The part of a qcow2 header that says which other files belong to the image (docs/interop/qcow2.txt).
//!
//! Where QEMU is lenient it is strict; where both take a header, they take it for the same. The compression type and
//! the extension that tells where the LUKS header lies name no file, and are QEMU's to judge.

use super::header::read::{read_all, read_be32, read_be64, read_bytes, read_text, within};
use super::header::{FORMAT_LIMIT, Field, Format, HeaderError, NAME_LIMIT, ReadAt, ReferenceRole, References};

/// How far into the file a header may reach, in bytes; QEMU's own take less than one.
const HEADER_LIMIT: u64 = 64 * 1024;
/// `header_length` of version 2, which does not state it, in bytes.
const VERSION_2_LENGTH: u64 = 72;
/// The least `header_length` of version 3, in bytes.
const VERSION_3_LENGTH: u64 = 104;
/// The incompatible feature "external data file".
const DATA_FILE: u64 = 1 << 2;
/// Header extension types.
const END_OF_EXTENSIONS: u64 = 0;
const BACKING_FORMAT: u64 = 0xE279_2ACA;
const DATA_FILE_NAME: u64 = 0x4441_5441;

/// Where a string lies: its offset and its length, in bytes.
type Place = (u64, u64);

/// What the header extensions say.
#[derive(Default)]
struct Extensions {
    backing_format: Option<Place>,
    data_file: Option<Place>,
}

/// Reads the header of a qcow2 image; returns whether it is encrypted.
///
/// # Errors
/// [`HeaderError`]: the field and the rule that it breaks.
pub(super) fn read(image: &dyn ReadAt, references: &mut References) -> Result<bool, HeaderError> {
    if read_bytes(image, 0, Field::Magic)? != *b"QFI\xfb" {
        return Err(HeaderError::Not(Format::Qcow2));
    }
    let version = within(Field::Version, read_be32(image, 4, Field::Version)?, 2, 3)?;
    // The exponent: MIN_CLUSTER_BITS and MAX_CLUSTER_BITS, block/qcow2.h.
    let cluster = 1_u64 << within(Field::ClusterSize, read_be32(image, 20, Field::ClusterSize)?, 9, 21)?;
    let length = if version == 2 { VERSION_2_LENGTH } else { header_length(image, cluster)? };
    let features = if version == 2 { 0 } else { read_be64(image, 72, Field::IncompatibleFeatures)? };
    let backing = backing_name(image, length, cluster)?;
    // They end where the name begins, or with the first cluster.
    let end = backing.map_or(cluster, |(offset, _)| offset);
    let extensions = read_extensions(image, length, end)?;
    // Without a name QEMU wants one on its command line, and without this bit it opens none.
    if let Some(place) = extensions.data_file.filter(|_| features & DATA_FILE != 0) {
        push_data_file(image, place, references)?;
    }
    push_backing(image, backing, extensions.backing_format, references)?;
    Ok(read_be32(image, 32, Field::CryptMethod)? != 0)
}

fn header_length(image: &dyn ReadAt, cluster: u64) -> Result<u64, HeaderError> {
    let field = Field::HeaderLength;
    let value = read_be32(image, 100, field)?;
    within(field, value, VERSION_3_LENGTH, cluster.min(HEADER_LIMIT))?;
    if value % 8 == 0 { Ok(value) } else { Err(HeaderError::NotAligned { field, value }) }
}

/// Where the name of the backing file lies, which may be empty.
fn backing_name(image: &dyn ReadAt, header_length: u64, cluster: u64) -> Result<Option<Place>, HeaderError> {
    let offset = read_be64(image, 8, Field::BackingFileOffset)?;
    if offset == 0 {
        return Ok(None);
    }
    within(Field::BackingFileOffset, offset, header_length, cluster.min(HEADER_LIMIT))?;
    let size = read_be32(image, 16, Field::BackingFileSize)?;
    let room = u64::try_from(NAME_LIMIT).unwrap_or(0).min(cluster - offset);
    within(Field::BackingFileSize, size, 0, room)?;
    Ok(Some((offset, size)))
}

/// Walks the header extensions from `at` to `end`.
fn read_extensions(image: &dyn ReadAt, mut at: u64, end: u64) -> Result<Extensions, HeaderError> {
    let field = Field::HeaderExtension;
    let mut found = Extensions::default();
    while at < end {
        within(field, at, 0, HEADER_LIMIT)?;
        let kind = read_be32(image, at, field)?;
        let length = read_be32(image, at + 4, field)?;
        let body = at + 8;
        within(field, length, 0, end.saturating_sub(body))?;
        let (known, field) = match kind {
            END_OF_EXTENSIONS => break,
            BACKING_FORMAT => (&mut found.backing_format, Field::BackingFormat),
            DATA_FILE_NAME => (&mut found.data_file, Field::DataFileName),
            _ => {
                must_exist(image, body, length)?;
                at = body + length.next_multiple_of(8);
                continue;
            }
        };
        if known.replace((body, length)).is_some() {
            return Err(HeaderError::Twice { field });
        }
        at = body + length.next_multiple_of(8);
    }
    Ok(found)
}

/// Checks that the file holds all of an extension that is passed over.
fn must_exist(image: &dyn ReadAt, body: u64, length: u64) -> Result<(), HeaderError> {
    match length.checked_sub(1) {
        Some(last) => read_all(image, &mut [0], body + last, Field::HeaderExtension),
        None => Ok(()),
    }
}

/// The file that holds the guest's data is opened as it is, whatever is in it.
fn push_data_file(image: &dyn ReadAt, place: Place, references: &mut References) -> Result<(), HeaderError> {
    let (field, (offset, length)) = (Field::DataFileName, place);
    let mut name = [0; NAME_LIMIT];
    let name = read_text(image, &mut name, offset, length, field)?;
    references.push(field, ReferenceRole::DataFile, name, b"raw")
}

fn push_backing(
    image: &dyn ReadAt,
    name: Option<Place>,
    format: Option<Place>,
    references: &mut References,
) -> Result<(), HeaderError> {
    let (mut name_buffer, mut format_buffer) = ([0; NAME_LIMIT], [0; FORMAT_LIMIT]);
    let format = match format {
        Some((offset, length)) => read_text(image, &mut format_buffer, offset, length, Field::BackingFormat)?,
        None => b"",
    };
    match name {
        // QEMU takes an empty name for none.
        None | Some((_, 0)) => Ok(()),
        Some((offset, length)) => {
            let field = Field::BackingFileName;
            let name = read_text(image, &mut name_buffer, offset, length, field)?;
            references.push(field, ReferenceRole::Backing, name, format)
        }
    }
}

#[cfg(test)]
mod tests;
