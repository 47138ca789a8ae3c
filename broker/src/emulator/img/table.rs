//! Every command of `qemu-img` in QEMU 7.2 and 10.0, and every option of each.
//!
//! Source: `qemu-img-cmds.hx`, and the calls of `getopt_long` in `qemu-img.c`, of both versions.

use super::Meaning::{
    Aio, Base, BaseFormat, Chain, Existing, Format, Harmless, Help, ImageOpts, List, Object, Options, OutputFormat,
    TargetImageOpts, Unsafe, Write,
};
use super::{Call, Meaning, changing, making, reading};
use crate::emulator::draft::Draft;
use crate::emulator::error::Error;
use crate::emulator::tool::getopt::{Opt, flag, value};

/// One command.
pub(super) struct Command {
    pub(super) name: &'static str,
    pub(super) options: &'static [Opt<Meaning>],
    /// Finds what its operands name.
    pub(super) read: fn(&mut Draft<'_>, &Call<'_>) -> Result<(), Error>,
}

/// The command of this name.
pub(super) fn command(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}

const HELP: Opt<Meaning> = flag(b'h', "help", Help);
const OBJECT: Opt<Meaning> = value(0, "object", Object);
const IMAGE_OPTS: Opt<Meaning> = flag(0, "image-opts", ImageOpts);
const FORMAT: Opt<Meaning> = value(b'f', "", Format);
const LONG_FORMAT: Opt<Meaning> = value(b'f', "format", Format);
const FORCE_SHARE: Opt<Meaning> = flag(b'U', "force-share", Harmless);
const OUTPUT: Opt<Meaning> = value(0, "output", Harmless); // human or json
const QUIET: Opt<Meaning> = flag(b'q', "", Harmless);
const PROGRESS: Opt<Meaning> = flag(b'p', "", Harmless);
const CACHE: Opt<Meaning> = value(b't', "", Harmless);
const SOURCE_CACHE: Opt<Meaning> = value(b'T', "", Harmless);

const fn harmless(letter: u8) -> Opt<Meaning> {
    flag(letter, "", Harmless)
}

const fn number(letter: u8) -> Opt<Meaning> {
    value(letter, "", Harmless)
}

const fn switch(name: &'static str) -> Opt<Meaning> {
    flag(0, name, Harmless)
}

const fn text(name: &'static str) -> Opt<Meaning> {
    value(0, name, Harmless)
}

