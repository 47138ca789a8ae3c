//! What a vmdk image names: extents, in a descriptor that is a file of its own or lies in an extent, and a parent
//! (block/vmdk.c of QEMU 7.2 and 10.0, which is followed to the letter where it decides what is opened).
//!
//! QEMU never looks whether `parentCID` says that there is a parent, and looks for `parentFileNameHint` anywhere in the
//! text, comments included. Names of extents start from the folder of the descriptor.

mod descriptor;

use super::header::read::{read_bytes, read_le64, read_some, within};
use super::header::{Field, HeaderError, NAME_LIMIT, ReadAt, ReferenceRole, References, TEXT_LIMIT};
use descriptor::{check_create_type, extents, parent, until_zero};

/// The length of a sector, in bytes.
const SECTOR: u64 = 512;
/// Where QEMU looks for the parent in an image that is no text, in bytes, wherever its descriptor is.
const PARENT_AT: u64 = SECTOR;
/// How much of a descriptor QEMU searches for the parent, in bytes (`DESC_SIZE`).
const PARENT_WITHIN: usize = 20 * 512;
/// `SESPARSE_CONST_HEADER_MAGIC`, little endian.
const SE_SPARSE: [u8; 4] = 0xcafe_babe_u32.to_le_bytes();

/// Reads descriptor and parent of a vmdk image, or of an extent that is no plain data.
///
/// # Errors
/// [`HeaderError`]: the field and the rule that it breaks.
pub(super) fn read(
    image: &dyn ReadAt,
    text: &mut [u8; TEXT_LIMIT],
    references: &mut References,
) -> Result<(), HeaderError> {
    match read_bytes(image, 0, Field::Magic)? {
        [b'K', b'D', b'M', b'V'] => {
            if let Some(offset) = descriptor_of_nothing(image)? {
                let text = read_descriptor(image, text, offset)?;
                push_extents(until_zero(text), references)?;
            }
            let text = read_parent_text(image, text)?;
            push_parent(text, references)
        }
        [b'C', b'O', b'W', b'D'] => {
            let text = read_parent_text(image, text)?;
            push_parent(text, references)
        }
        // Only an extent can be one: QEMU reads a table there and no name.
        SE_SPARSE => Ok(()),
        _ => {
            let text = read_descriptor(image, text, 0)?;
            push_extents(until_zero(text), references)?;
            push_parent(text.get(..PARENT_WITHIN).unwrap_or(text), references)
        }
    }
}

/// Where the descriptor begins in an extent that holds nothing else, in bytes (`vmdk_open_vmdk4`).
fn descriptor_of_nothing(image: &dyn ReadAt) -> Result<Option<u64>, HeaderError> {
    let capacity = read_le64(image, 12, Field::Capacity)?;
    let field = Field::DescriptorOffset;
    let offset = read_le64(image, 28, field)?;
    if capacity != 0 || offset == 0 {
        return Ok(None);
    }
    // More than 2^54 sectors no file has.
    Ok(Some(within(field, offset, 1, 1 << 54)? * SECTOR))
}

/// Reads the bytes from `offset` on, of which the text is those before the first zero byte.
fn read_descriptor<'t>(
    image: &dyn ReadAt,
    text: &'t mut [u8; TEXT_LIMIT],
    offset: u64,
) -> Result<&'t [u8], HeaderError> {
    let field = Field::Descriptor;
    let filled = read_some(image, text, offset, field)?;
    let read = text.get(..filled).unwrap_or_default();
    let length = u64::try_from(until_zero(read).len()).unwrap_or(u64::MAX);
    // QEMU reads on where this has no room.
    within(field, length, 1, u64::try_from(TEXT_LIMIT - 1).unwrap_or(0))?;
    Ok(read)
}

fn read_parent_text<'t>(image: &dyn ReadAt, text: &'t mut [u8; TEXT_LIMIT]) -> Result<&'t [u8], HeaderError> {
    let text = text.get_mut(..PARENT_WITHIN).unwrap_or_default();
    let filled = read_some(image, text, PARENT_AT, Field::Descriptor)?;
    Ok(text.get(..filled).unwrap_or_default())
}

fn push_extents(text: &[u8], references: &mut References) -> Result<(), HeaderError> {
    check_create_type(text)?;
    for extent in extents(text) {
        let extent = extent?;
        let format: &[u8] = if extent.is_plain { b"raw" } else { b"vmdk" };
        references.push(Field::ExtentName, ReferenceRole::Extent, extent.name, format)?;
    }
    Ok(())
}

fn push_parent(text: &[u8], references: &mut References) -> Result<(), HeaderError> {
    let field = Field::ParentFileNameHint;
    match parent(text) {
        None => Ok(()),
        Some(None) => Err(HeaderError::Unterminated { field, most: NAME_LIMIT }),
        // QEMU takes an empty name for none.
        Some(Some(b"")) => Ok(()),
        Some(Some(name)) => references.push(field, ReferenceRole::Backing, name, b"vmdk"),
    }
}

#[cfg(test)]
mod tests;
