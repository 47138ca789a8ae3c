//! Virtual PC's format, whose differencing disks name a parent. QEMU (block/vpc.c, 7.2 and 10.0) never looks at that
//! name: it would read such a disk as if all that is the parent's were zero.

use super::header::read::{read_be32, read_some};
use super::header::{Field, HeaderError, ReadAt};

/// `disk_type` of a differencing disk ("Virtual Hard Disk Image Format Specification", hard disk footer).
const DIFFERENCING: u64 = 4;

/// Refuses a disk that holds only what differs from its parent's.
///
/// A fixed disk has its footer at the end and names nobody, so that an image without one at its start is QEMU's to judge.
///
/// # Errors
/// [`HeaderError::Differencing`], [`HeaderError::PastEnd`], [`HeaderError::Read`].
pub(super) fn refuse_differencing(image: &dyn ReadAt) -> Result<(), HeaderError> {
    let mut cookie = [0; 8];
    read_some(image, &mut cookie, 0, Field::Magic)?;
    if cookie == *b"conectix" && read_be32(image, 60, Field::DiskType)? == DIFFERENCING {
        return Err(HeaderError::Differencing { field: Field::DiskType });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
