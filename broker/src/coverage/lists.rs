//! What an emulator says that it has.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// A list that the emulator prints.
#[derive(Debug)]
pub(super) struct Kind {
    /// What its names are.
    pub(super) name: &'static str,
    /// The option whose value a name is; none: the names are options.
    pub(super) option: Option<&'static str>,
    /// The words that ask for it.
    question: &'static [&'static str],
    /// Finds the names in a line of the answer.
    read: fn(&str) -> Vec<&str>,
}

/// All lists.
pub(super) static KINDS: [Kind; 10] = [
    Kind { name: "option", option: None, question: &["-help"], read: options_in },
    list("accelerator", "-accel", &["-accel", "help"]),
    list("block driver", "-blockdev", &["-drive", "format=help"]),
    list("chardev", "-chardev", &["-chardev", "help"]),
    list("netdev", "-netdev", &["-netdev", "help"]),
    list("object", "-object", &["-object", "help"]),
    list("display", "-display", &["-display", "help"]),
    list("sound driver", "-audiodev", &["-audiodev", "help"]),
    Kind { name: "tpm", option: Some("-tpmdev"), question: &["-tpmdev", "help"], read: first_word },
    Kind { name: "device", option: Some("-device"), question: &["-device", "help"], read: device_in },
];

const fn list(name: &'static str, option: &'static str, question: &'static [&'static str]) -> Kind {
    Kind { name, option: Some(option), question, read: names_in }
}

/// The names of a kind, in the order of letters.
///
/// # Errors
/// [`Error`]: the emulator does not answer.
pub(super) fn ask(emulator: &OsStr, kind: &Kind) -> Result<BTreeSet<String>, Error> {
    let answer = answer(emulator, kind.question)?;
    let names: BTreeSet<String> = answer.lines().flat_map(kind.read).map(str::to_owned).collect();
    if names.is_empty() { Err(Error::new(kind.question, &answer)) } else { Ok(names) }
}

/// What the emulator calls its version.
///
/// # Errors
/// As [`ask`].
pub(super) fn version(emulator: &OsStr) -> Result<String, Error> {
    let answer = answer(emulator, &["-version"])?;
    Ok(answer.lines().next().unwrap_or_default().to_owned())
}

/// What the emulator prints. Under the broker, as it always runs: it is asked before anybody trusts its answers.
fn answer(emulator: &OsStr, question: &[&str]) -> Result<String, Error> {
    let mut command = Command::new("/proc/self/exe");
    command.arg0("broker").arg("--").arg(emulator).args(question).stdin(Stdio::null());
    let output = command.output().map_err(Error::Start)?;
    let said = String::from_utf8_lossy(&output.stderr);
    // One list is printed to standard error, and the status is 1 then (`-tpmdev help`: tpm_display_backend_drivers in
    // softmmu/tpm.c). The broker's own failures have others.
    if !matches!(output.status.code(), Some(0 | 1)) {
        return Err(Error::new(question, &said));
    }
    let text = if output.stdout.is_empty() { said } else { String::from_utf8_lossy(&output.stdout) };
    Ok(text.into_owned())
}

/// The options that a line of `-help` names: `-h or -help`, `-fda/-fdb file`, `-drive [file=...`.
fn options_in(line: &str) -> Vec<&str> {
    let ends = |c: char| c.is_whitespace() || "/[,=".contains(c);
    let mut words = line.split(ends).filter(|word| !word.is_empty()).peekable();
    let mut options = Vec::new();
    if !line.starts_with('-') {
        return options;
    }
    while let Some(word) = words.next().filter(|word| word.starts_with('-')) {
        options.push(word);
        words.next_if_eq(&"or");
    }
    options
}

/// A list with one name a line below its heading, or all names behind it.
fn names_in(line: &str) -> Vec<&str> {
    match line.split_once(':') {
        Some((_, names)) => names.split_whitespace().collect(),
        // Behind the list there may be sentences about it.
        None => Some(line.trim()).filter(|name| !name.is_empty() && !name.contains([' ', '='])).into_iter().collect(),
    }
}

/// A name with what it is behind it, below a heading.
fn first_word(line: &str) -> Vec<&str> {
    line.strip_prefix(' ').and_then(|line| line.split_whitespace().next()).into_iter().collect()
}

/// `name "NAME", bus BUS, ...`.
fn device_in(line: &str) -> Vec<&str> {
    line.strip_prefix("name \"").and_then(|rest| rest.split('"').next()).into_iter().collect()
}

/// Why nothing can be said of an emulator.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// More than an emulator was named.
    #[error(
        "--coverage is about all of an emulator; name nothing but one: broker plan --coverage -- qemu-system-x86_64"
    )]
    Words,
    /// No process.
    #[error("cannot start broker for the emulator: {0}")]
    Start(io::Error),
    /// The emulator failed.
    #[error("the emulator does not answer to {question}: {said}")]
    Answer {
        /// Its arguments.
        question: String,
        /// The last it said.
        said: String,
    },
}

impl Error {
    /// An answer that is none; it ends with the reason.
    fn new(question: &[&str], text: &str) -> Self {
        let said = text.lines().last().unwrap_or_default().trim_start_matches("broker: ").to_owned();
        Self::Answer { question: question.join(" "), said }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_is_read_as_it_is_written() {
        assert_eq!(options_in("-h or -help     display this help and exit"), ["-h", "-help"]);
        assert_eq!(options_in("-fda/-fdb file  use 'file' as floppy disk 0/1 image"), ["-fda", "-fdb"]);
        assert_eq!(options_in("-drive [file=file][,if=type]"), ["-drive"]);
        assert!(options_in("                -machine is another").is_empty());
    }

    #[test]
    fn lists_are_read_as_they_are_written() {
        assert_eq!(names_in("Supported formats: blkdebug raw"), ["blkdebug", "raw"]);
        assert_eq!(names_in("  qemu-vdagent"), ["qemu-vdagent"]);
        for other in ["Available chardev backend types: ", "", "   -display backend,option=value", "For a list see"] {
            assert!(names_in(other).is_empty(), "{other}");
        }
        assert_eq!(first_word(" passthrough   Passthrough TPM backend driver"), ["passthrough"]);
        assert!(first_word("Supported TPM types (choose only one):").is_empty());
        assert_eq!(device_in("name \"usb-hub\", bus usb-bus"), ["usb-hub"]);
        assert!(device_in("USB devices:").is_empty());
    }
}
