//! The text of a vmdk descriptor, read as QEMU reads it: with `strstr(3)` and `sscanf(3)`, so that keys count anywhere
//! and an extent may be spread over lines.

use crate::prober::header::{Field, HeaderError};

/// The longest name of an extent, in bytes (`fname[512]`, `vmdk_parse_extents`).
const EXTENT_NAME_LIMIT: usize = 511;
/// The longest access word and type of an extent, in bytes: the rest of a longer one is the next word.
const WORD_LIMIT: usize = 10;
/// The values of `createType` that QEMU reads (`vmdk_open_desc_file`).
const CREATE_TYPES: [&[u8]; 6] =
    [b"monolithicFlat", b"vmfs", b"vmfsSparse", b"seSparse", b"twoGbMaxExtentSparse", b"twoGbMaxExtentFlat"];
/// The key of the parent's name.
const PARENT: &[u8] = b"parentFileNameHint";
/// What stands between a key and its value: `="`. QEMU passes over two bytes, whatever they are.
const BEFORE_VALUE: usize = 2;

/// What stands before the first zero byte.
pub(super) fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}

/// Checks that QEMU reads this kind of image.
///
/// # Errors
/// [`HeaderError::Missing`], [`HeaderError::CreateType`].
pub(super) fn check_create_type(text: &[u8]) -> Result<(), HeaderError> {
    let key = b"createType";
    let missing = HeaderError::Missing { field: Field::CreateType };
    let value = find(text, key).and_then(|at| text.get(at + key.len() + BEFORE_VALUE..)).ok_or(missing)?;
    let end = value.iter().position(|byte| *byte == b'"').ok_or(missing)?;
    let known = value.get(..end).is_some_and(|value| CREATE_TYPES.contains(&value));
    if known { Ok(()) } else { Err(HeaderError::CreateType) }
}

/// The name of the parent, if there is one; `Some(None)` where it has no end. QEMU looks for the key before the first
/// zero byte, and for the value behind the key, even behind a zero byte that follows it at once.
pub(super) fn parent(bytes: &[u8]) -> Option<Option<&[u8]>> {
    let at = find(until_zero(bytes), PARENT)?;
    let value = until_zero(bytes.get(at + PARENT.len() + BEFORE_VALUE..).unwrap_or_default());
    let end = value.iter().position(|byte| *byte == b'"');
    Some(end.and_then(|end| value.get(..end)))
}

/// A part of the disk in another file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Extent<'t> {
    /// Its name.
    pub(super) name: &'t [u8],
    /// Whether it has no header of its own.
    pub(super) is_plain: bool,
}

/// Each extent that QEMU opens (`vmdk_parse_extents`).
pub(super) fn extents(text: &[u8]) -> impl Iterator<Item = Result<Extent<'_>, HeaderError>> {
    Lines { text, at: 0 }.filter_map(|line| extent(line).transpose())
}

/// The places from which QEMU scans for an extent: from the start of each line, where it passes over empty ones.
struct Lines<'t> {
    text: &'t [u8],
    at: usize,
}

impl<'t> Iterator for Lines<'t> {
    type Item = &'t [u8];

    fn next(&mut self) -> Option<&'t [u8]> {
        // From an empty line QEMU scans the next one that is not, once more: the same extent twice is one file.
        let line = self.text.get(self.at..).map(after_space).filter(|line| !line.is_empty())?;
        let begin = self.text.len() - line.len();
        let length = line.iter().position(|byte| *byte == b'\n').map_or(line.len(), |end| end + 1);
        self.at = begin + length;
        Some(line)
    }
}

/// Reads `RW SECTORS TYPE "NAME"` at the start of `line`; anything else is no extent.
fn extent(line: &[u8]) -> Result<Option<Extent<'_>>, HeaderError> {
    let (access, rest) = word(line);
    let Some((positive, rest)) = number(rest).filter(|_| access == b"RW") else {
        return Ok(None);
    };
    let (kind, rest) = word(rest);
    let is_plain = match kind {
        b"FLAT" | b"VMFS" => true,
        b"SPARSE" | b"VMFSSPARSE" | b"SESPARSE" => false,
        // ZERO has no file, and other types QEMU does not know.
        _ => return Ok(None),
    };
    let Some(name) = after_space(rest).strip_prefix(b"\"").filter(|_| positive) else {
        return Ok(None);
    };
    let end = name.iter().take(EXTENT_NAME_LIMIT + 1).position(|byte| b"\n\r\"".contains(byte));
    match end {
        Some(0) => Ok(None),
        Some(end) if name.get(end) == Some(&b'"') => Ok(name.get(..end).map(|name| Extent { name, is_plain })),
        _ if name.is_empty() => Ok(None),
        _ => Err(HeaderError::Unterminated { field: Field::ExtentName, most: EXTENT_NAME_LIMIT }),
    }
}

/// `%10s`: what it takes, and what it leaves.
fn word(bytes: &[u8]) -> (&[u8], &[u8]) {
    let bytes = after_space(bytes);
    let length = bytes.iter().take(WORD_LIMIT).take_while(|byte| !is_space(**byte)).count();
    bytes.split_at(length)
}

/// `%lld`: whether the number is greater than zero, and what it leaves. A number out of range is the nearest in it.
fn number(bytes: &[u8]) -> Option<(bool, &[u8])> {
    let bytes = after_space(bytes);
    let negative = bytes.starts_with(b"-");
    let digits = bytes.strip_prefix(b"-").or_else(|| bytes.strip_prefix(b"+")).unwrap_or(bytes);
    let length = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = digits.split_at(length);
    (length > 0).then(|| (!negative && digits.iter().any(|digit| *digit != b'0'), rest))
}

fn after_space(bytes: &[u8]) -> &[u8] {
    let length = bytes.iter().take_while(|byte| is_space(**byte)).count();
    bytes.get(length..).unwrap_or_default()
}

/// `isspace(3)` in the C locale.
fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\x0b' | b'\x0c' | b'\r')
}

/// Where `key` begins for the first time.
fn find(text: &[u8], key: &[u8]) -> Option<usize> {
    text.windows(key.len()).position(|window| window == key)
}
