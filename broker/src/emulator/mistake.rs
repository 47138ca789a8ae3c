//! Which mistakes QEMU words better: those for which it fails by itself, whatever there is on the host.

use std::ffi::{OsStr, OsString};
use std::path::Path;

use super::Allowed;
use super::draft::Draft;
use super::error::Error;
use super::program::Program;
use super::table;

/// A device that no QEMU has: at its name QEMU ends, behind all options whose words it reads by then, and before there is a
/// guest.
const END: &str = "broker-ends-here";

/// What stands before the option: nothing of a host is in it, and QEMU opens none of its defaults.
const AROUND: &[&str] = &["-machine", "none", "-nodefaults", "-nic", "none", "-display", "none", "-S"];

/// Options whose words QEMU reads before it opens a file that they name, or looks for what another option has made.
const READ_FIRST: &[&str] = &[
    "add-fd",
    "audio",
    "audiodev",
    "blockdev",
    "chardev",
    "debugcon",
    "display",
    "drive",
    "fsdev",
    "global",
    "monitor",
    "object",
    "parallel",
    "qmp",
    "qmp-pretty",
    "run-with",
    "serial",
    "tpmdev",
    "virtfs",
];

/// Options of which it does so for a kind that it does not have, and for that alone.
const OF_A_KIND: &[&str] = &["netdev", "nic", "net"];

/// An option that cannot be understood, in words by which QEMU can be asked what it says to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mistake {
    /// QEMU's words, the program first. With them it always fails, and starts no guest.
    pub argv: Vec<OsString>,
}

impl Mistake {
    /// Whether `said`, QEMU's standard error, is about the option, and not about the end behind it.
    #[must_use]
    pub fn is_answered_by(&self, said: &str) -> bool {
        !said.is_empty() && !said.contains(END)
    }
}

/// The option for which [`super::parse_allowing`] fails on `argv`, if QEMU itself fails for it before it opens anything.
#[must_use]
pub fn mistake(
    argv: &[OsString],
    read_config: &dyn Fn(&Path) -> std::io::Result<Vec<u8>>,
    allowed: Allowed,
) -> Option<Mistake> {
    let mut draft = Draft::new(read_config);
    draft.windows = allowed.windows;
    let error = super::read(&mut draft, argv).err()?;
    if draft.line.program != Program::System {
        return None;
    }
    let word = argv.get(draft.at?)?;
    let row = super::option_name(word).and_then(table::row);
    let is_one_of = |names: &[&str]| row.is_some_and(|row| names.contains(&row.name));
    let argument = argv.get(draft.at? + 1).filter(|_| row.is_some_and(|row| row.takes_argument));
    let asked = match error {
        Error::UnknownOption { .. } | Error::MissingArgument { .. } => true,
        Error::NotServed { known: false, .. } => is_one_of(READ_FIRST) || is_one_of(OF_A_KIND),
        Error::Malformed { .. } => is_one_of(READ_FIRST) || is_cut_short(row?.name, argument?),
        _ => false,
    };
    // What lacks an argument comes last, for it would take the next word.
    let (option, end) = ([Some(word), argument].into_iter().flatten().cloned(), ["-device", END].map(OsString::from));
    let last = matches!(error, Error::MissingArgument { .. });
    let (before, behind) = if last { (end.to_vec(), option.collect()) } else { (option.collect(), end.to_vec()) };
    let around = AROUND.iter().map(|word| OsStr::new(word).to_owned());
    asked.then(|| Mistake { argv: argv.iter().take(1).cloned().chain(around).chain(before).chain(behind).collect() })
}

/// Whether `argument` cannot even be parted: JSON, or a change of another option without an equals sign.
fn is_cut_short(name: &str, argument: &OsStr) -> bool {
    let bytes = argument.as_encoded_bytes();
    match name {
        "device" => bytes.starts_with(b"{"),
        "set" => !bytes.contains(&b'='),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(words: &[&str]) -> Option<Vec<String>> {
        asked_allowing(words, Allowed::default())
    }

    fn asked_allowing(words: &[&str], allowed: Allowed) -> Option<Vec<String>> {
        let argv: Vec<OsString> = std::iter::once(&"qemu-system-x86_64").chain(words).map(OsString::from).collect();
        let found = mistake(&argv, &|_| Err(std::io::ErrorKind::NotFound.into()), allowed)?;
        let words = found.argv.into_iter().skip(1 + AROUND.len());
        Some(words.map(|word| word.to_string_lossy().into_owned()).collect())
    }

    #[test]
    fn the_option_alone_is_asked_for() {
        let words = ["-hda", "a", "-nonsense", "-hdb", "b"];
        assert_eq!(asked(&words).unwrap(), ["-nonsense", "-device", END]);
        let words = ["-hda", "a", "-chardev", "nonsense,id=c", "-S"];
        assert_eq!(asked(&words).unwrap(), ["-chardev", "nonsense,id=c", "-device", END]);
        assert_eq!(asked(&["-m", "64", "--drive"]).unwrap(), ["-device", END, "--drive"]);
        assert_eq!(asked(&["-netdev", "nonsense,id=n"]).unwrap().len(), 4);
        assert_eq!(asked(&["-drive", "file=a,readonly=maybe"]).unwrap().len(), 4);
        let words = ["-display", "gtk", "-nonsense"];
        assert_eq!(asked(&words), None, "a window is refused first");
        assert_eq!(asked_allowing(&words, Allowed { windows: true }).unwrap(), ["-nonsense", "-device", END]);
    }

    #[test]
    fn what_is_refused_or_depends_on_the_host_is_not() {
        for words in [
            &["-S"][..],
            &["-chardev", "braille,id=c"],
            &["-netdev", "user,id=n"],
            &["-netdev", "tap,id=n,vhost=maybe"],
            &["-set", "drive.d.file=x"],
            &["-readconfig", "absent"],
        ] {
            assert_eq!(asked(words), None, "{words:?}");
        }
    }

    #[test]
    fn an_answer_is_about_the_option() {
        let mistake = Mistake { argv: Vec::new() };
        assert!(mistake.is_answered_by("qemu-system-x86_64: -nonsense: invalid option\n"));
        let end = format!("qemu-system-x86_64: -device {END}: '{END}' is not a valid device model name\n");
        for said in ["", &end] {
            assert!(!mistake.is_answered_by(said), "{said}");
        }
    }
}
