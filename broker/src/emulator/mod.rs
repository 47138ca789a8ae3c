//! What an emulator's command line says.
//!
//! [`parse`] reads the words that would start QEMU and finds every file, device and descriptor that they
//! name, so that all of them can be opened before QEMU exists. It opens nothing itself. A word that it
//! does not know, or that names something the sandbox cannot provide, is an error: what a command line
//! reaches for is known completely, or QEMU is not started.
//!
//! The first word says which of QEMU's programs it is ([`Program`]); each has a table of options of its own. That of
//! `qemu-system-*` is `table`, with one line an option. Options made of pairs are collected first and understood after the
//! last word, because QEMU does the same: `-set` changes earlier options and `-snapshot` applies to all drives.

mod address;
mod blockdev;
mod chardev;
mod defaults;
mod descriptor;
mod device;
mod display;
mod draft;
mod drive;
mod driver;
mod endpoint;
mod error;
mod filename;
mod files;
mod graph;
mod host_tpm;
mod img;
mod incoming;
mod incoming_command;
mod io;
mod json;
mod machine;
mod mistake;
mod nbd;
mod network;
mod object;
mod process;
mod program;
mod readconfig;
mod resource;
mod run_as;
mod shared_folder;
mod storage_daemon;
mod table;
#[cfg(test)]
mod testing;
mod tool;
mod usb_host;
mod value;
mod vfio;

use std::ffi::{OsStr, OsString};
use std::path::Path;

pub use self::endpoint::{Address, Endpoint, EndpointUse};
pub use self::error::Error;
pub use self::mistake::{Mistake, mistake};
pub use self::nbd::take_socket;
pub use self::network::{Addresses, Card, DatagramNetwork, HostPort, Network, Script, Source, Vhost};
pub use self::program::Program;
pub use self::resource::{
    Access, Backing, CommandLine, CommitInto, Descriptor, Image, IncomingCommand, Kind, RenderNode, Resource,
    SecurityModel, SharedFolder, UsbHost, UsbMatch, UsbName, VfioDevice, Window,
};
pub use self::run_as::{NewRoot, RunAs};

use self::draft::{Draft, Group};
use self::table::{Meaning, Row};
use self::value::Pairs;

/// Options that also take a JSON object. In the others a brace is ordinary text.
const JSON: [&str; 6] = ["audiodev", "blockdev", "compat", "device", "netdev", "object"];

/// Options whose keys QEMU lists where a bare `help` or `?` stands among them, and the key of a first value that has none,
/// which may be `help` (`opts_do_parse` in `util/qemu-option.c` for a list that is described, `keyval_parse` in
/// `util/keyval.c`). In the others it is a value, or they look for it themselves.
#[rustfmt::skip] // by what is implied
const LISTED: [(&str, Option<&str>); 21] = [
    ("action", None), ("add-fd", None), ("boot", None), ("global", None), ("iscsi", None), ("msg", None),
    ("overcommit", None), ("rtc", None), ("run-with", None), ("smp", None), ("spice", None), ("vnc", None),
    ("fsdev", Some("fsdriver")), ("fw_cfg", Some("name")), ("icount", Some("shift")), ("m", Some("size")),
    ("mon", Some("chardev")), ("name", Some("guest")), ("sandbox", Some("enable")), ("trace", Some("enable")),
    ("virtfs", Some("fsdriver")),
];

/// What an option of the emulator may name only where the operator says so in broker's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allowed {
    /// `--allow display`.
    pub windows: bool,
}

/// Reads a command line. `argv` begins with the emulator as typed; `read_config` reads a file that
/// `-readconfig` names.
///
/// # Errors
/// An [`Error`] that names the option: unknown, without its argument, not to be understood, not served,
/// or a configuration file that cannot be read.
pub fn parse(argv: &[OsString], read_config: &dyn Fn(&Path) -> std::io::Result<Vec<u8>>) -> Result<CommandLine, Error> {
    parse_allowing(argv, read_config, Allowed::default())
}

/// The same, where the operator allows more than what the sandbox gives every emulator.
///
/// # Errors
/// As [`parse`].
pub fn parse_allowing(
    argv: &[OsString],
    read_config: &dyn Fn(&Path) -> std::io::Result<Vec<u8>>,
    allowed: Allowed,
) -> Result<CommandLine, Error> {
    let mut draft = Draft::new(read_config);
    draft.windows = allowed.windows;
    read(&mut draft, argv)?;
    Ok(draft.line)
}

