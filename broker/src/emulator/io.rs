//! `qemu-io`: one image, and commands that read and write it.
//!
//! Source: the table `lopt` in `qemu-io.c` of QEMU 7.2 and 10.0. A command such as `open OTHER` names files too, but
//! commands also come from standard input: what they name is refused when it is opened.

use std::ffi::OsString;

use super::draft::Draft;
use super::error::Error;
use super::graph;
use super::resource::Access;
use super::tool::getopt::{self, Given, Opt, Order, flag, value};
use super::tool::{self, ImageOptions, Operand};

/// What an option means for the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    /// It names nothing outside.
    Harmless,
    /// Something is printed, and nothing done.
    Prints,
    /// An object that options refer to.
    Object,
    /// Events and a log.
    Trace,
    /// The operand is the options of a block node.
    ImageOpts,
    /// The image's format.
    Format,
    /// The image is only read.
    ReadOnly,
    /// Writes go to a temporary file.
    Snapshot,
    /// How reads and writes are done.
    Aio,
}

use Meaning::{Aio, Format, Harmless, ImageOpts, Object, Prints, ReadOnly, Snapshot, Trace};

/// All options.
#[rustfmt::skip] // one line an option
static OPTIONS: &[Opt<Meaning>] = &[
    flag(b'h', "help", Prints),
    flag(b'V', "version", Prints),
    value(b'T', "trace", Trace),
    value(0, "object", Object),
    value(b'c', "cmd", Harmless), // what it names is refused later
    value(b'f', "format", Format),
    flag(0, "image-opts", ImageOpts),
    flag(b'r', "read-only", ReadOnly),
    flag(b's', "snapshot", Snapshot),
    flag(b'n', "nocache", Harmless),
    flag(b'C', "copy-on-read", Harmless),
    flag(b'm', "misalign", Harmless),
    flag(b'k', "native-aio", Harmless),
    value(b'i', "aio", Aio),
    value(b'd', "discard", Harmless),
    value(b't', "cache", Harmless),
    flag(b'U', "force-share", Harmless),
];

/// Reads the words behind `qemu-io`.
///
/// # Errors
/// Those of [`getopt::sort`], and those about what the words name.
pub(super) fn read(draft: &mut Draft<'_>, words: &[OsString]) -> Result<(), Error> {
    let sorted = getopt::sort("qemu-io", OPTIONS, words, Order::Permuted)?;
    if tool::has(&sorted.options, Prints) {
        draft.line.informational = true;
        return Ok(());
    }
    sorted.options.iter().try_for_each(|given| read_option(draft, given))?;
    let [word] = sorted.operands.as_slice() else { return Ok(()) };
    let snapshot = tool::has(&sorted.options, Snapshot);
    let reads = snapshot || tool::has(&sorted.options, ReadOnly);
    let operand = Operand {
        option: &tool::operand_of("qemu-io", word),
        word,
        format: tool::argument(&sorted.options, Format),
        options: tool::has(&sorted.options, ImageOpts).then_some(ImageOptions(None)),
        access: if reads { Access::ReadOnly } else { Access::ReadWrite },
        alone: false,
    };
    tool::image(draft, operand)?;
    if snapshot {
        tool::overlay_last(draft);
    }
    graph::add_images(draft)
}

fn read_option(draft: &mut Draft<'_>, given: &Given<Meaning>) -> Result<(), Error> {
    match given.meaning {
        Object => tool::object(draft, &given.typed, &given.argument),
        Trace => tool::trace(draft, &given.typed, &given.argument),
        Aio => {
            tool::note_aio(draft, &given.argument);
            Ok(())
        }
        Harmless | Prints | ImageOpts | Format | ReadOnly | Snapshot => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::resource::Backing;
    use super::super::testing::{image, images, overlaid, ro, rw, tool_line};
    use super::*;

    #[test]
    fn the_image_with_its_access() {
        for (words, access) in [
            (&["-f", "qcow2", "-c", "write 0 1k", "a"][..], rw()),
            (&["a", "-rfqcow2", "-c", "open /etc/shadow"], ro()),
            (&["--image-opts", "driver=qcow2,file.driver=file,file.filename=a"], rw()),
            (&["--image-opts", "driver=qcow2,read-only=on,file.filename=a"], ro()),
        ] {
            let found = tool_line("qemu-io", words).unwrap();
            assert_eq!(images(&found), [image("a", Some("qcow2"), access, Backing::Header)], "{words:?}");
        }
        let found = tool_line("qemu-io", &["-s", "-i", "io_uring", "-f", "raw", "a"]).unwrap();
        assert_eq!(images(&found), [overlaid("a", Some("raw"), ro(), Backing::Ignored)]);
        assert!(found.temporary_overlays && found.io_uring);
    }

    #[test]
    fn without_an_image_nothing_is_named() {
        for words in [&[][..], &["-c", "help"], &["a", "b"], &["--help"], &["-V"]] {
            assert!(tool_line("qemu-io", words).unwrap().resources.is_empty(), "{words:?}");
        }
        assert!(matches!(tool_line("qemu-io", &["--x", "a"]), Err(Error::UnknownOption { .. })));
    }

    #[test]
    fn the_manual_names_every_option() {
        tool::tests::assert_in_manual(OPTIONS, "qemu-io");
    }
}
