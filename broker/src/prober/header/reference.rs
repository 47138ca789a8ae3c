//! The names in a header of other files: kept in memory that was there before, and as received.

use std::fmt;

use serde::ser::SerializeSeq;
use serde::{Deserialize, Serialize, Serializer};

use super::error::{Field, HeaderError};

/// The longest name, in bytes: that of a backing file of qcow2 (docs/interop/qcow2.txt, `backing_file_size`). QEMU
/// would take longer ones of vmdk and qed, up to `PATH_MAX`; no tool writes them.
pub const NAME_LIMIT: usize = 1023;
/// The longest format name that QEMU takes, in bytes (`backing_format[16]`, include/block/block_int-common.h).
pub const FORMAT_LIMIT: usize = 15;
/// How many files one header may name: a vmdk disk of 2 TiB in extents of 2 GiB, and its parent.
pub const REFERENCE_LIMIT: usize = 1025;
/// How long all names of a header may be together, in bytes: those of a whole vmdk descriptor ([`TEXT_LIMIT`]), and
/// that of its parent.
pub(crate) const NAMES_LIMIT: usize = TEXT_LIMIT + NAME_LIMIT;
/// The longest vmdk descriptor, in bytes. QEMU takes 1 MiB; 64 bytes for each of 1024 extents are enough for what
/// tools write, and an answer must fit into one packet.
pub(crate) const TEXT_LIMIT: usize = 64 * 1024;

/// What a file that a header names is to the image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ReferenceRole {
    /// What is read where the image holds nothing.
    Backing,
    /// What holds the data of a qcow2 image that holds only metadata.
    DataFile,
    /// A part of a vmdk disk.
    Extent,
}

impl fmt::Display for ReferenceRole {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Backing => "backing file",
            Self::DataFile => "data file",
            Self::Extent => "extent",
        })
    }
}

/// A file that a header names, as received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reference {
    /// What it is to the image.
    pub role: ReferenceRole,
    /// Its name, as it stands in the header: 1 to [`NAME_LIMIT`] bytes, none of them zero.
    pub name: Vec<u8>,
    /// The driver that QEMU reads it by, at most [`FORMAT_LIMIT`] bytes; `None` where QEMU would probe it.
    pub format: Option<Vec<u8>>,
}

/// The same before it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ReferenceRef<'s> {
    /// What it is to the image.
    pub role: ReferenceRole,
    /// Its name.
    pub name: &'s [u8],
    /// Its format.
    pub format: Option<&'s [u8]>,
}

/// A piece of [`References::bytes`].
#[derive(Debug, Clone, Copy, Default)]
struct Piece {
    start: usize,
    length: usize,
}

#[derive(Debug, Clone, Copy)]
struct Slot {
    role: ReferenceRole,
    name: Piece,
    /// Empty where QEMU would probe.
    format: Piece,
}

/// The names of one header, in the order in which QEMU opens them. It takes no memory but its own.
#[derive(Debug)]
pub struct References {
    bytes: [u8; NAMES_LIMIT],
    filled: usize,
    slots: [Slot; REFERENCE_LIMIT],
    count: usize,
}

impl References {
    pub(super) fn new() -> Self {
        let empty = Slot { role: ReferenceRole::Backing, name: Piece::default(), format: Piece::default() };
        Self { bytes: [0; NAMES_LIMIT], filled: 0, slots: [empty; REFERENCE_LIMIT], count: 0 }
    }

    pub(super) fn clear(&mut self) {
        (self.filled, self.count) = (0, 0);
    }

    /// Adds a file; an empty `format` is none.
    ///
    /// # Errors
    /// [`HeaderError::OutOfRange`]: `name` is empty or too long, or there are too many. [`HeaderError::ZeroByte`].
    pub(crate) fn push(
        &mut self,
        field: Field,
        role: ReferenceRole,
        name: &[u8],
        format: &[u8],
    ) -> Result<(), HeaderError> {
        let out_of_range = |field, value: usize, least, most: usize| HeaderError::OutOfRange {
            field,
            value: u64::try_from(value).unwrap_or(u64::MAX),
            least,
            most: u64::try_from(most).unwrap_or(u64::MAX),
        };
        if !(1..=NAME_LIMIT).contains(&name.len()) {
            return Err(out_of_range(field, name.len(), 1, NAME_LIMIT));
        }
        if name.contains(&0) || format.contains(&0) {
            return Err(HeaderError::ZeroByte { field });
        }
        let full = out_of_range(Field::Extents, self.count + 1, 0, REFERENCE_LIMIT);
        let name = self.keep(name).ok_or(full)?;
        let format = self.keep(format).ok_or(full)?;
        *self.slots.get_mut(self.count).ok_or(full)? = Slot { role, name, format };
        self.count += 1;
        Ok(())
    }

    /// Copies `text` behind what is there; the same text as last time is there already.
    fn keep(&mut self, text: &[u8]) -> Option<Piece> {
        let last = self.count.checked_sub(1).and_then(|last| self.slots.get(last)).map(|slot| slot.format);
        if let Some(last) = last.filter(|last| self.piece(*last) == text) {
            return Some(last);
        }
        let piece = Piece { start: self.filled, length: text.len() };
        let end = piece.start.checked_add(piece.length)?;
        self.bytes.get_mut(piece.start..end)?.copy_from_slice(text);
        self.filled = end;
        Some(piece)
    }

    fn piece(&self, piece: Piece) -> &[u8] {
        self.bytes.get(piece.start..piece.start.saturating_add(piece.length)).unwrap_or_default()
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = ReferenceRef<'_>> {
        self.slots.iter().take(self.count).map(|slot| ReferenceRef {
            role: slot.role,
            name: self.piece(slot.name),
            format: Some(self.piece(slot.format)).filter(|format| !format.is_empty()),
        })
    }
}

impl Serialize for References {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut sequence = serializer.serialize_seq(Some(self.count))?;
        self.iter().try_for_each(|reference| sequence.serialize_element(&reference))?;
        sequence.end()
    }
}
