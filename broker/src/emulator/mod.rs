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
mod value;
mod vfio;

use std::ffi::{OsStr, OsString};
use std::path::Path;

pub use self::endpoint::{Address, Endpoint, EndpointUse};
pub use self::error::Error;
pub use self::nbd::take_socket;
pub use self::network::{Addresses, Card, DatagramNetwork, HostPort, Network, Script, Source, Vhost};
pub use self::program::Program;
pub use self::resource::{
    Access, Backing, CommandLine, CommitInto, Descriptor, Image, IncomingCommand, Kind, Resource, SecurityModel,
    SharedFolder, VfioDevice,
};
pub use self::run_as::{NewRoot, RunAs};

use self::draft::{Draft, Group};
use self::table::{Meaning, Row};
use self::value::Pairs;

/// Options that also take a JSON object. In the others a brace is ordinary text.
const JSON: [&str; 6] = ["audiodev", "blockdev", "compat", "device", "netdev", "object"];

/// Reads a command line. `argv` begins with the emulator as typed; `read_config` reads a file that
/// `-readconfig` names.
///
/// # Errors
/// An [`Error`] that names the option: unknown, without its argument, not to be understood, not served,
/// or a configuration file that cannot be read.
pub fn parse(argv: &[OsString], read_config: &dyn Fn(&Path) -> std::io::Result<Vec<u8>>) -> Result<CommandLine, Error> {
    let (emulator, words) = argv.split_first().ok_or(Error::NoEmulator)?;
    let mut draft = Draft::new(read_config);
    draft.line.argv = argv.to_vec();
    draft.line.program = Program::of(emulator);
    match draft.line.program {
        Program::System => read_system(&mut draft, emulator, words)?,
        Program::Img => img::read(&mut draft, words)?,
        Program::Io => io::read(&mut draft, words)?,
        Program::Nbd => nbd::read(&mut draft, words)?,
        Program::StorageDaemon => storage_daemon::read(&mut draft, words)?,
    }
    files::check_logs(&draft)?;
    Ok(draft.line)
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
    while let Some((word, _)) = words.next() {
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
    groups.iter().try_for_each(|group| (group.read)(draft, group))?;
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
    match row.meaning {
        Meaning::Harmless => {
            draft.line.informational |= row.takes_argument && asks_for_a_list(row.name, argument);
            Ok(())
        }
        Meaning::Switch(read) => read(draft, &option),
        Meaning::Text(read) => read(draft, &option, argument),
        Meaning::Keyed(implied, read) => {
            let json = JSON.contains(&row.name) && argument.as_encoded_bytes().starts_with(b"{");
            let pairs = if json { json::pairs(&option, argument)? } else { Pairs::parse(&option, argument, implied)? };
            draft.groups.push(Group { name: row.name, option, pairs, read, from_file: false, word: at });
            Ok(())
        }
        // QEMU prints a list, or says that there is none.
        Meaning::Later(_) if row.takes_argument && value::is_help(argument) => {
            draft.line.informational = true;
            Ok(())
        }
        Meaning::Later(instead) => Err(Error::not_served(&option, "the option", instead)),
    }
}

/// `-cpu help` and its like: QEMU prints a list and ends.
fn asks_for_a_list(name: &str, argument: &OsStr) -> bool {
    matches!(name, "cpu" | "vga") && value::is_help(argument)
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
