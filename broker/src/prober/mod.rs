//! The prober: a throw-away process that reads the header of one image, of which every byte may be hostile.
//!
//! [`Prober::probe`] is the program: open the pinned image, ask a confined process what its header says, and judge
//! the answer as if an attacker had written it.

pub mod detect;
pub mod header;
mod process;
mod qcow2;

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::fs::OFlags;
use sandbox_profiles::{Profile, Program, Variant};
use serde::{Deserialize, Serialize};

use crate::confine::seccomp;
use crate::open::pin::Pin;
use header::{FORMAT_LIMIT, Format, Header, HeaderError, NAME_LIMIT, Scratch, parse};
use process::{ANSWER_LIMIT, NotConfined, ask_confined};

/// How long one header may take: a slow file server answers in less, and an operator waits for no more.
const PATIENCE: Duration = Duration::from_secs(5);

/// What one image's header says, as received.
pub type Found = Header<Vec<u8>>;

/// Makes a process for each image that is probed.
#[derive(Debug)]
pub struct Prober {
    filter: Program,
}

/// What crosses the pipe, in postcard.
#[derive(Debug, Serialize, Deserialize)]
enum Answer<B> {
    Parsed(Result<Header<B>, HeaderError>),
    NotConfined(NotConfined),
}

impl Prober {
    /// Compiles the filter once; the processes only install it.
    ///
    /// # Errors
    /// [`seccomp::Error::Compile`]: the profile is not for this machine.
    pub fn new() -> Result<Self, seccomp::Error> {
        Ok(Self { filter: seccomp::compile(Profile::Prober, &Variant::default())? })
    }

    /// Reads the header of `image`, which must be a regular file or a block device. With no `stated` format it is
    /// taken for what QEMU would take it for; an image that is stated to be raw is not read at all.
    ///
    /// # Errors
    /// [`Error`]; its messages are about the image and do not name it.
    pub fn probe(&self, image: &Pin, stated: Option<Format>) -> Result<Found, Error> {
        if stated == Some(Format::Raw) {
            return Ok(Header::raw());
        }
        // Without O_NONBLOCK a lease that somebody holds on the file would make the broker wait.
        let image = image.reopen(OFlags::RDONLY | OFlags::NONBLOCK).map_err(Error::Open)?;
        let bytes = ask_confined(image.as_fd(), &self.filter, PATIENCE, |image, buffer| {
            let mut scratch = Scratch::default();
            let answer = match image {
                Ok(image) => Answer::Parsed(parse(&image, stated, &mut scratch)),
                Err(error) => Answer::NotConfined(error),
            };
            postcard::to_slice(&answer, buffer).map_or(0, |written| written.len())
        })?;
        judge(&bytes, stated)
    }
}

/// Takes nothing for granted that the process, which a forged header may have taken over, has said.
fn judge(bytes: &[u8], stated: Option<Format>) -> Result<Found, Error> {
    let (answer, rest) = postcard::take_from_bytes::<Answer<Vec<u8>>>(bytes).map_err(|_| Error::Nonsense)?;
    if !rest.is_empty() || bytes.len() > ANSWER_LIMIT {
        return Err(Error::Nonsense);
    }
    let header = match answer {
        Answer::Parsed(result) => result?,
        Answer::NotConfined(error) => return Err(error.into()),
    };
    let is_text = |text: &[u8], limit| (1..=limit).contains(&text.len()) && !text.contains(&0);
    let is_sound = header.backing.as_ref().is_none_or(|backing| {
        let format = backing.format.as_deref();
        is_text(&backing.name, NAME_LIMIT) && format.is_none_or(|format| is_text(format, FORMAT_LIMIT))
    });
    let is_stated = stated.is_none_or(|stated| stated == header.format);
    let is_possible = header.format != Format::Raw || header == Header::raw();
    if is_sound && is_stated && is_possible { Ok(header) } else { Err(Error::Nonsense) }
}

/// Why nothing is known about an image.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `open(2)`.
    #[error("cannot open it for reading: {0}{hint}", hint = open_hint(.0))]
    Open(io::Error),
    /// The process.
    #[error(transparent)]
    Process(#[from] process::Error),
    /// The process could not be confined, and so did not read anything.
    #[error(transparent)]
    NotConfined(#[from] NotConfined),
    /// An answer that the code above never gives.
    #[error("the prober's answer makes no sense; take the image for hostile")]
    Nonsense,
    /// The image.
    #[error(transparent)]
    Header(#[from] HeaderError),
}

/// What to do about a failed open.
fn open_hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EACCES | libc::EPERM) => "; give the user who starts broker the right to read it",
        Some(libc::EAGAIN) => "; another program holds a lease on it: stop that program, or try again",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use header::Backing;

    fn encoded(answer: &Answer<Vec<u8>>) -> Vec<u8> {
        let mut buffer = [0; 2 * ANSWER_LIMIT];
        postcard::to_slice(answer, &mut buffer).unwrap().to_vec()
    }

    fn overlay(name: &[u8], format: Option<&[u8]>) -> Header<Vec<u8>> {
        let backing = Some(Backing { name: name.to_vec(), format: format.map(<[u8]>::to_vec) });
        Header { format: Format::Qcow2, backing, data_file: false, encrypted: false }
    }

    fn judged(header: Header<Vec<u8>>, stated: Option<Format>) -> Result<Found, Error> {
        judge(&encoded(&Answer::Parsed(Ok(header))), stated)
    }

    #[test]
    fn the_longest_honest_answer_fits() {
        let header = overlay(&[0xff; NAME_LIMIT], Some(&[b'q'; FORMAT_LIMIT]));
        assert!(encoded(&Answer::Parsed(Ok(header.clone()))).len() <= ANSWER_LIMIT);
        assert_eq!(judged(header.clone(), Some(Format::Qcow2)).unwrap(), header);
    }

    #[test]
    fn answers_that_no_parser_gives_are_refused() {
        let raw_with_backing = Header { format: Format::Raw, ..overlay(b"x", None) };
        for header in [
            overlay(&[b'x'; NAME_LIMIT + 1], None),
            overlay(b"", None),
            overlay(b"a\0b", None),
            overlay(b"x", Some(b"")),
            overlay(b"x", Some(&[b'q'; FORMAT_LIMIT + 1])),
            overlay(b"x", Some(b"raw\0")),
            raw_with_backing,
        ] {
            assert!(matches!(judged(header, None), Err(Error::Nonsense)));
        }
        assert!(matches!(judged(Header::raw(), Some(Format::Qcow2)), Err(Error::Nonsense)));
    }

    #[test]
    fn trailing_short_and_wild_bytes_are_refused() {
        let honest = encoded(&Answer::Parsed(Ok(overlay(b"base", Some(b"raw")))));
        for length in 0..honest.len() {
            assert!(matches!(judge(&honest[..length], None), Err(Error::Nonsense)), "{length}");
        }
        assert!(matches!(judge(&[&honest[..], &[0]].concat(), None), Err(Error::Nonsense)));
        // A name that claims 2^63 bytes.
        let huge = [0, 0, 1, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, b'x'];
        assert!(matches!(judge(&huge, None), Err(Error::Nonsense)));
    }

    #[test]
    fn errors_arrive_as_they_were_sent() {
        let sent = HeaderError::PastEnd { field: header::Field::BackingFileName };
        let received = judge(&encoded(&Answer::Parsed(Err(sent))), None);
        assert!(matches!(received, Err(Error::Header(error)) if error == sent));
    }
}
