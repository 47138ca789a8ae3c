//! `qemu-img`: which images its command reads, changes or makes.
//!
//! A command line that `qemu-img` refuses by itself (too few operands, options that exclude each other) is left to it:
//! it names nothing that would be opened.

mod changing;
mod making;
mod reading;
mod table;

use std::ffi::{OsStr, OsString};

use super::draft::Draft;
use super::error::Error;
use super::graph;
use super::resource::{Access, CommitInto, Kind};
use super::tool::getopt::{self, Given, Opt, Order, flag, value};
use super::tool::{self, ImageOptions, Operand};

/// What an option of a command means for the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// It names nothing outside.
    Harmless,
    /// Usage is printed, and nothing done.
    Help,
    /// An object that options refer to.
    Object,
    /// Operands are options of block nodes.
    ImageOpts,
    /// The target is.
    TargetImageOpts,
    /// The format of the first image, or of all.
    Format,
    /// The format of what is made.
    OutputFormat,
    /// Another image: a backing file, or where bitmaps come from.
    Base,
    /// Its format.
    BaseFormat,
    /// Properties of the image that is made.
    Options,
    /// Backing files are not opened.
    Unsafe,
    /// The target exists.
    Existing,
    /// How reads and writes are done.
    Aio,
    /// The image is written.
    Write,
    /// The image is only read.
    List,
    /// All backing files too.
    Chain,
}

/// What may stand before the command.
static BEFORE: &[Opt<Before>] =
    &[flag(b'h', "help", Before::Prints), flag(b'V', "version", Before::Prints), value(b'T', "trace", Before::Trace)];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Prints,
    Trace,
}

/// One command with its options and operands.
struct Call<'a> {
    command: &'static str,
    options: &'a [Given<Meaning>],
    operands: &'a [OsString],
}

impl Call<'_> {
    fn has(&self, meaning: Meaning) -> bool {
        tool::has(self.options, meaning)
    }

    fn argument(&self, meaning: Meaning) -> Option<&OsStr> {
        tool::argument(self.options, meaning)
    }

    /// The option as typed, for messages.
    fn typed(&self, meaning: Meaning) -> String {
        tool::last(self.options, meaning).map_or_else(|| self.command.to_owned(), |given| given.typed.clone())
    }

    /// An operand as typed, for messages.
    fn named(&self, word: &OsString) -> String {
        tool::operand_of(self.command, word)
    }

    /// Adds the image of an operand, with its backing files.
    fn image(&self, draft: &mut Draft<'_>, word: &OsString, access: Access) -> Result<(), Error> {
        self.open(draft, word, self.argument(Meaning::Format), access, false)
    }

    /// The same with another format than that of `-f`, or without its backing files.
    fn open(
        &self,
        draft: &mut Draft<'_>,
        word: &OsString,
        format: Option<&OsStr>,
        access: Access,
        alone: bool,
    ) -> Result<(), Error> {
        let options = self.has(Meaning::ImageOpts).then_some(IMAGE_OPTIONS);
        tool::image(draft, Operand { option: &self.named(word), word, format, options, access, alone })
    }
}

/// The list `source` of `qemu-img.c`. It allows a first value without a key, for which it has one that no driver takes.
const IMAGE_OPTIONS: ImageOptions = ImageOptions(Some("source"));

/// Reads the words behind `qemu-img`.
///
/// # Errors
/// [`Error::UnknownCommand`], those of [`getopt::sort`], and those about what the words name.
pub(super) fn read(draft: &mut Draft<'_>, words: &[OsString]) -> Result<(), Error> {
    let before = getopt::sort("qemu-img", BEFORE, words, Order::OperandsLast)?;
    for given in &before.options {
        match given.meaning {
            Before::Prints => draft.line.informational = true,
            Before::Trace => tool::trace(draft, &given.typed, &given.argument)?,
        }
    }
    // Without a command, it says so and ends.
    let Some((name, words)) = before.operands.split_first().filter(|_| !draft.line.informational) else {
        draft.line.informational = true;
        return Ok(());
    };
    let command = name.to_str().and_then(table::command);
    let command = command.ok_or_else(|| Error::UnknownCommand { command: tool::operand_of("qemu-img", name) })?;
    read_command(draft, command, words)?;
    graph::add_images(draft)
}

fn read_command(draft: &mut Draft<'_>, command: &table::Command, words: &[OsString]) -> Result<(), Error> {
    // Its size may begin with a minus, and is taken off before options are looked for.
    let words = if command.name == "resize" { words.split_last().map_or(words, |(_, others)| others) } else { words };
    let sorted = getopt::sort(command.name, command.options, words, Order::Permuted)?;
    if tool::has(&sorted.options, Meaning::Help) {
        draft.line.informational = true;
        return Ok(());
    }
    for given in sorted.options.iter().filter(|given| given.meaning == Meaning::Object) {
        tool::object(draft, &given.typed, &given.argument)?;
    }
    (command.read)(draft, &Call { command: command.name, options: &sorted.options, operands: &sorted.operands })
}

#[cfg(test)]
mod tests;
