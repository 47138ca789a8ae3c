//! Reading numbers and strings of an image, each with the field that it belongs to.

use std::io;
use std::os::fd::BorrowedFd;

use super::error::{Field, HeaderError};

/// Something that can be read at any offset.
pub trait ReadAt {
    /// Reads up to `buffer.len()` bytes from byte `offset` on; 0 means that there are none.
    ///
    /// # Errors
    /// Those of `pread(2)`.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

impl ReadAt for BorrowedFd<'_> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        Ok(rustix::io::pread(self, buffer, offset)?)
    }
}

impl ReadAt for &[u8] {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..)).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        Ok(count)
    }
}

impl ReadAt for Vec<u8> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.as_slice().read_at(buffer, offset)
    }
}

/// Fills as much of `buffer` as the image has bytes from `offset` on, and says how much that is.
pub(crate) fn read_some(
    image: &dyn ReadAt,
    buffer: &mut [u8],
    offset: u64,
    field: Field,
) -> Result<usize, HeaderError> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let position = u64::try_from(filled).unwrap_or(u64::MAX).saturating_add(offset);
        // What pread(2) cannot address, no file holds.
        if i64::try_from(position).is_err() {
            break;
        }
        match image.read_at(rest, position) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                return Err(HeaderError::Read { field, errno: error.raw_os_error().unwrap_or(libc::EIO) });
            }
        }
    }
    Ok(filled)
}

/// Fills `buffer` from byte `offset` on.
pub(crate) fn read_all(image: &dyn ReadAt, buffer: &mut [u8], offset: u64, field: Field) -> Result<(), HeaderError> {
    match read_some(image, buffer, offset, field)? {
        filled if filled == buffer.len() => Ok(()),
        _ => Err(HeaderError::PastEnd { field }),
    }
}

/// Reads `N` bytes.
pub(crate) fn read_bytes<const N: usize>(
    image: &dyn ReadAt,
    offset: u64,
    field: Field,
) -> Result<[u8; N], HeaderError> {
    let mut bytes = [0; N];
    read_all(image, &mut bytes, offset, field)?;
    Ok(bytes)
}

/// Reads a big-endian number of 4 bytes.
pub(crate) fn read_be32(image: &dyn ReadAt, offset: u64, field: Field) -> Result<u64, HeaderError> {
    Ok(u32::from_be_bytes(read_bytes(image, offset, field)?).into())
}

/// Reads a big-endian number of 8 bytes.
pub(crate) fn read_be64(image: &dyn ReadAt, offset: u64, field: Field) -> Result<u64, HeaderError> {
    Ok(u64::from_be_bytes(read_bytes(image, offset, field)?))
}

/// Reads a little-endian number of 4 bytes.
pub(crate) fn read_le32(image: &dyn ReadAt, offset: u64, field: Field) -> Result<u64, HeaderError> {
    Ok(u32::from_le_bytes(read_bytes(image, offset, field)?).into())
}

/// Reads a little-endian number of 8 bytes.
pub(crate) fn read_le64(image: &dyn ReadAt, offset: u64, field: Field) -> Result<u64, HeaderError> {
    Ok(u64::from_le_bytes(read_bytes(image, offset, field)?))
}

/// Reads a string of `length` bytes into the start of `buffer`, which must be long enough.
pub(crate) fn read_text<'b>(
    image: &dyn ReadAt,
    buffer: &'b mut [u8],
    offset: u64,
    length: u64,
    field: Field,
) -> Result<&'b [u8], HeaderError> {
    let most = u64::try_from(buffer.len()).unwrap_or(0);
    let text = usize::try_from(length).ok().and_then(|length| buffer.get_mut(..length));
    let text = text.ok_or(HeaderError::OutOfRange { field, value: length, least: 0, most })?;
    read_all(image, text, offset, field)?;
    if text.contains(&0) { Err(HeaderError::ZeroByte { field }) } else { Ok(text) }
}

/// `value`, if it lies from `least` to `most`.
pub(crate) fn within(field: Field, value: u64, least: u64, most: u64) -> Result<u64, HeaderError> {
    if (least..=most).contains(&value) { Ok(value) } else { Err(HeaderError::OutOfRange { field, value, least, most }) }
}
