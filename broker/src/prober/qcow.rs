//! The part of the header of a qcow image, version 1, that names its backing file (`QCowHeader`, block/qcow.c).

use super::header::read::{read_be32, read_be64, read_bytes, read_text, within};
use super::header::{Field, Format, HeaderError, NAME_LIMIT, ReadAt, ReferenceRole, References};

/// The length of the header, in bytes.
const HEADER: u64 = 48;
/// How far into the file a name may begin, in bytes; QEMU writes it right behind the header, other programs within the
/// first page.
const HEADER_LIMIT: u64 = 64 * 1024;

/// Reads the header of a qcow image; returns whether it is encrypted. Its backing file's format cannot be stated.
///
/// # Errors
/// [`HeaderError`]: the field and the rule that it breaks.
pub(super) fn read(image: &dyn ReadAt, references: &mut References) -> Result<bool, HeaderError> {
    if read_bytes(image, 0, Field::Magic)? != *b"QFI\xfb" {
        return Err(HeaderError::Not(Format::Qcow));
    }
    within(Field::Version, read_be32(image, 4, Field::Version)?, 1, 1)?;
    let [cluster_bits] = read_bytes(image, 32, Field::ClusterSize)?;
    within(Field::ClusterSize, cluster_bits.into(), 9, 16)?;
    let encrypted = read_be32(image, 36, Field::CryptMethod)? != 0;
    let offset = read_be64(image, 8, Field::BackingFileOffset)?;
    if offset == 0 {
        return Ok(encrypted);
    }
    within(Field::BackingFileOffset, offset, HEADER, HEADER_LIMIT)?;
    let mut name = [0; NAME_LIMIT];
    let size = read_be32(image, 16, Field::BackingFileSize)?;
    within(Field::BackingFileSize, size, 0, u64::try_from(NAME_LIMIT).unwrap_or(0))?;
    let name = read_text(image, &mut name, offset, size, Field::BackingFileName)?;
    // QEMU takes an empty name for none.
    if !name.is_empty() {
        references.push(Field::BackingFileName, ReferenceRole::Backing, name, b"")?;
    }
    Ok(encrypted)
}

#[cfg(test)]
mod tests;