/// All commands.
#[rustfmt::skip] // one line an option, or a few that belong together
pub(super) static COMMANDS: &[Command] = &[
    Command { name: "amend", read: changing::amend, options: &[
        HELP, OBJECT, IMAGE_OPTS, FORMAT, PROGRESS, QUIET, CACHE,
        value(b'o', "", Options), // new properties; a backing file cannot be among them
        switch("force"),
    ] },
    Command { name: "bench", read: reading::bench, options: &[
        HELP, IMAGE_OPTS, FORMAT, FORCE_SHARE, QUIET, CACHE,
        number(b'c'), number(b'd'), number(b'o'), number(b's'), number(b'S'),
        value(b'i', "", Aio),
        flag(b'w', "", Write),
        harmless(b'n'), // aio=native
        text("flush-interval"), text("pattern"), switch("no-drain"),
    ] },
    Command { name: "bitmap", read: changing::bitmap, options: &[
        HELP, OBJECT, IMAGE_OPTS, FORMAT,
        value(b'b', "source-file", Base), value(b'F', "source-format", BaseFormat),
        value(b'g', "granularity", Harmless),
        switch("add"), switch("remove"), switch("clear"), switch("enable"), switch("disable"), text("merge"),
    ] },
    Command { name: "check", read: reading::check, options: &[
        HELP, OBJECT, IMAGE_OPTS, LONG_FORMAT, FORCE_SHARE, OUTPUT, QUIET, SOURCE_CACHE,
        value(b'r', "repair", Write),
    ] },
    Command { name: "commit", read: changing::commit, options: &[
        HELP, OBJECT, IMAGE_OPTS, FORMAT, PROGRESS, QUIET, CACHE,
        value(b'b', "", Base),
        harmless(b'd'), number(b'r'),
    ] },
    Command { name: "compare", read: reading::compare, options: &[
        HELP, OBJECT, IMAGE_OPTS, FORMAT, FORCE_SHARE, PROGRESS, QUIET, SOURCE_CACHE,
        value(b'F', "", BaseFormat), // of the second image
        harmless(b's'),
    ] },
    Command { name: "convert", read: making::convert, options: &[
        HELP, OBJECT, IMAGE_OPTS, FORMAT, FORCE_SHARE, PROGRESS, QUIET, CACHE, SOURCE_CACHE,
        value(b'O', "", OutputFormat), value(b'B', "", Base), value(b'F', "", BaseFormat), value(b'o', "", Options),
        flag(b'n', "", Existing), flag(0, "target-image-opts", TargetImageOpts),
        harmless(b'C'), harmless(b'c'), harmless(b'W'),
        number(b'l'), number(b'S'), number(b'm'), number(b'r'),
        switch("salvage"), switch("target-is-zero"), switch("bitmaps"), switch("skip-broken-bitmaps"),
    ] },
    Command { name: "create", read: making::create, options: &[
        HELP, OBJECT, FORMAT, QUIET,
        value(b'b', "", Base), value(b'F', "", BaseFormat), value(b'o', "", Options), flag(b'u', "", Unsafe),
    ] },
    Command { name: "dd", read: making::dd, options: &[
        HELP, OBJECT, IMAGE_OPTS, FORMAT, FORCE_SHARE,
        value(b'O', "", OutputFormat),
    ] },
    Command { name: "info", read: reading::info, options: &[
        HELP, OBJECT, IMAGE_OPTS, LONG_FORMAT, FORCE_SHARE, OUTPUT,
        flag(0, "backing-chain", Chain),
    ] },
    Command { name: "map", read: reading::map, options: &[
        HELP, OBJECT, IMAGE_OPTS, LONG_FORMAT, FORCE_SHARE, OUTPUT,
        value(b's', "start-offset", Harmless), value(b'l', "max-length", Harmless),
    ] },
    Command { name: "measure", read: reading::measure, options: &[
        HELP, OBJECT, IMAGE_OPTS, FORMAT, FORCE_SHARE, OUTPUT,
        value(b'O', "", OutputFormat),
        value(b'o', "", Options), // those of an image that is not made
        number(b'l'), text("size"),
    ] },
    Command { name: "rebase", read: changing::rebase, options: &[
        HELP, OBJECT, IMAGE_OPTS, FORMAT, FORCE_SHARE, PROGRESS, QUIET, CACHE, SOURCE_CACHE,
        value(b'b', "", Base), value(b'F', "", BaseFormat), flag(b'u', "", Unsafe),
        flag(b'c', "compress", Harmless), // since 9.0
    ] },
    Command { name: "resize", read: changing::resize, options: &[
        HELP, OBJECT, IMAGE_OPTS, FORMAT, QUIET,
        text("preallocation"), switch("shrink"),
    ] },
    Command { name: "snapshot", read: changing::snapshot, options: &[
        HELP, OBJECT, IMAGE_OPTS, FORCE_SHARE, QUIET,
        flag(b'l', "", List), number(b'a'), number(b'c'), number(b'd'),
    ] },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_option_of_a_command_stands_twice() {
        for command in COMMANDS {
            let mut names: Vec<String> = Vec::new();
            for option in command.options {
                names.extend((option.letter != 0).then(|| char::from(option.letter).to_string()));
                names.extend((!option.name.is_empty()).then(|| option.name.to_owned()));
            }
            let before = names.len();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), before, "{}", command.name);
        }
    }

    #[test]
    fn the_manual_names_every_command_and_option() {
        let manual = include_str!("../../../../docs/command-line.md");
        for command in COMMANDS {
            let start = format!("| `{}` |", command.name);
            let line = manual.lines().find(|line| line.starts_with(&start));
            let line = line.unwrap_or_else(|| panic!("docs/command-line.md has no line for qemu-img {}", command.name));
            for option in command.options.iter().filter(|option| !matches!(option.meaning, Help | Object)) {
                let letter = format!("`-{}`", char::from(option.letter));
                let name = format!("`--{}`", option.name);
                let named = option.letter == 0 || line.contains(&letter);
                let named = named && (option.name.is_empty() || line.contains(&name));
                assert!(named, "{}: {letter} {name}", command.name);
            }
        }
    }
}
