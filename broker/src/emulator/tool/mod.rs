//! What `qemu-img`, `qemu-io`, `qemu-nbd` and `qemu-storage-daemon` share: their way to write options, and images
//! that are named by words instead of by `-drive`.

pub(super) mod getopt;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use super::blockdev::{self, Keys, remote};
use super::draft::{Draft, Group, OpenedBy, ReadGroup};
use super::error::Error;
use super::filename;
use super::resource::{Access, Kind};
use super::value::Pairs;
use super::{files, json, object};
use crate::open::chain::name::resolve as resolve_backing;

/// How a tool names an image, and what it does with it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operand<'a> {
    /// What names it, for messages.
    pub(super) option: &'a str,
    /// The word: a file name in QEMU's syntax or, with `is_options`, the options of a block node.
    pub(super) word: &'a OsStr,
    /// `-f`.
    pub(super) format: Option<&'a OsStr>,
    /// The key of a first option without one, for a word that holds options (`--image-opts`).
    pub(super) options: Option<ImageOptions>,
    pub(super) access: Access,
    /// Opened without what lies below it (`BDRV_O_NO_BACKING`).
    pub(super) alone: bool,
}

/// How a tool reads the word of `--image-opts`: `implied_opt_name` of its list, where it allows that.
#[derive(Debug, Clone, Copy)]
pub(super) struct ImageOptions(pub(super) Option<&'static str>);

/// Adds an image that a word names (`img_open` in `qemu-img.c`, and what the others do alike).
///
/// # Errors
/// As [`blockdev::build`].
pub(super) fn image(draft: &mut Draft<'_>, operand: Operand<'_>) -> Result<(), Error> {
    let (mut keys, name) = match operand.options {
        Some(ImageOptions(implied)) => {
            let pairs = Pairs::parse(operand.option, operand.word, implied)?;
            let mut keys: Keys = pairs.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
            keys.remove("id");
            (keys, None)
        }
        None => (Keys::new(), Some(operand.word.to_owned())),
    };
    if let Some(format) = operand.format.filter(|_| operand.options.is_none()) {
        keys.insert("driver".to_owned(), format.to_owned());
    }
    if operand.options.is_none() {
        refuse_descriptor(operand.option, operand.word)?;
        looked_at(draft, operand.option, operand.word)?;
    }
    draft.line.io_uring |= blockdev::asks_for_io_uring(&keys);
    let mut node = blockdev::build(operand.option, keys, name, false)?;
    node.backing_given |= operand.alone;
    node.read_only.get_or_insert(operand.access == Access::ReadOnly);
    draft.nodes.push(node);
    Ok(())
}

/// Lays the temporary overlay of `-s` over the image that was added last: it takes all writes.
pub(super) fn overlay_last(draft: &mut Draft<'_>) {
    draft.line.temporary_overlays = true;
    if let Some(node) = draft.nodes.last_mut() {
        node.overlaid = true;
    }
}

/// Adds an image that another one has, or is to have, as its backing file: its name is read from the folder of `overlay`.
///
/// # Errors
/// [`Error::NotServed`] for what is no file; as [`image`].
pub(super) fn backing(
    draft: &mut Draft<'_>,
    option: &str,
    overlay: &OsStr,
    name: &OsStr,
    format: Option<&OsStr>,
) -> Result<(), Error> {
    let resolved = resolve_backing(overlay, name.as_bytes()).map_err(|reason| {
        let what = format!("the backing file {}", name.to_string_lossy());
        Error::not_served(option, what, format!("{reason}; name a file of this host"))
    })?;
    image(draft, Operand { option, word: &resolved, format, options: None, access: Access::ReadOnly, alone: false })
}

/// Adds a file that is created, or written anew (`bdrv_create`). Its name has QEMU's syntax.
///
/// # Errors
/// [`Error::NotServed`] for protocols that are not served, and as [`Draft::file`].
pub(super) fn target(draft: &mut Draft<'_>, option: &str, name: &OsStr) -> Result<(), Error> {
    looked_at(draft, option, name)?;
    refuse_descriptor(option, name)?;
    if remote::is_name(name) {
        // What is there is written: a server has no files to make.
        return image(
            draft,
            Operand { option, word: name, format: None, options: None, access: Access::ReadWrite, alone: true },
        );
    }
    match filename::resolve(option, None, None, Some(name.to_owned()))?.file {
        Some(file) => draft.file(option, &file, Kind::Target, OpenedBy::QemuOpen),
        None => Ok(()),
    }
}

/// The tools take `fd:` for a protocol that they do not have; as the name of a file node they open it as it stands.
fn refuse_descriptor(option: &str, name: &OsStr) -> Result<(), Error> {
    if !name.as_bytes().starts_with(b"fd:") {
        return Ok(());
    }
    let what = format!("the descriptor {}", name.to_string_lossy());
    let instead = "say --image-opts driver=FORMAT,file.driver=file,file.filename=fd:N, for an image that is there";
    Err(Error::not_served(option, what, instead))
}

/// A name with the prefix of a protocol is also looked at as it stands, in case it is a device (`find_hdev_driver` in
/// QEMU's `block.c`).
fn looked_at(draft: &mut Draft<'_>, option: &str, name: &OsStr) -> Result<(), Error> {
    let prefixed =
        ["file:", "host_device:", "host_cdrom:"].iter().any(|start| name.as_bytes().starts_with(start.as_bytes()));
    if prefixed { draft.file(option, name, Kind::NoFile, OpenedBy::Plain) } else { Ok(()) }
}

/// `--object`.
///
/// # Errors
/// As [`object::read`].
pub(super) fn object(draft: &mut Draft<'_>, option: &str, argument: &OsStr) -> Result<(), Error> {
    keyed(draft, option, argument, Some("qom-type"), object::read)
}

/// `-T`, `--trace`.
///
/// # Errors
/// As [`files::trace`].
pub(super) fn trace(draft: &mut Draft<'_>, option: &str, argument: &OsStr) -> Result<(), Error> {
    pairs(draft, option, argument, Some("enable"), files::trace)
}

/// An option of pairs or of a JSON object, understood by `read`.
///
/// # Errors
/// As `read`; [`Error::Malformed`] for what is neither.
pub(super) fn keyed(
    draft: &mut Draft<'_>,
    option: &str,
    argument: &OsStr,
    implied: Option<&'static str>,
    read: ReadGroup,
) -> Result<(), Error> {
    if !argument.as_bytes().starts_with(b"{") {
        return pairs(draft, option, argument, implied, read);
    }
    understand(draft, option, json::pairs(option, argument)?, read)
}

/// An option of pairs, understood by `read`.
///
/// # Errors
/// As `read`; [`Error::Malformed`] for a key that is no text.
pub(super) fn pairs(
    draft: &mut Draft<'_>,
    option: &str,
    argument: &OsStr,
    implied: Option<&'static str>,
    read: ReadGroup,
) -> Result<(), Error> {
    understand(draft, option, Pairs::parse(option, argument, implied)?, read)
}

fn understand(draft: &mut Draft<'_>, option: &str, pairs: Pairs, read: ReadGroup) -> Result<(), Error> {
    read(draft, &Group { name: "", option: option.to_owned(), pairs, read, from_file: false, word: None })
}

/// `--aio` and its like.
pub(super) fn note_aio(draft: &mut Draft<'_>, argument: &OsStr) {
    draft.line.io_uring |= argument == "io_uring";
}

/// The last of several, which is the one that counts.
pub(super) fn last<M: Copy + PartialEq>(options: &[getopt::Given<M>], meaning: M) -> Option<&getopt::Given<M>> {
    options.iter().rev().find(|given| given.meaning == meaning)
}

/// True if an option of this meaning was given.
pub(super) fn has<M: Copy + PartialEq>(options: &[getopt::Given<M>], meaning: M) -> bool {
    last(options, meaning).is_some()
}

/// The argument of the last option of this meaning.
pub(super) fn argument<M: Copy + PartialEq>(options: &[getopt::Given<M>], meaning: M) -> Option<&OsStr> {
    last(options, meaning).map(|given| given.argument.as_os_str())
}

/// `typed`, and its argument as far as a message has room for it.
pub(super) fn shortened(typed: &str, argument: &OsStr) -> String {
    super::as_typed(OsStr::new(typed), argument)
}

/// An operand for messages: behind the name of its command.
pub(super) fn operand_of(command: &str, word: &OsString) -> String {
    shortened(command, word)
}

#[cfg(test)]
pub(super) mod tests {
    use super::getopt::Opt;

    /// Fails unless the section of `program` in the manual names every option.
    pub(in super::super) fn assert_in_manual<M>(options: &[Opt<M>], program: &str) {
        let manual = include_str!("../../../../docs/command-line.md");
        let section = manual.split("\n### ").find(|section| section.starts_with(&format!("`{program}`")));
        let section = section.unwrap_or_else(|| panic!("docs/command-line.md has no section `{program}`"));
        for option in options {
            let letter = format!("`-{}`", char::from(option.letter));
            let name = format!("`--{}`", option.name);
            assert!(option.letter == 0 || section.contains(&letter), "{program} {letter}");
            assert!(option.name.is_empty() || section.contains(&name), "{program} {name}");
        }
    }
}
