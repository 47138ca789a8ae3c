//! The part of a qed header that names the backing file (docs/interop/qed_spec.txt, block/qed.h).

use super::header::read::{read_bytes, read_le32, read_le64, read_text, within};
use super::header::{Field, Format, HeaderError, NAME_LIMIT, ReadAt, ReferenceRole, References};

/// The length of the header, in bytes.
const HEADER: u64 = 64;
/// Features: it has a backing file; it was not closed in order; the backing file is raw, not to be probed.
const BACKING_FILE: u64 = 1;
const NEED_CHECK: u64 = 2;
const BACKING_FORMAT_NO_PROBE: u64 = 4;

/// Reads the header of a qed image.
///
/// # Errors
/// [`HeaderError`]: the field and the rule that it breaks.
pub(super) fn read(image: &dyn ReadAt, references: &mut References) -> Result<(), HeaderError> {
    if read_bytes(image, 0, Field::Magic)? != *b"QED\0" {
        return Err(HeaderError::Not(Format::Qed));
    }
    let (field, cluster) = (Field::ClusterSize, read_le32(image, 4, Field::ClusterSize)?);
    // QED_MIN_CLUSTER_SIZE and QED_MAX_CLUSTER_SIZE, block/qed.h.
    within(field, cluster, 4 << 10, 64 << 20)?;
    if !cluster.is_power_of_two() {
        return Err(HeaderError::NotPowerOfTwo { field, value: cluster });
    }
    // In clusters; all of them in bytes are 32 bits wide in QEMU.
    let length = read_le32(image, 12, Field::HeaderLength)?;
    let length = within(Field::HeaderLength, length, 1, u64::from(u32::MAX) / cluster)? * cluster;
    let features = read_le64(image, 16, Field::IncompatibleFeatures)?;
    let known = BACKING_FILE | NEED_CHECK | BACKING_FORMAT_NO_PROBE;
    within(Field::IncompatibleFeatures, features, 0, known)?;
    if features & BACKING_FILE == 0 {
        return Ok(());
    }
    let offset = read_le32(image, 56, Field::BackingFileOffset)?;
    within(Field::BackingFileOffset, offset, HEADER, length)?;
    let size = read_le32(image, 60, Field::BackingFileSize)?;
    within(Field::BackingFileSize, size, 0, u64::try_from(NAME_LIMIT).unwrap_or(0).min(length - offset))?;
    let mut name = [0; NAME_LIMIT];
    let name = read_text(image, &mut name, offset, size, Field::BackingFileName)?;
    // QEMU takes an empty name for none.
    if name.is_empty() {
        return Ok(());
    }
    let format: &[u8] = if features & BACKING_FORMAT_NO_PROBE == 0 { b"" } else { b"raw" };
    references.push(Field::BackingFileName, ReferenceRole::Backing, name, format)
}

#[cfg(test)]
mod tests;
