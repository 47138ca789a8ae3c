//! Why a backing chain is refused, in words that say what would mend it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::name;
use crate::prober;

/// Why the chain of an image cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A stated format that is not known.
    #[error(
        "image {image:?}: the format {format:?} is not served yet; convert the image with qemu-img convert -O qcow2"
    )]
    Format {
        /// The image, as QEMU opens it.
        image: OsString,
        /// The format, as it was stated.
        format: String,
    },
    /// Its header could not be read, or is refused.
    #[error("image {image:?}: {source}")]
    Header {
        /// The image, as QEMU opens it.
        image: OsString,
        /// What is wrong with it.
        source: prober::Error,
    },
    /// Not something that holds an image.
    #[error("image {image:?} is {kind}; name a regular file or a block device")]
    Kind {
        /// The image, as QEMU opens it.
        image: OsString,
        /// What it is.
        kind: &'static str,
    },
    /// A guest can write any header into its raw disk, and so would choose what it is given at its next start.
    #[error(
        "image {image:?} is given without a format, and its header names the backing file {backing:?}: a guest can \
         write such a header into a raw disk; use -drive file=...,format=qcow2 if it is an overlay, or format=raw"
    )]
    ProbedOverlay {
        /// The image, as QEMU opens it.
        image: OsString,
        /// The name in its header.
        backing: OsString,
    },
    /// The guest's data are in another file.
    #[error(
        "image {image:?}: its incompatible_features say that its data are in another file (bit 2, external data \
         file), which is not served yet; merge both with qemu-img convert -O qcow2"
    )]
    DataFile {
        /// The image, as QEMU opens it.
        image: OsString,
    },
    /// Something is wrong with the next member.
    #[error("image {image:?} names the backing file {backing:?}: {refusal}")]
    Member {
        /// The image, as QEMU opens it.
        image: OsString,
        /// The name in its header.
        backing: OsString,
        /// What is wrong.
        refusal: Box<Refusal>,
    },
}

/// What is wrong with a backing file.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Its name is not that of a file.
    #[error(transparent)]
    Name(#[from] name::Error),
    /// QEMU would guess, and a guest can choose what is guessed.
    #[error("its format is not stated, and is never guessed; state it: {0}")]
    NoFormat(RebaseLine),
    /// A format that is not known.
    #[error("its format {0:?} is not served yet; convert it with qemu-img convert -O qcow2, then {1}")]
    Format(OsString, RebaseLine),
    /// It cannot be found.
    #[error("cannot find {0:?}: {1}; if it was moved, {2}")]
    Missing(OsString, io::Error, RebaseLine),
    /// It may not be read.
    #[error("may not read {0:?}: {1}; give the user who starts broker the right to")]
    Unreadable(PathBuf, io::Error),
    /// Not something that holds an image.
    #[error("it is {0}; only a regular file or a block device can back an image")]
    Kind(&'static str),
    /// A file of the kernel, whatever the roots are.
    #[error("{0:?} is made by the kernel and cannot be a disk image; the image is forged")]
    Kernel(PathBuf),
    /// Not beneath a declared folder.
    #[error(
        "{path:?} is outside the image roots, or hidden in one; if the guest may read it, add --image-root {folder}"
    )]
    Outside {
        /// Where it is, links resolved.
        path: PathBuf,
        /// Its folder, as a word of the shell.
        folder: ShellWord,
    },
    /// It is in the chain already.
    #[error("{0:?} stands in its own backing chain; the image is damaged or forged")]
    Loop(PathBuf),
    /// No honest chain is that long.
    #[error("the chain has more than {0} backing files; shorten it with qemu-img commit or qemu-img rebase")]
    TooDeep(usize),
}

/// The command that writes name and format of a backing file into an image.
#[derive(Debug)]
pub struct RebaseLine {
    image: ShellWord,
    backing: ShellWord,
}

impl RebaseLine {
    pub(super) fn of(image: &OsStr, backing: &OsStr) -> Self {
        Self { image: ShellWord::of(image, "IMAGE"), backing: ShellWord::of(backing, "NAME") }
    }
}

impl std::fmt::Display for RebaseLine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "qemu-img rebase -u -F FORMAT -b {} {}", self.backing, self.image)
    }
}

/// A name, quoted so that a shell takes it for one word and expands nothing in it. It may come from a header that
/// an attacker wrote, and messages are there to be copied.
#[derive(Debug, PartialEq, Eq)]
pub struct ShellWord(String);

impl ShellWord {
    /// Quotes `name`; one that cannot be shown on a terminal is replaced by `placeholder`.
    pub(super) fn of(name: &OsStr, placeholder: &str) -> Self {
        let is_plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+:@%,=".contains(byte);
        let is_shown = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
        Self(match name.to_str() {
            Some(text) if !text.is_empty() && text.bytes().all(|byte| is_plain(&byte)) => text.to_owned(),
            Some(text) if name.as_bytes().iter().all(is_shown) => format!("'{}'", text.replace('\'', r"'\''")),
            _ => placeholder.to_owned(),
        })
    }
}

impl std::fmt::Display for ShellWord {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_takes_a_quoted_name_for_one_word() {
        for (name, word) in [
            ("/srv/images/base-1.qcow2", "/srv/images/base-1.qcow2"),
            ("my disk", "'my disk'"),
            ("$(reboot)", "'$(reboot)'"),
            ("a'; reboot; '", r"'a'\''; reboot; '\'''"),
            ("", "''"),
            ("a\nb", "NAME"),
            ("\u{1b}[2J", "NAME"),
            ("\u{202e}x", "NAME"),
        ] {
            assert_eq!(ShellWord::of(OsStr::new(name), "NAME").to_string(), word);
        }
        assert_eq!(ShellWord::of(OsStr::from_bytes(b"\xff"), "NAME").to_string(), "NAME");
    }
}
