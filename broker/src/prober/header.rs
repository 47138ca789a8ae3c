//! What an image's header says. Nothing here allocates: it runs behind the prober's filter.
//!
//! [`parse`] is the whole of it, and needs no process: whoever tries the readers calls it on bytes.

mod error;
mod format;
pub(super) mod read;
mod reference;

use serde::{Deserialize, Serialize};

use super::{detect, qcow, qcow2, qed, vhdx, vmdk, vpc};
pub use error::{Field, HeaderError};
pub use format::Format;
pub use read::ReadAt;
pub use reference::{FORMAT_LIMIT, NAME_LIMIT, REFERENCE_LIMIT, Reference, ReferenceRef, ReferenceRole, References};
pub(super) use reference::{NAMES_LIMIT, TEXT_LIMIT};

/// What was found in one image, as received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The stated format, or the one that QEMU would find.
    pub format: Format,
    /// The files that QEMU opens because the header names them, in that order; the backing file is the last one.
    pub references: Vec<Reference>,
    /// Whether it needs a key.
    pub encrypted: bool,
}

impl Found {
    /// An image that says nothing about itself.
    #[must_use]
    pub fn raw() -> Self {
        Self { format: Format::Raw, references: Vec::new(), encrypted: false }
    }
}

/// The same before it is sent.
#[derive(Debug, Serialize)]
pub struct Header<'s> {
    /// The stated format, or the one that QEMU would find.
    pub format: Format,
    /// The files that it names.
    pub references: &'s References,
    /// Whether it needs a key.
    pub encrypted: bool,
}

impl Header<'_> {
    /// What the other side receives.
    #[must_use]
    pub fn to_found(&self) -> Found {
        let owned = |reference: ReferenceRef<'_>| Reference {
            role: reference.role,
            name: reference.name.to_vec(),
            format: reference.format.map(<[u8]>::to_vec),
        };
        Found {
            format: self.format,
            references: self.references.iter().map(owned).collect(),
            encrypted: self.encrypted,
        }
    }
}

/// Where texts and names of a header are put, since nothing can be allocated: 200 KiB, to be made beforehand.
#[derive(Debug)]
pub struct Scratch {
    pub(super) text: [u8; TEXT_LIMIT],
    pub(super) references: References,
}

impl Default for Scratch {
    fn default() -> Self {
        Self { text: [0; TEXT_LIMIT], references: References::new() }
    }
}

/// Reads the header of `image`. With no stated format it is taken for what QEMU would take it for.
///
/// # Errors
/// [`HeaderError`]: the field and the rule that it breaks.
pub fn parse<'s>(
    image: &dyn ReadAt,
    stated: Option<Format>,
    scratch: &'s mut Scratch,
) -> Result<Header<'s>, HeaderError> {
    let format = match stated {
        Some(format) => format,
        None => detect::detect(image)?,
    };
    let Scratch { text, references } = scratch;
    references.clear();
    let encrypted = match format {
        Format::Qcow2 => qcow2::read(image, references)?,
        Format::Qcow => qcow::read(image, references)?,
        Format::Qed => unencrypted(qed::read(image, references))?,
        Format::Vmdk => unencrypted(vmdk::read(image, text, references))?,
        Format::Vhdx => unencrypted(vhdx::refuse_differencing(image))?,
        Format::Vpc => unencrypted(vpc::refuse_differencing(image))?,
        Format::Vdi | Format::Parallels | Format::Bochs => unencrypted(detect::require(image, format))?,
        // QEMU looks for no magic in the one, and may have been given the header of the other elsewhere.
        Format::Raw | Format::Cloop | Format::Dmg => false,
        Format::Luks => true,
    };
    Ok(Header { format, references, encrypted })
}

/// Formats that know no encryption.
fn unencrypted(read: Result<(), HeaderError>) -> Result<bool, HeaderError> {
    read.map(|()| false)
}