/// Reads all of a command line into `draft`.
fn read(draft: &mut Draft<'_>, argv: &[OsString]) -> Result<(), Error> {
    let (emulator, words) = argv.split_first().ok_or(Error::NoEmulator)?;
    draft.line.argv = argv.to_vec();
    draft.line.program = Program::of(emulator);
    match draft.line.program {
        Program::System => read_system(draft, emulator, words)?,
        Program::Img => img::read(draft, words)?,
        Program::Io => io::read(draft, words)?,
        Program::Nbd => nbd::read(draft, words)?,
        Program::StorageDaemon => storage_daemon::read(draft, words)?,
    }
    files::check_logs(draft)
}

/// What the table of options, and the lists of what their values can name, say of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is handed in, or names nothing outside.
    Served,
    /// It is refused; what to do instead.
    Refused(String),
    /// It stands nowhere.
    Unknown,
}

/// How an option of `qemu-system-*` stands, with one dash, two, or none.
#[must_use]
pub fn option_standing(option: &str) -> Standing {
    match table::row(table::name(option)).map(|row| &row.meaning) {
        Some(Meaning::Later(instead)) => Standing::Refused((*instead).to_owned()),
        Some(_) => Standing::Served,
        None => Standing::Unknown,
    }
}

/// How the words of an option stand with which `qemu-system-*` could be started, no files being there. Those that cannot
/// be understood are as good as unknown.
#[must_use]
pub fn standing(words: &[OsString]) -> Standing {
    let argv: Vec<OsString> =
        std::iter::once(OsString::from("qemu-system-x86_64")).chain(words.iter().cloned()).collect();
    match parse(&argv, &|_| Err(std::io::ErrorKind::NotFound.into())) {
        Ok(_) => Standing::Served,
        Err(Error::NotServed { instead, known: true, .. }) => Standing::Refused(instead),
        Err(_) => Standing::Unknown,
    }
}

/// Reads the words behind `qemu-system-*`.
fn read_system(draft: &mut Draft<'_>, emulator: &OsStr, words: &[OsString]) -> Result<(), Error> {
    let mut words = words.iter().zip(1_usize..);
    while let Some((word, at)) = words.next() {
        draft.at = Some(at);
        match option_name(word) {
            None => drive::disk(draft, &word.to_string_lossy(), word)?,
            Some(name) => {
                let row = table::row(name)
                    .ok_or_else(|| Error::UnknownOption { option: word.to_string_lossy().into_owned() })?;
                read_option(draft, row, word, &mut words)?;
            }
        }
    }
    let groups = std::mem::take(&mut draft.groups);
    for group in &groups {
        // Its option stands before its argument.
        draft.at = group.word.map(|word| word - 1);
        (group.read)(draft, group)?;
    }
    draft.at = None;
    network::connect(draft, &groups)?;
    display::spice::connect(draft, &groups)?;
    graph::add_images(draft)?;
    machine::default_accelerator(draft, emulator)?;
    defaults::add(draft);
    Ok(())
}

/// The name in a word that begins with one dash or two; anything else is a disk image.
/// A name that is not UTF-8 is nobody's, and so is the empty one.
fn option_name(word: &OsStr) -> Option<&str> {
    if !word.as_encoded_bytes().starts_with(b"-") {
        return None;
    }
    let name = word.to_str().and_then(|text| text.strip_prefix('-')).unwrap_or_default();
    Some(name.strip_prefix('-').unwrap_or(name))
}

fn read_option<'w>(
    draft: &mut Draft<'_>,
    row: &'static Row,
    word: &OsStr,
    words: &mut impl Iterator<Item = (&'w OsString, usize)>,
) -> Result<(), Error> {
    let (argument, at) = if row.takes_argument {
        let next = words.next().map(|(argument, at)| (argument.as_os_str(), Some(at)));
        next.ok_or_else(|| Error::MissingArgument { option: word.to_string_lossy().into_owned() })?
    } else {
        (OsStr::new(""), None)
    };
    let option = as_typed(word, argument);
    draft.word = at;
    if row.takes_argument && asks_for_a_list(row, argument)? {
        draft.line.informational = true;
        return Ok(());
    }
    match row.meaning {
        Meaning::Harmless => Ok(()),
        Meaning::Switch(read) => read(draft, &option),
        Meaning::Text(read) => read(draft, &option, argument),
        Meaning::Keyed(implied, read) => {
            let json = JSON.contains(&row.name) && argument.as_encoded_bytes().starts_with(b"{");
            let pairs = if json { json::pairs(&option, argument)? } else { Pairs::parse(&option, argument, implied)? };
            draft.groups.push(Group { name: row.name, option, pairs, read, from_file: false, word: at });
            Ok(())
        }
        Meaning::Later(instead) => Err(Error::not_served(&option, "the option", instead)),
    }
}

