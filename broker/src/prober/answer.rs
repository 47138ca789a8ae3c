//! What crosses the socket, in postcard, and what is made of it.

use serde::{Deserialize, Serialize};

use super::Error;
use super::header::{FORMAT_LIMIT, Format, Found, Header, HeaderError, NAME_LIMIT, REFERENCE_LIMIT, Reference};
use super::header::{ReadAt, ReferenceRole, Scratch, parse};
pub use super::process::{ANSWER_LIMIT, QUESTION_LIMIT};

/// What is sent with an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Counts the images of one process.
    pub number: u32,
    /// What the image is to be taken for.
    pub stated: Option<Format>,
}

impl Question {
    /// Encodes it into `buffer`.
    #[must_use]
    pub fn encode<'b>(&self, buffer: &'b mut [u8; QUESTION_LIMIT]) -> &'b [u8] {
        postcard::to_slice(self, buffer).map(|bytes| &*bytes).unwrap_or_default()
    }
}

/// What comes back.
#[derive(Debug, Serialize, Deserialize)]
struct Answer<H> {
    /// The question's.
    number: u32,
    result: Result<H, HeaderError>,
}

/// Reads the header of `image` as `question` says, and encodes the answer; returns its length, or 0 if there is none.
pub fn answer(image: &dyn ReadAt, question: &[u8], scratch: &mut Scratch, buffer: &mut [u8]) -> usize {
    let Ok(question) = postcard::from_bytes::<Question>(question) else {
        return 0;
    };
    let result: Result<Header<'_>, HeaderError> = parse(image, question.stated, scratch);
    let answer = Answer { number: question.number, result };
    postcard::to_slice(&answer, buffer).map_or(0, |written| written.len())
}

/// Takes nothing for granted that the process, which a forged header may have taken over, has said.
///
/// # Errors
/// [`Error::Nonsense`]: no honest process says that. [`Error::Header`]: what it says about the image.
pub fn judge(bytes: &[u8], question: Question) -> Result<Found, Error> {
    let (answer, rest) = postcard::take_from_bytes::<Answer<Found>>(bytes).map_err(|_| Error::Nonsense)?;
    if !rest.is_empty() || answer.number != question.number {
        return Err(Error::Nonsense);
    }
    let found = answer.result?;
    let is_stated = question.stated.is_none_or(|stated| stated == found.format);
    if is_stated && is_possible(&found) { Ok(found) } else { Err(Error::Nonsense) }
}

/// Whether the readers could have found that.
pub(super) fn is_possible(found: &Found) -> bool {
    let is_text = |text: &[u8], limit| (1..=limit).contains(&text.len()) && !text.contains(&0);
    let is_sound = |reference: &Reference| {
        let format = reference.format.as_deref();
        is_text(&reference.name, NAME_LIMIT)
            && format.is_none_or(|format| is_text(format, FORMAT_LIMIT))
            && can_name(found.format, reference.role)
    };
    let last = found.references.len().saturating_sub(1);
    let backing_is_last = found
        .references
        .iter()
        .enumerate()
        .all(|(index, reference)| reference.role != ReferenceRole::Backing || index == last);
    let data_files = found.references.iter().filter(|reference| reference.role == ReferenceRole::DataFile);
    found.references.len() <= REFERENCE_LIMIT
        && found.references.iter().all(is_sound)
        && backing_is_last
        && data_files.count() <= 1
        && (!found.encrypted || matches!(found.format, Format::Qcow2 | Format::Qcow | Format::Luks))
}

/// Whether images of `format` name files of this `role`.
fn can_name(format: Format, role: ReferenceRole) -> bool {
    match role {
        ReferenceRole::Backing => matches!(format, Format::Qcow2 | Format::Qcow | Format::Qed | Format::Vmdk),
        ReferenceRole::DataFile => format == Format::Qcow2,
        ReferenceRole::Extent => format == Format::Vmdk,
    }
}

#[cfg(test)]
mod tests;
