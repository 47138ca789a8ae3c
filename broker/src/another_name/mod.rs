//! `broker` under the name of one of QEMU's programs: it takes that program's own arguments, and so stands wherever a
//! script or a manager of guests expects QEMU.
//!
//! The options of `broker` then come from [`configuration`], and the program itself from there or from
//! [`program::find`].

pub mod configuration;
pub mod program;

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use crate::administrators_file;
use crate::cli;
use crate::emulator;
use crate::run::Request;
use configuration::Files;

/// Programs of QEMU, and two names that distributions give `qemu-system-*`.
const NAMES: [&str; 6] = ["kvm", "qemu-kvm", "qemu-img", "qemu-io", "qemu-nbd", "qemu-storage-daemon"];

/// What the names of the others begin with.
const SYSTEM: &str = "qemu-system-";

/// The program of QEMU that `word`, the first of a command line, calls this process; nothing for every other name.
#[must_use]
pub fn of(word: &OsStr) -> Option<&str> {
    let name = Path::new(word).file_name().and_then(OsStr::to_str)?;
    (NAMES.contains(&name) || name.strip_prefix(SYSTEM).is_some_and(|target| !target.is_empty())).then_some(name)
}

/// What a start by the words `argv`, whose first is called `name` by [`of`], asks for.
///
/// # Errors
/// [`Error`]: a configuration file does not count, or the program is not found.
pub fn request(name: &str, argv: Vec<OsString>) -> Result<Request, Error> {
    let environment = |variable: &str| std::env::var_os(variable);
    let files = Files::of_this_host(&environment)?;
    // A line that cannot be understood is refused later, with the same words as ever.
    // Read for its name alone: what is allowed stands in what is looked up by it.
    let all = emulator::Allowed { windows: true };
    let guest = || {
        let line = emulator::parse_allowing(&argv, &|path| std::fs::read(path), all);
        line.ok().and_then(|line| line.guest_name)
    };
    let settings = files.settings(name, guest)?;
    let binary = match settings.binary {
        Some(binary) => binary,
        None => program::find(name, environment("PATH"))?,
    };
    let mut request = Request::from(cli::parse_options(&settings.words).map_err(Error::Options)?);
    request.words = argv;
    request.binary = Some(binary);
    Ok(request)
}

/// The real program where `broker -- WORD` has found `broker` itself under that name.
///
/// # Errors
/// As [`request`].
pub fn real_program(word: &OsStr) -> Result<PathBuf, Error> {
    let environment = |variable: &str| std::env::var_os(variable);
    let name = of(word).ok_or_else(|| Error::Itself { path: word.into() })?;
    match Files::of_this_host(&environment)?.settings(name, || None)?.binary {
        Some(binary) => Ok(binary),
        None => program::find(name, environment("PATH")),
    }
}

/// Why a start under another name cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A configuration file as such.
    #[error(transparent)]
    File(#[from] administrators_file::Error),
    /// What it says.
    #[error("{}: {problem}", path.display())]
    Configuration {
        /// The file.
        path: PathBuf,
        /// The place in it, and what is wrong.
        problem: String,
    },
    /// Options that are understood one by one, and not together.
    #[error("the options of emulators.toml for this guest do not go together: {0}")]
    Options(String),
    /// This program cannot be read.
    #[error("cannot read broker's own program: {0}; mount /proc")]
    Own(io::Error),
    /// The program is `broker`.
    #[error("{} is broker itself; name the real one in {}: [emulator.NAME] binary = \"PATH\"", path.display(), configuration::PATH)]
    Itself {
        /// Where.
        path: PathBuf,
    },
    /// No program but `broker` has the name.
    #[error(
        "no program {name} but broker itself in PATH, {}; say where it is in {}: [emulator.{name}] binary = \"PATH\"",
        program::FOLDERS.join(", "),
        configuration::PATH
    )]
    NotFound {
        /// The name.
        name: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_qemus_programs_count() {
        for (word, name) in [
            ("/usr/bin/qemu-system-x86_64", Some("qemu-system-x86_64")),
            ("qemu-system-i386", Some("qemu-system-i386")),
            ("./kvm", Some("kvm")),
            ("qemu-storage-daemon", Some("qemu-storage-daemon")),
            ("broker", None),
            ("/usr/bin/qemu-system-x86_64/broker", None),
            ("qemu-system-", None),
            ("qemu-bridge-helper", None),
            ("", None),
        ] {
            assert_eq!(of(OsStr::new(word)), name, "{word}");
        }
    }
}