/// `-cpu help`, `-rtc base=utc,help` and their like: QEMU prints a list, or says that there is none, and ends.
fn asks_for_a_list(row: &Row, argument: &OsStr) -> Result<bool, Error> {
    if let Some((name, implied)) = LISTED.iter().find(|(name, _)| *name == row.name) {
        return Ok(Pairs::parse(name, argument, *implied)?.help);
    }
    let asked = matches!(row.meaning, Meaning::Later(_)) || matches!(row.name, "blockdev" | "compat" | "cpu" | "vga");
    Ok(asked && value::is_help(argument))
}

/// An option and its argument for messages, cut where it gets long.
fn as_typed(word: &OsStr, argument: &OsStr) -> String {
    const LONGEST: usize = 160;
    let mut text = word.to_string_lossy().into_owned();
    if !argument.is_empty() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::os::unix::ffi::OsStringExt;

    use super::testing::{assert_harmless, assert_not_served, line, names};
    use super::*;

    fn no_files(_: &Path) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    #[test]
    fn words_are_executed_byte_for_byte() {
        let odd = OsString::from_vec(b"-drive".to_vec());
        let value = OsString::from_vec(b"file=\xff,,\xfe,if=none".to_vec());
        let argv = ["q".into(), odd, value, "-nographic".into(), "-nodefaults".into()];
        let found = parse(&argv, &no_files).unwrap();
        assert_eq!(found.argv, argv);
        assert_eq!(found.resources[0].name, OsString::from_vec(b"\xff,\xfe".to_vec()));
    }

    #[test]
    fn one_dash_or_two() {
        assert_eq!(names(&line(&["--kernel", "k"]).unwrap()), [("k", &Kind::ReadOnlyFile)]);
        for word in ["---kernel", "-", "--", "-drive=file=x", "-balloon", "-Kernel"] {
            assert!(matches!(line(&[word, "x"]), Err(Error::UnknownOption { .. })), "{word}");
        }
        let odd = OsString::from_vec(b"-\xff".to_vec());
        assert!(matches!(parse(&["q".into(), odd], &no_files), Err(Error::UnknownOption { .. })));
    }

    #[test]
    fn arguments_are_never_taken_for_options() {
        let found = line(&["-append", "-kernel", "-name", "-version"]).unwrap();
        assert!(found.resources.is_empty() && !found.informational);
        assert!(matches!(line(&["-S", "-drive"]), Err(Error::MissingArgument { .. })));
        assert!(matches!(parse(&[], &no_files), Err(Error::NoEmulator)));
    }

    #[test]
    fn messages_name_the_option_and_say_what_to_do() {
        let text = line(&["--qmp", "braille"]).unwrap_err().to_string();
        assert!(text.starts_with("--qmp braille: the character device \"braille\" is not served; "), "{text}");
        assert!(line(&["-blip"]).unwrap_err().to_string().starts_with("-blip: unknown option"));
        let long = format!("driver=ssh,export={}", "x".repeat(1000));
        assert!(line(&["-blockdev", &long]).unwrap_err().to_string().len() < 400);
    }

    #[test]
    fn options_with_nothing_behind_them_pass() {
        assert_harmless(&[
            &["-m", "256", "-smp", "2,maxcpus=4", "-cpu", "max", "-S", "-no-reboot", "-usb", "-vga", "none"],
            &["-rtc", "base=utc,clock=vm", "-uuid", "x", "-echr", "1", "-seed", "1", "-loadvm", "tag"],
            &["-msg", "timestamp=on", "-overcommit", "mem-lock=off", "-action", "panic=pause", "-d", "int"],
        ]);
        assert_not_served(&[&["-plugin", "file=libx.so"], &["-perfmap"], &["-xen-domid", "1"]]);
    }

    #[test]
    fn a_brace_is_json_only_where_qemu_takes_json() {
        let value = r#"{"a":"x,path=/etc/x,backend=file,id=c,z=y"}"#;
        assert_eq!(names(&line(&["-chardev", value]).unwrap()), [("/etc/x", &Kind::OutputFile { append: false })]);
        assert!(line(&["-device", "{nonsense"]).is_err());
    }
}
